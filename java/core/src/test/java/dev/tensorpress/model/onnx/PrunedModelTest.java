package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.Selector;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** From a recipe that prunes to a file that runs, and what the report says of it. */
final class PrunedModelTest {
    @TempDir
    Path folder;

    private static final int N = 96;

    /** A table, two products, one of them transposed, and a bias. */
    private Path model(float poison) throws Exception {
        float[] a = TestModel.random(1, N * N);
        if (poison != 0) {
            a[5] = poison;
        }
        float[] b = TestModel.random(2, N * N);
        for (int i = 0; i < b.length; i++) {
            b[i] /= 4;
        }
        TestModel m = new TestModel();
        m.graph.input("i", 7, -1).init("table", DType.F32, TestModel.random(3, 50 * N), 50, N)
                .init("a", DType.F32, a, N, N).init("b", DType.F32, b, N, N)
                .init("bias", DType.F32, TestModel.random(4, N), N)
                .node("Gather", "h", "table", "i").node("MatMul", "g", "h", "a")
                .node(new TestModel.NodeBuilder("Gemm", "y", "g", "b", "bias").set("transB", 1)).output("y", 1, -1, N);
        return m.write(folder, "in.onnx");
    }

    private static Map<String, float[]> weights(Path file) throws Exception {
        Map<String, float[]> all = new HashMap<>();
        try (OnnxModel m = OnnxModel.open(file, false)) {
            for (Weight w : m.weights()) {
                Tensor t = w.tensor();
                float[] x = new float[(int) t.shape().elements()];
                for (int i = 0; i < x.length; i++) {
                    x[i] = t.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
                }
                all.put(w.name(), x);
            }
        }
        return all;
    }

    private static long zeros(float[] x) {
        long n = 0;
        for (float v : x) {
            n += v == 0 ? 1 : 0;
        }
        return n;
    }

    private Report compress(Path in, Recipe recipe, Path out, int threads) throws Exception {
        Compressor.Options options = Compressor.Options.DEFAULT.overwrite(true).threads(threads);
        try (Compressor c = Compressor.open(in, options)) {
            Plan plan = c.plan(recipe);
            Report report = c.compress(plan, out);
            assertEquals(plan.after(), report.bytesAfter());
            assertEquals(Files.size(out), report.bytesAfter());
            return report;
        }
    }

    private static Report.Entry entry(Report report, String name) {
        return report.entries().stream().filter(e -> e.planned().weight().name().equals(name)).findFirst().orElseThrow();
    }

    @Test
    void zerosInPlaceSaveNothing() throws Exception {
        Path in = model(0);
        Path out = folder.resolve("out.onnx");
        Report r = compress(in, Recipe.named("prune50"), out, 2);
        assertEquals(r.bytesBefore(), r.bytesAfter());
        assertEquals(1, r.ratio());
        assertEquals(2, r.entries().size());
        Map<String, float[]> before = weights(in);
        Map<String, float[]> after = weights(out);
        assertArrayEquals(before.get("table"), after.get("table"));
        for (String name : List.of("a", "b")) {
            Report.Entry e = entry(r, name);
            Report.Sparsity s = e.sparsity();
            assertEquals(N * N, s.elements());
            assertEquals(N * N / 2, s.zerosAsked());
            assertEquals(zeros(after.get(name)), s.zerosReached());
            assertEquals(N * N / 2, s.zerosReached());
            assertEquals(4 * N * N, s.bytesDense());
            assertEquals(4 * N * N, s.bytesWritten());
            assertEquals(e.planned().after(), s.bytesWritten());
            long kept = N * N / 2;
            assertEquals(6 * kept + 8 * (N + 1), s.layouts().get("csr16"));
            assertEquals(8 * kept + 8 * (N + 1), s.layouts().get("csr32"));
            assertEquals(4 * kept + N * N / 8, s.layouts().get("bitmask"));
            assertEquals(12 * kept, s.layouts().get("coordinates"));
            assertNull(s.layouts().get("2:4"));
            assertTrue(s.layouts().containsKey("bsr4x4") && s.layouts().containsKey("bsr8x8"));
            assertEquals("bitmask", s.smallest());
            assertEquals(s.layouts().get("bitmask"), s.bytesSmallest());
            assertTrue(s.why().startsWith("with 50 % zeros, a bit"), s.why());
            double error = 0;
            double squares = 0;
            for (int i = 0; i < N * N; i++) {
                double x = before.get(name)[i];
                error += Math.pow(x - after.get(name)[i], 2);
                squares += x * x;
            }
            assertEquals(Math.sqrt(error / squares), e.relativeError(), 1e-12);
        }
        assertEquals(N * N, r.sparsity().zerosReached());
        assertEquals(8 * N * N, r.sparsity().bytesWritten());
        // Each channel keeps its own half: the columns of a, the rows of b.
        for (int i = 0; i < N; i++) {
            int inA = 0;
            int inB = 0;
            for (int j = 0; j < N; j++) {
                inA += after.get("a")[j * N + i] == 0 ? 1 : 0;
                inB += after.get("b")[i * N + j] == 0 ? 1 : 0;
            }
            assertEquals(N / 2, inA);
            assertEquals(N / 2, inB);
        }
        assertTrue(Ort.run(out, 1, 50).length > 0);
    }

