package dev.tensorpress.model.compressedtensors;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import java.io.IOException;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * A folder of compressed-tensors as the format's description has it, read without any code of the product: bit by bit, and
 * whatever is not as described is an {@link AssertionError}. Configurations have to say everything there is to say.
 */
public final class PlainDecoder {
    private static final Set<String> CONFIG = Set.of("quant_method", "version", "format", "quantization_status",
            "global_compression_ratio", "ignore", "kv_cache_scheme", "config_groups");
    private static final Set<String> GROUP = Set.of("targets", "weights", "input_activations", "output_activations");
    private static final Set<String> ARGUMENTS = Set.of("num_bits", "type", "symmetric", "strategy", "group_size",
            "block_structure", "dynamic", "actorder", "observer", "observer_kwargs");
    /** Arguments that older readers refuse: only what they mean by default may be said. */
    private static final Set<String> NEWER = Set.of("scale_dtype", "zp_dtype");
    private static final List<String> PARTS = List.of("weight_packed", "weight_scale", "weight_zero_point", "weight_shape");

    /** What the configuration says of quantization, or null if it says nothing. */
    public final Map<String, Object> quantization;
    /** All other keys of the configuration, in its order; null if there is no configuration. */
    public final Map<String, Object> config;
    /** Every tensor of every file. */
    public final Map<String, Raw> tensors = new LinkedHashMap<>();
    /** The compressed ones, decoded. */
    public final Map<String, Module> modules = new TreeMap<>();
    public final Map<String, Map<String, String>> metadata = new TreeMap<>();

    /**
     * A tensor as it is stored.
     *
     * @param start of its first byte in the file
     */
    public record Raw(String file, String dtype, long[] shape, long start, byte[] bytes) {
        ByteBuffer buffer() {
            return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        }
    }

    /**
     * A decoded weight.
     *
     * @param dtype of the scales, hence of the weight
     * @param group columns that share a scale
     * @param codes signed, row by row
     * @param zeros signed, in the order of the scales; all 0 if symmetric
     * @param weight (code - zero) * scale, each operation rounded to f32
     */
    public record Module(String dtype, int bits, boolean symmetric, String format, int rows, int cols, int group, int[] codes,
            float[] scales, int[] zeros, float[] weight) {
        /** The weight in the type that it had before, rounded to nearest, ties to even. */
        public byte[] rounded() {
            ByteBuffer out = ByteBuffer.allocate(weight.length * size(dtype)).order(ByteOrder.LITTLE_ENDIAN);
            for (float w : weight) {
                switch (dtype) {
                    case "F32" -> out.putFloat(w);
                    case "F16" -> out.putShort(Float.floatToFloat16(w));
                    default -> out.putShort(bfloat(w));
                }
            }
            return out.array();
        }
    }

    /** Reads all of a folder. */
    public PlainDecoder(Path folder) throws IOException {
        readFiles(folder);
        Path file = folder.resolve("config.json");
        config = Files.exists(file) ? object(json(Files.readString(file)), "the configuration") : null;
        Object q = config == null ? null : config.remove("quantization_config");
        quantization = q == null ? null : object(q, "quantization_config");
        if (quantization != null) {
            decodeAll();
        }
    }

    private static void check(boolean right, String message) {
        if (!right) {
            throw new AssertionError(message);
        }
    }

    // The files

    private void readFiles(Path folder) throws IOException {
        Path index = folder.resolve("model.safetensors.index.json");
        if (!Files.exists(index)) {
            readFile(folder.resolve("model.safetensors"));
            return;
        }
        Map<String, Object> top = object(json(Files.readString(index)), "the index");
        check(top.keySet().equals(Set.of("metadata", "weight_map")), "keys of the index: " + top.keySet());
        Map<String, Object> map = object(top.get("weight_map"), "the map");
        Set<Object> shards = new TreeSet<>(map.values());
        int n = 0;
        for (Object shard : shards) {
            String name = String.format("model-%05d-of-%05d.safetensors", ++n, shards.size());
            check(shard.equals(name), shard + " should be " + name);
            readFile(folder.resolve(name));
        }
        long total = 0;
        for (Map.Entry<String, Raw> e : tensors.entrySet()) {
            check(e.getValue().file.equals(map.get(e.getKey())), e.getKey() + " is in " + e.getValue().file + ", not in "
                    + map.get(e.getKey()));
            total += e.getValue().bytes.length;
        }
        check(tensors.keySet().equals(map.keySet()), "the index has " + map.keySet());
        check(object(top.get("metadata"), "metadata").get("total_size").equals(total), "total_size is not " + total);
    }

