package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import dev.tensorpress.runtime.ArrayFile;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import dev.tensorpress.train.Objective;
import dev.tensorpress.train.Reconstruction;
import dev.tensorpress.train.Schedule;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DistillTest {
    @TempDir
    Path folder;

    private Path model;
    private Path out;

    @BeforeEach
    void write() throws IOException {
        model = SmallModel.write(folder.resolve("small.onnx"));
        out = folder.resolve("out.onnx");
    }

    private static Result run(Object... args) {
        return MainTest.run(args);
    }

    /** 40 times 16 x 128 numbers that depend on each other, so that errors of weights can make up for each other. */
    private Path inputs() throws IOException {
        Path all = Files.createDirectory(folder.resolve("inputs"));
        Random random = new Random(3);
        double[][] mix = new double[16][128];
        for (double[] line : mix) {
            Arrays.setAll(line, _ -> random.nextGaussian() / 4);
        }
        for (int file = 0; file < 40; file++) {
            ByteBuffer data = ByteBuffer.allocate(128 + 4 * 16 * 128).order(ByteOrder.LITTLE_ENDIAN);
            String header = "{'descr': '<f4', 'fortran_order': False, 'shape': (16, 128), }";
            data.put(new byte[] {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 118, 0}).put((header + " ".repeat(117 - header.length()) + "\n").getBytes(StandardCharsets.US_ASCII));
            for (int row = 0; row < 16; row++) {
                double[] of = new double[16];
                Arrays.setAll(of, _ -> random.nextGaussian());
                for (int i = 0; i < 128; i++) {
                    double x = 0.05 * random.nextGaussian();
                    for (int k = 0; k < 16; k++) {
                        x += of[k] * mix[k][i];
                    }
                    data.putFloat((float) x);
                }
            }
            Files.write(all.resolve(file + ".npy"), data.array());
        }
        return all;
    }

    private static double[] losses(Result r) {
        String line = r.out().lines().filter(l -> l.startsWith("loss ")).findFirst().orElseThrow();
        String[] words = line.split(" ");
        return new double[] {Double.parseDouble(words[1]), Double.parseDouble(words[3].replace(":", ""))};
    }

    /** int4 that is trained loses less than int4 that is not, as evaluate has it. */
    @Test
    void trainsThroughARecipe() throws IOException {
        Path plain = folder.resolve("plain.onnx");
        Path recipe = Files.writeString(folder.resolve("r.yaml"),
                "{name: r, steps: [{name: l, select: {role: [linear, head]}, quantize: {bits: 4, per: tensor}}]}");
        assertEquals(0, run("compress", model, "-o", plain, "--recipe", recipe).code());
        Path report = folder.resolve("report.html");
        Result r = run("distill", model, "-o", out, "--recipe", recipe, "--inputs", inputs(), "--batch", 1, "--epochs", 8, "--rate", "1e-3",
                "--decay", 0, "--report", report);
        assertEquals(0, r.code(), r.err());
        double[] losses = losses(r);
        assertTrue(losses[1] < 0.9 * losses[0], r.out());
        assertEquals(Files.size(plain), Files.size(out), 4096);
        assertEquals(0, run("evaluate", model, out, "--random", 2).code());
        String page = Files.readString(report);
        assertTrue(page.contains("id=\"training\"") && page.contains("\"heldOut\""), page);
    }

    @Test
    void trainsAStudent() throws IOException {
        Path other = folder.resolve("other.onnx");
        assertEquals(0, run("compress", model, "-o", other, "--recipe", "prune50", "--set", "min-size=1").code());
        Path report = folder.resolve("report.json");
        Result r = run("distill", model, "--student", other, "-o", out, "--random", 400, "--shape", "x=1x128", "--epochs", 3, "--rate", "3e-3", "--loss", "mse*2", "--loss", "cosine", "--report", report, "--checkpoint", folder.resolve("c.safetensors"));
        assertEquals(0, r.code(), r.err());
        double[] losses = losses(r);
        assertTrue(losses[1] < 0.85 * losses[0], r.out());
        assertTrue(Files.exists(folder.resolve("c.safetensors")));
        assertTrue(JsonTree.parse(Files.readString(report)).toString().contains("kept"));
        // Of zeros that are held, all are there still.
        r = run("distill", model, "--student", other, "-o", out, "--force", "--random", 40, "--shape", "x=1x128", "--epochs", 1, "--held-out", 0, "--hold-zeros");
        assertEquals(0, r.code(), r.err());
        byte[] before = Files.readAllBytes(other);
        byte[] after = Files.readAllBytes(out);
        assertEquals(zeros(before), zeros(after), 16); // of bytes that lie across two numbers some are zero, too
        assertFalse(Arrays.equals(before, after));
    }

    private static long zeros(byte[] file) {
        ByteBuffer all = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
        long zeros = 0;
        for (int i = 0; i + 4 <= file.length; i++) {
            zeros += all.getInt(i) == 0 ? 1 : 0;
        }
        return zeros;
    }

    /** By a schedule, with training between the steps, a model loses less than pruned at once; codebooks follow. */
    @Test
    void prunesLittleByLittle() throws IOException {
        Path inputs = inputs();
        Path prune = Files.writeString(folder.resolve("prune.yaml"),
                "{name: p, steps: [{name: l, select: {role: [linear, head]}, prune: {schedule: [0.4, 0.7, 0.85]}}]}");
        Path once = folder.resolve("once.onnx");
        assertEquals(0, run("compress", model, "-o", once, "--recipe", prune).code());
        Result r = run("distill", model, "--recipe", prune, "-o", out, "--inputs", inputs, "--batch", 1, "--epochs", 8, "--rate", "5e-3", "--checkpoint",
                folder.resolve("c.safetensors"));
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("step 3 of 3"), r.out());
        assertTrue(Files.exists(folder.resolve("c.safetensors.3")));
        assertEquals(zeros(Files.readAllBytes(once)), zeros(Files.readAllBytes(out)), 64);
        assertTrue(error(once, inputs) > 1.3 * error(out, inputs), error(once, inputs) + " " + error(out, inputs));
        Path codebook = Files.writeString(folder.resolve("deep.yaml"), "{name: d, steps: [{name: l, select: {role: [linear, head]}, prune: {schedule: [0.4, 0.7]}},"
                + " {name: c, select: {role: [linear, head]}, codebook: {bits: 4}}]}");
        r = run("distill", model, "--recipe", codebook, "-o", out, "--force", "--inputs", inputs, "--batch", 4, "--epochs", 1, "--rate", "1e-3");
        assertEquals(0, r.code(), r.err());
        assertTrue(Files.size(out) < 0.2 * Files.size(model), r.out());
        try (Stream<Path> all = Files.list(folder)) {
            assertTrue(all.noneMatch(file -> file.getFileName().toString().contains("tensorpress-")));
        }
    }

    /** Codes of gptq are what training begins with, and what nearest ones then make of changed weights is written. */
    @Test
    void beginsWithCodesChosenByStatistics() throws IOException {
        Path inputs = inputs();
        Path statistics = folder.resolve("statistics");
        assertEquals(0, run("calibrate", model, "-o", statistics, "--inputs", inputs).code());
        String codes = "{bits: 4, block: 32, symmetric: false}";
        Path nearest = Files.writeString(folder.resolve("nearest.yaml"), "{name: n, steps: [{name: l, select: {role: [linear, head]}, quantize: " + codes + "}]}");
        Path chosen = Files.writeString(folder.resolve("chosen.yaml"), "{name: c, steps: [{name: l, select: {role: [linear, head]}, gptq: " + codes + "}]}");
        Path compressed = folder.resolve("compressed.onnx");
        assertEquals(0, run("compress", model, "-o", compressed, "--recipe", chosen, "--statistics", statistics).code());
        // Nothing changes: the same codes are written.
        Object[] begin = {"distill", model, "-o", out, "--force", "--inputs", inputs, "--batch", 1, "--epochs", 1, "--decay", 0, "--held-out", 0};
        Result r = run(with(begin, "--recipe", chosen, "--statistics", statistics, "--rate", "1e-12"));
        assertEquals(0, r.code(), r.err());
        assertEquals(error(compressed, inputs), error(out, inputs), 1e-9);
        double before = losses(r)[0];
        r = run(with(begin, "--recipe", nearest, "--rate", "1e-12"));
        double plain = losses(r)[0];
        assertTrue(before < 0.5 * plain, r.out());
        // Codes change, and what is written has not lost what statistics have gained.
        r = run(with(begin, "--recipe", chosen, "--statistics", statistics, "--rate", "3e-3"));
        assertEquals(0, r.code(), r.err());
        assertNotEquals(error(compressed, inputs), error(out, inputs));
        assertTrue(error(out, inputs) < 0.9 * Math.sqrt(plain), error(out, inputs) + " " + Math.sqrt(plain));
        r = run("distill", model, "-o", out, "--recipe", chosen, "--inputs", inputs, "--force");
        assertEquals(Main.USAGE, r.code());
        assertTrue(r.err().contains("needs --statistics"), r.err());
        Path both = Files.writeString(folder.resolve("both.yaml"),
                "{name: b, steps: [{name: p, select: {role: linear}, prune: {sparsity: 0.5}}, {name: l, select: {role: linear}, gptq: " + codes + "}]}");
        r = run("distill", model, "-o", out, "--recipe", both, "--statistics", statistics, "--inputs", inputs, "--force");
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.err().contains("quantize instead of gptq"), r.err());
        Path smooth = Files.writeString(folder.resolve("smooth.yaml"), "{name: s, steps: [{name: e, select: {role: [linear, head]}, smooth: {by: equalization}},"
                + " {name: l, select: {role: [linear, head]}, gptq: " + codes + "}]}");
        r = run("distill", model, "-o", out, "--recipe", smooth, "--statistics", statistics, "--inputs", inputs, "--force");
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.err().contains("recipe s smooths weights"), r.err());
    }

    /** What gptq leaves stays, such as a weight that two steps select; and what is pruned gets the codes that are written. */
    @Test
    void trainingSeesWhatTheRecipeMakes() throws IOException {
        Path inputs = inputs();
        Path statistics = folder.resolve("statistics");
        assertEquals(0, run("calibrate", model, "-o", statistics, "--inputs", inputs).code());
        String all = "select: {role: [linear, head]}";
        Path twice = Files.writeString(folder.resolve("twice.yaml"), "{name: t, steps: [{name: g, " + all + ", gptq: {bits: 4, block: 32}},"
                + " {name: q, " + all + ", quantize: {bits: 4, block: 32}}, {name: b, select: {role: bias, min-size: 1}, quantize: {bits: 8, per: tensor}}]}");
        Path deep = Files.writeString(folder.resolve("deep.yaml"), "{name: d, steps: [{name: p, " + all + ", prune: {sparsity: 0.5}}, {name: c, " + all + ", codebook: {bits: 2}}]}");
        Path compressed = folder.resolve("compressed.onnx");
        for (Path recipe : List.of(twice, deep)) {
            assertEquals(0, run("compress", model, "-o", compressed, "--force", "--recipe", recipe, "--statistics", statistics).code());
            Result r = run("distill", model, "-o", out, "--force", "--inputs", inputs, "--epochs", 1, "--decay", 0, "--held-out", 0, "--rate", "1e-12", "--recipe", recipe,
                    "--statistics", statistics);
            assertEquals(0, r.code(), r.err());
            assertEquals(error(compressed, inputs), error(out, inputs), 1e-6);
            assertEquals(Math.pow(error(compressed, inputs), 2), losses(r)[0], 0.02 * losses(r)[0]);
        }
    }

    private static Object[] with(Object[] all, Object... more) {
        return Stream.concat(Stream.of(all), Stream.of(more)).toArray();
    }

    private double error(Path candidate, Path inputs) throws IOException {
        Path report = folder.resolve("e.json");
        assertEquals(0, run("evaluate", model, candidate, "--inputs", inputs, "--report", report, "--force").code());
        Matcher m = Pattern.compile("\"relativeError\" ?: ([-0-9.eE]+)").matcher(Files.readString(report));
        assertTrue(m.find());
        return Double.parseDouble(m.group(1));
    }

    /** Which way codes go is learned, and so are scales; what is pruned is trained, and stays zero. */
    @Test
    void trainsBlockByBlock() throws IOException {
        Path inputs = inputs();
        Path plain = folder.resolve("plain.onnx");
        Path recipe = Files.writeString(folder.resolve("r.yaml"),
                "{name: r, steps: [{name: l, select: {role: [linear, head]}, quantize: {bits: 4, block: 32, activations: float}}]}");
        assertEquals(0, run("compress", model, "-o", plain, "--recipe", recipe).code());
        Path report = folder.resolve("report.html");
        for (List<Object> how : List.<List<Object>>of(List.of("--rounding", "learned"), List.of("--learn-scales", "--rate", "3e-3"))) {
            Result r = layerwise(inputs, concat(List.of("--recipe", recipe, "--steps", 80, "--report", report, "--batch", 4), how));
            assertEquals(0, r.code(), r.err());
            assertTrue(error(out, inputs) < 0.8 * error(plain, inputs), error(out, inputs) + " " + error(plain, inputs));
            assertEquals(Files.size(plain), Files.size(out), 4096);
        }
        String page = Files.readString(report);
        assertTrue(page.contains("id=\"training\"") && page.contains("\"blocks\""), page);
        assertEquals(0, run("compress", model, "-o", plain, "--force", "--recipe", "prune50", "--set", "min-size=1").code());
        Path checkpoint = folder.resolve("c.safetensors");
        Result r = layerwise(inputs, List.of("--student", plain, "--hold-zeros", "--steps", 80, "--rate", "3e-3", "--batch", 4, "--checkpoint", checkpoint));
        assertEquals(0, r.code(), r.err());
        assertTrue(error(out, inputs) < 0.7 * error(plain, inputs), error(out, inputs) + " " + error(plain, inputs));
        assertEquals(zeros(Files.readAllBytes(plain)), zeros(Files.readAllBytes(out)), 64);
        assertTrue(Files.exists(folder.resolve("c.safetensors.1")));
        // The same by a recipe, which prunes and rounds.
        Path both = Files.writeString(folder.resolve("both.yaml"), "{name: b, steps: [{name: p, select: {role: [linear, head]}, prune: {sparsity: 0.5}},"
                + " {name: l, select: {role: [linear, head]}, quantize: {bits: 4, block: 32, activations: float}}]}");
        assertEquals(0, run("compress", model, "-o", plain, "--force", "--recipe", both).code());
        r = layerwise(inputs, List.of("--recipe", both, "--rounding", "learned", "--steps", 80, "--batch", 4));
        assertEquals(0, r.code(), r.err());
        assertTrue(error(out, inputs) < error(plain, inputs), error(out, inputs) + " " + error(plain, inputs));
        assertEquals(Files.size(plain), Files.size(out), 4096);
    }

    private static List<Object> concat(List<Object> first, List<Object> second) {
        List<Object> all = new ArrayList<>(first);
        all.addAll(second);
        return all;
    }

    private Result layerwise(Path inputs, List<Object> more) {
        return run(concat(List.of("distill", model, "-o", out, "--force", "--inputs", inputs, "--layerwise"), more).toArray());
    }

    @Test
    void whatMeansNothingBesideLayerwiseIsRefused() throws IOException {
        Path inputs = inputs();
        Path schedule = Files.writeString(folder.resolve("s.yaml"), "{name: s, steps: [{name: l, select: {role: [linear, head]}, prune: {schedule: [0.4, 0.7]}}]}");
        for (List<Object> wrong : List.<List<Object>>of(List.of("--loss", "kl"), List.of("--epochs", 3), List.of("--patience", 1), List.of("--clip", 1),
                List.of("--decay", 0), List.of("--warmup", 0), List.of("--schedule", "step"), List.of("--optimizer", "sgd"), List.of("--time", "5m"),
                List.of("--hidden", 1), List.of("--attention", 1), List.of("--temperature", 2), List.of("--labels", schedule), List.of("--augment", "noise=0.1"))) {
            Result r = layerwise(inputs, concat(List.of("--recipe", "int4"), wrong));
            assertEquals(Main.USAGE, r.code(), wrong + " " + r.err());
            assertTrue(r.err().contains(wrong.getFirst() + " does not go with --layerwise"), r.err());
        }
        for (Object[] wrong : new Object[][] {{"needs --recipe or --student"}, {"has a schedule", "--recipe", schedule}, {"there are nearest, learned", "--recipe", "int4",
                "--rounding", "up"}, {"go with --recipe", "--student", model, "--learn-scales"}, {"--steps", "--recipe", "int4", "--steps", 0}}) {
            Result r = layerwise(inputs, Arrays.asList(wrong).subList(1, wrong.length));
            assertEquals(Main.USAGE, r.code(), r.err());
            assertTrue(r.err().contains((String) wrong[0]), r.err());
        }
        for (Object[] wrong : new Object[][] {{"--rounding", "learned"}, {"--learn-scales"}, {"--steps", 3}}) {
            Result r = run(concat(List.of("distill", model, "-o", out, "--inputs", inputs, "--recipe", "int4"), Arrays.asList(wrong)).toArray());
            assertEquals(Main.USAGE, r.code(), r.err());
            assertTrue(r.err().contains("go with --layerwise"), r.err());
        }
        Result r = layerwise(inputs, List.of("--recipe", "prune50", "--set", "min-size=1", "--rounding", "learned"));
        assertEquals(Main.UNSUPPORTED, r.code(), r.err());
        assertTrue(r.err().contains("no weight that is trained gets integer codes"), r.err());
        r = layerwise(inputs, List.of("--recipe", "int4", "--set", "min-size=1", "--report", folder.resolve("c.1"), "--checkpoint", folder.resolve("c")));
        assertEquals(Main.USAGE, r.code(), r.err());
        assertTrue(r.err().contains("c.1"), r.err());
        assertFalse(Files.exists(out));
    }

    @Test
    void wordsAreThoseOfTheLibrary() {
        assertEquals(EditedGraph.words(Reconstruction.Rounding.values()), DistillCommand.ROUNDINGS);
        assertEquals(EditedGraph.words(Objective.Kind.values()), DistillCommand.LOSSES);
        assertEquals(EditedGraph.words(Schedule.Shape.values()), DistillCommand.SCHEDULES);
    }

    /** Other commands list this one, and are run without the module. */
    @Test
    void theCommandIsListedWithoutTheModule() throws IOException {
        try (InputStream in = DistillCommand.class.getResourceAsStream("DistillCommand.class")) {
            assertFalse(new String(in.readAllBytes(), StandardCharsets.ISO_8859_1).contains("dev/tensorpress/train"));
        }
    }

    @Test
    void trainsByTheClockHoweverManyStepsThereAre() {
        Result r = run("distill", model, "-o", out, "--random", 4, "--shape", "x=1x128", "--batch", 1, "--epochs", Integer.MAX_VALUE, "--time", "1s");
        assertEquals(0, r.code(), r.err());
    }

    @Test
    void emptySamplesAreNamed() throws IOException {
        Path empty = folder.resolve("empty.npy");
        ArrayFile.write(new Tensor(DType.F32, Shape.of(0, 128), MemorySegment.ofArray(new float[0])), empty, false);
        Result r = run("distill", model, "-o", out, "--inputs", empty);
        assertEquals(Main.UNSUPPORTED, r.code(), r.err());
        assertTrue(r.err().contains("sample 1 is empty"), r.err());
    }

    @Test
    void wrongOptionsAreRefused() throws IOException {
        Path labels = Files.writeString(folder.resolve("labels.txt"), "0\n1\n");
        for (List<Object> wrong : List.<List<Object>>of(List.of("--loss", "other"), List.of("--loss", "mse*0"), List.of("--loss", "cross-entropy"),
                List.of("--set", "block=32"), List.of("--momentum", "0.5"), List.of("--rate", "0"), List.of("--time", "soon"), List.of("--train", "nothing"),
                List.of("--optimizer", "adam"), List.of("--labels", labels), List.of("--recipe", "nothing"), List.of("--schedule", "linear"),
                List.of("--augment", "shift"), List.of("--augment", "shift=2"), List.of("--augment", "scale=0.1,shear=1"), List.of("--augment", "noise=x"))) {
            Object[] args = new Object[8 + wrong.size()];
            System.arraycopy(new Object[] {"distill", model, "-o", out, "--random", 4, "--shape", "x=1x128"}, 0, args, 0, 8);
            System.arraycopy(wrong.toArray(), 0, args, 8, wrong.size());
            Result r = run(args);
            assertTrue(r.code() == Main.USAGE || r.code() == Main.UNSUPPORTED, wrong + ": " + r.code() + " " + r.err());
            assertFalse(Files.exists(out));
        }
        for (Object[] same : new Object[][] {{"--report", out}, {"--checkpoint", out}, {"--report", folder.resolve("s"), "--checkpoint", folder.resolve("s")}}) {
            Object[] args = Arrays.copyOf(new Object[] {"distill", model, "-o", out, "--random", 4, "--shape", "x=1x128"}, 8 + same.length);
            System.arraycopy(same, 0, args, 8, same.length);
            Result r = run(args);
            assertEquals(Main.USAGE, r.code(), r.err());
            assertFalse(Files.exists(out));
        }
        assertEquals(Main.IO, run("distill", model, "-o", out, "--random", 4, "--shape", "x=1x128", "--checkpoint", folder.resolve("none/c")).code());
        Path nan = SmallModel.write(folder.resolve("nan.onnx"), Float.NaN);
        Result bad = run("distill", nan, "-o", out, "--random", 4, "--shape", "x=1x128");
        assertEquals(Main.UNSUPPORTED, bad.code());
        assertTrue(bad.err().contains("element 5 of 'weight' is NaN"), bad.err());
        Result r = run("distill", model, "-o", out, "--random", 4, "--shape", "x=1x128", "--labels", labels, "--loss", "cross-entropy");
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.err().contains("there are 2 labels for 4 samples"), r.err());
        r = run("distill", model, "-o", out, "--random", 4, "--shape", "x=1x128", "--augment", "shear=1");
        assertTrue(r.err().contains("augmentation has no 'shear', but shift, scale, rotate and noise"), r.err());
        r = run("distill", model, "-o", out, "--random", 4, "--shape", "x=1x128", "--augment", "shift=0.1,noise=0.1");
        assertEquals(Main.UNSUPPORTED, r.code());
        assertTrue(r.err().contains("these are x of F32 1x128"), r.err());
        r = run("distill", model, "-o", out, "--random", 4, "--shape", "x=1x128", "--loss", "mse:nothing");
        assertTrue(r.code() != 0 && r.err().contains("no value 'nothing'"), r.err());
    }
}
