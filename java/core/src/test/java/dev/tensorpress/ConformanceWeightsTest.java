package dev.tensorpress;

import static java.util.Map.entry;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import com.google.protobuf.UnknownFieldSet.Field;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.method.Method.Requirement;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.method.Spectra;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.RuntimeEvaluator;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.AnnotatedElementContext;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.io.TempDirFactory;

/**
 * ONNX's conformance models with weights: what they are given as inputs becomes initializers, with the values of their test data. Each
 * recipe's result has to run in ONNX Runtime and give what the same model gives with the decoded weights; and so has what clean-up makes of the model.
 */
final class ConformanceWeightsTest {
    private static final Path DATA = Path.of("/usr/share/libonnx-testdata/data");
    /** ONNX Runtime ends the process. */
    private static final List<String> CRASHING = List.of("test_if_opt", "test_stft");
    /** Random numbers are other ones for other weights. */
    private static final String RANDOM = "bernoulli";
    private static final String ANY_ROLE = "any-role";
    private static final String FOUR_BITS = "four-bits";
    private static final long OLDEST_OPSET = 7;
    private static final List<OnnxJavaType> FLOATS = List.of(OnnxJavaType.FLOAT, OnnxJavaType.FLOAT16, OnnxJavaType.BFLOAT16);

    /** How many models a recipe compresses a weight of, or a step of clean-up changes, at least: nine tenths of those that it did. */
    private static final Map<String, Integer> LEAST = Map.ofEntries(entry("int8", 167), entry("int8-table4", 167),
            entry("int8-dynamic", 170), entry("int4", 167), entry("prune50", 122), entry("sparse24", 38), entry("prune50-int8", 140),
            entry("lowrank-int8", 167), entry("int4-corrected", 167), entry(FOUR_BITS, 167), entry(ANY_ROLE, 1570),
            entry("clean constants", 957), entry("clean identity", 130), entry("clean unused", 1026));

    /** Which inputs become initializers. */
    private enum Constant { NONE, FIRST, OTHERS, ALL }

    /** Every result is forced to the disk, which would take most of the time. */
    static final class Memory implements TempDirFactory {
        @Override
        public Path createTempDirectory(AnnotatedElementContext element, ExtensionContext extension) throws IOException {
            Path memory = Path.of("/dev/shm");
            return Files.isWritable(memory) ? Files.createTempDirectory(memory, "conformance") : Files.createTempDirectory("conformance");
        }
    }

    private record Input(OnnxJavaType type, long[] dims, byte[] raw, UnknownFieldSet tensor) {}

    private record Outputs(Map<String, float[]> floats, Map<String, String> shapes) {}

    @TempDir(factory = Memory.class)
    Path folder;

    private final Compressor.Options options = Compressor.Options.DEFAULT.threads(1).overwrite(true);
    private final Map<String, Integer> counts = new TreeMap<>();

    @Test
    void everyRecipe() throws Exception {
        boolean there = Files.isDirectory(DATA);
        if (System.getProperty("tensorpress.require", "").contains("onnx-testdata")) {
            assertTrue(there, "onnx-testdata is required, but " + DATA + " does not exist");
        }
        Assumptions.assumeTrue(there, "onnx-testdata: " + DATA + " does not exist (Debian package libonnx-testdata)");
        List<Path> models;
        try (Stream<Path> all = Files.walk(DATA)) {
            models = all.filter(p -> p.getFileName().toString().endsWith(".onnx")
                    && !p.toString().contains(RANDOM) && CRASHING.stream().noneMatch(p.toString()::contains)).sorted().toList();
        }
        for (Path p : models) {
            byte[] model = Files.readAllBytes(p);
            Map<String, Input> inputs = inputs(model, p.resolveSibling("test_data_set_0"));
            if (inputs == null) {
                count("inputs that are no tensors of numbers");
                continue;
            }
            Outputs expected;
            try {
                expected = run(model, inputs);
            } catch (OrtException e) {
                count("not run by ONNX Runtime");
                continue;
            }
            for (Constant which : Constant.values()) {
                byte[] constant = constant(model, inputs, which);
                if (constant == null) {
                    continue;
                }
                Outputs original = run(constant, inputs);
                // Where a newer operator set means something else, there is nothing to compare with.
                if (off(expected, original) < 1e-3) {
                    clean(p + ", constant: " + which, constant, inputs, original);
                    compress(p + ", constant: " + which, constant, inputs, original);
                } else {
                    count("other with a newer operator set");
                }
            }
        }
        System.out.println("onnx-testdata with weights: " + counts);
        LEAST.forEach((recipe, least) -> assertTrue(counts.getOrDefault(recipe, 0) >= least, recipe + ": " + counts));
    }

