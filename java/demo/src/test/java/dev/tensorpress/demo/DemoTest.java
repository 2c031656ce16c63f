package dev.tensorpress.demo;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import dev.tensorpress.demo.Findings.Table;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.train.Network;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Each demo on a tenth of the digits, with a part of the training: what a broken method cannot reach. Guessing has 10 % right. */
final class DemoTest {
    private static final Demo.Effort SMALL = new Demo.Effort(1000, 0.5);

    @TempDir
    Path folder;

    private Findings run(Demo demo, Demo.Effort effort) throws Exception {
        return demo.run(new Demo.Work(folder, effort, 2, new ClassPath(), (what, done, total, note) -> assertTrue(done <= total && !what.isEmpty(), what)));
    }

    /** Test dependencies hold what demos fetch. */
    private final class ClassPath implements Demo.Sources {
        @Override
        public Path file(String name) throws IOException {
            Path file = folder.resolve(name);
            if (!Files.exists(file)) {
                try (InputStream in = DemoTest.class.getResourceAsStream("/" + name)) {
                    Files.copy(in, file);
                }
            }
            return file;
        }

        /** The sentences that demos have come with the command line. These are of the same kind, and too far behind for so little training. */
        @Override
        public List<String> sentences() {
            List<String> all = Speeches.sentences();
            return all.subList(all.size() - 512, all.size());
        }
    }

    /** A cell as a number, without its unit. */
    private static double number(Table table, int row, String column) {
        String cell = table.rows().get(row).get(table.columns().indexOf(column));
        return Double.parseDouble(cell.replaceAll("[,%x]| ms| dB", "").trim());
    }

    @Test
    void digits() throws Exception {
        Findings f = run(new DigitsDemo(), SMALL);
        Table t = f.tables().getFirst();
        List<String> components = t.rows().stream().map(r -> r.get(1)).toList();
        int few = components.indexOf("16");
        int two = components.indexOf("2");
        assertTrue(number(t, 0, ">Accuracy") > 80, t.toString());
        assertTrue(number(t, few, ">Accuracy") > number(t, 0, ">Accuracy") - 3, t.toString());
        assertTrue(number(t, few, ">8 bits") > number(t, 0, ">Accuracy") - 3, t.toString());
        assertTrue(number(t, few, ">Variance") > 85, t.toString());
        // Two components tell more than nothing, and much less than sixteen.
        assertTrue(number(t, two, ">Accuracy") > 20 && number(t, two, ">Accuracy") < 50, t.toString());
    }

    @Test
    void mlp() throws Exception {
        Findings f = run(new MlpDemo(), SMALL);
        Table t = f.tables().getFirst();
        for (int row : new int[] {0, 1, 2, 4, 5, 6, 8, 17}) {
            assertTrue(number(t, row, ">Accuracy") > 75, t.toString());
        }
        // Half of the neurons take half of the bytes, and int8 a quarter of that, with scales.
        assertEquals(50, number(t, 4, ">Of the teacher"), 0.5);
        assertTrue(number(t, 17, ">Of the teacher") < 16, t.toString());
        // What was pruned is trained again.
        for (int row = 3; row < 17; row += 4) {
            assertTrue(number(t, row + 1, ">Accuracy") > number(t, row, ">Accuracy"), t.toString());
        }
    }

