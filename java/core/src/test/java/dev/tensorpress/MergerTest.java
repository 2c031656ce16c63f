package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Merger.Method;
import dev.tensorpress.Merger.Settings;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Models in safetensors merged, against formulas in plain Java, element by element. */
final class MergerTest {
    private static final Map<String, DType> TYPES = new TreeMap<>(Map.of("a.weight", DType.F32, "b.weight", DType.BF16, "c.weight", DType.F16,
            "norm.bias", DType.F32));

    @TempDir
    Path temp;

    private static long[] dims(String name) {
        return name.equals("a.weight") ? new long[] {70, 90} : name.equals("norm.bias") ? new long[] {33} : new long[] {40, 51};
    }

    /** A model near the one with the same numbers but no noise; every ninth element is that one's. */
    private SmallFolder model(int noise) {
        Random shared = new Random(1);
        Random own = new Random(100 + noise);
        SmallFolder folder = new SmallFolder(2);
        for (Map.Entry<String, DType> e : TYPES.entrySet()) {
            float[] x = new float[(int) Shape.of(dims(e.getKey())).elements()];
            for (int i = 0; i < x.length; i++) {
                x[i] = (float) shared.nextGaussian();
                x[i] += noise == 0 || i % 9 == 0 ? 0 : (float) own.nextGaussian();
            }
            folder.add(e.getKey(), e.getValue(), Shape.of(dims(e.getKey())), x);
        }
        return folder.add("ids", DType.I64, 7);
    }

    private Path written(int noise) throws IOException {
        Path folder = temp.resolve("model" + noise);
        return Files.exists(folder) ? folder : model(noise).write(folder, 2);
    }

    private static Merger.Options options(int threads, boolean overwrite, long memory) {
        return new Merger.Options(threads, false, overwrite, false, memory, Map.of(), null);
    }

    private Path merge(Settings settings, List<Path> models, Path base, String out, Merger.Options options) throws IOException {
        try (Merger merger = Merger.open(models, base, options)) {
            return merger.merge(settings, temp.resolve(out)).output();
        }
    }

    private Path merge(Settings settings, List<Path> models, Path base, String out) throws IOException {
        return merge(settings, models, base, out, options(2, false, 64 << 20));
    }

    private static Map<String, float[]> values(Path model) throws IOException {
        Map<String, float[]> all = new HashMap<>();
        try (SafetensorsModel m = SafetensorsModel.open(model, Map.of(), false)) {
            for (Weight w : m.weights()) {
                if (w.tensor().dtype().compressible()) {
                    float[] x = new float[(int) w.tensor().shape().elements()];
                    for (int i = 0; i < x.length; i++) {
                        x[i] = Quantize.element(w.tensor(), i);
                    }
                    all.put(w.name(), x);
                }
            }
        }
        return all;
    }

    /** Word {@code i} of Philox 4x32-10. */
    private static long noise(long seed, long stream, long i) {
        long[] c = {i / 4 & 0xffffffffL, i / 4 >>> 32, stream & 0xffffffffL, stream >>> 32};
        long k0 = seed & 0xffffffffL;
        long k1 = seed >>> 32;
        for (int round = 0; round < 10; round++) {
            long a = c[0] * 0xD2511F53L;
            long b = c[2] * 0xCD9E8D57L;
            c = new long[] {b >>> 32 ^ c[1] ^ k0, b & 0xffffffffL, a >>> 32 ^ c[3] ^ k1, a & 0xffffffffL};
            k0 = k0 + 0x9E3779B9L & 0xffffffffL;
            k1 = k1 + 0xBB67AE85L & 0xffffffffL;
        }
        return c[(int) (i % 4)];
    }

    private static long hash(String name) {
        long hash = 0xcbf29ce484222325L;
        for (byte b : name.getBytes(StandardCharsets.UTF_8)) {
            hash = (hash ^ b & 0xff) * 0x100000001b3L;
        }
        return hash;
    }