    private void count(String what) {
        counts.merge(what, 1, Integer::sum);
    }

    private static List<Recipe> recipes() {
        List<Recipe> all = new ArrayList<>();
        Recipe.NAMES.stream().map(Recipe::named).filter(r -> r.structure().isEmpty()).forEach(r -> all.add(r.set("min-size", "0")));
        all.removeIf(r -> r.requires(Requirement.STATISTICS)); // these models have none
        // Nearly all products are the last ones, which have eight bits in all presets.
        all.add(new Recipe(FOUR_BITS, "", Recipe.named("int4").set("min-size", "0").set("bits", "4").steps(), List.of(), Map.of()));
        Selector any = new Selector(EnumSet.allOf(Role.class), List.of(), 0);
        all.add(new Recipe(ANY_ROLE, "", List.of(new Recipe.Step("any", any, QuantizeMethod.int4().perTensor())), List.of(), Map.of()));
        return all;
    }

    /** What all steps of clean-up leave of it computes the same; where batch normalization is folded, nearly. */
    private void clean(String what, byte[] model, Map<String, Input> inputs, Outputs original) throws Exception {
        Path in = Files.write(folder.resolve("in.onnx"), model);
        Path out = folder.resolve("out.onnx");
        List<Cleanup.Done> done;
        try (Arena arena = Arena.ofShared(); OnnxModel m = OnnxModel.open(in, false)) {
            EditableModel editable = EditableModel.of(m, arena);
            done = new Cleanup(editable, arena, 0, RuntimeEvaluator::evaluate).run(EnumSet.allOf(Cleanup.Step.class));
            editable.write(Destination.replacing(out));
        }
        double most = 0;
        for (Cleanup.Done one : done) {
            if (one.nodes() > 0 || one.constants() != 0) {
                count("clean " + one.step().id());
                most = one.step() == Cleanup.Step.BATCH_NORMALIZATION ? 1e-5 : most;
            }
        }
        try {
            double off = off(original, run(Files.readAllBytes(out), inputs));
            assertTrue(off <= most, what + ": off by " + off + " after " + done);
        } catch (OrtException e) {
            throw new AssertionError(what + " after " + done, e);
        }
    }

    private void compress(String what, byte[] model, Map<String, Input> inputs, Outputs original) throws Exception {
        Path in = Files.write(folder.resolve("in.onnx"), model);
        Set<ByteBuffer> known = new HashSet<>();
        try (Compressor c = Compressor.open(in, options)) {
            for (Recipe recipe : recipes()) {
                String all = what + ", " + recipe.name();
                try {
                    Plan plan = c.plan(recipe.target("onnxruntime"));
                    byte[] result = write(c, plan, inputs, original, known, all);
                    if (plan.compressed() > 0) {
                        count(recipe.name());
                        write(c, c.plan(recipe.target("onnx")), inputs, original, known, all + " for onnx");
                    } else {
                        assertArrayEquals(model, result, all);
                    }
                } catch (NonFiniteWeightException e) {
                    count("refused: not finite");
                } catch (OrtException e) {
                    throw new AssertionError(all, e);
                }
            }
        }
    }

    /** What the plan writes, run and compared unless it is among those known. */
    private byte[] write(Compressor c, Plan plan, Map<String, Input> inputs, Outputs original, Set<ByteBuffer> known, String what)
            throws Exception {
        Path out = folder.resolve("out.onnx");
        try (Arena arena = Arena.ofShared(); Executor executor = Executor.cpu(1);
                Encoder encoder = new Encoder(plan, options, new Spectra(), new Phases(), null, Map.of())) {
            Map<Weight, MemorySegment> decoded = new IdentityHashMap<>();
            plan.target().write(plan.lowerings(), (weight, form, rows, first) -> {
                Encoding e = encoder.encode(weight, form, rows, first);
                MemorySegment values = arena.allocate(DType.F32.bytes(e.shape().elements()), 64);
                e.decode(values, executor);
                decoded.put(weight, values);
                return e;
            }, Destination.replacing(out));
            byte[] result = Files.readAllBytes(out);
            assertEquals(plan.after(), result.length, what);
            if (plan.compressed() == 0 || !known.add(ByteBuffer.wrap(result))) {
                return result;
            }
            Outputs got = run(result, inputs);
            double off = off(run(decoded(c, decoded, arena), inputs), got);
            boolean half = decoded.keySet().stream().anyMatch(w -> w.tensor().dtype() != DType.F32);
            String forms = Targets.forms(plan).values().toString();
            boolean integers = forms.contains("DYNAMIC") || forms.contains("BLOCKWISE");
            assertTrue(off <= (integers ? 0.02 : half ? 1e-3 : 1e-5), what + ": off by " + off + " from decoded weights");
            double error = encoder.entries().stream().mapToDouble(Report.Entry::relativeError).max().orElseThrow();
            // What is no product may answer with any change, as a comparison does.
            double total = plan.recipe().name().equals(ANY_ROLE) ? 0 : off(original, got);
            assertTrue(total <= 10 * error + 0.01, what + ": off by " + total + " with weights off by " + error);
            return result;
        }
    }