    @Test
    void twoOfFourFitsItsLayoutWhicheverAxisComesFirst() throws Exception {
        Report r = compress(model(0), Recipe.named("sparse24"), folder.resolve("out.onnx"), 2);
        for (Report.Entry e : r.entries()) {
            assertEquals(2 * N * N + N * N / 8, e.sparsity().layouts().get("2:4"));
            assertEquals(N * N / 2, e.sparsity().zerosReached());
        }
        assertEquals("f32 sparse 2:4", r.entries().getFirst().planned().form().describe());
        TestModel m = new TestModel();
        m.graph.input("x", 1, -1, 20).init("w", DType.F32, TestModel.random(5, 120), 20, 6).node("MatMul", "y", "x", "w")
                .output("y", 1, -1, 6);
        Path odd = m.write(folder, "odd.onnx");
        r = compress(odd, Recipe.named("sparse24").set("min-size", "0"), folder.resolve("out.onnx"), 2);
        // Six rows of five groups: ten values each, and five nibbles in three bytes.
        assertEquals(6 * (10 * 4 + 3), entry(r, "w").sparsity().layouts().get("2:4"));
    }

    @Test
    void blocksAreStoredAsBlocks() throws Exception {
        Recipe recipe = Recipe.named("prune50").set("scope", "tensor").set("pattern", "8x8").set("sparsity", "0.9");
        for (Report.Entry e : compress(model(0), recipe, folder.resolve("out.onnx"), 2).entries()) {
            Report.Sparsity s = e.sparsity();
            assertEquals("bsr8x8", s.smallest());
            assertTrue(s.why().contains("100 % of the kept blocks"), s.why());
            // 14 of 144 blocks, their columns, and the offsets of 12 rows of them.
            assertEquals(14 * (64 * 4 + 4) + 13 * 8, s.bytesSmallest());
        }
    }

    @Test
    void mostlyZeroTheFileGetsSmaller() throws Exception {
        Path out = folder.resolve("out.onnx");
        Recipe recipe = Recipe.named("prune50").set("sparsity", "0.9");
        Report r = compress(model(0), recipe, out, 2);
        assertTrue(r.bytesAfter() < r.bytesBefore());
        Report.Sparsity s = entry(r, "b").sparsity();
        assertEquals(s.layouts().get("coordinates"), s.bytesWritten());
        assertEquals("", entry(r, "b").planned().note());
        assertTrue(s.bytesSmallest() < s.bytesWritten() && s.smallest().equals("bitmask"), s.smallest());
        // The same weights in place give the same results.
        Path dense = folder.resolve("dense.onnx");
        Report inPlace = compress(model(0), recipe.set("sparse-initializers", "false"), dense, 2);
        assertEquals(inPlace.bytesBefore(), inPlace.bytesAfter());
        assertArrayEquals(Ort.run(dense, 1, 50), Ort.run(out, 1, 50));
        try (Compressor c = Compressor.open(model(0))) {
            String said = assertThrows(IllegalArgumentException.class,
                    () -> c.plan(recipe.set("sparse-initializers", "no"))).getMessage();
            assertTrue(said.contains("sparse-initializers must be true or false, but is 'no'"), said);
        }
    }