    /** What the methods say, of one weight. */
    private static float[] oracle(Settings s, String name, List<float[]> models, float[] base) {
        int n = models.getFirst().length;
        int count = models.size();
        double[] w = new double[count];
        double sumOfWeights = 0;
        for (int j = 0; j < count; j++) {
            w[j] = s.weights().isEmpty() ? 1 : s.weights().get(j);
            sumOfWeights += w[j];
        }
        float[] out = new float[n];
        if (!s.method().based()) {
            for (int j = 0; j < count; j++) {
                w[j] /= sumOfWeights;
            }
            if (s.method() == Method.SLERP) {
                double[] sums = new double[3];
                for (int i = 0; i < n; i++) {
                    double a = models.get(0)[i];
                    double b = models.get(1)[i];
                    sums[0] += a * b;
                    sums[1] += a * a;
                    sums[2] += b * b;
                }
                double cosine = sums[0] / Math.sqrt(sums[1] * sums[2]);
                double o = Math.acos(cosine);
                double t = w[1];
                if (Math.abs(cosine) <= 0.9995) {
                    w = new double[] {Math.sin((1 - t) * o) / Math.sin(o), Math.sin(t * o) / Math.sin(o)};
                }
            }
            for (int i = 0; i < n; i++) {
                double sum = w[0] * models.get(0)[i];
                for (int j = 1; j < count; j++) {
                    sum += w[j] * models.get(j)[i];
                }
                out[i] = SmallFolder.round((float) sum, TYPES.get(name));
            }
            return out;
        }
        double[] least = new double[count];
        for (int j = 0; j < count; j++) {
            double[] sorted = new double[n];
            for (int i = 0; i < n; i++) {
                sorted[i] = Math.abs(models.get(j)[i] - base[i]);
            }
            Arrays.sort(sorted);
            least[j] = sorted[n - (int) Math.max(1, Math.round(s.density() * n))];
        }
        for (int i = 0; i < n; i++) {
            double[] part = new double[count];
            double sum = 0;
            for (int j = 0; j < count; j++) {
                double d = (double) models.get(j)[i] - base[i];
                boolean kept = switch (s.method()) {
                    case TIES -> Math.abs((float) d) >= least[j];
                    case DARE_LINEAR, DARE_TIES -> noise(s.seed(), hash(name) + j, i) < s.density() * 0x1p32;
                    default -> true;
                };
                boolean random = s.method() == Method.DARE_LINEAR || s.method() == Method.DARE_TIES;
                part[j] = w[j] * (kept ? random ? d / s.density() : d : 0);
                sum += part[j];
            }
            if (s.method() == Method.TIES || s.method() == Method.DARE_TIES) {
                boolean positive = sum >= 0;
                double of = 0;
                sum = 0;
                for (int j = 0; j < count; j++) {
                    if (part[j] != 0 && part[j] > 0 == positive) {
                        sum += part[j];
                        of += w[j];
                    }
                }
                sum = of > 0 ? sum / of : 0;
            }
            out[i] = sum == 0 ? base[i] : SmallFolder.round((float) (base[i] + s.scale() * sum), TYPES.get(name));
        }
        return out;
    }

    @ParameterizedTest
    @EnumSource(Method.class)
    void aMergedModelIsWhatTheFormulasSay(Method method) throws IOException {
        List<Path> models = method == Method.SLERP ? List.of(written(1), written(2)) : List.of(written(1), written(2), written(3));
        Path base = method.based() ? written(0) : null;
        List<Double> weights = List.of(0.3, 0.9, 0.5).subList(0, models.size());
        for (Settings s : List.of(Settings.of(method), Settings.of(method).weights(weights).density(0.37).scale(0.8).seed(-5))) {
            Map<String, float[]> found = values(merge(s, models, base, "out", options(2, true, 64 << 20)));
            assertEquals(TYPES.keySet(), new TreeMap<>(found).keySet());
            List<Map<String, float[]>> in = new ArrayList<>();
            for (Path m : models) {
                in.add(values(m));
            }
            Map<String, float[]> of = values(written(0));
            for (String name : TYPES.keySet()) {
                float[] want = oracle(s, name, in.stream().map(m -> m.get(name)).toList(), of.get(name));
                // Sums of products may end in other bits.
                assertArrayEquals(want, found.get(name), method == Method.SLERP ? 1e-2f : 0, name);
                assertTrue(method == Method.SLERP || Arrays.equals(want, found.get(name)), name);
            }
        }
    }