    @Test
    void cnn() throws Exception {
        Findings f = run(new CnnDemo(), new Demo.Effort(1000, 1));
        Table models = f.tables().getFirst();
        for (int row = 0; row < models.rows().size(); row++) {
            assertTrue(number(models, row, ">Accuracy") > 60, models.toString());
        }
        assertTrue(number(models, 0, ">Accuracy") > 85, models.toString());
        // What takes bytes takes them: connected layers most of them, and all together nine tenths.
        List<String> parts = models.rows().stream().map(List::getFirst).toList();
        long last = Math.round(number(models, parts.size() - 1, ">Bytes of archive"));
        assertTrue(last < 0.1 * number(models, 0, ">Bytes of archive"), models.toString());
        assertTrue(number(models, parts.lastIndexOf("connected"), ">Bytes of archive") < 0.3 * number(models, 0, ">Bytes of archive"), models.toString());
        Table images = f.tables().get(1);
        List<String> kinds = images.rows().stream().map(List::getFirst).toList();
        for (String kind : List.of("DCT", "Haar", "CDF 9/7")) {
            int first = kinds.indexOf(kind);
            int end = kinds.lastIndexOf(kind);
            // Larger steps take fewer bytes, and lose more; the smallest loses next to nothing, in a third of the bytes of pixels.
            for (int row = first; row < end; row++) {
                assertTrue(number(images, row, ">Bytes per image") > number(images, row + 1, ">Bytes per image"), images.toString());
                assertTrue(number(images, row, ">PSNR") > number(images, row + 1, ">PSNR"), images.toString());
            }
            assertTrue(number(images, first, ">Accuracy") > number(models, 0, ">Accuracy") - 2, images.toString());
            assertTrue(number(images, first, ">Bytes per image") < Digits.PIXELS / 3.0, images.toString());
            assertTrue(number(images, end, ">Accuracy") < number(images, first, ">Accuracy"), images.toString());
        }
        Table frequencies = f.tables().get(2);
        assertTrue(number(frequencies, 3, ">Accuracy") > 75 && number(frequencies, 3, ">Accuracy") > number(frequencies, 0, ">Accuracy"), frequencies.toString());
        assertTrue(number(frequencies, 3, ">Bytes per image") < 100, frequencies.toString());
    }

    /** Codes of the smallest steps are bytes, whatever the images: all ink, a chessboard, edges, noise. */
    @Test
    void anyImageHasCodes() {
        int side = Digits.SIDE;
        int n = 40;
        float[] pixels = new float[n * Digits.PIXELS];
        Random random = new Random(1);
        for (int i = 0; i < pixels.length; i++) {
            int y = i % Digits.PIXELS / side;
            int x = i % side;
            pixels[i] = switch (i / Digits.PIXELS) {
                case 0 -> 1;
                case 1 -> (x + y) % 2;
                case 2 -> x / 8 % 2;
                case 3 -> x < side / 2 && y < side / 2 ? 1 : 0;
                default -> i / Digits.PIXELS < n / 2 ? random.nextInt(2) : random.nextFloat();
            };
        }
        try (Executor executor = Executor.cpu(1)) {
            for (Picture.Kind kind : Picture.Kind.values()) {
                Picture.Coded coded = Picture.code(kind, pixels, side, CnnDemo.STEPS[0], executor);
                assertTrue(coded.psnr() > 28 && coded.bytes() < pixels.length, kind + " " + coded.psnr() + " dB, " + coded.bytes());
            }
            // The lowest coefficient is the sum of all pixels, as a part of their side.
            Picture.Coded lowest = Picture.lowest(pixels, side, 4, CnnDemo.COARSE, executor);
            assertEquals(n * 10, lowest.pixels().length);
            assertEquals(side, lowest.pixels()[0], CnnDemo.COARSE / 255 / 2);
            assertEquals(0, lowest.pixels()[1]);
        }
    }

    @Test
    void lenet() throws Exception {
        Table t = run(new LeNetDemo(), SMALL).tables().getFirst();
        assertEquals(8, t.rows().size(), t.toString());
        for (int row = 0; row < 8; row++) {
            assertTrue(number(t, row, ">Accuracy") > 75, t.toString());
        }
        for (int first : new int[] {0, 4}) {
            assertEquals(100, number(t, first, ">Weights kept"), 0.01);
            assertTrue(number(t, first + 1, ">Weights kept") < 8.5, t.toString());
            // Codes, and training of tables, make no more of what was pruned.
            assertEquals(t.rows().get(first + 1).get(2), t.rows().get(first + 2).get(2));
            assertEquals(t.rows().get(first + 1).get(2), t.rows().get(first + 3).get(2));
            assertTrue(number(t, first + 3, ">Times smaller") >= 35, t.toString());
        }
    }

