package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.Selector;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.method.CorrectMethod;
import dev.tensorpress.method.Evidence;
import dev.tensorpress.method.FactorizeMethod;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.tensor.DType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** From a recipe that factorizes or corrects to a file that runs, and what the report says of it. */
final class LowRankModelTest {
    private static final int N = 128;
    private static final int RANK = 6;

    @TempDir
    Path folder;

    /** Of random matrices with this many columns and rows. */
    private static float[] product(int seed, int rows, int cols, int rank) {
        float[] l = TestModel.random(seed, rows * rank);
        float[] r = TestModel.random(seed + 100, rank * cols);
        float[] x = new float[rows * cols];
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < cols; j++) {
                double sum = 0;
                for (int k = 0; k < rank; k++) {
                    sum += l[i * rank + k] * r[k * cols + j];
                }
                x[i * cols + j] = (float) (sum / Math.sqrt((double) rank * cols));
            }
        }
        return x;
    }

    /** A product, a transposed one, and a convolution; of few ranks, or of all. */
    private Path model(boolean few, float poison) throws Exception {
        float[] a = few ? product(1, N, 2 * N, RANK) : TestModel.random(1, 2 * N * N);
        float[] b = few ? product(2, N, 2 * N, RANK) : TestModel.random(2, 2 * N * N);
        float[] k = few ? product(3, 32, 16 * 9, 4) : TestModel.random(3, 32 * 16 * 9);
        if (poison != 0) {
            b[300] = poison;
        }
        TestModel m = new TestModel();
        m.graph.input("x", 1, -1, N).input("p", 1, 1, 16, 8, 8).init("a", DType.F32, a, N, 2 * N)
                .init("b", DType.F32, b, N, 2 * N).init("bias", DType.F32, TestModel.random(4, N), N)
                .init("k", DType.F32, k, 32, 16, 3, 3)
                .node("MatMul", "h", "x", "a")
                .node(new TestModel.NodeBuilder("Gemm", "y", "h", "b", "bias").set("transB", 1))
                .node(new TestModel.NodeBuilder("Conv", "z", "p", "k").ints("kernel_shape", 3, 3))
                .output("y", 1, -1, N).output("z", 1, 1, 32, 6, 6);
        return m.write(folder, few ? "few.onnx" : "all.onnx");
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

    private static Recipe recipe(Method... methods) {
        List<Recipe.Step> steps = new ArrayList<>();
        for (Method method : methods) {
            steps.add(new Recipe.Step(method.name(), new Selector(Set.of(), List.of(), 0), method));
        }
        return new Recipe("test", "", steps, List.of(), Map.of());
    }

    private static Report.Entry entry(Report report, String name) {
        return report.entries().stream().filter(e -> e.planned().weight().name().equals(name)).findFirst().orElseThrow();
    }

    private static double difference(float[] x, float[] y) {
        double sum = 0;
        double squares = 0;
        for (int i = 0; i < x.length; i++) {
            sum += (double) (x[i] - y[i]) * (x[i] - y[i]);
            squares += (double) x[i] * x[i];
        }
        return Math.sqrt(sum / squares);
    }

    @Test
    void aModelOfFewRanksShrinksAsPredicted() throws Exception {
        Path in = model(true, 0);
        Path out = folder.resolve("out.onnx");
        Report r = compress(in, Recipe.named("lowrank").set("energy", "0.999999999"), out, 2);
        assertEquals(3, r.entries().size());
        for (String name : List.of("a", "b")) {
            Report.Entry e = entry(r, name);
            assertEquals(RANK, e.lowRank().rank());
            assertEquals(N, e.lowRank().of());
            assertEquals(4 * RANK * 3 * N, e.planned().after());
            assertEquals(e.planned().after(), e.lowRank().bytes());
            assertTrue(e.relativeError() < 1e-6 && e.lowRank().energy() > 1 - 1e-9, "" + e.relativeError());
        }
        assertEquals(4 * 4 * (32 + 144), entry(r, "k").planned().after());
        // What names and nodes take is small beside the elements.
        long elements = 4L * (2 * RANK * 3 * N + 4 * 176 + N);
        assertTrue(r.bytesAfter() > elements && r.bytesAfter() < elements + 1500, r.bytesAfter() + " of " + elements);
        assertTrue(difference(Ort.run(in, 1, 9), Ort.run(out, 1, 9)) < 1e-5);
        Report codes = compress(in, Recipe.named("lowrank-int8").set("energy", "0.999999999").set("linear.activations", "float"),
                out, 2);
        assertEquals(RANK, entry(codes, "a").lowRank().rank());
        assertTrue(codes.bytesAfter() < 0.6 * r.bytesAfter(), codes.bytesAfter() + " of " + r.bytesAfter());
        double error = difference(Ort.run(in, 1, 9), Ort.run(out, 1, 9));
        assertTrue(error > 1e-4 && error < 0.03, "" + error);
        assertTrue(entry(codes, "a").relativeError() > 1e-4 && entry(codes, "a").relativeError() < 0.02);
    }

    @Test
    void aModelOfManyRanksIsLeftAlone() throws Exception {
        Path in = model(false, 0);
        Path out = folder.resolve("out.onnx");
        Report r = compress(in, Recipe.named("lowrank"), out, 2);
        assertEquals(0, r.entries().size());
        assertArrayEquals(Files.readAllBytes(in), Files.readAllBytes(out));
        for (Plan.Entry e : r.plan().entries()) {
            if (!e.weight().name().equals("bias")) {
                assertTrue(e.note().startsWith("factors of rank ") && e.note().contains(" bytes instead of "
                        + e.weight().tensor().bytes()), e.note());
            }
        }
        // What factors are not worth is quantized all the same, and the note says so.
        Report codes = compress(in, Recipe.named("lowrank-int8"), out, 2);
        Plan.Entry a = entry(codes, "a").planned();
        assertEquals("int8 block 64 blockwise", a.form().describe());
        assertEquals(List.of("linear"), a.steps().stream().map(Plan.Step::name).toList());
        assertTrue(a.note().startsWith("no factorize: factors of rank "), a.note());
        byte[] bytes = Files.readAllBytes(out);
        compress(in, Recipe.named("int8"), out, 2);
        assertArrayEquals(Files.readAllBytes(out), bytes);
    }

    @Test
    void plansWithOtherAmountsDecomposeNothing() throws Exception {
        try (Compressor c = Compressor.open(model(false, 0))) {
            Recipe first = recipe(FactorizeMethod.energy(0.5));
            long start = System.nanoTime();
            Plan half = c.plan(first);
            long took = System.nanoTime() - start;
            start = System.nanoTime();
            for (int i = 1; i <= 50; i++) {
                c.plan(recipe(FactorizeMethod.error(i / 60.0)));
                c.plan(recipe(FactorizeMethod.budget(50_000 + 4000 * i)));
            }
            long again = (System.nanoTime() - start) / 100;
            assertTrue(again < took, again + " ns each, and the first " + took);
            List<Form> forms = half.entries().stream().map(Plan.Entry::form).toList();
            assertEquals(forms, c.plan(first).entries().stream().map(Plan.Entry::form).toList());
        }
    }

    @Test
    void budgetsHoldForTheWholeStep() throws Exception {
        Path in = model(false, 0);
        for (long budget : new long[] {30_000, 100_000, 200_000, 270_000}) {
            Report r = compress(in, recipe(FactorizeMethod.budget(budget)), folder.resolve("out.onnx"), 2);
            long sum = 0;
            for (Plan.Entry e : r.plan().entries()) {
                sum += e.weight().name().equals("bias") ? 0 : e.after();
            }
            assertTrue(sum <= budget && sum > 0.93 * budget, sum + " of " + budget);
        }
        Report none = compress(in, recipe(FactorizeMethod.budget(100)), folder.resolve("out.onnx"), 2);
        assertEquals(0, none.entries().size());
        assertTrue(none.plan().entries().getFirst().note().contains("more than the budget of 100"));
    }

    /** What the target does not take factors of has no part in a budget. */
    @Test
    void budgetsAreMetByWhatIsFactored() throws Exception {
        TestModel m = new TestModel();
        m.graph.input("x", 1, -1, N).input("p", 1, 1, 16, 8, 8);
        // A tenth of the size: of all of them these would be the first to become factors, down to rank 1.
        float[] small = TestModel.random(7, N * N);
        for (int i = 0; i < small.length; i++) {
            small[i] /= 10;
        }
        m.graph.init("a", DType.F32, TestModel.random(5, N * N), N, N).node("MatMul", "h", "x", "a")
                .init("b", DType.F32, TestModel.random(6, N * N), N, N).node("MatMul", "y", "h", "b")
                .init("turned", DType.F32, small, N, N).node("Transpose", "t", "turned").node("MatMul", "z", "x", "t")
                .init("groups", DType.F32, TestModel.random(8, 64 * 4 * 9), 64, 4, 3, 3)
                .node(new TestModel.NodeBuilder("Conv", "g", "p", "groups").set("group", 4))
                .output("y", 1, -1, N).output("z", 1, -1, N).output("g", 1, 1, 64, 6, 6);
        Path in = m.write(folder, "in.onnx");
        long budget = 100_000;
        for (Recipe recipe : List.of(recipe(FactorizeMethod.budget(budget)), recipe(FactorizeMethod.budget(budget), QuantizeMethod.int8()))) {
            try (Compressor c = Compressor.open(in)) {
                Plan plan = c.plan(recipe);
                long sum = 0;
                for (Plan.Entry e : plan.entries()) {
                    boolean factored = e.weight().name().length() == 1;
                    assertEquals(factored, e.form() instanceof Form.LowRank, e.weight().name());
                    if (factored) {
                        sum += FactorizeMethod.rank(((Form.LowRank) e.form()).rank()).prepare(Evidence.NOTHING)
                                .plan(e.weight(), new Form.Dense(DType.F32)).bytes(e.weight().tensor().shape());
                    } else {
                        assertTrue(e.note().contains("Transpose") || e.note().contains("4 groups"), e.note());
                        assertEquals(recipe.steps().size() == 2, e.compressed());
                    }
                }
                // A rank takes 1024 bytes.
                assertTrue(sum <= budget && sum > budget - 1024, sum + " of " + budget);
                assertEquals(plan.after(), c.compress(plan, folder.resolve("out" + recipe.steps().size() + ".onnx")).bytesAfter());
            }
        }
    }

    @Test
    void correctionsGiveBackSomeOfTheError() throws Exception {
        Path in = model(false, 0);
        Path out = folder.resolve("out.onnx");
        QuantizeMethod int4 = QuantizeMethod.int4();
        float[] exact = Ort.run(in, 1, 9);
        Report plain = compress(in, recipe(int4), out, 2);
        double before = difference(exact, Ort.run(out, 1, 9));
        for (CorrectMethod method : List.of(CorrectMethod.rank(24), CorrectMethod.rank(24).factors(CorrectMethod.Storage.INT8))) {
            Report r = compress(in, recipe(int4, method), out, 2);
            Report.Entry a = entry(r, "a");
            assertTrue(a.planned().form() instanceof Form.Sum);
            Report.LowRank f = a.lowRank();
            assertTrue(f.correction() && f.rank() == 24 && f.energy() > 0.3 && f.nearness() >= 1 && f.nearness() < 1.2, "" + f);
            double expected = entry(plain, "a").relativeError() * Math.sqrt(1 - f.energy());
            assertEquals(expected, a.relativeError(), 0.01 * expected);
            assertEquals(entry(plain, "a").planned().after() + f.bytes(), a.planned().after());
            // The target adds no products to those of convolutions.
            Report.Entry k = entry(r, "k");
            assertTrue(k.planned().form() instanceof Form.Quantized && k.lowRank() == null);
            assertTrue(k.planned().note().contains("no correct: kernels of convolutions"), k.planned().note());
            double after = difference(exact, Ort.run(out, 1, 9));
            assertTrue(after < 0.95 * before, after + " of " + before);
        }
    }

    @Test
    void correctionsThatWouldOutweighTheRestAreDropped() throws Exception {
        Report r = compress(model(false, 0), recipe(QuantizeMethod.int8(), CorrectMethod.rank(120)), folder.resolve("out.onnx"), 1);
        Plan.Entry a = entry(r, "a").planned();
        assertTrue(a.form() instanceof Form.Quantized && a.steps().size() == 1);
        assertTrue(a.note().startsWith("no correct: ") && a.note().contains("bytes"), a.note());
    }

    @Test
    void theReportHasTheCertificate() throws Exception {
        Report r = compress(model(true, 0), recipe(FactorizeMethod.rank(RANK), QuantizeMethod.int8()), folder.resolve("out.onnx"), 1);
        int seen = 0;
        String json = r.toJson();
        try (JsonParser p = new JsonFactory().createParser(json)) {
            List<String> wanted = List.of("of", "rank", "rankOf", "energy", "bytes", "certificate", "norm", "residual", "bound",
                    "optimum", "nearness", "leftOrthogonality", "rightOrthogonality");
            int at = -1;
            while (p.nextToken() != null) {
                if ("lowRank".equals(p.currentName()) && at < 0 && p.currentToken().isStructStart()) {
                    at = 0;
                    seen++;
                } else if (at >= 0 && p.currentToken() == JsonToken.FIELD_NAME) {
                    assertEquals(wanted.get(at++), p.currentName());
                    at = at == wanted.size() ? -1 : at;
                }
            }
        }
        assertEquals(3, seen, json);
        assertNotNull(entry(r, "a").lowRank().certificate());
        assertNull(entry(compress(model(true, 0), Recipe.named("int8"), folder.resolve("o.onnx"), 1), "a").lowRank());
    }

    @Test
    void sameBytesForAnyNumberOfThreads() throws Exception {
        for (Recipe recipe : List.of(Recipe.named("lowrank-int8").set("energy", "0.6"), Recipe.named("int4-corrected"))) {
            byte[][] files = new byte[2][];
            for (int i = 0; i < 2; i++) {
                Path out = folder.resolve("out.onnx");
                compress(model(false, 0), recipe, out, 1 + 2 * i);
                files[i] = Files.readAllBytes(out);
            }
            assertArrayEquals(files[0], files[1]);
        }
    }

    @Test
    void notFiniteEndsThePlan() throws Exception {
        Path in = model(false, Float.NaN);
        try (Compressor c = Compressor.open(in)) {
            NonFiniteWeightException e = assertThrows(NonFiniteWeightException.class, () -> c.plan(Recipe.named("lowrank")));
            assertEquals("b", e.weight());
            assertEquals(300, e.index());
            Plan plan = c.plan(Recipe.named("lowrank").set("rank", "4"));
            Path out = folder.resolve("out.onnx");
            assertThrows(NonFiniteWeightException.class, () -> c.compress(plan, out));
            assertTrue(Files.notExists(out));
        }
    }
}