    @Test
    void prunedThenQuantized() throws Exception {
        Path out = folder.resolve("out.onnx");
        Report r = compress(model(0), Recipe.named("prune50-int8").set("prune.sparsity", "0.75"), out, 2);
        Report.Entry a = entry(r, "a");
        assertEquals(List.of("prune", "linear"), a.planned().steps().stream().map(Plan.Step::name).toList());
        assertTrue(a.planned().form() instanceof Form.Sparse f && f.values() instanceof Form.Quantized);
        assertTrue(a.sparsity().zerosReached() >= a.sparsity().zerosAsked());
        assertEquals(a.sparsity().bytesDense(), a.sparsity().bytesWritten());
        assertEquals(a.planned().after(), a.sparsity().bytesWritten());
        assertNull(a.sparsity().layouts().get("coordinates"));
        assertNotNull(a.sparsity().layouts().get("bitmask"));
        assertTrue(a.sparsity().bytesSmallest() < a.sparsity().bytesDense());
        assertNull(entry(r, "table").sparsity());
        Report int4 = compress(model(0), Recipe.named("prune50-int8").set("linear.bits", "4"), out, 2);
        assertEquals("dense", entry(int4, "a").sparsity().smallest());
        assertNull(entry(int4, "a").sparsity().layouts().get("bitmask"));
        // The error is that against the original: that of pruning, and a little more.
        Report pruned = compress(model(0), Recipe.named("prune50").set("sparsity", "0.75"), out, 2);
        double lost = entry(pruned, "a").relativeError();
        assertTrue(a.relativeError() > lost && a.relativeError() < 1.01 * lost);
        assertTrue(Ort.run(out, 1, 50).length > 0);
    }

    @Test
    void theReportAsJson() throws Exception {
        Path out = folder.resolve("out.onnx");
        String json = compress(model(0), Recipe.named("sparse24"), out, 2).toJson();
        try (JsonParser parser = new JsonFactory().createParser(json)) {
            while (parser.nextToken() != null) {
                assertNotNull(parser.currentToken());
            }
        }
        for (String said : List.of("\"zerosAsked\" : " + N * N / 2, "\"zerosReached\" : " + N * N, "\"2:4\" : ",
                "\"csr16\" : ", "\"bytesWritten\" : " + 8 * N * N, "\"smallest\" : \"bitmask\"", "\"why\" : ")) {
            assertTrue(json.contains(said), said + " in " + json);
        }
        assertFalse(compress(model(0), Recipe.named("int8"), out, 2).toJson().contains("sparsity"));
        assertTrue(compress(model(0), Recipe.named("prune50"), out, 2).toJson().contains("\"2:4\" : null"));
    }

    /** Whatever the number of threads, and with weights chosen against each other. */
    @Test
    void theSameBytesEachTime() throws Exception {
        Path in = model(0);
        Recipe global = Recipe.named("prune50").set("scope", "global").set("sparse-initializers", "false");
        compress(in, global, folder.resolve("one.onnx"), 1);
        compress(in, global, folder.resolve("three.onnx"), 3);
        assertEquals(-1, Files.mismatch(folder.resolve("one.onnx"), folder.resolve("three.onnx")));
        Map<String, float[]> after = weights(folder.resolve("one.onnx"));
        assertTrue(zeros(after.get("b")) > 3 * zeros(after.get("a")), "b is smaller throughout");
        assertEquals(N * N, zeros(after.get("a")) + zeros(after.get("b")));
    }

