package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.tensor.DType;
import java.nio.file.Path;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Tables that are matrices of products as well: what a product reads does not say which rows are looked up. */
final class TiedTableTest {
    private static final int ROWS = 40;
    private static final int K = 32;

    @TempDir
    Path folder;

    private Path model(boolean transposed) throws Exception {
        TestModel model = TestModel.of(10, 21);
        model.graph.input("ids", TensorInfo.INT64, -1).output("y", TensorInfo.FLOAT, -1, ROWS)
                .init("table", DType.F32, TestModel.random(1, ROWS * K), ROWS, K).init("w", DType.F32, TestModel.random(2, K * K), K, K);
        model.graph.node("Gather", "e", "table", "ids").node("MatMul", "h", "e", "w");
        if (transposed) {
            model.graph.node(new NodeBuilder("Transpose", "t", "table").ints("perm", 1, 0)).node("MatMul", "y", "h", "t");
        } else {
            model.graph.node(new NodeBuilder("Gemm", "y", "h", "table").set("transB", 1));
        }
        return model.write(folder, "m.onnx");
    }

    private Plan.Entry planned(Path model, String name, String... steps) throws Exception {
        try (Compressor c = Compressor.open(model); Statistics s = Calibrated.statistics(c, true, TestModel.random(3, 50 * K), 50, K)) {
            c.use(s);
            return c.plan(Calibrated.recipe(folder, steps)).entries().stream().filter(e -> e.weight().name().equals(name)).findFirst().orElseThrow();
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void whatIsLookedUpAsWellIsNotMadeByInputs(boolean transposed) throws Exception {
        Path model = model(transposed);
        for (String step : new String[] {"obs: {sparsity: 0.5}", "gptq: {bits: 4, block: 16}", "prune: {sparsity: 0.5, criterion: activation}"}) {
            Plan.Entry table = planned(model, "table", step);
            assertEquals("it is a table as well, and what it is multiplied with says nothing of the rows that are looked up", table.note(), step);
            assertTrue(!table.compressed() && planned(model, "w", step).compressed(), step);
        }
        String counted = "quantize: {bits: 4, block: 16, clip: 8, importance: inputs}";
        assertTrue(planned(model, "table", counted).note().endsWith("that are looked up, so that errors count alike"));
        String[] corrected = {"quantize: {bits: 4, block: 16}", "correct: {rank: 2, inputs: statistics}"};
        Plan.Entry table = planned(model, "table", corrected);
        assertTrue(table.compressed() && table.steps().size() == 1, table.describe());
        assertEquals(2, planned(model, "w", corrected).steps().size());
    }
}