    /** Outputs of a network are those that ONNX Runtime computes. */
    @Test
    void lenetIsComputedAsTheRuntimeDoes() throws Exception {
        Path file = folder.resolve("lenet.onnx");
        LeNetDemo.NETS.get(1).layers(3).write(file);
        Digits digits = Digits.test(SMALL);
        int n = 20;
        float[] pixels = Arrays.copyOf(digits.pixels(), n * Digits.PIXELS);
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        try (OrtSession session = environment.createSession(file.toString(), new OrtSession.SessionOptions());
                OnnxTensor x = OnnxTensor.createTensor(environment, FloatBuffer.wrap(pixels), new long[] {n, 1, Digits.SIDE, Digits.SIDE});
                OrtSession.Result result = session.run(Map.of(Layers.INPUT, x)); OnnxModel model = OnnxModel.open(file, false); Arena arena = Arena.ofShared();
                Network network = Network.of(EditableModel.of(model, arena)); NDManager scope = network.scope()) {
            float[] expected = ((OnnxTensor) result.get(Layers.OUTPUT).orElseThrow()).getFloatBuffer().array();
            float[] got = network.run(scope, Map.of(Layers.INPUT, scope.create(pixels, new Shape(n, 1, Digits.SIDE, Digits.SIDE))), List.of(Layers.OUTPUT))
                    .get(Layers.OUTPUT).toFloatArray();
            assertEquals(n * Digits.CLASSES, got.length);
            assertArrayEquals(expected, got, 1e-5f);
            assertTrue(Math.abs(got[0] - got[Digits.CLASSES]) > 1e-3, "outputs depend on digits");
        }
    }

    @Test
    void autoencoder() throws Exception {
        Findings f = run(new AutoencoderDemo(), new Demo.Effort(2000, 0.4));
        Table t = f.tables().getFirst();
        for (int row = 0; row < 9; row += 3) {
            double bytes = number(t, row, ">Bytes");
            assertTrue(number(t, row + 1, ">Bytes") <= bytes && number(t, row + 2, ">Bytes") <= bytes, t.toString());
            assertTrue(number(t, row + 1, ">Bytes") > 0.9 * bytes, t.toString());
            assertTrue(number(t, row, ">Squared error") < 0.85 * number(t, row + 1, ">Squared error"), t.toString());
            assertTrue(number(t, row, ">Squared error") < 0.75 * number(t, row + 2, ">Squared error"), t.toString());
            // As anything is nearer than paper alone.
            assertTrue(number(t, row + 2, ">Squared error") < 5000, t.toString());
        }
    }

    @Test
    void embeddings() throws Exception {
        // 800 texts, 50 steps, and 16 sentences that measure.
        Findings f = run(new EmbeddingsDemo(), new Demo.Effort(400, 0.01));
        Table t = f.tables().getFirst();
        double slim = number(t, 1, ">Cosine");
        double coded = number(t, 2, ">Cosine");
        double distilled = number(t, 3, ">Cosine");
        assertTrue(slim > 0.95 && coded < slim && coded > 0.9, t.toString());
        assertEquals(14.99, number(t, 2, ">Of the original"), 0.1);
        assertEquals(number(t, 2, ">Bytes"), number(t, 3, ">Bytes"), 1000);
        // So few steps give a part of it back; what was not learned, or written as it was not learned, gives nothing.
        assertTrue(1 - distilled < 0.95 * (1 - coded), t.toString());
    }

    /** Each once, and long enough to be sentences. */
    @Test
    void speechesAreSentences() {
        List<String> all = Speeches.sentences();
        assertEquals(20_000, all.size());
        assertEquals(20_000, all.stream().distinct().count());
        for (String s : all) {
            int words = s.split("\\s+").length;
            assertTrue(words >= 3 && words <= 60 && s.equals(s.strip()), s);
        }
    }

    @Test
    void digitsAreTakenApart() {
        Digits training = Digits.training(SMALL);
        Digits test = Digits.test(SMALL);
        assertEquals(800, training.size());
        assertEquals(200, test.size());
        int[] counts = new int[Digits.CLASSES];
        for (int label : Digits.training(Demo.Effort.FULL).labels()) {
            counts[label]++;
        }
        assertTrue(Arrays.stream(counts).allMatch(n -> n > 650 && n < 1000), Arrays.toString(counts));
        // Ink is neither lost nor made: a 16th of it, in 16 shades, but for what is rounded.
        float[] small = test.small();
        double ink = 0;
        for (float x : test.pixels()) {
            ink += x;
        }
        double kept = 0;
        for (float x : small) {
            assertTrue(x >= 0 && x <= 16 && x == Math.rint(x));
            kept += x;
        }
        assertEquals(ink, kept, 0.02 * ink);
        assertThrows(IllegalArgumentException.class, () -> Digits.training(new Demo.Effort(99, 1)));
    }
}