    /** The model with other elements in its weights. */
    private byte[] decoded(Compressor c, Map<Weight, MemorySegment> values, Arena arena) throws IOException {
        Target plain = Targets.of(c.model(), "onnx", Map.of("sparse-initializers", "false"));
        Map<Weight, Form> forms = new LinkedHashMap<>();
        for (Weight w : values.keySet()) {
            forms.put(w, Targets.accept(plain, w, new Form.Dense(w.tensor().dtype())));
        }
        Path out = folder.resolve("decoded.onnx");
        Targets.write(plain, forms, (weight, form, rows, first) -> {
            Tensor t = weight.tensor();
            MemorySegment narrow = arena.allocate(t.bytes(), 64);
            Quantize.convert(DType.F32, values.get(weight), t.shape().elements(), t.dtype(), narrow);
            return new Encoding.Dense(new Tensor(t.dtype(), t.shape(), narrow));
        }, Destination.replacing(out));
        return Files.readAllBytes(out);
    }

    /** The largest relative distance of an output; infinite if one has another shape, or is not finite elsewhere. */
    private static double off(Outputs a, Outputs b) {
        double worst = a.shapes.equals(b.shapes) ? 0 : Double.POSITIVE_INFINITY;
        for (String name : worst == 0 ? a.floats.keySet() : Set.<String>of()) {
            float[] x = a.floats.get(name);
            float[] y = b.floats.get(name);
            double error = 0;
            double sum = 1e-12;
            for (int i = 0; i < x.length; i++) {
                if (Float.isFinite(x[i]) && Float.isFinite(y[i])) {
                    error += Math.pow((double) x[i] - y[i], 2);
                    sum += Math.pow(x[i], 2);
                } else if (Float.compare(x[i], y[i]) != 0) {
                    error = Double.POSITIVE_INFINITY;
                }
            }
            worst = Math.max(worst, Math.sqrt(error / sum));
        }
        return worst;
    }

