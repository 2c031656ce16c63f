package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.safetensors.TruncatedInputTest;
import dev.tensorpress.tensor.DType;
import java.nio.file.Path;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Models that become shorter after they were opened: an error before native code reads what is gone. */
class TruncatedModelTest {
    private static final int N = 512;

    @TempDir
    Path folder;

    @ParameterizedTest
    @CsvSource({"int8,'',before", "int8,'',after", "prune50,tensor,before", "prune50,global,after", "lowrank,'',before"})
    void isAnErrorAndNoCrash(String recipe, String scope, String when) throws Exception {
        TestModel m = TestModel.of(8, 17);
        m.graph.input("x", 1, -1, N).init("w", DType.F32, TestModel.random(1, N * N), N, N)
                .init("v", DType.F32, TestModel.random(2, N * N), N, N)
                .node("MatMul", "h", "x", "w").node("MatMul", "y", "h", "v").output("y", 1, -1, N);
        String said = TruncatedInputTest.fails(folder, m.write(folder, "model.onnx"), recipe, scope, when);
        assertTrue(said.contains("changed while it was read") && said.contains("model.onnx"), said);
    }
}