    /** A later step refuses the bias, all of whose elements are small: those that go are found among the others. */
    @Test
    void whatIsRefusedHasNoPartInAGlobalChoice() throws Exception {
        float[] a = TestModel.random(1, N * N);
        float[] bias = TestModel.random(2, N);
        for (int i = 0; i < N; i++) {
            bias[i] /= 100;
        }
        TestModel m = new TestModel();
        m.graph.input("x", 1, -1, N).init("a", DType.F32, a, N, N).init("bias", DType.F32, bias, N)
                .node(new TestModel.NodeBuilder("Gemm", "y", "x", "a", "bias")).output("y", 1, -1, N);
        Path in = m.write(folder, "in.onnx");
        Selector all = new Selector(Set.of(), List.of(), 0);
        for (PruneMethod method : List.of(PruneMethod.sparsity(0.5).scope(PruneMethod.Scope.GLOBAL), PruneMethod.budget(2 * N * N))) {
            Recipe recipe = new Recipe("test", "", List.of(new Recipe.Step("prune", all, method),
                    new Recipe.Step("quantize", all, QuantizeMethod.int8())), List.of(), Map.of());
            Recipe alone = recipe.exclude("bias");
            Report r = compress(in, recipe, folder.resolve("out.onnx"), 2);
            assertEquals(List.of("a"), r.entries().stream().map(e -> e.planned().weight().name()).toList());
            assertEquals(r.entries().getFirst().sparsity(),
                    compress(in, alone, folder.resolve("alone.onnx"), 2).entries().getFirst().sparsity());
            if (method.budget() < 0) {
                assertEquals(N * N / 2, r.entries().getFirst().sparsity().zerosAsked());
            }
            assertTrue(r.plan().entries().getLast().note().contains("has no channels"), r.plan().entries().getLast().note());
        }
    }

    @Test
    void stepsOfAScheduleGoOnWhereTheLastStopped() throws Exception {
        Recipe recipe = Recipe.named("prune50").set("schedule", "cubic:0:0.75:3")
                .set("sparse-initializers", "false");
        Path from = model(0);
        long before = 0;
        Map<String, float[]> last = null;
        for (int step = 1; step <= recipe.scheduled(); step++) {
            Path out = folder.resolve("step" + step + ".onnx");
            compress(from, recipe.atStep(step), out, 2);
            Map<String, float[]> now = weights(out);
            assertTrue(zeros(now.get("a")) > before);
            before = zeros(now.get("a"));
            for (int i = 0; last != null && i < N * N; i++) {
                assertTrue(last.get("a")[i] != 0 || now.get("a")[i] == 0);
            }
            last = now;
            from = out;
        }
        assertEquals(N * N * 3 / 4, before);
    }

    @Test
    void notANumberStopsThePlan() throws Exception {
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
            try (Compressor c = Compressor.open(model(bad))) {
                NonFiniteWeightException e =
                        assertThrows(NonFiniteWeightException.class, () -> c.plan(Recipe.named("prune50")));
                assertTrue(e.getMessage().contains("weight a holds " + bad + " at element 5"), e.getMessage());
                assertEquals(1, c.plan(Recipe.named("prune50").exclude("a")).compressed());
            }
        }
    }

    @Test
    void weightsThatCannotBePrunedStayWithTheReason() throws Exception {
        try (Compressor c = Compressor.open(model(0))) {
            Plan plan = c.plan(Recipe.named("prune50").set("budget", "10"));
            assertEquals(0, plan.compressed());
            for (Plan.Entry e : plan.entries()) {
                if (e.weight().role() == dev.tensorpress.model.Role.LINEAR) {
                    assertTrue(e.note().contains("more than the budget of 10 bytes"), e.note());
                }
            }
            assertEquals(0, c.plan(Recipe.named("prune50").exclude("*")).compressed());
        }
    }
}
