package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.SharedWeights.Shared;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SharedWeightsTest {
    private static final Shape SHAPE = Shape.of(1300, 1000);

    @TempDir
    Path temp;

    private static float[] noise(float[] of, double part, int from) {
        Random random = new Random(77);
        float[] x = of.clone();
        for (int i = from; i < x.length; i++) {
            x[i] += (float) (part * random.nextGaussian());
        }
        return x;
    }

    /** Weights of several pieces, of which {@code layers.1} is near the first, {@code layers.3} equal, and {@code layers.4} differs in its last elements alone. */
    private static SmallFolder model() {
        SmallFolder m = new SmallFolder(5).add("layers.0.weight", DType.F32, 1300, 1000);
        float[] x = m.values.get("layers.0.weight");
        float[] end = x.clone();
        end[end.length - 1] += 300; // 0.26 of the norm
        return m.add("layers.1.weight", DType.F32, SHAPE, noise(x, 0.005, 0)).add("layers.2.weight", DType.F32, 1300, 1000)
                .add("layers.3.weight", DType.F32, SHAPE, x).add("layers.4.weight", DType.F32, SHAPE, end)
                .add("half.0", DType.BF16, 40, 60).add("half.1", DType.F16, 40, 60).add("small.0", DType.F32, Shape.of(3), new float[3])
                .add("small.1", DType.F32, Shape.of(3), new float[3]).add("zero.0", DType.F32, Shape.of(2000), new float[2000])
                .add("zero.1", DType.F32, Shape.of(2000), new float[2000]).add("ids", DType.I64, 7);
    }

    private static Map<String, byte[]> bytes(Path folder) throws IOException {
        Map<String, byte[]> all = new TreeMap<>();
        try (SafetensorsModel m = SafetensorsModel.open(folder, Map.of(), false)) {
            for (Weight w : m.weights()) {
                all.put(w.name(), w.tensor().data().toArray(ValueLayout.JAVA_BYTE));
            }
        }
        return all;
    }

    private static String names(List<Shared> shared) {
        return shared.stream().map(s -> s.weight().name() + "=" + s.of().name() + (s.equal() ? " equal" : "")).sorted().collect(Collectors.joining(", "));
    }

    private static List<Shared> found(Path folder, double tolerance) throws IOException {
        try (SharedWeights weights = SharedWeights.open(folder, false, Map.of(), 2)) {
            return weights.find(tolerance);
        }
    }

    @Test
    void whatIsNearBecomesTheFirstOfIt() throws IOException {
        SmallFolder model = model();
        for (int files : new int[] {1, 3}) {
            Path folder = model.write(temp.resolve("m" + files), files);
            String equal = "layers.3.weight=layers.0.weight equal, zero.1=zero.0 equal";
            assertEquals(equal, names(found(folder, 0)));
            assertEquals(equal, names(found(folder, 0.001)));
            List<Shared> shared = found(folder, 0.01);
            assertEquals("layers.1.weight=layers.0.weight, " + equal, names(shared));
            Shared near = shared.stream().filter(s -> !s.equal()).findFirst().orElseThrow();
            float[] x = model.values.get("layers.0.weight");
            float[] y = model.values.get("layers.1.weight");
            double difference = 0;
            double one = 0;
            double other = 0;
            for (int i = 0; i < x.length; i++) {
                difference += Math.pow((double) x[i] - y[i], 2);
                one += (double) x[i] * x[i];
                other += (double) y[i] * y[i];
            }
            assertEquals(Math.sqrt(difference / Math.max(one, other)), near.difference(), 1e-7);
            assertTrue(names(found(folder, 0.4)).contains("layers.4.weight=layers.0.weight,"));
            Path out = temp.resolve("out" + files);
            try (SharedWeights weights = SharedWeights.open(folder, false, Map.of(), 2)) {
                weights.write(weights.find(0.01), out, false, 64 << 20);
                assertThrows(FileAlreadyExistsException.class, () -> weights.write(List.of(), out, false, 64 << 20));
            }
            Map<String, byte[]> before = bytes(folder);
            Map<String, byte[]> after = bytes(out);
            assertEquals(before.keySet(), after.keySet());
            after.forEach((name, is) -> assertArrayEquals(before.get(name.equals("layers.1.weight") ? "layers.0.weight" : name), is, name));
            assertEquals(SmallFolder.CONFIG, Files.readString(out.resolve("config.json")));
            // That is what an archive gains by.
            long plain = ArchivesTest.pack(folder, temp.resolve("a" + files), 1).bytes();
            long shorter = ArchivesTest.pack(out, temp.resolve("b" + files), 1).bytes();
            assertTrue(plain - shorter > 4_000_000, plain + " " + shorter);
        }
    }

    /** What is no number is near nothing, but may be the same. */
    @Test
    void numbersThatAreNone() throws IOException {
        SmallFolder m = new SmallFolder(9).add("a", DType.BF16, 50, 70);
        float[] nan = m.values.get("a").clone();
        nan[1234] = Float.NaN;
        float[] other = nan.clone();
        other[1235]++;
        m.add("b", DType.BF16, Shape.of(50, 70), nan).add("c", DType.BF16, Shape.of(50, 70), nan).add("d", DType.BF16, Shape.of(50, 70), other);
        assertEquals("c=b equal", names(found(m.write(temp.resolve("nan"), 1), 1)));
    }

    @Test
    void badInputIsRefused() throws IOException {
        Path folder = new SmallFolder(1).add("a", DType.F32, 5).write(temp.resolve("m"), 1);
        for (double tolerance : new double[] {-0.1, 1.1, Double.NaN}) {
            assertThrows(IllegalArgumentException.class, () -> found(folder, tolerance));
        }
        assertTrue(found(folder, 0.5).isEmpty());
        assertFalse(Files.exists(temp.resolve("out")));
    }
}