    private void readFile(Path path) throws IOException {
        String file = path.getFileName().toString();
        ByteBuffer all = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
        int length = Math.toIntExact(all.getLong());
        String text = new String(all.array(), 8, length, java.nio.charset.StandardCharsets.UTF_8);
        check(text.startsWith("{"), file + " starts with " + text.charAt(0));
        int start = 8 + length;
        List<Raw> here = new ArrayList<>();
        metadata.put(file, new TreeMap<>());
        for (Map.Entry<String, Object> e : object(json(text), file).entrySet()) {
            Map<String, Object> facts = object(e.getValue(), e.getKey());
            if (e.getKey().equals("__metadata__")) {
                facts.forEach((key, value) -> metadata.get(file).put(key, (String) value));
                continue;
            }
            check(facts.keySet().equals(Set.of("dtype", "shape", "data_offsets")), e.getKey() + " has " + facts.keySet());
            long[] shape = longs(facts.get("shape"));
            long[] offsets = longs(facts.get("data_offsets"));
            String dtype = (String) facts.get("dtype");
            int size = size(dtype);
            long bytes = Arrays.stream(shape).reduce(size, Math::multiplyExact);
            check(offsets[1] - offsets[0] == bytes, e.getKey() + " of " + bytes + " bytes has " + (offsets[1] - offsets[0]));
            long at = start + offsets[0];
            check(at % size == 0, e.getKey() + " of " + dtype + " starts at byte " + at);
            Raw raw = new Raw(file, dtype, shape, at, Arrays.copyOfRange(all.array(), (int) at, (int) (start + offsets[1])));
            here.add(raw);
            check(tensors.put(e.getKey(), raw) == null, e.getKey() + " is there twice");
        }
        here.sort(Comparator.comparingLong((Raw r) -> r.start).thenComparing(r -> r.bytes.length));
        long end = start;
        for (Raw r : here) {
            check(r.start == end, "a hole or an overlap at byte " + end + " of " + file);
            end += r.bytes.length;
        }
        check(end == all.capacity(), file + " ends at " + all.capacity() + ", its tensors at " + end);
    }

    static int size(String dtype) {
        return switch (dtype) {
            case "F64", "I64", "U64", "C64" -> 8;
            case "F32", "I32", "U32" -> 4;
            case "F16", "BF16", "I16", "U16" -> 2;
            case "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2" -> 1;
            default -> throw new AssertionError("type " + dtype);
        };
    }

    // The configuration

    private void decodeAll() {
        check(quantization.keySet().equals(CONFIG), "keys of quantization_config: " + quantization.keySet());
        check(quantization.get("quant_method").equals("compressed-tensors"), "method " + quantization.get("quant_method"));
        check(((String) quantization.get("version")).matches("\\d+\\.\\d+\\.\\d+"), "version " + quantization.get("version"));
        check(quantization.get("quantization_status").equals("compressed"), "status " + quantization.get("quantization_status"));
        check(quantization.get("global_compression_ratio") == null, "a compression ratio");
        check(quantization.get("kv_cache_scheme") == null, "a scheme of the cache");
        String format = (String) quantization.get("format");
        List<String> ignore = ignored();
        Map<String, Map<String, Object>> byTarget = new LinkedHashMap<>();
        Set<String> formats = new TreeSet<>();
        int n = 0;
        for (Map.Entry<String, Object> e : object(quantization.get("config_groups"), "config_groups").entrySet()) {
            check(e.getKey().equals("group_" + n++), "a group called " + e.getKey());
            Map<String, Object> group = object(e.getValue(), e.getKey());
            check(without(group.keySet(), Set.of("format")).equals(GROUP), e.getKey() + " has " + group.keySet());
            String own = (String) group.getOrDefault("format", format);
            check(Set.of("pack-quantized", "int-quantized").contains(own), e.getKey() + " has format " + own);
            formats.add(own);
            checkArguments(own, group);
            List<String> targets = strings(group.get("targets"));
            check(!targets.isEmpty(), e.getKey() + " has no targets");
            for (String target : targets) {
                Map<String, Object> scheme = object(group.get("weights"), "weights");
                scheme.put("format", own);
                check(byTarget.put(target, scheme) == null, target + " has two schemes");
            }
        }
        check(n > 0, "no groups");
        check(format.equals(formats.size() > 1 ? "mixed-precision" : formats.iterator().next()), "format " + format + " of "
                + formats);
        Set<String> names = new TreeSet<>();
        for (String tensor : tensors.keySet()) {
            check(!tensor.endsWith(".weight_g_idx"), tensor + " is not for this decoder");
            for (String part : PARTS) {
                if (tensor.endsWith("." + part)) {
                    names.add(tensor.substring(0, tensor.length() - part.length() - 1));
                }
            }
        }
        for (String name : names) {
            for (String pattern : ignore) {
                check(!fits(pattern, name), name + " is compressed and ignored");
            }
            Map<String, Object> scheme = scheme(byTarget, name);
            modules.put(name, decode(name, (String) scheme.get("format"), scheme));
        }
    }

