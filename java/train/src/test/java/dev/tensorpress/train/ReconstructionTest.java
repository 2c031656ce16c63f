package dev.tensorpress.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.Simulation;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.SampleReader;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import dev.tensorpress.train.Reconstruction.Fitted;
import dev.tensorpress.train.Reconstruction.Options;
import dev.tensorpress.train.Reconstruction.Progress;
import dev.tensorpress.train.Reconstruction.Rounding;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Three layers, the second with a residual branch around it, on inputs that depend on each other, so that errors of weights can make up for each other. */
class ReconstructionTest {
    private static final int INPUTS = 48;
    private static final int SAMPLES = 160;
    private static final Options QUICK = Options.DEFAULT.batch(16).steps(150).rate(1e-3);
    private static final OrtEnvironment RUNTIME = OrtEnvironment.getEnvironment();
    private static final Consumer<Progress> SILENT = _ -> { };

    @TempDir
    Path folder;

    /** h = tanh(x A + a), u = tanh(h + h B + b), y = u C + c; of images 3 x 3 convolutions. */
    private Path model(String name, boolean images, long seed) throws IOException {
        int[] in = images ? new int[] {3, 4, 4} : new int[] {INPUTS};
        int[] out = images ? new int[] {8, 4, 4} : new int[] {8};
        Path empty = Files.write(folder.resolve("empty.onnx"),
                Protobuf.model(Protobuf.field(11, Protobuf.value("x", in)), Protobuf.field(12, Protobuf.value("y", out))));
        try (OnnxModel model = OnnxModel.open(empty, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            Random random = new Random(seed);
            Map<String, EditableTensor> all = editable.graph().initializers();
            if (images) {
                all.put("A", normal(random, 0.3f, 16, 3, 3, 3));
                all.put("B", normal(random, 0.1f, 16, 16, 3, 3));
                all.put("C", normal(random, 0.1f, 8, 16, 3, 3));
            } else {
                all.put("A", normal(random, 0.2f, INPUTS, 32));
                all.put("B", normal(random, 0.2f, 32, 32));
                all.put("C", normal(random, 0.2f, 32, 8));
            }
            all.put("a", normal(random, 0.1f, images ? 16 : 32));
            all.put("b", normal(random, 0.1f, images ? 16 : 32));
            all.put("c", normal(random, 0.1f, 8));
            List<EditableNode> nodes = editable.graph().nodes();
            product(nodes, images, "x", "A", "a", "q");
            nodes.add(new EditableNode("Tanh", "", "", List.of("q"), List.of("h")));
            product(nodes, images, "h", "B", "b", "s");
            nodes.add(new EditableNode("Add", "", "", List.of("h", "s"), List.of("t")));
            nodes.add(new EditableNode("Tanh", "", "", List.of("t"), List.of("u")));
            product(nodes, images, "u", "C", "c", "y");
            Path file = folder.resolve(name);
            editable.write(Destination.replacing(file));
            return file;
        }
    }

    private static void product(List<EditableNode> nodes, boolean images, String in, String weight, String bias, String out) {
        if (images) {
            nodes.add(new EditableNode("Conv", "", weight, List.of(in, weight, bias), List.of(out)).setAll("pads", 1, 1, 1, 1));
        } else {
            nodes.add(new EditableNode("MatMul", "", weight, List.of(in, weight), List.of(out + "0")));
            nodes.add(new EditableNode("Add", "", "", List.of(out + "0", bias), List.of(out)));
        }
    }

    private static EditableTensor normal(Random random, float scale, long... dims) {
        Shape shape = Shape.of(dims);
        float[] values = new float[(int) shape.elements()];
        for (int i = 0; i < values.length; i++) {
            values[i] = scale * (float) random.nextGaussian();
        }
        return EditableTensor.of(new Tensor(DType.F32, shape, MemorySegment.ofArray(values)));
    }

    /** So many samples, each a mixture of eight directions and a little noise. */
    private static float[] samples(long seed) {
        Random directions = new Random(3);
        double[][] mix = new double[8][INPUTS];
        for (double[] line : mix) {
            Arrays.setAll(line, _ -> directions.nextGaussian() / 2);
        }
        Random random = new Random(seed);
        float[] all = new float[SAMPLES * INPUTS];
        for (int i = 0; i < SAMPLES; i++) {
            for (double[] line : mix) {
                double of = random.nextGaussian();
                for (int k = 0; k < INPUTS; k++) {
                    all[i * INPUTS + k] += (float) (of * line[k]);
                }
            }
            for (int k = 0; k < INPUTS; k++) {
                all[i * INPUTS + k] += (float) (0.05 * random.nextGaussian());
            }
        }
        return all;
    }

    private static long[] shape(boolean images) {
        return images ? new long[] {SAMPLES, 3, 4, 4} : new long[] {SAMPLES, INPUTS};
    }

    private static SampleReader reader(Path model, boolean images, float[] samples) throws IOException {
        return SampleReader.open(model, Samples.arrays(Map.of("x", new Tensor(DType.F32, Shape.of(shape(images)), MemorySegment.ofArray(samples)))));
    }

    /** What ONNX Runtime makes of other samples than those of training. */
    private static float[] outputs(Path file, boolean images) throws OrtException {
        try (OrtSession session = RUNTIME.createSession(file.toString(), new OrtSession.SessionOptions());
                OnnxTensor x = OnnxTensor.createTensor(RUNTIME, FloatBuffer.wrap(samples(99)), shape(images));
                OrtSession.Result result = session.run(Map.of("x", x))) {
            return ((OnnxTensor) result.get("y").orElseThrow()).getFloatBuffer().array().clone();
        }
    }

    private static double error(float[] expected, float[] got) {
        double sum = 0;
        for (int i = 0; i < expected.length; i++) {
            sum += Math.pow(expected[i] - got[i], 2);
        }
        return sum / expected.length;
    }

    /** A student of the teacher's own weights by a recipe, and what came of it. */
    private final class Student implements AutoCloseable {
        private final Arena arena = Arena.ofShared();
        private final List<AutoCloseable> open = new ArrayList<>();
        private final EditableModel editable;
        private final Simulation simulation;
        private final Reconstruction reconstruction;
        private final Recipe recipe;

        /** @param recipe null for none */
        Student(Path teacher, Path student, boolean images, Recipe recipe, Options options) throws IOException {
            this.recipe = recipe;
            OnnxModel of = keep(OnnxModel.open(teacher, false));
            OnnxModel own = keep(OnnxModel.open(student, false));
            editable = EditableModel.of(own, arena);
            if (recipe == null) {
                simulation = null;
            } else {
                Compressor compressor = keep(Compressor.open(student));
                simulation = keep(compressor.simulate(compressor.plan(recipe)));
            }
            reconstruction = keep(Reconstruction.of(EditableModel.of(of, arena), editable, reader(teacher, images, samples(7)),
                    Reconstruction.parameters(editable), simulation, options, folder, arena));
        }

        private <T extends AutoCloseable> T keep(T one) {
            open.add(one);
            return one;
        }

        List<Fitted> run() throws IOException {
            return reconstruction.run(SILENT);
        }

        /** @return the report of the file that was written */
        Report write(Path out) throws IOException {
            Path trained = folder.resolve("trained.onnx");
            editable.write(Destination.replacing(trained));
            if (recipe == null) {
                editable.write(Destination.replacing(out));
                return null;
            }
            try (Compressor compressor = Compressor.open(trained, Compressor.Options.DEFAULT.overwrite(true))) {
                return compressor.compress(compressor.plan(recipe), out, reconstruction.codes());
            }
        }

        @Override
        public void close() throws IOException {
            for (AutoCloseable one : open.reversed()) {
                try {
                    one.close();
                } catch (Exception e) {
                    throw new IOException(e);
                }
            }
            arena.close();
            try (Stream<Path> files = Files.list(folder)) {
                assertTrue(files.noneMatch(file -> file.getFileName().toString().startsWith("values-")));
            }
        }
    }

    private Recipe recipe(String method) throws IOException {
        return Recipe.read(Files.writeString(folder.resolve("r.yaml"), "{name: r, steps: [{name: s, select: {role: [linear, head, conv], min-size: 0}, " + method + "}]}"));
    }

    private static Recipe bits(ReconstructionTest test, int bits, boolean symmetric, boolean images) throws IOException {
        return test.recipe("quantize: {bits: " + bits + ", " + (images ? "per: channel" : "block: 16") + ", symmetric: " + symmetric + ", activations: float}");
    }

    @Test
    void blocksEndWhereOneValueIsAlive() throws IOException {
        Path file = model("teacher.onnx", false, 1);
        try (OnnxModel model = OnnxModel.open(file, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            Set<String> all = Reconstruction.parameters(editable);
            assertEquals(List.of(new Block(Set.of(), List.of("h"), new LinkedHashSet<>(List.of("A", "a"))),
                    new Block(Set.of("h"), List.of("u"), new LinkedHashSet<>(List.of("B", "b"))),
                    new Block(Set.of("u"), List.of("y"), new LinkedHashSet<>(List.of("C", "c")))), Block.of(editable, all, all, Set.of("h", "t", "u", "y")));
            // What the teacher has no name for ends none, and what is not trained begins none.
            assertEquals(List.of(List.of("u"), List.of("y")), Block.of(editable, all, all, Set.of("u", "y")).stream().map(Block::to).toList());
            assertEquals(List.of(List.of("y")), Block.of(editable, Set.of("C"), Set.of("C"), Set.of("h", "u", "y")).stream().map(Block::to).toList());
        }
    }

    /** Attention and its normalization, then the layer behind it, six times, the first with the tables; and the pooler. */
    @Test
    void blocksOfAnEncoderEndAtItsNormalizations() throws IOException {
        Path file = folder.resolve("minilm.onnx");
        try (InputStream in = ReconstructionTest.class.getResourceAsStream("/all-minilm-l6-v2.onnx")) {
            Files.copy(in, file);
        }
        try (OnnxModel model = OnnxModel.open(file, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            Set<String> trained = Reconstruction.parameters(editable);
            assertFalse(trained.contains("embeddings.word_embeddings.weight"));
            Set<String> ends = new LinkedHashSet<>();
            editable.graph().nodes().forEach(n -> ends.addAll(n.outputs()));
            Set<String> weights = new LinkedHashSet<>(Network.parameters(editable));
            List<Block> blocks = Block.of(editable, trained, weights, ends);
            assertEquals(13, blocks.size(), blocks.toString());
            long whole = bytes(editable, Set.of(), editable.graph().outputs().keySet());
            long largest = 0;
            for (Block b : blocks.subList(1, blocks.size())) {
                Set<String> known = new LinkedHashSet<>(b.from());
                known.addAll(editable.graph().inputs().keySet());
                largest = Math.max(largest, bytes(editable, known, new LinkedHashSet<>(b.to())));
            }
            assertEquals(90_900_000, whole, 500_000);
            assertEquals(4_729_364, largest, 1000);
        }
    }

    private static long bytes(EditableModel model, Set<String> known, Set<String> wanted) {
        try (Network network = Network.between(model, known, wanted)) {
            return network.bytes();
        }
    }

    /** Of codes that are learned the outputs are better than of the nearest, on other inputs; each is one of the two around its element. */
    @Test
    void roundingIsLearned() throws Exception {
        for (boolean images : new boolean[] {false, true}) {
            Path file = model("teacher.onnx", images, 1);
            float[] wanted = outputs(file, images);
            for (boolean symmetric : new boolean[] {true, false}) {
                Recipe recipe = bits(this, images ? 3 : 4, symmetric, images);
                Path nearest = folder.resolve("nearest.onnx");
                try (Compressor compressor = Compressor.open(file, Compressor.Options.DEFAULT.overwrite(true))) {
                    compressor.compress(compressor.plan(recipe), nearest);
                }
                Path out = folder.resolve("out.onnx");
                try (Student student = new Student(file, file, images, recipe, QUICK.rounding(Rounding.LEARNED).rate(1e-12)); Executor executor = Executor.cpu(1)) {
                    List<Fitted> blocks = student.run();
                    assertEquals(List.of(1, 2, 3), blocks.stream().map(Fitted::number).toList());
            assertTrue(blocks.stream().allMatch(b -> b.trained() && b.after() < b.before()), blocks.toString());
                    assertEquals(Set.of("A", "B", "C"), student.reconstruction.codes().keySet());
                    Report report = student.write(out);
                    double before = error(wanted, outputs(nearest, images));
                    double after = error(wanted, outputs(out, images));
                    assertTrue(after < 0.6 * before, images + " " + symmetric + " " + after + " " + before);
                    // The same scales, and elements no farther away than one step; some farther than half of one.
                    int moved = 0;
                    for (Map.Entry<String, Encoding.Quantized> e : student.reconstruction.codes().entrySet()) {
                        moved += moved(student, e.getKey(), e.getValue(), executor);
                    }
                    assertTrue(moved > 50, moved + " codes are not the nearest");
                    try (Compressor compressor = Compressor.open(file, Compressor.Options.DEFAULT.overwrite(true))) {
                        Report plain = compressor.compress(compressor.plan(recipe), nearest);
                        assertTrue(report.entries().getFirst().sumSquaredError() > plain.entries().getFirst().sumSquaredError());
                        assertEquals(plain.bytesAfter(), report.bytesAfter(), 64);
                    }
                    checkWritten(student, out, images);
                }
            }
        }
    }

    private static int moved(Student student, String name, Encoding.Quantized codes, Executor executor) {
        try (Arena arena = Arena.ofShared()) {
            Tensor own = student.editable.graph().initializers().get(name).tensor();
            MemorySegment elements = arena.allocate(own.data().byteSize(), 64).copyFrom(own.data());
            MemorySegment decoded = arena.allocate(own.data().byteSize(), 64);
            Encoding.Quantized nearest = student.simulation.codes(name, elements, arena).orElseThrow();
            assertEquals(-1, nearest.scales().data().mismatch(codes.scales().data()));
            nearest.decode(decoded, executor);
            float[] at = decoded.toArray(ValueLayout.JAVA_FLOAT);
            codes.decode(decoded, executor);
            float[] now = decoded.toArray(ValueLayout.JAVA_FLOAT);
            float[] w = elements.toArray(ValueLayout.JAVA_FLOAT);
            float largest = 0;
            for (float s : nearest.scales().data().toArray(ValueLayout.JAVA_FLOAT)) {
                largest = Math.max(largest, s);
            }
            int moved = 0;
            for (int i = 0; i < w.length; i++) {
                moved += now[i] == at[i] ? 0 : 1;
                assertTrue(now[i] == at[i] || Math.abs(now[i] - w[i]) < largest * 1.0001, name + " " + i);
            }
            return moved;
        }
    }

    /** ONNX Runtime makes of the file what the last block made in training. */
    private void checkWritten(Student student, Path out, boolean images) throws Exception {
        float[] expected;
        try (Network network = Network.of(student.editable); NDManager scope = network.scope(); Arena arena = Arena.ofShared();
                Executor executor = Executor.cpu(1)) {
            Map<String, NDArray> instead = new LinkedHashMap<>();
            student.reconstruction.codes().forEach((name, codes) -> {
                MemorySegment decoded = arena.allocate(4 * codes.shape().elements(), 64);
                codes.decode(decoded, executor);
                instead.put(name, scope.create(decoded.toArray(ValueLayout.JAVA_FLOAT), network.parameter(name).getShape()));
            });
            expected = network.run(scope, Map.of("x", scope.create(samples(99), new ai.djl.ndarray.types.Shape(shape(images)))), instead, List.of("y")).get("y")
                    .toFloatArray();
        }
        float[] got = outputs(out, images);
        for (int i = 0; i < got.length; i++) {
            assertEquals(expected[i], got[i], 1e-5, "output " + i);
        }
    }

    /** With the nearest codes, and with those that are learned. */
    @Test
    void scalesAreLearned() throws Exception {
        Path file = model("teacher.onnx", false, 1);
        float[] wanted = outputs(file, false);
        for (Rounding rounding : Rounding.values()) {
            boolean symmetric = rounding == Rounding.NEAREST;
            Recipe recipe = bits(this, 3, symmetric, false);
            Path nearest = folder.resolve("nearest.onnx");
            try (Compressor compressor = Compressor.open(file, Compressor.Options.DEFAULT.overwrite(true))) {
                compressor.compress(compressor.plan(recipe), nearest);
            }
            Path out = folder.resolve("out.onnx");
            try (Student student = new Student(file, file, false, recipe, QUICK.rounding(rounding).scales(true).rate(3e-3)); Arena arena = Arena.ofShared()) {
                List<Fitted> blocks = student.run();
                assertTrue(blocks.stream().allMatch(b -> b.after() < b.before()), blocks.toString());
                student.write(out);
                double before = error(wanted, outputs(nearest, false));
                double after = error(wanted, outputs(out, false));
                assertTrue(after < 0.5 * before, rounding + " " + symmetric + " " + after + " " + before);
                Encoding.Quantized codes = student.reconstruction.codes().get("B");
                try (Compressor compressor = Compressor.open(file); Simulation simulation = compressor.simulate(compressor.plan(recipe))) {
                    Tensor own = compressor.model().weights().stream().filter(w -> w.name().equals("B")).findFirst().orElseThrow().tensor();
                    MemorySegment elements = arena.allocate(own.data().byteSize(), 64).copyFrom(own.data());
                    Encoding.Quantized first = simulation.codes("B", elements, arena).orElseThrow();
                    assertNotEquals(-1, first.scales().data().mismatch(codes.scales().data()));
                    assertEquals(first.form(), codes.form());
                }
                checkWritten(student, out, false);
            }
        }
    }

    /** Elements are trained for the nearest codes, as a recipe makes them, and for tables of values. */
    @Test
    void elementsAreTrained() throws Exception {
        Path file = model("teacher.onnx", false, 1);
        float[] wanted = outputs(file, false);
        for (Recipe recipe : List.of(bits(this, 3, true, false), recipe("codebook: {bits: 2}"))) {
            Path nearest = folder.resolve("nearest.onnx");
            try (Compressor compressor = Compressor.open(file, Compressor.Options.DEFAULT.overwrite(true))) {
                compressor.compress(compressor.plan(recipe), nearest);
            }
            try (Student student = new Student(file, file, false, recipe, QUICK.steps(200).rate(2e-3))) {
                student.run();
                assertEquals(Map.of(), student.reconstruction.codes());
                Path out = folder.resolve("out.onnx");
                student.write(out);
                double before = error(wanted, outputs(nearest, false));
                double after = error(wanted, outputs(out, false));
                assertTrue(after < 0.6 * before, after + " " + before);
            }
        }
    }

    @Test
    void whatIsPrunedIsTrainedAndStaysZero() throws Exception {
        Path file = model("teacher.onnx", false, 1);
        Path pruned = folder.resolve("pruned.onnx");
        try (Compressor compressor = Compressor.open(file)) {
            compressor.compress(compressor.plan(recipe("prune: {sparsity: 0.5}").set("sparse-initializers", "false")), pruned);
        }
        float[] wanted = outputs(file, false);
        for (Recipe recipe : Arrays.asList(null, bits(this, 4, false, false))) {
            Path out = folder.resolve("out.onnx");
            try (Student student = new Student(file, pruned, false, recipe, QUICK.holdZeros(true).rate(5e-3)
                    .rounding(recipe == null ? Rounding.NEAREST : Rounding.LEARNED).steps(200))) {
                List<Fitted> blocks = student.run();
                student.write(out);
                double before = error(wanted, outputs(pruned, false));
                double after = error(wanted, outputs(out, false));
                assertTrue(after < (recipe == null ? 0.5 : 0.9) * before, after + " " + before + " " + blocks);
                for (String name : List.of("A", "B", "C")) {
                    float[] elements;
                    try (Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(1)) {
                        Encoding.Quantized codes = student.reconstruction.codes().get(name);
                        Tensor t = student.editable.graph().initializers().get(name).tensor();
                        MemorySegment decoded = arena.allocate(t.data().byteSize(), 64).copyFrom(t.data());
                        if (recipe != null) {
                            codes.decode(decoded, executor);
                        }
                        elements = decoded.toArray(ValueLayout.JAVA_FLOAT);
                    }
                    int zeros = 0;
                    for (float x : elements) {
                        zeros += x == 0 ? 1 : 0;
                    }
                    assertTrue(recipe == null ? zeros == elements.length / 2 : zeros >= elements.length / 2, name + " " + zeros + " of " + elements.length);
                }
            }
        }
    }

    /** Killed in any block, it ends with the same bits. */
    @Test
    void trainingGoesOnBlockByBlock() throws Exception {
        Path file = model("teacher.onnx", false, 1);
        Recipe recipe = bits(this, 4, false, false);
        Options options = QUICK.rounding(Rounding.LEARNED).scales(true).steps(40);
        Path once = folder.resolve("once.onnx");
        try (Student student = new Student(file, file, false, recipe, options)) {
            student.run();
            student.write(once);
        }
        Path checkpoint = folder.resolve("c.safetensors");
        try (Student student = new Student(file, file, false, recipe, options.checkpoint(checkpoint))) {
            assertThrows(IllegalStateException.class, () -> student.reconstruction.run(p -> {
                if (p.block() == 3) {
                    throw new IllegalStateException("killed");
                }
            }));
        }
        assertTrue(Files.exists(folder.resolve("c.safetensors.2")) && !Files.exists(folder.resolve("c.safetensors.3")));
        Path again = folder.resolve("again.onnx");
        try (Student student = new Student(file, file, false, recipe, options.checkpoint(checkpoint))) {
            Set<Integer> seen = new LinkedHashSet<>();
            student.reconstruction.run(p -> seen.add(p.block()));
            assertEquals(Set.of(3), seen);
            student.write(again);
        }
        assertEquals(-1, Files.mismatch(once, again));
        try (Student student = new Student(file, file, false, recipe, options.seed(2).checkpoint(checkpoint))) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, student::run);
            assertTrue(e.getMessage().contains("checkpoint of another model"), e.getMessage());
        }
    }

    @Test
    void whatDoesNotFitIsNamedFirst() throws Exception {
        Path file = model("teacher.onnx", false, 1);
        Path images = model("images.onnx", true, 1);
        assertThrows(UnsupportedRequestException.class, () -> new Student(images, file, true, null, QUICK));
        Path nan = folder.resolve("nan.onnx");
        try (OnnxModel model = OnnxModel.open(file, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            float[] values = new float[32 * 32];
            values[7] = Float.NaN;
            editable.graph().initializers().put("B", EditableTensor.of(new Tensor(DType.F32, Shape.of(32, 32), MemorySegment.ofArray(values))));
            editable.write(Destination.of(nan));
        }
        UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> new Student(file, nan, false, null, QUICK));
        assertTrue(e.getMessage().contains("element 7 of 'B' is NaN"), e.getMessage());
        Path classes = folder.resolve("classes.onnx");
        try (OnnxModel model = OnnxModel.open(file, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            editable.graph().nodes().getLast().outputs().set(0, "logits");
            editable.graph().nodes().add(new EditableNode("ArgMax", "", "", List.of("logits"), List.of("y")));
            editable.write(Destination.of(classes));
        }
        e = assertThrows(UnsupportedRequestException.class, () -> new Student(file, classes, false, null, QUICK));
        assertTrue(e.getMessage().contains("'y' holds whole numbers"), e.getMessage());
        try (Student student = new Student(file, model("student.onnx", false, 2), false, null, QUICK.rate(1e30))) {
            assertTrue(assertThrows(Distillation.DivergedException.class, student::run).getMessage().contains("the loss of block "));
        }
    }

    /** Scales that are powers of two would be none once they are learned, and what is smoothed is no block's own. */
    @Test
    void recipesThatBlocksCannotKeepToAreRefused() throws Exception {
        Path file = model("teacher.onnx", false, 1);
        Recipe fixed = recipe("quantize: {bits: 8, per: channel, scale: power-of-two}");
        UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> new Student(file, file, false, fixed, QUICK.scales(true)));
        assertTrue(e.getMessage().contains("scales of 'A' are powers of two"), e.getMessage());
        new Student(file, file, false, fixed, QUICK.rounding(Rounding.LEARNED)).close();
        Recipe smooth = recipe("smooth: {by: equalization}");
        e = assertThrows(UnsupportedRequestException.class, () -> new Student(file, file, false, smooth, QUICK));
        assertTrue(e.getMessage().contains("recipe r smooths weights"), e.getMessage());
    }

    /** Whatever is made of them. */
    @Test
    void weightsOfF16AreTrained() throws Exception {
        Path file = model("teacher.onnx", false, 1);
        Path half = folder.resolve("half.onnx");
        try (OnnxModel model = OnnxModel.open(file, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            float[] b = editable.graph().initializers().get("B").tensor().data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
            short[] bits = new short[b.length];
            for (int i = 0; i < b.length; i++) {
                bits[i] = Float.floatToFloat16(b[i]);
            }
            editable.graph().initializers().put("B", EditableTensor.of(new Tensor(DType.F16, Shape.of(32, 32), MemorySegment.ofArray(bits))));
            editable.graph().nodes().addFirst(new EditableNode("Cast", "", "", List.of("B"), List.of("wide")).set("to", 1));
            editable.graph().nodes().stream().filter(n -> n.is("MatMul") && n.input(1).equals("B")).forEach(n -> n.inputs().set(1, "wide"));
            editable.write(Destination.of(half));
        }
        String select = ", select: {role: [linear, head], min-size: 0}, ";
        for (String first : List.of("prune: {sparsity: 0.5}", "factorize: {rank: 4}")) {
            Recipe recipe = Recipe.read(Files.writeString(folder.resolve("two.yaml"), "{name: r, steps: [{name: s" + select + first + "}, {name: q" + select
                    + "quantize: {bits: 4, block: 16, activations: float}}]}"));
            Path out = folder.resolve("out.onnx");
            Files.deleteIfExists(out);
            try (Student student = new Student(half, half, false, recipe, QUICK.steps(20))) {
                assertTrue(student.run().stream().anyMatch(Fitted::trained), first);
                student.write(out);
                outputs(out, false);
            }
        }
    }

    /** However far they are moved, f16 holds them. */
    @Test
    void scalesStayInTheirType() throws Exception {
        Path file = model("teacher.onnx", false, 1);
        Form.Quantized form = new Form.Quantized(4, -1, 0, true, Form.Activations.FLOAT, DType.U4, DType.F16, false, false);
        try (Compressor compressor = Compressor.open(file); Simulation simulation = compressor.simulate(compressor.plan(bits(this, 4, true, false)));
                NDManager own = Engines.manager(); Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(1)) {
            for (float scale : new float[] {30_000, 0x1p-24f}) {
                Encoding.Quantized start = Encoding.Quantized.of(form, Shape.of(2, 16), new float[32], new float[] {scale}, null, arena, executor);
                LearnedCodes learned = new LearnedCodes("w", own.zeros(new ai.djl.ndarray.types.Shape(2, 16)), start, false, true, false, own);
                learned.learned().get("w.factors").set(new float[] {scale > 1 ? 4 : 0.25f});
                assertEquals(scale > 1 ? 65_504 : 0x1p-24f, learned.codes(simulation, arena).scalesAsF32(arena).get(ValueLayout.JAVA_FLOAT, 0));
            }
        }
    }

    /** A file gets the codes that are given, and no others. */
    @Test
    void codesThatDoNotFitAPlanAreRefused() throws Exception {
        Path file = model("teacher.onnx", false, 1);
        Recipe four = bits(this, 4, true, false);
        try (Compressor compressor = Compressor.open(file); Arena arena = Arena.ofShared()) {
            Plan plan = compressor.plan(four);
            try (Simulation simulation = compressor.simulate(plan)) {
                Tensor own = compressor.model().weights().stream().filter(w -> w.name().equals("B")).findFirst().orElseThrow().tensor();
                MemorySegment elements = arena.allocate(own.data().byteSize(), 64).copyFrom(own.data());
                Encoding.Quantized codes = simulation.codes("B", elements, arena).orElseThrow();
                Path out = folder.resolve("out.onnx");
                for (Map<String, Encoding.Quantized> wrong : List.of(Map.of("A", codes), Map.of("none", codes))) {
                    assertTrue(assertThrows(IllegalArgumentException.class, () -> compressor.compress(plan, out, wrong)).getMessage().contains("was given"));
                }
                IllegalArgumentException e = assertThrows(IllegalArgumentException.class,
                        () -> simulation.codes(codes, new float[32 * 32], new float[32 * 2], arena));
                assertTrue(e.getMessage().contains("scale 0 is 0.0"), e.getMessage());
                // The same codes make the same file.
                Path plain = folder.resolve("plain.onnx");
                compressor.compress(plan, plain);
                compressor.compress(plan, out, Map.of("B", codes));
                assertEquals(-1, Files.mismatch(plain, out));
            }
        }
    }
}
