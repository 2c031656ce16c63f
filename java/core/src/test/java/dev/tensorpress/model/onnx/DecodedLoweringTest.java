package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.Selector;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.HashMethod;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.TransformMethod;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What no operator of ONNX decodes is written decoded: the model computes with what it was planned to be. */
final class DecodedLoweringTest {
    private static final int K = 48;
    private static final int N = 72;

    @TempDir
    Path folder;

    private Path model(DType type, float[] w, String name) throws Exception {
        TestModel m = TestModel.of(8, 13);
        int code = TensorInfo.code(type);
        m.graph.init(TestModel.tensor("w", type, w, K, N)).input("x", code, -1, K).output("y", code, -1, N).node("MatMul", "y", "x", "w");
        return m.write(folder, name);
    }

    @Test
    void theModelComputesWithDecodedElements() throws Exception {
        for (DType type : List.of(DType.F32, DType.F16)) {
            for (Method method : List.of(TransformMethod.of(Form.Basis.DCT, 4), TransformMethod.of(Form.Basis.CDF53, 3).with("levels", "2"), new HashMethod(8, DType.F16, 5))) {
                check(type, method);
            }
        }
    }

    private void check(DType type, Method method) throws Exception {
        Path in = model(type, TestModel.random(5, K * N), "in.onnx");
        Path out = folder.resolve("out.onnx");
        Files.deleteIfExists(out);
        Recipe recipe = new Recipe("r", "", List.of(new Recipe.Step("s", new Selector(Set.of(), List.of(), 0), method)), List.of(), Map.of());
        try (Compressor c = Compressor.open(in); Executor executor = Executor.cpu(2); Workspace workspace = new Workspace(executor); Arena arena = Arena.ofShared()) {
            Plan plan = c.plan(recipe);
            Report report = c.compress(plan, out);
            assertEquals(Files.size(in), Files.size(out));
            assertEquals(plan.after(), Files.size(out));
            assertTrue(plan.remarks().toString().contains("1 weight is written decoded"), plan.remarks().toString());
            Report.Entry entry = report.entries().getFirst();
            Form form = entry.planned().form();
            assertTrue(form.decoded(), form.describe());
            Weight w = entry.planned().weight();
            Encoding e = entry.planned().steps().getFirst().prepared().apply(w, new Encoding.Dense(w.tensor()), form.made(), workspace);
            MemorySegment wide = arena.allocate(4L * K * N, 64);
            MemorySegment narrow = arena.allocate(type.bytes(K * N), 64);
            Encoding.Dense dense = Encoding.Dense.decoded(e, type, narrow, type == DType.F32 ? narrow : wide, executor);
            float[] elements = new float[K * N];
            double error = 0;
            for (int i = 0; i < elements.length; i++) {
                elements[i] = Quantize.element(dense.tensor(), i);
                double d = (double) Quantize.element(w.tensor(), i) - elements[i];
                error += d * d;
            }
            assertEquals(error, entry.sumSquaredError(), 1e-6 * error, method.toString());
            assertArrayEquals(Ort.run(model(type, elements, "reference.onnx"), 3, 9), Ort.run(out, 3, 9), method.toString());
        }
    }
}