    /** The names and patterns of modules that are not compressed. */
    public List<String> ignored() {
        return strings(quantization.get("ignore"));
    }

    /** Whether a module of this name is not compressed. */
    public boolean ignores(String module) {
        return ignored().stream().anyMatch(pattern -> fits(pattern, module));
    }

    /** The group of the configuration that a module of this name and the type Linear has, or null. */
    public String group(String module) {
        Map<String, Object> groups = object(quantization.get("config_groups"), "config_groups");
        String found = null;
        for (Map.Entry<String, Object> g : groups.entrySet()) {
            for (String target : strings(object(g.getValue(), g.getKey()).get("targets"))) {
                if (fits(target, module) || target.equals("Linear") && found == null) {
                    found = g.getKey();
                }
            }
        }
        return ignores(module) ? null : found;
    }

    private static boolean fits(String pattern, String name) {
        return pattern.startsWith("re:") ? java.util.regex.Pattern.compile(pattern.substring(3)).matcher(name).lookingAt()
                : pattern.equals(name);
    }

    /** Names count before patterns, patterns before the type. */
    private static Map<String, Object> scheme(Map<String, Map<String, Object>> byTarget, String name) {
        Map<String, Object> found = byTarget.get(name);
        for (Map.Entry<String, Map<String, Object>> e : byTarget.entrySet()) {
            found = found == null && e.getKey().startsWith("re:") && fits(e.getKey(), name) ? e.getValue() : found;
        }
        found = found == null ? byTarget.get("Linear") : found;
        check(found != null, name + " has no scheme");
        return found;
    }

    private static void checkArguments(String format, Map<String, Object> group) {
        check(group.get("output_activations") == null, "a scheme for outputs");
        Map<String, Object> w = arguments(group.get("weights"));
        check(w.get("type").equals("int") && w.get("dynamic").equals(false) && w.get("actorder") == null
                && w.get("block_structure") == null && w.get("observer") instanceof String, "arguments of weights: " + w);
        check(object(w.get("observer_kwargs"), "observer_kwargs").isEmpty(), "arguments of weights: " + w);
        check(w.get("num_bits").equals(8L) || w.get("num_bits").equals(4L), "bits of weights: " + w);
        check(w.get("strategy").equals("channel") ? w.get("group_size") == null
                : w.get("strategy").equals("group") && (Long) w.get("group_size") > 0, "groups of weights: " + w);
        if (format.equals("pack-quantized")) {
            check(group.get("input_activations") == null, "a scheme for inputs");
            return;
        }
        check(w.get("num_bits").equals(8L) && w.get("strategy").equals("channel"), "int-quantized weights: " + w);
        Map<String, Object> in = arguments(group.get("input_activations"));
        Map<String, Object> expected = new TreeMap<>(Map.of("num_bits", 8L, "type", "int", "symmetric", true, "strategy", "token",
                "dynamic", true, "observer_kwargs", Map.of()));
        in.forEach((key, value) -> check(java.util.Objects.equals(value, expected.get(key)), key + " of inputs: " + value));
    }