    private static Outputs run(byte[] model, Map<String, Input> inputs) throws OrtException {
        OrtEnvironment env = OrtEnvironment.getEnvironment();
        Map<String, OnnxTensor> in = new HashMap<>();
        try (OrtSession.SessionOptions o = new OrtSession.SessionOptions()) {
            o.setIntraOpNumThreads(1);
            o.addConfigEntry("session.qdq_matmulnbits_accuracy_level", "0");
            o.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL);
            try (OrtSession s = env.createSession(model, o)) {
                for (String name : s.getInputNames()) {
                    Input i = inputs.get(name);
                    ByteBuffer b = ByteBuffer.allocateDirect(i.raw.length).order(ByteOrder.nativeOrder()).put(i.raw).flip();
                    in.put(name, OnnxTensor.createTensor(env, b, i.dims, i.type));
                }
                Outputs out = new Outputs(new TreeMap<>(), new TreeMap<>());
                try (OrtSession.Result r = s.run(in)) {
                    for (Map.Entry<String, OnnxValue> e : r) {
                        out.shapes.put(e.getKey(), e.getValue() instanceof OnnxTensor t
                                ? t.getInfo().type + Arrays.toString(t.getInfo().getShape()) : e.getValue().getType().toString());
                        if (e.getValue() instanceof OnnxTensor t && FLOATS.contains(t.getInfo().type)) {
                            FloatBuffer b = t.getFloatBuffer();
                            float[] values = new float[b.remaining()];
                            b.get(values);
                            out.floats.put(e.getKey(), values);
                        }
                    }
                }
                return out;
            }
        } finally {
            in.values().forEach(OnnxTensor::close);
        }
    }

    // Models and tensors, by the numbers of onnx.proto

    /** What a model is given, in the order of its inputs; null if there is something else than tensors of numbers. */
    private static Map<String, Input> inputs(byte[] model, Path data) throws IOException {
        UnknownFieldSet graph = messages(UnknownFieldSet.parseFrom(model), 7).getFirst();
        Set<String> initializers = new HashSet<>();
        messages(graph, 5).forEach(t -> initializers.add(text(t, 8)));
        Map<String, Input> all = new LinkedHashMap<>();
        for (UnknownFieldSet described : messages(graph, 11)) {
            String name = text(described, 1);
            Path file = data.resolve("input_" + all.size() + ".pb");
            if (initializers.contains(name)) {
                continue;
            }
            Input i = Files.exists(file) ? input(UnknownFieldSet.parseFrom(Files.readAllBytes(file))) : null;
            if (i == null) {
                return null;
            }
            all.put(name, i);
        }
        return all;
    }

    private static Input input(UnknownFieldSet tensor) {
        List<Long> type = tensor.getField(2).getVarintList();
        OnnxJavaType java = type.isEmpty() ? null : switch (type.getFirst().intValue()) {
            case 1 -> OnnxJavaType.FLOAT;
            case 2 -> OnnxJavaType.UINT8;
            case 3 -> OnnxJavaType.INT8;
            case 5 -> OnnxJavaType.INT16;
            case 6 -> OnnxJavaType.INT32;
            case 7 -> OnnxJavaType.INT64;
            case 9 -> OnnxJavaType.BOOL;
            case 10 -> OnnxJavaType.FLOAT16;
            case 11 -> OnnxJavaType.DOUBLE;
            case 16 -> OnnxJavaType.BFLOAT16;
            default -> null;
        };
        long[] dims = tensor.getField(1).getVarintList().stream().mapToLong(d -> d).toArray();
        List<ByteString> raw = tensor.getField(9).getLengthDelimitedList();
        byte[] bytes = raw.isEmpty() ? new byte[0] : raw.getFirst().toByteArray();
        return java == null || bytes.length != Arrays.stream(dims).reduce(java.size, (a, b) -> a * b) ? null
                : new Input(java, dims, bytes, tensor);
    }

    /** The model with some float inputs as initializers, and at least the oldest operator set; null if there are no such inputs. */
    private static byte[] constant(byte[] model, Map<String, Input> inputs, Constant which) throws IOException {
        UnknownFieldSet m = UnknownFieldSet.parseFrom(model);
        UnknownFieldSet graph = messages(m, 7).getFirst();
        List<UnknownFieldSet> initializers = new ArrayList<>(messages(graph, 5));
        List<UnknownFieldSet> described = new ArrayList<>(messages(graph, 11));
        boolean first = true;
        boolean any = which == Constant.NONE;
        for (Map.Entry<String, Input> e : inputs.entrySet()) {
            Input i = e.getValue();
            if (!FLOATS.contains(i.type) || i.dims.length == 0) {
                continue;
            }
            if (which == Constant.ALL || which == (first ? Constant.FIRST : Constant.OTHERS)) {
                any = true;
                initializers.add(i.tensor.toBuilder().addField(8, field(ByteString.copyFromUtf8(e.getKey()))).build());
                // Before version 4 of the format every initializer was an input as well.
                if (m.getField(1).getVarintList().getFirst() >= 4) {
                    described.removeIf(d -> text(d, 1).equals(e.getKey()));
                }
            }
            first = false;
        }
        List<UnknownFieldSet> opsets = new ArrayList<>();
        for (UnknownFieldSet o : messages(m, 8)) {
            long version = o.getField(2).getVarintList().getFirst();
            opsets.add(!text(o, 1).isEmpty() || version >= OLDEST_OPSET ? o
                    : o.toBuilder().addField(2, Field.newBuilder().addVarint(OLDEST_OPSET).build()).build());
        }
        UnknownFieldSet changed = graph.toBuilder().addField(5, field(initializers)).addField(11, field(described)).build();
        return any ? m.toBuilder().addField(7, field(List.of(changed))).addField(8, field(opsets)).build().toByteArray() : null;
    }

    private static List<UnknownFieldSet> messages(UnknownFieldSet of, int number) throws IOException {
        List<UnknownFieldSet> all = new ArrayList<>();
        for (ByteString b : of.getField(number).getLengthDelimitedList()) {
            all.add(UnknownFieldSet.parseFrom(b));
        }
        return all;
    }

    private static String text(UnknownFieldSet of, int number) {
        List<ByteString> all = of.getField(number).getLengthDelimitedList();
        return all.isEmpty() ? "" : all.getFirst().toStringUtf8();
    }

    private static Field field(ByteString value) {
        return Field.newBuilder().addLengthDelimited(value).build();
    }

    private static Field field(List<UnknownFieldSet> messages) {
        Field.Builder f = Field.newBuilder();
        messages.forEach(m -> f.addLengthDelimited(m.toByteString()));
        return f.build();
    }
}