    /** Whatever is not merged, or goes with the model, is the first one's; and bits depend on nothing but the settings. */
    @ParameterizedTest
    @EnumSource(Method.class)
    void threadsAndMemoryDoNotShow(Method method) throws IOException {
        List<Path> models = List.of(written(1), written(2));
        Path base = method.based() ? written(0) : null;
        Settings settings = Settings.of(method);
        byte[] one = Files.readAllBytes(merge(settings, models, base, "one", options(1, false, 512 << 20)).resolve("model.safetensors"));
        byte[] other = Files.readAllBytes(merge(settings, models, base, "other", options(3, false, 1)).resolve("model.safetensors"));
        assertArrayEquals(one, other);
        assertEquals(SmallFolder.CONFIG, Files.readString(temp.resolve("one/config.json")));
        try (SafetensorsModel merged = SafetensorsModel.open(temp.resolve("one"), Map.of(), false)) {
            Weight ids = merged.weights().stream().filter(w -> w.name().equals("ids")).findFirst().orElseThrow();
            assertArrayEquals(model(1).bytes.get("ids"), ids.tensor().data().toArray(ValueLayout.JAVA_BYTE));
        }
    }

    /** A weight that is read in pieces, of which the parts of the target are no multiples, and that is looked at before. */
    @Test
    void whatIsTooLargeToBeAtHandAtOnceIsReadInPieces() throws IOException {
        int rows = 1003;
        int cols = 5003;
        Random random = new Random(8);
        float[][] x = new float[3][rows * cols];
        for (int i = 0; i < rows * cols; i++) {
            x[0][i] = (float) random.nextGaussian();
            // What the first piece of one model lets expect is far from what the whole has.
            x[1][i] = x[0][i] + (random.nextFloat() - 0.5f) * (i < 500 * cols ? 1 : 40);
            x[2][i] = x[0][i] + random.nextFloat() - 0.5f;
        }
        List<Path> paths = new ArrayList<>();
        for (int j = 0; j < 3; j++) {
            paths.add(new SmallFolder(1).add("a.weight", DType.F32, Shape.of(rows, cols), x[j]).write(temp.resolve("large" + j), 1));
        }
        for (Method method : List.of(Method.TIES, Method.DARE_LINEAR, Method.MEAN, Method.SLERP)) {
            Settings s = Settings.of(method);
            float[] want = oracle(s, "a.weight", List.of(x[1], x[2]), x[0]);
            // Read several times, and held in memory.
            for (long memory : new long[] {64 << 20, 512 << 20}) {
                float[] found = values(merge(s, paths.subList(1, 3), method.based() ? paths.getFirst() : null, method.id() + memory, options(2, false, memory)))
                        .get("a.weight");
                assertArrayEquals(want, found, method == Method.SLERP ? 1e-5f : 0, method.id());
            }
        }
    }

    @Test
    void theMeanOfAModelWithItselfIsThatModel() throws IOException {
        Path a = written(1);
        for (Method method : List.of(Method.MEAN, Method.SLERP)) {
            try (Merger merger = Merger.open(List.of(a, a), null, Merger.Options.DEFAULT)) {
                Merger.Report report = merger.merge(Settings.of(method).weights(List.of(0.3, 0.4)), temp.resolve(method.id()));
                assertEquals(4, report.merged());
                assertEquals(4, report.alike());
                assertEquals(1, report.kept());
                assertTrue(report.notes().isEmpty(), report.notes().toString());
                assertTrue(report.toJson().contains("\"alike\" : 4"), report.toJson());
            }
            values(a).forEach((name, x) -> assertArrayEquals(x, read(temp.resolve(method.id())).get(name), name));
        }
    }