    private static Map<String, Object> arguments(Object o) {
        Map<String, Object> a = object(o, "arguments");
        check(without(a.keySet(), NEWER).equals(ARGUMENTS), "arguments " + a.keySet());
        for (String key : NEWER) {
            check(a.get(key) == null, key + " is " + a.get(key));
        }
        return a;
    }

    private static Set<String> without(Set<String> all, Set<String> some) {
        Set<String> left = new HashSet<>(all);
        left.removeAll(some);
        return left;
    }

    // The weights

    private Module decode(String name, String format, Map<String, Object> scheme) {
        int bits = ((Long) scheme.get("num_bits")).intValue();
        boolean symmetric = (Boolean) scheme.get("symmetric");
        boolean packed = format.equals("pack-quantized");
        Set<String> wanted = new TreeSet<>(List.of(packed ? "weight_packed" : "weight", "weight_scale"));
        if (packed) {
            wanted.add("weight_shape");
        }
        if (!symmetric) {
            wanted.add("weight_zero_point");
        }
        Set<String> found = new TreeSet<>();
        for (String tensor : tensors.keySet()) {
            if (tensor.startsWith(name + ".weight") && tensor.indexOf('.', name.length() + 1) < 0) {
                found.add(tensor.substring(name.length() + 1));
            }
        }
        check(found.equals(wanted), name + " has " + found + ", expected " + wanted);

        Raw data = tensors.get(name + (packed ? ".weight_packed" : ".weight"));
        check(data.dtype.equals(packed ? "I32" : "I8") && data.shape.length == 2, name + " is of " + data.dtype + " "
                + Arrays.toString(data.shape));
        int rows = (int) data.shape[0];
        int cols = (int) data.shape[1];
        if (packed) {
            Raw shape = tensors.get(name + ".weight_shape");
            check(shape.dtype.equals("I64") && Arrays.equals(shape.shape, new long[] {2}), "the shape of " + name);
            check(shape.buffer().getLong(0) == rows, "rows of " + name);
            cols = Math.toIntExact(shape.buffer().getLong(8));
            check(data.shape[1] == (cols * (long) bits + 31) / 32, name + " has " + data.shape[1] + " words for " + cols);
        }
        Object size = scheme.get("group_size");
        int group = size == null ? cols : ((Long) size).intValue();
        check(group > 0 && cols % group == 0, name + " of " + cols + " columns has groups of " + group);
        int groups = cols / group;

        Raw scale = tensors.get(name + ".weight_scale");
        check(Arrays.equals(scale.shape, new long[] {rows, groups}), "scales of " + name + ": " + Arrays.toString(scale.shape));
        float[] scales = new float[rows * groups];
        for (int i = 0; i < scales.length; i++) {
            scales[i] = number(scale, i);
            check(scales[i] > 0 && scales[i] < Float.POSITIVE_INFINITY, "scale " + i + " of " + name + " is " + scales[i]);
        }
        int[] zeros = new int[scales.length];
        if (!symmetric) {
            Raw zero = tensors.get(name + ".weight_zero_point");
            check(zero.dtype.equals(packed ? "I32" : "I8"), "zero points of " + name + " are " + zero.dtype);
            long down = packed ? (rows * (long) bits + 31) / 32 : rows;
            check(Arrays.equals(zero.shape, new long[] {down, groups}), "zero points of " + name + ": "
                    + Arrays.toString(zero.shape));
            for (int r = 0; r < rows; r++) {
                for (int g = 0; g < groups; g++) {
                    // Packed down the columns: the words of a column are groups apart.
                    zeros[r * groups + g] = packed ? field(zero, r, bits, g, groups) : zero.bytes[r * groups + g];
                }
            }
            if (packed) {
                for (int g = 0; g < groups; g++) {
                    checkPadding(zero, rows, bits, g, groups, (int) down, name);
                }
            }
        }
        int[] codes = new int[rows * cols];
        float[] weight = new float[codes.length];
        int words = (int) data.shape[1];
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < cols; c++) {
                int i = r * cols + c;
                int g = r * groups + c / group;
                codes[i] = packed ? field(data, c, bits, r * words, 1) : data.bytes[i];
                weight[i] = (float) (codes[i] - zeros[g]) * scales[g];
            }
            if (packed) {
                checkPadding(data, cols, bits, r * words, 1, words, name);
            }
        }
        return new Module(scale.dtype, bits, symmetric, format, rows, cols, group, codes, scales, zeros, weight);
    }

    /** The signed number whose bits are at index * bits of the words first, first + step, first + 2 * step, ... */
    private static int field(Raw words, int index, int bits, int first, int step) {
        int value = 0;
        for (int b = 0; b < bits; b++) {
            value |= bit(words, (long) index * bits + b, first, step) << b;
        }
        return value - (1 << (bits - 1));
    }

    private static int bit(Raw words, long bit, int first, int step) {
        int word = (int) (first + bit / 32 * step);
        return words.buffer().getInt(4 * word) >>> (bit % 32) & 1;
    }

    private static void checkPadding(Raw words, int used, int bits, int first, int step, int count, String name) {
        for (long bit = (long) used * bits; bit < 32L * count; bit++) {
            check(bit(words, bit, first, step) == 0, "padding of " + name + " is not zero");
        }
    }

    /** An element of a tensor of floats. */
    public static float number(Raw t, int i) {
        return switch (t.dtype) {
            case "F32" -> t.buffer().getFloat(4 * i);
            case "F16" -> Float.float16ToFloat(t.buffer().getShort(2 * i));
            case "BF16" -> Float.intBitsToFloat(t.buffer().getShort(2 * i) << 16);
            default -> throw new AssertionError("no floats: " + t.dtype);
        };
    }

    /** Of the two neighbours the nearer one, of two as near the one whose last bit is 0. */
    private static short bfloat(float x) {
        int below = Float.floatToRawIntBits(x) & 0xffff0000;
        int above = below + 0x10000;
        // The neighbour of the largest one stands for infinity, but is as far as if there were one more.
        double up = Float.intBitsToFloat(above);
        up = Double.isInfinite(up) ? Math.copySign(0x1p128, up) : up;
        double to = Math.abs(up - x);
        double from = Math.abs((double) x - Float.intBitsToFloat(below));
        int nearest = from < to || from == to && (below & 0x10000) == 0 ? below : above;
        return (short) (nearest >>> 16);
    }

    // JSON

    private static Object json(String text) throws IOException {
        JsonFactory factory = JsonFactory.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS).build();
        try (JsonParser p = factory.createParser(text)) {
            p.nextToken();
            Object value = value(p);
            check(p.nextToken() == null, "more behind the end");
            return value;
        }
    }

    private static Object value(JsonParser p) throws IOException {
        switch (p.currentToken()) {
            case START_OBJECT -> {
                Map<String, Object> m = new LinkedHashMap<>();
                while (p.nextToken() != JsonToken.END_OBJECT) {
                    String key = p.currentName();
                    p.nextToken();
                    m.put(key, value(p));
                }
                return m;
            }
            case START_ARRAY -> {
                List<Object> l = new ArrayList<>();
                while (p.nextToken() != JsonToken.END_ARRAY) {
                    l.add(value(p));
                }
                return l;
            }
            case VALUE_NUMBER_INT -> {
                BigInteger n = new BigInteger(p.getText());
                return n.bitLength() < 64 ? (Object) n.longValue() : n;
            }
            case VALUE_NUMBER_FLOAT -> {
                return p.getDoubleValue();
            }
            case VALUE_STRING -> {
                return p.getText();
            }
            case VALUE_TRUE, VALUE_FALSE -> {
                return p.getBooleanValue();
            }
            default -> {
                check(p.currentToken() == JsonToken.VALUE_NULL, "token " + p.currentToken());
                return null;
            }
        }
    }

    private static Map<String, Object> object(Object o, String what) {
        check(o instanceof Map, what + " should be an object, but is " + o);
        Map<String, Object> m = new LinkedHashMap<>();
        ((Map<?, ?>) o).forEach((key, value) -> m.put((String) key, value));
        return m;
    }

    private static List<String> strings(Object o) {
        List<String> all = new ArrayList<>();
        ((List<?>) o).forEach(s -> all.add((String) s));
        return all;
    }

    private static long[] longs(Object o) {
        return ((List<?>) o).stream().mapToLong(n -> (Long) n).toArray();
    }
}
