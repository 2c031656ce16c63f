package dev.tensorpress.model.compressedtensors;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.Selector;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.FactorizeMethod;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.Config;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CompressedTensorsTargetTest {

    @TempDir
    Path folder;

    /** With products of all sorts of shapes, and what else a language model has. */
    private static SmallFolder model(DType type) {
        return new SmallFolder(Effort.seed()).add("model.embed_tokens.weight", type, 32, 128).add("model.a.weight", type, 40, 128)
                .add("model.norm.weight", type, 129).add("model.b.weight", type, 37, 256).add("model.c.weight", type, 9, 96)
                .add("model.d.weight", type, 33, 100).add("model.e.weight", type, 7, 37).add("model.f.weight", type, 1, 1)
                .add("model.g.weight", type, 0, 64).add("model.h.weight", type, 301, 128).add("model.h.bias", type, 301)
                .add("model.mlp.gate.weight", type, 8, 128).add("ids", DType.I64, 3).add("flags", DType.BOOL, 5)
                .add("lm_head.weight", type, 32, 128);
    }

    private static Recipe all(String name) {
        return Recipe.named(name).set("min-size", "0");
    }

    private Path compress(Path in, Recipe recipe, Compressor.Options options, String out) throws IOException {
        Path to = folder.resolve(out);
        try (Compressor c = Compressor.open(in, options)) {
            Plan plan = c.plan(recipe);
            Report report = c.compress(plan, to);
            long bytes = 0;
            try (Stream<Path> files = Files.list(to)) {
                for (Path p : files.filter(SafetensorsModel::isNamedSo).toList()) {
                    bytes += Files.size(p);
                }
            }
            assertEquals(plan.after(), bytes, "what was planned");
            assertEquals(bytes, report.bytesAfter());
            assertEquals(plan.compressed(), report.entries().size());
        }
        return to;
    }

    /** Names and contents of all files. */
    private static Map<String, String> contents(Path folder) throws IOException {
        Map<String, String> all = new TreeMap<>();
        try (Stream<Path> files = Files.list(folder)) {
            for (Path p : files.toList()) {
                all.put(p.getFileName().toString(), HexFormat.of().formatHex(Files.readAllBytes(p)));
            }
        }
        return all;
    }

    @RandomTest
    void whatIsWrittenDecodesToTheFormatsFormulas() throws IOException {
        for (DType type : new DType[] {DType.F32, DType.F16, DType.BF16}) {
            SmallFolder m = model(type);
            Path in = m.write(folder.resolve("in-" + type), 2);
            for (String recipe : List.of("w8a16", "w8a8", "w4a16", "w4a16 32", "w4a16 64 z", "w8a16 z")) {
                String[] words = recipe.split(" ");
                Recipe r = all(words[0]).set("clip", "none");
                r = words.length > 1 && !words[1].equals("z") ? r.set("block", words[1]) : r;
                r = recipe.endsWith("z") ? r.set("symmetric", "false") : r;
                Path out = compress(in, r, Compressor.Options.DEFAULT, type + recipe.replace(' ', '-'));
                PlainDecoder d = new PlainDecoder(out);
                boolean four = recipe.startsWith("w4");
                int block = !four ? 0 : words.length > 1 ? Integer.parseInt(words[1]) : 128;
                check(m, d, type, four ? 4 : 8, block, !recipe.endsWith("z"));
                assertEquals(recipe.equals("w8a8") ? "int-quantized" : "pack-quantized", d.quantization.get("format"));
            }
        }
    }

    private static void check(SmallFolder m, PlainDecoder d, DType type, int bits, int block, boolean symmetric) {
        // Of the smallest ones codes, scales and shape take more than the weight: those stay.
        List<String> names = new ArrayList<>(List.of("model.a", "model.b", "model.c", "model.d", "model.e", "model.h"));
        if (block > 0) {
            names.removeAll(List.of("model.d", "model.e"));
        }
        assertEquals(names, List.copyOf(d.modules.keySet()), d.tensors.keySet().toString());
        for (String name : names) {
            PlainDecoder.Module module = d.modules.get(name);
            int cols = module.cols();
            // The nearest size of a group that divides the row.
            int group = block == 0 ? cols : cols % block == 0 ? block : 32;
            assertEquals(List.of(type.name(), bits, group, symmetric), List.of(module.dtype(), module.bits(), module.group(),
                    module.symmetric()), name);
            float[] x = m.values.get(name + ".weight");
            for (int g = 0; g < x.length / group; g++) {
                float min = 0;
                float max = 0;
                for (int i = g * group; i < (g + 1) * group; i++) {
                    min = Math.min(min, x[i]);
                    max = Math.max(max, x[i]);
                }
                int half = 1 << (bits - 1);
                float levels = 2 * half - 1;
                float s = SmallFolder.round(symmetric ? Math.max(max, -min) / (levels / 2) : max / levels - min / levels, type);
                int z = symmetric ? 0 : Math.clamp(Math.round(Math.rint(-half - min / s)), -half, half - 1);
                assertEquals(s, module.scales()[g], name + " scale " + g);
                assertEquals(z, module.zeros()[g], name + " zero point " + g);
                for (int i = g * group; i < (g + 1) * group; i++) {
                    int q = (int) Math.clamp(Math.rint(x[i] / s) + z, -half, half - 1);
                    assertEquals(q, module.codes()[i], name + " code " + i);
                }
            }
        }
        for (String name : m.bytes.keySet()) {
            if (!names.contains(name.replace(".weight", ""))) {
                assertArrayEquals(m.bytes.get(name), d.tensors.get(name).bytes(), name);
            }
        }
        List<String> ignored = new ArrayList<>(List.of("model.d", "model.e", "model.f", "model.g", "model.mlp.gate", "lm_head"));
        ignored.removeAll(names);
        for (String name : m.bytes.keySet()) {
            String module = name.replace(".weight", "");
            assertEquals(ignored.contains(module), d.ignores(module), module);
        }
    }

    @Test
    void theSearchOfW4a16LowersTheError() throws IOException {
        SmallFolder m = model(DType.BF16);
        Path in = m.write(folder.resolve("in"), 1);
        double[] errors = new double[2];
        for (int i = 0; i < 2; i++) {
            Recipe r = i == 0 ? all("w4a16") : all("w4a16").set("clip", "none");
            PlainDecoder d = new PlainDecoder(compress(in, r, Compressor.Options.DEFAULT, "out" + i));
            float[] x = m.values.get("model.h.weight");
            float[] y = d.modules.get("model.h").weight();
            for (int k = 0; k < x.length; k++) {
                errors[i] += (x[k] - y[k]) * (x[k] - y[k]);
            }
        }
        assertTrue(errors[0] < 0.9 * errors[1], Arrays.toString(errors));
    }

    @Test
    void bytesByHand() throws IOException {
        SmallFolder m = new SmallFolder(Effort.seed());
        m.config = null;
        m.add("x.weight", DType.F32, Shape.of(3, 5), new float[] {127.5f, -127.5f, 51, 0, 127.5f, 255, 255, 255, 255, -255,
            0, 0, 0, 0, 0.25f});
        Path in = m.write(folder.resolve("in"), 1);
        Recipe eight = all("w8a16");
        PlainDecoder d = new PlainDecoder(compress(in, eight, Compressor.Options.DEFAULT, "eight"));
        // Scales of 1 and 2: the largest is 127.5 steps, cut off at 127, and its negative rounds to the even -128.
        assertEquals("ff00c08000000000ff000000" .length(), 24);
        assertEquals("ff00b380" + "ff000000" + "ffffffff" + "00000000" + "80808080" + "ff000000",
                HexFormat.of().formatHex(d.tensors.get("x.weight_packed").bytes()));
        assertArrayEquals(floats(1, 2, 0.25f / 127.5f), d.tensors.get("x.weight_scale").bytes());
        assertArrayEquals(longs(3, 5), d.tensors.get("x.weight_shape").bytes());
        assertEquals(Map.of(), d.config);
        // In 15 steps of 17, 34 and 1/60: zero is 7.5 steps from the end, which rounds to the even 8, and at it.
        Recipe four = eight.set("bits", "4").set("symmetric", "false");
        d = new PlainDecoder(compress(in, four, Compressor.Options.DEFAULT, "four"));
        assertEquals("88000000", HexFormat.of().formatHex(d.tensors.get("x.weight_zero_point").bytes()));
        assertEquals("0f8b0f00" + "ffff0000" + "00000f00", HexFormat.of().formatHex(d.tensors.get("x.weight_packed").bytes()));
    }

    /** Makes the encodings of a plan without the façade, so that parts can have any size. */
    private static final class Steps implements Target.Encoder, AutoCloseable {
        final Map<Weight, QuantizeMethod> methods = new LinkedHashMap<>();
        final Executor executor = Executor.cpu(2);
        final Workspace workspace = new Workspace(executor);
        int calls;
        /** The call that fails; none if negative. */
        int failing = -1;

        Map<Weight, Lowering> plan(SafetensorsModel m, Target t, QuantizeMethod method) {
            Map<Weight, Lowering> forms = new LinkedHashMap<>();
            for (Weight w : m.weights()) {
                try {
                    forms.put(w, t.lower(w, method.plan(w, new Form.Dense(w.tensor().dtype()))));
                    methods.put(w, method);
                } catch (UnsupportedRequestException e) {
                    assertFalse(e.getMessage().isEmpty());
                }
            }
            return forms;
        }

        @Override
        public boolean byRows(Weight weight, Form form) {
            return methods.get(weight).byRows(weight, form);
        }

        @Override
        public Encoding encode(Weight weight, Form form, Tensor rows, long first) throws IOException {
            if (calls++ == failing) {
                throw new IOException("as asked");
            }
            return methods.get(weight).apply(weight.over(rows), new Encoding.Dense(rows), form, workspace);
        }

        @Override
        public void close() {
            workspace.close();
            executor.close();
        }
    }

    @Test
    void bytesDependNeitherOnPartsNorMemoryNorThreads() throws IOException {
        SmallFolder small = model(DType.BF16);
        Path in = small.write(folder.resolve("in"), 3);
        int n = 0;
        for (QuantizeMethod method : List.of(QuantizeMethod.int8(), QuantizeMethod.int4().asymmetric().clipSearch(8, 0.75f),
                QuantizeMethod.int4().perChannel().asymmetric(), QuantizeMethod.int8().activations(Form.Activations.DYNAMIC))) {
            Map<String, String> whole = null;
            for (long part : new long[] {1 << 20, 1, 8 * 256 * 2, 16 * 256 * 2 + 100}) {
                for (long memory : new long[] {1L << 30, part == 1 ? 10_000 : 1}) {
                    Path out = folder.resolve("out" + n++);
                    try (SafetensorsModel m = SafetensorsModel.open(in, Map.of()); Steps steps = new Steps()) {
                        CompressedTensorsTarget t = (CompressedTensorsTarget) Targets.of(m, "", Map.of("shard-size", "30000"));
                        Map<Weight, Lowering> forms = steps.plan(m, t, method);
                        t.write(forms, steps, new Destination(out, false, false, memory, Map.of()), part);
                        if (part == 1) {
                            assertTrue(steps.calls > 2 * forms.size(), steps.calls + " calls");
                        }
                    }
                    Map<String, String> now = contents(out);
                    whole = whole == null ? now : whole;
                    assertEquals(whole, now, method + " in parts of " + part + ", memory of " + memory);
                    assertTrue(now.size() > 4, now.keySet().toString());
                    new PlainDecoder(out);
                }
            }
        }
        Map<String, String> whole = null;
        for (Compressor.Options o : List.of(Compressor.Options.DEFAULT, Compressor.Options.DEFAULT.threads(1),
                Compressor.Options.DEFAULT.threads(7).memory(1))) {
            Map<String, String> now = contents(compress(in, all("w4a16"), o, "out" + n++));
            whole = whole == null ? now : whole;
            assertEquals(whole, now);
        }
    }

    @Test
    void bytesOfStacksDoNotDependOnPartsEither() throws IOException {
        Path in = new SmallFolder(Effort.seed()).add("mlp.experts.gate_up_proj", DType.F32, 5, 24, 96)
                .add("mlp.experts.down_proj", DType.F32, 19, 7, 64).write(folder.resolve("in"), 1);
        int n = 0;
        for (QuantizeMethod method : List.of(QuantizeMethod.int8(), QuantizeMethod.int4().asymmetric())) {
            Map<String, String> whole = null;
            for (long part : new long[] {1 << 20, 1, 8 * 7 * 64 * 4}) {
                Path out = folder.resolve("out" + n++);
                try (SafetensorsModel m = SafetensorsModel.open(in, Map.of()); Steps steps = new Steps()) {
                    CompressedTensorsTarget t = (CompressedTensorsTarget) Targets.of(m, "", Map.of("force-scheme", "true", "shard-size", "1048576"));
                    Map<Weight, Lowering> forms = steps.plan(m, t, method);
                    assertEquals(2, forms.size());
                    t.write(forms, steps, new Destination(out, false, false, 1 << 20, Map.of()), part);
                    assertTrue(part > 1 ? steps.calls >= 2 : steps.calls >= 5 + 3, steps.calls + " calls");
                }
                Map<String, String> now = contents(out);
                whole = whole == null ? now : whole;
                assertEquals(whole, now, method + " in parts of " + part);
            }
        }
    }

    /** One compression in a process of its own: input, output, recipe. */
    public static final class OneCompression {
        public static void main(String[] args) throws IOException {
            try (Compressor c = Compressor.open(Path.of(args[0]))) {
                c.compress(c.plan(all(args[2])), Path.of(args[1]));
            }
        }
    }

    @Test
    void eightRowsHaveToFitTheMemory() throws IOException {
        Path in = model(DType.BF16).write(folder.resolve("in"), 1);
        try (SafetensorsModel m = SafetensorsModel.open(in, Map.of()); Steps steps = new Steps()) {
            CompressedTensorsTarget t = (CompressedTensorsTarget) Targets.of(m, "", Map.of("shard-size", "30000"));
            Map<Weight, Lowering> forms = steps.plan(m, t, QuantizeMethod.int8());
            Path out = folder.resolve("out");
            // Eight rows of 256 are the most.
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> t.write(forms, steps,
                    new Destination(out, false, false, 2 * 4096 - 1, Map.of()), 1));
            assertTrue(e.getMessage().contains("model.b.weight") && e.setting().equals("memory"), e.getMessage());
            assertFalse(Files.exists(out));
            t.write(forms, steps, new Destination(out, false, false, 2 * 4096, Map.of()), 1);
        }
    }

    @Test
    void bytesDoNotDependOnTheInstructionSet() throws Exception {
        Path in = model(DType.F16).write(folder.resolve("in"), 1);
        List<String> tiers = List.of("ref", "avx2", "avx512");
        for (String recipe : List.of("w8a16", "w4a16")) {
            Map<String, String> first = null;
            for (String tier : tiers.subList(0, tiers.indexOf(Machine.tier()) + 1)) {
                Path out = folder.resolve(recipe + tier);
                ProcessBuilder b = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"),
                        OneCompression.class.getName(), in.toString(), out.toString(), recipe).redirectErrorStream(true);
                b.environment().put("TENSORPRESS_ISA", tier);
                Process p = b.start();
                String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
                assertEquals(0, p.waitFor(), said);
                first = first == null ? contents(out) : first;
                assertEquals(first, contents(out), recipe + " by " + tier);
            }
        }
    }

    @Test
    void anInterruptedRunGoesOnToTheSameBytes() throws IOException {
        Path in = model(DType.F32).write(folder.resolve("in"), 1);
        Map<String, String> whole = null;
        try (SafetensorsModel m = SafetensorsModel.open(in, Map.of())) {
            CompressedTensorsTarget t = (CompressedTensorsTarget) Targets.of(m, "", Map.of("shard-size", "40000"));
            for (int failing : new int[] {-1, 6, 1, 0}) {
                Path out = folder.resolve("out" + failing);
                Destination to = new Destination(out, false, false, 1 << 20, Map.of());
                try (Steps steps = new Steps()) {
                    Map<Weight, Lowering> forms = steps.plan(m, t, QuantizeMethod.int8());
                    steps.failing = failing;
                    if (failing < 0) {
                        t.write(forms, steps, to);
                        whole = contents(out);
                        assertEquals(7, steps.calls);
                        continue;
                    }
                    IOException e = assertThrows(IOException.class, () -> t.write(forms, steps, to));
                    assertTrue(e.getMessage().contains("as asked"), e.getMessage());
                    assertFalse(Files.exists(out));
                }
                try (Steps steps = new Steps()) {
                    t.write(steps.plan(m, t, QuantizeMethod.int8()), steps, new Destination(out, false, true, 1 << 20, Map.of()));
                    assertTrue(failing == 6 ? steps.calls < 7 : steps.calls == 7, steps.calls + " calls");
                }
                assertEquals(whole, contents(out));
            }
        }
    }

    @Test
    void aNumberThatIsNoneIsNamedAndLeavesNothing() throws IOException {
        for (float bad : new float[] {Float.NaN, Float.NEGATIVE_INFINITY}) {
            SmallFolder m = model(DType.BF16);
            long rows = 1 << 16; // two parts of 16 MiB, and some
            float[] x = new float[(int) rows * 300];
            x[x.length - 5] = bad;
            m.add("model.last.weight", DType.BF16, Shape.of(rows, 300), x);
            Path in = m.write(folder.resolve("in" + bad), 1);
            Path out = folder.resolve("out" + bad);
            try (Compressor c = Compressor.open(in)) {
                Plan plan = c.plan(all("w8a16"));
                NonFiniteWeightException e = assertThrows(NonFiniteWeightException.class, () -> c.compress(plan, out));
                assertEquals("model.last.weight", e.weight());
                assertEquals(x.length - 5, e.index());
                assertTrue(e.getMessage().contains("holds " + bad + " at element " + (x.length - 5)), e.getMessage());
            }
            try (Stream<Path> left = Files.list(folder)) {
                assertEquals(List.of(), left.filter(p -> p.getFileName().toString().startsWith("out")).toList());
            }
        }
    }

    /** Scales of powers of two are those in whatever type the weight has; of a weight in parts the report has those of all. */
    @Test
    void fixedPoint() throws IOException {
        for (DType type : new DType[] {DType.F32, DType.F16, DType.BF16}) {
            Path in = model(type).add("x.weight", type, 40_000, 256).write(folder.resolve("in-" + type), 2);
            Path out = folder.resolve("out-" + type);
            Report report;
            try (Compressor c = Compressor.open(in)) {
                report = c.compress(c.plan(all("fixed8")), out);
            }
            PlainDecoder d = new PlainDecoder(out);
            assertEquals(report.entries().size(), d.modules.size());
            for (Report.Entry e : report.entries()) {
                int least = Integer.MAX_VALUE;
                int most = Integer.MIN_VALUE;
                for (float scale : d.modules.get(e.planned().weight().name().replace(".weight", "")).scales()) {
                    assertEquals(0, Float.floatToIntBits(scale) & 0x7fffff);
                    least = Math.min(least, -Math.getExponent(scale));
                    most = Math.max(most, -Math.getExponent(scale));
                }
                assertEquals(new Report.FixedPoint(8, least, most), e.fixedPoint());
            }
        }
    }

    @Test
    void partsAreReportedAsOneWeight() throws IOException {
        SmallFolder m = new SmallFolder(Effort.seed()).add("x.weight", DType.BF16, 40_000, 256).add("y.weight", DType.BF16, 40_000, 256);
        Path in = m.write(folder.resolve("in"), 1);
        List<String> told = new ArrayList<>();
        try (Compressor c = Compressor.open(in, Compressor.Options.DEFAULT.progress((index, count, entry, part) ->
                told.add(index + "/" + count + " " + (entry == null ? "" : entry.weight().name()) + " " + part)))) {
            Report report = c.compress(c.plan(Recipe.named("w8a16")), folder.resolve("out"));
            // 16 MiB hold 32768 rows.
            assertEquals(List.of("0/2 x.weight 0.0", "0/2 x.weight 0.8192", "1/2 y.weight 0.0", "1/2 y.weight 0.8192", "2/2  0.0"),
                    told);
            assertEquals(2, report.entries().size());
            for (Report.Entry e : report.entries()) {
                float[] x = m.values.get(e.planned().weight().name());
                float[] y = decoded(folder.resolve("out/model.safetensors"), e.planned().weight().name(), 256);
                double error = 0;
                double squares = 0;
                double max = 0;
                for (int i = 0; i < x.length; i++) {
                    double difference = (double) x[i] - y[i];
                    error += difference * difference;
                    squares += (double) x[i] * x[i];
                    max = Math.max(max, Math.abs(difference));
                }
                assertEquals(error, e.sumSquaredError(), 1e-9 * error);
                assertEquals(squares, e.sumSquares(), 1e-9 * squares);
                assertEquals(max, e.maxError());
            }
        }
    }

    /** Of packed bytes with a scale for each row; the decoder that goes bit by bit takes long for so many. */
    private static float[] decoded(Path file, String name, int cols) throws IOException {
        try (Safetensors f = Safetensors.open(file)) {
            byte[] codes = f.tensor(name + "_packed").data().toArray(ValueLayout.JAVA_BYTE);
            Tensor scales = f.tensor(name + "_scale");
            float[] y = new float[codes.length];
            for (int i = 0; i < y.length; i++) {
                y[i] = ((codes[i] & 255) - 128) * Quantize.element(scales, i / cols);
            }
            return y;
        }
    }

    @Test
    void theConfigurationKeepsAllElse() throws IOException {
        SmallFolder m = new SmallFolder(Effort.seed()).add("a.weight", DType.F32, 64, 64);
        for (String[] c : new String[][] {
            {SmallFolder.CONFIG, "  \"vocab_size\": 32\n}\n", "  \"vocab_size\": 32,\n", "\n}\n"},
            {"{}", "}", "", "\n}"},
            {" { \"a\" : 1e-05 } \n", " } \n", ",\n", "\n} \n"},
            {"{\"quantization_config\":null,\"b\":[1.50, -Infinity]}", "null,\"b\":[1.50, -Infinity]}", "{",
                "},\"b\":[1.50, -Infinity]}"}}) {
            m.config = c[0];
            Path in = m.write(folder.resolve("in" + c[0].length()), 1);
            Path out = compress(in, Recipe.named("w8a16"), Compressor.Options.DEFAULT, "out" + c[0].length());
            String text = Files.readString(out.resolve(Config.NAME));
            String head = c[0].substring(0, c[0].length() - c[1].length());
            assertTrue(text.startsWith(head + c[2]) && text.endsWith(c[3]), text);
            assertEquals(3, text.split("quant", -1).length - 3, text); // both formats, method and status say it, and the key
            new PlainDecoder(out);
        }
        m.config = SmallFolder.CONFIG.replace("}\n", ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\"}}\n");
        Path in = m.write(folder.resolve("done"), 1);
        assertRefused(in, Recipe.named("w8a16"), "compressed already, by compressed-tensors; tensorpress expand");
    }

    private static void assertRefused(Path in, Recipe recipe, String reason) throws IOException {
        try (Compressor c = Compressor.open(in)) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> c.plan(recipe));
            assertTrue(e.getMessage().contains(reason), e.getMessage());
        }
    }

    @Test
    void whatTheFormatCannotHoldStaysWithTheReason() throws IOException {
        SmallFolder m = new SmallFolder(Effort.seed()).add("emb.embed_tokens.weight", DType.F32, 40, 64).add("a.weight", DType.F32, 48, 100)
                .add("dense.kernel", DType.F32, 64, 32).add("proj_weight", DType.F32, 32, 64)
                .add("conv.weight", DType.F32, 8, 4, 3, 3).add("taken.weight", DType.F32, 32, 64)
                .add("taken.weight_scale", DType.F32, 3).add("b.weight", DType.F32, 2, 1)
                .add("rnn.weight_ih_l0", DType.F32, 64, 32).add("lm_head.weight", DType.F32, 40, 64)
                .add("h.0.attn.c_attn.weight", DType.F32, 64, 192).add("h.0.attn.c_attn.bias", DType.F32, 192);
        m.config = "{\"tie_word_embeddings\":true}";
        Path in = m.write(folder.resolve("in"), 1);
        Map<String, String> reasons = new TreeMap<>();
        try (Compressor c = Compressor.open(in)) {
            for (int bits : new int[] {4, 6}) {
                Recipe r = new Recipe("all", "", List.of(new Recipe.Step("q", new Selector(Set.of(),
                        List.of(), 0), QuantizeMethod.int8().perBlock(32))), List.of(), Map.of()).set("bits", Integer.toString(bits));
                for (Plan.Entry e : c.plan(r).entries()) {
                    reasons.merge(e.weight().name(), e.compressed() ? e.form().describe() : e.note(), (a, b) -> a + " / " + b);
                }
            }
        }
        for (String[] r : new String[][] {{"emb.embed_tokens.weight", "role embedding"}, {"a.weight", "its 100 columns are no whole"},
            {"dense.kernel", "stored [in, out]"}, {"proj_weight", "no '.weight' at its end"}, {"conv.weight", "role conv"},
            {"taken.weight", "there is a tensor 'taken.weight_scale' already"}, {"rnn.weight_ih_l0", "role recurrent"},
            {"lm_head.weight", "tied to the token embedding"}, {"h.0.attn.c_attn.weight", "int4 block 32"},
            {"b.weight", "no whole groups"}}) {
            assertTrue(reasons.get(r[0]).contains(r[1]), r[0] + ": " + reasons.get(r[0]));
        }
        assertTrue(reasons.get("taken.weight").endsWith("f32 decoded from int6 block 32"), reasons.toString());
        assertRefused(in, Recipe.named("w8a16").target("onnxruntime"), "no target 'onnxruntime'");
        assertRefused(in, Recipe.named("w8a16").set("accuracy-level", "4"), "no option 'accuracy-level'");
    }

    /** GPT-2's are the other way round in the input, and not in what is written. */
    @Test
    void whatIsStoredInputsFirstBecomesWhatItsTransposeWould() throws IOException {
        for (DType type : new DType[] {DType.F32, DType.BF16}) {
            SmallFolder m = new SmallFolder(Effort.seed());
            List<int[]> shapes = List.of(new int[] {96, 256}, new int[] {240, 37}, new int[] {37, 150});
            for (int i = 0; i < shapes.size(); i++) {
                int in = shapes.get(i)[0];
                int out = shapes.get(i)[1];
                m.add("h." + i + ".c_fc.weight", type, in, out).add("h." + i + ".c_fc.bias", type, out);
                float[] x = m.values.get("h." + i + ".c_fc.weight");
                float[] turned = new float[x.length];
                for (int k = 0; k < x.length; k++) {
                    turned[k % out * in + k / out] = x[k];
                }
                m.add("t." + i + ".weight", type, Shape.of(out, in), turned);
            }
            Path in = m.write(folder.resolve("in" + type), 2);
            Recipe four = all("w4a16");
            int n = 0;
            for (Recipe r : List.of(all("w8a16"), all("w8a16").set("symmetric", "false"), four, four.set("symmetric", "false"),
                    four.set("linear.per", "channel"), four.set("linear.per", "channel").set("symmetric", "false"), all("w8a8"))) {
                Path out = compress(in, r, Compressor.Options.DEFAULT, "out" + type + n++);
                PlainDecoder d = new PlainDecoder(out);
                int modules = 0;
                for (int i = 0; i < shapes.size(); i++) {
                    PlainDecoder.Module now = d.modules.get("h." + i + ".c_fc");
                    PlainDecoder.Module then = d.modules.get("t." + i);
                    assertEquals(now == null, then == null);
                    if (now == null) {
                        continue;
                    }
                    modules++;
                    assertEquals(List.of(then.rows(), then.cols(), then.group(), then.symmetric()), List.of(now.rows(), now.cols(),
                            now.group(), now.symmetric()));
                    assertArrayEquals(then.codes(), now.codes());
                    assertArrayEquals(then.scales(), now.scales());
                    assertArrayEquals(then.zeros(), now.zeros());
                    assertEquals("pack-quantized", now.format());
                }
                assertEquals(n == 3 || n == 4 ? 2 : 3, modules, "recipe " + n);
                Path back = folder.resolve("back" + type + n);
                try (CompressedModel c = CompressedModel.open(out); Executor executor = Executor.cpu(2)) {
                    c.expand(new Destination(back, false, false, 1 << 26, Map.of()), 20_000, executor, (tensor, bytes) -> { });
                }
                try (SafetensorsModel e = SafetensorsModel.open(back, Map.of())) {
                    Map<String, Weight> all = new TreeMap<>();
                    e.weights().forEach(w -> all.put(w.name(), w));
                    assertEquals(m.bytes.keySet(), all.keySet());
                    for (int i = 0; i < shapes.size(); i++) {
                        int rows = shapes.get(i)[0];
                        int cols = shapes.get(i)[1];
                        Weight w = all.get("h." + i + ".c_fc.weight");
                        assertEquals(Shape.of(rows, cols), w.tensor().shape());
                        PlainDecoder.Module module = d.modules.get("h." + i + ".c_fc");
                        float[] y = module == null ? new float[0] : module.weight();
                        for (int k = 0; k < y.length; k++) {
                            assertEquals(SmallFolder.round(y[k % cols * rows + k / cols], type), Quantize.element(w.tensor(), k));
                        }
                    }
                }
            }
        }
    }

    @Test
    void otherRecipesTakeTheNearestForm() throws IOException {
        SmallFolder m = new SmallFolder(Effort.seed()).add("a.weight", DType.F16, 64, 256).add("b.weight", DType.F16, 64, 96)
                .add("e.embed_tokens.weight", DType.F16, 64, 256);
        m.config = SmallFolder.CONFIG.replace("false", "true");
        Path in = m.write(folder.resolve("in"), 1);
        try (Compressor c = Compressor.open(in)) {
            for (String[] r : new String[][] {{"int8", "int8 block 64", "int8 block 32", "wanted int8 block 64 blockwise"},
                {"int8-dynamic", "int8 per channel asymmetric", "int8 per channel asymmetric",
                    "wanted int8 per channel asymmetric dynamic"},
                {"int4", "int4 block 32 asymmetric", "int4 block 32 asymmetric", "wanted int4 block 32 asymmetric blockwise"},
                {"w8a8", "int8 per channel dynamic", "int8 per channel dynamic", ""},
                {"int4-corrected", "int4 block 32 asymmetric", "int4 block 32 asymmetric", "no place for a correction"}}) {
                List<Plan.Entry> entries = c.plan(Recipe.named(r[0])).entries();
                assertEquals(r[1], entries.get(0).form().describe(), r[0]);
                assertEquals(r[2], entries.get(1).form().describe(), r[0]);
                assertTrue(entries.get(1).note().contains(r[3]), entries.get(1).note());
                assertFalse(entries.get(2).compressed());
            }
        }
        // Two sizes of groups are two schemes, which name their modules.
        PlainDecoder d = new PlainDecoder(compress(in, Recipe.named("int8"), Compressor.Options.DEFAULT, "out"));
        assertEquals(List.of(64, 32), List.of(d.modules.get("a").group(), d.modules.get("b").group()));
        assertEquals(2, ((Map<?, ?>) d.quantization.get("config_groups")).size());
        assertTrue(d.ignores("lm_head") && !d.ignores("a") && !d.ignores("b"), d.ignored().toString());
    }

    @Test
    void formatsMayBeMixed() throws IOException {
        Path in = new SmallFolder(Effort.seed()).add("a.weight", DType.F16, 64, 256).add("b.weight", DType.F16, 64, 96)
                .write(folder.resolve("in"), 1);
        Recipe both = new Recipe("both", "", List.of(
                new Recipe.Step("a", new Selector(Set.of(Role.LINEAR), List.of("a.*"), 0),
                        QuantizeMethod.int8().activations(Form.Activations.DYNAMIC)),
                new Recipe.Step("b", new Selector(Set.of(Role.LINEAR), List.of(), 0),
                        QuantizeMethod.int4())), List.of(), Map.of());
        Path out = compress(in, both, Compressor.Options.DEFAULT, "out");
        String config = Files.readString(out.resolve(Config.NAME));
        assertTrue(config.contains("\"format\": \"mixed-precision\"") && config.contains("\"format\": \"int-quantized\"")
                && config.contains("\"format\": \"pack-quantized\""), config);
        try (CompressedModel m = CompressedModel.open(out)) {
            assertEquals(List.of("a.weight", "b.weight"), m.names());
        }
    }

    @Test
    void prunedWeightsAndFactorsAreDescribed() throws IOException {
        SmallFolder m = new SmallFolder(Effort.seed()).add("a.weight", DType.BF16, 64, 96);
        float[] x = new float[48 * 80];
        for (int i = 0; i < x.length; i++) {
            x[i] = (i / 80 + 1) * (i % 80 - 40) * 0.01f; // of rank 1
        }
        m.add("b.weight", DType.F32, Shape.of(48, 80), x);
        Path in = m.write(folder.resolve("in"), 1);
        Selector a = new Selector(Set.of(), List.of("a.*"), 0);
        Selector b = new Selector(Set.of(), List.of("b.*"), 0);
        Recipe r = new Recipe("r", "", List.of(new Recipe.Step("prune", a, PruneMethod.nm(2, 4)),
                new Recipe.Step("factorize", b, FactorizeMethod.rank(1))), List.of(), Map.of("force-scheme", "true"));
        PlainDecoder d = new PlainDecoder(compress(in, r, Compressor.Options.DEFAULT, "out"));
        assertNull(d.quantization);
        assertEquals(SmallFolder.CONFIG, Files.readString(folder.resolve("out").resolve(Config.NAME)));
        Map<String, String> metadata = d.metadata.get("model.safetensors");
        assertEquals("{\"a.weight\":{\"pattern\":\"2:4\"}}", metadata.get("tensorpress.pruned"));
        assertEquals("{\"b.weight\":{\"shape\":[48,80],\"transposed\":true}}", metadata.get("tensorpress.factors"));
        float[] kept = m.values.get("a.weight");
        for (int i = 0; i < kept.length; i += 4) {
            int zeros = 0;
            for (int k = i; k < i + 4; k++) {
                float now = PlainDecoder.number(d.tensors.get("a.weight"), k);
                assertTrue(now == 0 || now == kept[k]);
                zeros += now == 0 ? 1 : 0;
            }
            assertEquals(2, zeros);
        }
        PlainDecoder.Raw left = d.tensors.get("b.weight.left");
        PlainDecoder.Raw right = d.tensors.get("b.weight.right");
        assertArrayEquals(new long[] {80, 1}, left.shape());
        assertArrayEquals(new long[] {1, 48}, right.shape());
        for (int i = 0; i < x.length; i++) {
            assertEquals(x[i], PlainDecoder.number(left, i % 80) * PlainDecoder.number(right, i / 80), 1e-5 * 48 * 0.4);
        }
        // And with codes in the place of elements.
        Recipe q = new Recipe("q", "", List.of(new Recipe.Step("prune", a, PruneMethod.nm(2, 4)),
                new Recipe.Step("quantize", a, QuantizeMethod.int4())), List.of(), Map.of());
        d = new PlainDecoder(compress(in, q, Compressor.Options.DEFAULT.memory(1 << 20), "codes"));
        int zeros = 0;
        for (int code : d.modules.get("a").codes()) {
            zeros += code == 0 ? 1 : 0;
        }
        assertTrue(zeros >= 64 * 96 / 2, zeros + " zeros");
    }

    @Test
    void whatIsEncodedWholeHasToFitTheMemory() throws IOException {
        int elements = 2100 * 2560; // of more bytes than a buffer has
        SmallFolder m = new SmallFolder(Effort.seed()).add("a.weight", DType.F32, 2100, 2560);
        Path in = m.write(folder.resolve("in"), 1);
        Recipe factors = new Recipe("factors", "", List.of(new Recipe.Step("factorize", new Selector(Set.of(), List.of(), 0),
                FactorizeMethod.rank(1))), List.of(), Map.of("force-scheme", "true"));
        Plan large;
        try (Compressor c = Compressor.open(in, Compressor.Options.DEFAULT.memory(8L * elements))) {
            large = c.plan(factors);
            assertTrue(large.entries().getFirst().compressed());
        }
        try (Compressor c = Compressor.open(in, Compressor.Options.DEFAULT.memory(8L * elements - 1))) {
            Plan.Entry e = c.plan(factors).entries().getFirst();
            assertFalse(e.compressed());
            assertTrue(e.note().contains("is encoded as a whole, of " + 4 * elements + " bytes") && e.note().contains("bytes of memory are allowed"),
                    e.note());
            // Whoever asks for it without a plan is refused.
            Target t = c.target(factors);
            Weight w = c.model().weights().getFirst();
            UnsupportedRequestException u = assertThrows(UnsupportedRequestException.class, () -> t.write(
                    Map.of(w, large.entries().getFirst().lowering().orElseThrow()), (weight, form, rows, first) -> null,
                    new Destination(folder.resolve("none"), false, false, 8L * elements - 1, Map.of())));
            assertTrue(u.getMessage().contains("weight a.weight is encoded as a whole, of "), u.getMessage());
        }
        Path out = compress(in, Recipe.named("sparse24"), Compressor.Options.DEFAULT.memory(8L * elements), "out");
        try (Safetensors f = Safetensors.open(out.resolve("model.safetensors"))) {
            float[] x = m.values.get("a.weight");
            float[] y = f.tensor("a.weight").data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
            int zeros = 0;
            for (int i = 0; i < elements; i++) {
                assertTrue(y[i] == x[i] || y[i] == 0);
                zeros += y[i] == 0 ? 1 : 0;
            }
            assertEquals(elements / 2, zeros);
        }
    }

    @Test
    void theModelItselfAndWhatExistsAreNotReplaced() throws IOException {
        Path in = model(DType.BF16).write(folder.resolve("models/in"), 1);
        try (Compressor c = Compressor.open(in, Compressor.Options.DEFAULT.overwrite(true))) {
            Plan plan = c.plan(Recipe.named("w8a16"));
            for (Path out : List.of(in, in.getParent(), in.resolve("../in"))) {
                IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> c.compress(plan, out));
                assertTrue(e.getMessage().contains("the model itself"), e.getMessage());
            }
        }
        Path out = compress(in, Recipe.named("w8a16"), Compressor.Options.DEFAULT, "out");
        Map<String, String> before = contents(out);
        assertThrows(FileAlreadyExistsException.class, () -> compress(in, Recipe.named("w8a8"), Compressor.Options.DEFAULT, "out"));
        assertEquals(before, contents(out));
        compress(in, Recipe.named("w8a8"), Compressor.Options.DEFAULT.overwrite(true), "out");
        assertFalse(before.equals(contents(out)));
    }

    private static byte[] floats(float... x) {
        ByteBuffer b = ByteBuffer.allocate(4 * x.length).order(ByteOrder.LITTLE_ENDIAN);
        for (float f : x) {
            b.putFloat(f);
        }
        return b.array();
    }

    private static byte[] longs(long... x) {
        ByteBuffer b = ByteBuffer.allocate(8 * x.length).order(ByteOrder.LITTLE_ENDIAN);
        for (long n : x) {
            b.putLong(n);
        }
        return b.array();
    }

    @Test
    void moreTensorsThanTheHeapHasRoomForAreRefused() {
        CompressedTensors.checkHeap(200_000, 1L << 30);
        UnsupportedRequestException e =
                assertThrows(UnsupportedRequestException.class, () -> CompressedTensors.checkHeap(1_500_000, 1L << 30));
        assertTrue(e.getMessage().contains("1500000 tensors") && e.getMessage().contains("-Xmx"), e.getMessage());
    }
}