    private static Map<String, float[]> read(Path model) {
        try {
            return values(model);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** All of what one model has more than the base, by whichever way. */
    @Test
    void aSingleTaskThatKeepsAllIsItsModel() throws IOException {
        for (Method method : Method.values()) {
            if (method.based()) {
                Path out = merge(Settings.of(method).density(1), List.of(written(1)), written(0), method.id());
                values(written(1)).forEach((name, x) -> assertArrayEquals(x, read(out).get(name), method + " " + name));
            }
        }
    }

    @Test
    void seedsAndNamesChangeWhatIsDropped() throws IOException {
        Map<String, float[]> base = values(written(0));
        float[][] found = new float[2][];
        for (int seed = 0; seed < 2; seed++) {
            found[seed] = values(merge(Settings.of(Method.DARE_LINEAR).density(0.3).seed(seed), List.of(written(1)), written(0), "seed" + seed)).get("a.weight");
            int kept = 0;
            for (int i = 0; i < found[seed].length; i++) {
                kept += found[seed][i] != base.get("a.weight")[i] ? 1 : 0;
            }
            double part = kept / (found[seed].length * 8 / 9.0);
            assertTrue(part > 0.27 && part < 0.33, "kept " + part);
        }
        assertFalse(Arrays.equals(found[0], found[1]));
    }

    @Test
    void bytesOfASmallModelStay() throws IOException {
        StringBuilder all = new StringBuilder();
        for (Method method : Method.values()) {
            Path out = merge(Settings.of(method), List.of(written(1), written(2)), method.based() ? written(0) : null, "golden-" + method.id());
            all.append(method.id()).append(' ').append(sha256(out.resolve("model.safetensors"))).append('\n');
        }
        assertEquals("""
                mean b14446aa8c09de0e
                slerp 555d6bcfcb1d3047
                task-arithmetic 5270f32056c894f4
                ties 438c65a0c566130c
                dare-linear dd5e93419cd738c7
                dare-ties aa8d32c5f7eeb18d
                """, all.toString());
    }

    private static String sha256(Path file) throws IOException {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(Files.readAllBytes(file)), 0, 8);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    private Path changed(String name, UnaryOperator<SmallFolder> change) throws IOException {
        return change.apply(model(1)).write(temp.resolve(name), 1);
    }

    private String refused(List<Path> models, Path base) {
        return assertThrows(UnsupportedRequestException.class, () -> Merger.open(models, base, Merger.Options.DEFAULT).close()).getMessage();
    }

    @Test
    void whatDiffersIsNamed() throws IOException {
        Path a = written(1);
        Path shape = changed("shape", f -> f.add("a.weight", DType.F32, 70, 91).add("more.weight", DType.F32, 3));
        assertEquals(shape + " is not of the same shape as " + a + ": a.weight is f32 70x91 there and f32 70x90 here; more.weight is there alone",
                refused(List.of(a, shape), null));
        assertTrue(refused(List.of(a), shape).contains("a.weight"), "a base of another shape");
        Path many = changed("many", f -> {
            for (int i = 0; i < 9; i++) {
                f.add("x" + i, DType.F32, 1);
            }
            return f.add("b.weight", DType.F16, 40, 51);
        });
        String message = refused(List.of(a, many), null);
        assertTrue(message.contains("b.weight is f16 40x51 there and bf16 40x51 here"), message);
        assertTrue(message.endsWith("; and 5 more differ"), message);
    }

    @Test
    void nothingThatIsNotANumberIsMerged() throws IOException {
        SmallFolder bad = model(2);
        float[] x = bad.values.get("b.weight");
        x[777] = Float.NaN;
        Path nan = bad.add("b.weight", DType.BF16, Shape.of(dims("b.weight")), x).write(temp.resolve("nan"), 1);
        for (Method method : Method.values()) {
            Path base = method.based() ? written(0) : null;
            NonFiniteWeightException e = assertThrows(NonFiniteWeightException.class,
                    () -> merge(Settings.of(method), List.of(written(1), nan), base, "out"), method.id());
            assertEquals("b.weight", e.weight());
            assertEquals(777, e.index());
            assertEquals(nan.toString(), e.model().orElseThrow());
            assertFalse(Files.exists(temp.resolve("out")));
        }
        assertThrows(NonFiniteWeightException.class, () -> merge(Settings.of(Method.TIES), List.of(written(1)), nan, "out"));
        // An infinity that all have stays; one that a single model has does not.
        List<Path> infinite = new ArrayList<>();
        for (int j = 0; j < 3; j++) {
            SmallFolder m = model(j);
            float[] y = m.values.get("a.weight");
            y[5] = Float.NEGATIVE_INFINITY;
            infinite.add(m.add("a.weight", DType.F32, Shape.of(dims("a.weight")), y).write(temp.resolve("infinite" + j), 1));
        }
        for (Method method : Method.values()) {
            Path out = merge(Settings.of(method), infinite.subList(1, 3), method.based() ? infinite.getFirst() : null, "infinite-" + method.id());
            float[] found = values(out).get("a.weight");
            assertEquals(Float.NEGATIVE_INFINITY, found[5], method.id());
            if (method == Method.SLERP) {
                float mean = (float) (0.5 * values(infinite.get(1)).get("a.weight")[7] + 0.5 * values(infinite.get(2)).get("a.weight")[7]);
                assertEquals(mean, found[7]);
            }
            NonFiniteWeightException e = assertThrows(NonFiniteWeightException.class,
                    () -> merge(Settings.of(method), List.of(written(1), infinite.get(2)), method.based() ? written(0) : null, "out2"), method.id());
            assertEquals(5, e.index());
        }
    }

    @Test
    void whatWouldBeTooLargeIsRefused() throws IOException {
        assertThrows(UnsupportedRequestException.class,
                () -> merge(Settings.of(Method.TASK_ARITHMETIC).scale(1e6), List.of(written(1)), written(0), "out"));
        assertFalse(Files.exists(temp.resolve("out")));
    }

    @Test
    void settingsThatDoNotFitAreRefused() throws IOException {
        Path a = written(1);
        assertThrows(UnsupportedRequestException.class, () -> merge(Settings.of(Method.TIES), List.of(a), null, "out"));
        assertThrows(UnsupportedRequestException.class, () -> merge(Settings.of(Method.MEAN), List.of(a), a, "out"));
        assertThrows(UnsupportedRequestException.class, () -> merge(Settings.of(Method.SLERP), List.of(a, a, a), null, "out"));
        assertThrows(UnsupportedRequestException.class, () -> merge(Settings.of(Method.MEAN).weights(List.of(1.0)), List.of(a, a), null, "out"));
        for (double density : new double[] {0, -1, 1.5, Double.NaN}) {
            assertThrows(IllegalArgumentException.class, () -> Settings.of(Method.TIES).density(density));
        }
        assertThrows(IllegalArgumentException.class, () -> Settings.of(Method.TIES).weights(List.of(1.0, -1.0)));
        assertThrows(IllegalArgumentException.class, () -> Settings.of(Method.MEAN).weights(List.of(0.0, 0.0)));
        assertThrows(IllegalArgumentException.class, () -> Settings.of(Method.MEAN).weights(List.of(1e308, 1e308)));
        assertThrows(IllegalArgumentException.class, () -> Settings.of(Method.TASK_ARITHMETIC).weights(List.of(Double.NaN)));
        assertThrows(IllegalArgumentException.class, () -> Settings.of(Method.TASK_ARITHMETIC).scale(Double.POSITIVE_INFINITY));
        assertThrows(IllegalArgumentException.class, () -> Merger.open(List.of(), null, Merger.Options.DEFAULT));
        assertThrows(UnknownNameException.class, () -> Method.of("soup"));
        assertEquals(Method.DARE_TIES, Method.of("dare_ties"));
    }

    /** Negative weights take a task away. */
    @Test
    void aTaskCanBeTakenAway() throws IOException {
        Path out = merge(Settings.of(Method.TASK_ARITHMETIC).weights(List.of(1.0, -1.0)), List.of(written(1), written(1)), written(0), "out");
        values(written(0)).forEach((name, x) -> assertArrayEquals(x, read(out).get(name), name));
    }

    @Test
    void inputsAndOutputsThatAreThereStay() throws IOException {
        Path a = written(1);
        Path b = written(2);
        for (Path out : List.of(a, b, temp)) {
            assertThrows(IllegalArgumentException.class, () -> {
                try (Merger merger = Merger.open(List.of(a, b), null, options(1, true, 1 << 20))) {
                    merger.merge(Settings.of(Method.MEAN), out);
                }
            });
        }
        Path base = written(0);
        assertThrows(IllegalArgumentException.class, () -> merge(Settings.of(Method.TIES), List.of(a), base, "model0"));
        merge(Settings.of(Method.MEAN), List.of(a, b), null, "out");
        assertThrows(FileAlreadyExistsException.class, () -> merge(Settings.of(Method.MEAN), List.of(a, b), null, "out"));
        assertNotEquals(0, values(merge(Settings.of(Method.MEAN), List.of(b, b), null, "out", options(0, true, 1 << 20))).size());
    }

    @Test
    void aModelThatChangesMeanwhileIsAnError() throws IOException {
        Path file = written(2).resolve("model-00001-of-00002.safetensors");
        Merger.Options options = new Merger.Options(1, false, false, false, 64 << 20, Map.of(), (name, made) -> {
            try {
                Files.setLastModifiedTime(file, FileTime.fromMillis(1));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });
        String message = assertThrows(IOException.class,
                () -> merge(Settings.of(Method.MEAN), List.of(written(1), written(2)), null, "out", options)).getMessage();
        assertTrue(message.contains("model-00001-of-00002.safetensors changed while it was read"), message);
        assertFalse(Files.exists(temp.resolve("out")));
    }

    private static final Map<String, String> SHARDS = Map.of("shard-size", "5000");

    private static Merger.Options resuming(boolean resume, List<String> done, String end) {
        return new Merger.Options(1, false, false, resume, 64 << 20, SHARDS, (name, made) -> {
            if (name.equals(end)) {
                throw new IllegalStateException("ends here");
            }
            done.add(name);
        });
    }

    @Test
    void anInterruptedMergeIsResumed() throws IOException {
        Settings settings = Settings.of(Method.TIES);
        List<Path> models = List.of(written(1), written(2));
        Path base = written(0);
        Path want = merge(settings, models, base, "whole", resuming(false, new ArrayList<>(), null));
        List<String> first = new ArrayList<>();
        assertThrows(IllegalStateException.class, () -> merge(settings, models, base, "out", resuming(false, first, "c.weight")));
        assertFalse(first.isEmpty());
        assertTrue(Files.isDirectory(temp.resolve("out.partial")));
        assertThrows(FileAlreadyExistsException.class, () -> merge(settings, models, base, "out", resuming(false, first, null)));
        for (Settings other : new Settings[] {settings.density(0.3), settings.excludes(List.of("b.*"))}) {
            String message = assertThrows(UnsupportedRequestException.class,
                    () -> merge(other, models, base, "out", resuming(true, first, null))).getMessage();
            assertTrue(message.contains("merge is not the same"), message);
        }
        Path file = models.get(1).resolve("model-00001-of-00002.safetensors");
        FileTime time = Files.getLastModifiedTime(file);
        Files.setLastModifiedTime(file, FileTime.fromMillis(1));
        String message = assertThrows(UnsupportedRequestException.class,
                () -> merge(settings, models, base, "out", resuming(true, first, null))).getMessage();
        assertTrue(message.contains("model 2, model-00001-of-00002.safetensors is not the same"), message);
        Files.setLastModifiedTime(file, time);
        List<String> second = new ArrayList<>();
        Path out = merge(settings, models, base, "out", resuming(true, second, null));
        assertTrue(second.contains("c.weight"));
        assertFalse(second.contains(first.getFirst()), second.toString());
        assertEquals(TYPES.size(), first.size() + second.size());
        try (var files = Files.list(want)) {
            for (Path f : files.toList()) {
                assertEquals(-1, Files.mismatch(f, out.resolve(f.getFileName())), f.toString());
            }
        }
        assertFalse(Files.exists(temp.resolve("out.partial")));
    }

    @Test
    void excludedWeightsStayAsInTheFirstModel() throws IOException {
        SmallFolder bad = model(2);
        float[] x = bad.values.get("b.weight");
        x[3] = Float.NaN;
        Path nan = bad.add("b.weight", DType.BF16, Shape.of(dims("b.weight")), x).write(temp.resolve("nan"), 1);
        try (Merger merger = Merger.open(List.of(written(1), nan), null, Merger.Options.DEFAULT)) {
            Merger.Report report = merger.merge(Settings.of(Method.MEAN).excludes(List.of("b.*", "norm*", "nothing")), temp.resolve("out"));
            assertEquals(2, report.merged());
            assertEquals(2, report.excluded());
            assertTrue(report.toJson().contains("\"excluded\" : 2"), report.toJson());
        }
        Map<String, float[]> own = values(written(1));
        Map<String, float[]> mean = values(merge(Settings.of(Method.MEAN), List.of(written(1), written(2)), null, "mean"));
        values(temp.resolve("out")).forEach((name, found) ->
                assertArrayEquals((name.startsWith("b") || name.startsWith("norm") ? own : mean).get(name), found, name));
    }

    @Test
    void otherTypesStayOrAreRefused() throws IOException {
        SmallFolder ids = model(2);
        ids.bytes.get("ids")[3] ^= 1;
        Path other = ids.write(temp.resolve("ids"), 1);
        Files.writeString(other.resolve("tokenizer.json"), "{}");
        try (Merger merger = Merger.open(List.of(written(1), other), null, Merger.Options.DEFAULT)) {
            Merger.Report report = merger.merge(Settings.of(Method.MEAN), temp.resolve("out"));
            assertEquals(List.of("tokenizer.json of " + other + " differ from those of " + written(1) + ", whose are taken",
                    "1 of the tensors of integers differ between the models; those of " + written(1) + " are taken"), report.notes());
            assertFalse(Files.exists(temp.resolve("out/tokenizer.json")));
        }
        Path f8 = changed("f8", f -> f.add("e", DType.F8E4M3, 50));
        Path f8Too = changed("f8-too", f -> new SmallFolder(77).add("e", DType.F8E4M3, 50));
        String message = assertThrows(UnsupportedRequestException.class, () -> merge(Settings.of(Method.MEAN),
                List.of(new SmallFolder(1).add("e", DType.F8E4M3, 50).write(temp.resolve("f8-one"), 1), f8Too), null, "out3")).getMessage();
        assertTrue(message.contains("weight e") && message.contains("f8e4m3"), message);
        merge(Settings.of(Method.MEAN), List.of(f8, f8), null, "out4");
    }

    @Test
    void archivesAreMergedAsWhatTheyHold() throws IOException {
        ArchivesTest.pack(written(2), temp.resolve("b.tpa"), 1);
        Path plain = merge(Settings.of(Method.MEAN), List.of(written(1), written(2)), null, "plain");
        Path packed = merge(Settings.of(Method.MEAN), List.of(written(1), temp.resolve("b.tpa")), null, "packed");
        assertEquals(-1, Files.mismatch(plain.resolve("model.safetensors"), packed.resolve("model.safetensors")));
    }
}
