package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
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
import dev.tensorpress.method.CodebookMethod;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Codes into tables in ONNX files, run in ONNX Runtime beside a model whose floats are the decoded weights. */
final class CodebookLoweringTest {
    private static final int K = 48;
    private static final int N = 72;

    @TempDir
    Path folder;

    /** y = x * w * v: one matrix with an even number of columns, and one with an odd number. */
    private Path model(DType type, Map<String, float[]> values, String name) throws Exception {
        TestModel m = TestModel.of(8, 13);
        int code = TensorInfo.code(type);
        m.graph.init(TestModel.tensor("w", type, values.get("w"), K, N)).init(TestModel.tensor("v", type, values.get("v"), N, 35))
                .input("x", code, -1, K).output("y", code, -1, 35).node("MatMul", "h", "x", "w").node("MatMul", "y", "h", "v");
        return m.write(folder, name);
    }

    private static Recipe recipe(CodebookMethod method, boolean pruned) {
        Selector all = new Selector(Set.of(), List.of(), 0);
        Recipe.Step codes = new Recipe.Step("codes", all, method);
        return new Recipe("codes", "", pruned ? List.of(new Recipe.Step("zeros", all, PruneMethod.sparsity(0.7)), codes) : List.of(codes),
                List.of(), Map.of());
    }

    private static CodebookMethod with(int bits, String... options) {
        CodebookMethod method = CodebookMethod.of(bits);
        for (int i = 0; i < options.length; i += 2) {
            method = (CodebookMethod) method.with(options[i], options[i + 1]);
        }
        return method;
    }

    @Test
    void theModelComputesWithWhatCodesStandFor() throws Exception {
        for (DType type : List.of(DType.F32, DType.F16)) {
            for (CodebookMethod method : List.of(with(1), with(3), with(4), with(5), with(6, "table", "f16"), with(4, "per", "outputs", "block", "24"),
                    with(3, "per", "inputs", "block", "16", "table", "f16"))) {
                check(type, method, false, 2);
                check(type, method, true, 2);
            }
            check(type, with(4, "dimension", "2"), false, 1);
            check(type, with(4, "dimension", "4", "seed", "3"), false, 1);
            check(type, with(2, "dimension", "8", "per", "inputs"), false, 1);
            check(type, with(9, "dimension", "2", "table", "f16"), false, 1);
        }
    }

    private void check(DType type, CodebookMethod method, boolean pruned, int weights) throws Exception {
        Map<String, float[]> values = new HashMap<>(Map.of("w", TestModel.random(5, K * N), "v", TestModel.random(6, N * 35)));
        Path in = model(type, values, "in.onnx");
        Path out = folder.resolve("out.onnx");
        Files.deleteIfExists(out);
        String what = type + " " + method + (pruned ? " pruned" : "");
        try (Compressor c = Compressor.open(in); Executor executor = Executor.cpu(2); Workspace workspace = new Workspace(executor);
                Arena arena = Arena.ofShared()) {
            Plan plan = c.plan(recipe(method, pruned));
            Report report = c.compress(plan, out);
            assertEquals(weights, report.entries().size(), what);
            assertEquals(plan.after(), Files.size(out), what);
            for (Report.Entry e : report.entries()) {
                Weight w = e.planned().weight();
                Form form = e.planned().form();
                assertFalse(form.decoded(), what);
                assertTrue(form.describe().contains("codebook " + method.bits() + " bits"), form.describe());
                assertEquals(form.bytes(w.tensor().shape()), e.planned().after());
                Encoding encoding = new Encoding.Dense(w.tensor());
                for (int i = 0; i < e.planned().steps().size(); i++) {
                    encoding = e.planned().steps().get(i).prepared().apply(w, encoding, e.planned().forms().get(i), workspace).copy(arena);
                }
                values.put(w.name(), floats(encoding, type, executor, arena));
                if (pruned) {
                    int zeros = 0;
                    for (float x : values.get(w.name())) {
                        zeros += x == 0 ? 1 : 0;
                    }
                    assertEquals(Math.round(0.7 * values.get(w.name()).length), zeros, 1, what);
                    assertEquals(zeros, e.sparsity().zerosReached(), what);
                }
                double error = 0;
                float[] now = values.get(w.name());
                for (int i = 0; i < now.length; i++) {
                    double d = (double) Quantize.element(w.tensor(), i) - now[i];
                    error += d * d;
                }
                assertEquals(error, e.sumSquaredError(), 1e-6 * error, what);
            }
        }
        assertArrayEquals(Ort.run(model(type, values, "reference.onnx"), 3, 9), Ort.run(out, 3, 9), what);
    }

    private static float[] floats(Encoding encoding, DType type, Executor executor, Arena arena) {
        long n = encoding.shape().elements();
        MemorySegment wide = arena.allocate(4 * n, 64);
        encoding.decode(wide, executor);
        MemorySegment narrow = arena.allocate(type.bytes(n), 64);
        Quantize.convert(DType.F32, wide, n, type, narrow);
        float[] all = new float[(int) n];
        for (int i = 0; i < n; i++) {
            all[i] = Quantize.element(new Tensor(type, encoding.shape(), narrow), i);
        }
        return all;
    }

    /** Where tables of their own for each output take more than they save, the elements that codes stand for are written. */
    @Test
    void whatWouldNotBeSmallerIsDecoded() throws Exception {
        Map<String, float[]> values = new HashMap<>(Map.of("w", TestModel.random(5, K * N), "v", TestModel.random(6, N * 35)));
        Path in = model(DType.F16, values, "in.onnx");
        try (Compressor c = Compressor.open(in)) {
            Plan plan = c.plan(recipe(with(5, "per", "outputs", "block", "1", "table", "f32"), false));
            for (Plan.Entry e : plan.entries()) {
                assertFalse(e.compressed(), "gains nothing");
                assertTrue(e.note().contains("would take"), e.note());
            }
            plan = c.plan(recipe(with(4, "per", "inputs", "block", "2", "table", "f16"), false));
            Form form = plan.entries().getFirst().form();
            assertTrue(form.decoded() || form.codebook() != null, form.describe());
        }
    }
}
