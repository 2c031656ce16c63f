package dev.tensorpress.model.compressedtensors;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.safetensors.Config;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CompressedModelTest {

    @TempDir
    Path folder;

    /** Of all shapes that readers could get wrong: rows and columns that fill no word, groups that kernels do not know. */
    private static PackedFolder all() {
        PackedFolder f = new PackedFolder(Effort.seed());
        int n = 0;
        for (DType type : new DType[] {DType.F32, DType.F16, DType.BF16}) {
            for (boolean symmetric : new boolean[] {true, false}) {
                for (int bits : new int[] {4, 8}) {
                    for (int[] s : new int[][] {{1, 1, 0}, {9, 37, 0}, {40, 256, 0}, {17, 128, 32}, {64, 512, 128},
                    {5, 24, 8}, {3, 1536, 512}}) {
                        String name = "layers." + n++ + ".proj";
                        f.group(name, bits, s[2], symmetric).module(name, s[0], s[1], bits, s[2], symmetric, type);
                    }
                }
            }
        }
        return f.dense("embed.weight", DType.BF16, 7, 3).dense("norm.weight", DType.F32, 5);
    }

    private static PackedFolder ints() {
        PackedFolder f = new PackedFolder(Effort.seed());
        f.format = "int-quantized";
        return f.group("a", 8, 0, true).group("b", 8, 0, false).module("a", 15, 70, 8, 0, true, DType.BF16)
                .module("b", 33, 31, 8, 0, false, DType.F16).dense("c.weight", DType.U8, 3);
    }

    private static byte[] decode(PackedWeight w, long at, long n, Executor executor) {
        try (Arena arena = Arena.ofShared()) {
            MemorySegment out = arena.allocate(w.dtype().bytes(n * w.cols));
            MemorySegment scratch = arena.allocate(w.scratch(n), 64);
            w.takeScales(n, part(arena, w, w.scales, at, n), scratch, executor);
            if (w.zeros != null) {
                w.takeZeros(n, part(arena, w, w.zeros, at, n), scratch);
            }
            w.decode(n, part(arena, w, w.codes, at, n), scratch, out, executor);
            return out.toArray(ValueLayout.JAVA_BYTE);
        }
    }

    /** At any address, and in memory that ends where it must not be read any further. */
    private static MemorySegment part(Arena arena, PackedWeight w, StoredTensor p, long at, long n) {
        long[] range = w.range(p, at, n);
        long start = range[0] - p.entry().start();
        MemorySegment from = p.file().tensor(p.entry()).data().asSlice(start, range[1]);
        return arena.allocate(range[1] + 1).asSlice(1).copyFrom(from);
    }

    @RandomTest
    void rowsAreWhatTheDescriptionSays() throws IOException {
        for (PackedFolder f : List.of(all(), ints())) {
            Path p = f.write(folder.resolve(f.format), 3);
            PlainDecoder plain = new PlainDecoder(p);
            try (CompressedModel m = CompressedModel.open(p); Executor two = Executor.cpu(2)) {
                assertEquals(plain.modules.size(), m.weights().size());
                for (PackedWeight w : m.weights()) {
                    PlainDecoder.Module expected = plain.modules.get(w.module);
                    assertEquals(Shape.of(expected.rows(), expected.cols()), w.shape());
                    byte[] whole = expected.rounded();
                    assertArrayEquals(whole, decode(w, 0, w.rows, two), w.module + " " + expected.bits() + " " + w.shape());
                    // The same row by row, as far as they share no words.
                    for (long r = 0; r < w.rows; r += w.granule()) {
                        long n = Math.min(w.granule(), w.rows - r);
                        int line = (int) w.dtype().bytes(w.cols);
                        assertArrayEquals(java.util.Arrays.copyOfRange(whole, (int) r * line, (int) (r + n) * line),
                                decode(w, r, n, two), w.module + " from row " + r);
                    }
                }
            }
        }
    }

    private Path change(PackedFolder f, String from, String to) throws IOException {
        Path config = f.write(folder, 1).resolve(Config.NAME);
        String text = Files.readString(config);
        assertTrue(text.contains(from), from);
        Files.writeString(config, text.replace(from, to));
        return folder;
    }

    private static PackedFolder small() {
        return new PackedFolder(Effort.seed()).group("Linear", 4, 32, false).module("m.a", 9, 64, 4, 32, false, DType.BF16)
                .module("b", 5, 32, 4, 32, false, DType.F32).dense("lm_head.weight", DType.BF16, 8, 4)
                .dense("norm.weight", DType.BF16, 4);
    }

    /** What other writers put into configurations, or leave out, means the same. */
    @Test
    void configurationsOfOthersAreRead() throws IOException {
        byte[] expected = null;
        for (String[] same : new String[][] {
            {"llama", "other"},
            {",\"block_structure\":null,\"dynamic\":false,\"actorder\":null,\"observer\":\"minmax\",\"observer_kwargs\":{}", ""},
            {"\"actorder\":null", "\"actorder\":\"static\""},
            {"\"actorder\":null", "\"actorder\":\"weight\",\"zp_dtype\":\"torch.int8\""},
            {"\"actorder\":null", "\"actorder\":false"}, {"\"strategy\":\"group\",", ""}, {"\"type\":\"int\",", ""},
            {"\"kv_cache_scheme\":null", "\"kv_cache_scheme\":null,\"sparsity_config\":{},\"transform_config\":{}"},
            {"\"ignore\":[\"lm_head\"]", "\"ignore\":[\"re:.*head$\",\"re:no(rm|ne)\"]"},
            {"\"ignore\":[\"lm_head\"]", "\"ignore\":null"},
            {"\"Linear\"", "\"re:.*\""}, {"\"Linear\"", "\"m.a\",\"b\""},
            {"\"Linear\"", "\"re:b$\",\"re:m\\\\.[a-z]+\",\"Linear\""},
            {"\"ignore\":[", "\"ignore\":[\"re:" + "(a*)*".repeat(9) + ".*".repeat(24) + "!\","},
            {"\"ignore\":[", "\"ignore\":[\"re:(?:(?:){2000000000}){2000000000}x\",\"re:^(?!m\\\\.|b)\","},
            {"{\"targets\"", "{\"format\":\"pack-quantized\",\"targets\""},
        }) {
            try (CompressedModel m = CompressedModel.open(change(small(), same[0], same[1])); Executor one = Executor.cpu(1)) {
                assertEquals(List.of("b.weight", "m.a.weight"), m.names().stream().sorted().toList(), same[1]);
                PackedWeight w = m.weights().getFirst();
                byte[] now = decode(w, 0, w.rows, one);
                expected = expected == null ? now : expected;
                assertArrayEquals(expected, now, same[1]);
            }
        }
    }

    /** Saved without the model around it, its tensors have no module's name. */
    @Test
    void aLayerByItselfIsRead() throws IOException {
        PackedFolder f = new PackedFolder(Effort.seed()).group("Linear", 4, 32, true).module("x", 9, 64, 4, 32, true, DType.F16);
        PackedFolder alone = new PackedFolder(Effort.seed()).group("Linear", 4, 32, true);
        for (SafetensorsWriter.Item i : f.tensors.values()) {
            String name = i.name().substring("x.".length());
            alone.tensors.put(name, new SafetensorsWriter.Item(name, i.dtype(), i.shape(), i.data()));
        }
        try (CompressedModel m = CompressedModel.open(alone.write(folder, 1))) {
            assertEquals(List.of("weight"), m.names());
        }
    }

    @Test
    void whatIsNotKnownIsRefused() throws IOException {
        for (String[] change : new String[][] {
            {"\"quant_method\":\"compressed-tensors\"", "\"quant_method\":\"gptq\"", "the method gptq"},
            {"pack-quantized", "float-quantized", "'float-quantized'"},
            {"pack-quantized", "mixed-precision", "'mixed-precision'"},
            {"\"type\":\"int\"", "\"type\":\"float\"", "the type 'float'"}, {"\"num_bits\":4", "\"num_bits\":3", "3 bits"},
            {"\"num_bits\":4", "\"num_bits\":4294967300", "4294967300 bits"},
            {"\"actorder\":null", "\"actorder\":\"group\"", "'group'"}, {"\"actorder\":null", "\"actorder\":true", "'group'"},
            {"\"dynamic\":false", "\"dynamic\":true", "dynamic scales"},
            {"\"strategy\":\"group\"", "\"strategy\":\"block\"", "the strategy 'block'"},
            {"\"kv_cache_scheme\":null", "\"kv_cache_scheme\":{\"num_bits\":8}", "kv_cache_scheme"},
            {"\"kv_cache_scheme\":null", "\"kv_cache_scheme\":null,\"sparsity_config\":{\"format\":\"sparse-24-bitmask\"}",
                "sparsity_config"},
            {"\"kv_cache_scheme\":null", "\"kv_cache_scheme\":null,\"new_thing\":1", "'new_thing'"},
            {"\"input_activations\":null", "\"input_activations\":{\"dynamic\":false}", "activations"},
            {"\"output_activations\":null", "\"output_activations\":{}", "activations"},
            {"\"quantization_status\":\"compressed\"", "\"quantization_status\":\"frozen\"", "'frozen'"},
            {"\"Linear\"", "\"re:" + "(".repeat(100_000) + "\"", "more than 16384 characters"},
            {"\"Linear\"", "\"re:" + "(".repeat(1000) + "\"", "more than 100 groups"},
            {"\"ignore\":[", "\"ignore\":[\"re:a(?=b)\",", "the pattern 're:a(?=b)', which looks ahead"},
            {"\"ignore\":[", "\"ignore\":[\"re:(a)\\\\1\",", "linear time"},
            {"\"ignore\":[", "\"ignore\":[\"re:a{9999}\",", "too large"},
            {"\"ignore\":[", "\"ignore\":[" + "\"re:" + "a?".repeat(1500) + "\"," + "\"re:" + "b?".repeat(1500) + "\",", "too large"},
            {"\"ignore\":[", "\"ignore\":[" + "\"re:" + "a{0}".repeat(5000) + "\",", "more than 16384 characters"},
            {"\"quantization_config\"", "\"quantisation\"", "tells of none"},
            {"\"quantization_config\": {", "\"quantization_config\": null,\"x\": {", "tells of none"},
        }) {
            change(small(), change[0], change[1]);
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                    () -> CompressedModel.open(folder).close(), change[1]);
            assertTrue(e.getMessage().startsWith(folder.toString()) && e.getMessage().contains(change[2]), e.getMessage());
        }
        Files.delete(folder.resolve(Config.NAME));
        assertThrows(UnsupportedRequestException.class, () -> CompressedModel.open(folder).close());
        small().put("b.weight_g_idx", DType.I32, Shape.of(32), new byte[128]).write(folder, 1);
        assertThrows(UnsupportedRequestException.class, () -> CompressedModel.open(folder).close());
        new PackedFolder(Effort.seed()).group("Linear", 4, 3, true).module("b", 3, 9, 4, 3, true, DType.F32).write(folder, 1);
        assertThrows(UnsupportedRequestException.class, () -> CompressedModel.open(folder).close());
    }

    @Test
    void contradictionsAreNamed() throws IOException {
        for (String[] change : new String[][] {
            {"\"config_groups\":{\"group_0\"", "\"config_groups\":{},\"ignored\":{\"group_0\"", "cannot read"},
            {"\"group_0\":", "\"group\":7,\"group_0\":", "expected an object"},
            {"\"targets\":[\"Linear\"]", "\"targets\":[]", "no targets"},
            {"\"targets\":[\"Linear\"]", "\"targets\":7", "an array"},
            {"\"targets\":[\"Linear\"]", "\"targets\":[7]", "a string"},
            {"\"Linear\"", "\"Embedding\",\"b\"", "belongs to a module that no group"},
            {"\"Linear\"", "\"re:(\"", "no pattern"},
            {"\"ignore\":[", "\"ignore\":" + "[".repeat(100_000), "is not JSON"}, {"\"llama\"", "[".repeat(100_000), "is not JSON"},
            {"\"num_bits\":4", "\"num_bits\":\"4\"", "whole number"}, {"\"num_bits\":4", "\"num_bits\":1e99", "whole number"},
            {"\"num_bits\":4", "\"num_bits\":4,\"num_bits\":4", "twice"},
            {"\"num_bits\":4", "\"num_bits\":4,\"bits\":4", "'bits'"},
            {"\"symmetric\":false", "\"symmetric\":0", "true or false"},
            {"\"symmetric\":false", "\"symmetric\":true", "weight_zero_point"},
            {"\"group_size\":32", "\"group_size\":16", "weight_scale"},
            {"\"group_size\":32", "\"group_size\":64", "do not divide"},
            {"\"group_size\":32", "\"group_size\":-32", "does not go"},
            {"\"group_size\":32", "\"group_size\":9223372036854775807", "do not divide"},
            {"\"group_size\":32", "\"group_size\":48", "do not divide"},
            {"\"strategy\":\"group\"", "\"strategy\":\"channel\"", "does not go"},
            {"\"num_bits\":4", "\"num_bits\":8", "weight_shape"},
            {"\"output_activations\":null", "\"output_activations\":null,\"x\":1", "'x'"},
            {"\"Linear\"", "\"lm_head\",\"Linear\"", ""},
            {"[\"lm_head\"]", "[],\"run_compressed\":true,\"run_compressed\":true", "twice"},
        }) {
            change(small(), change[0], change[1]);
            if (change[2].isEmpty()) {
                CompressedModel.open(folder).close(); // what is ignored may be named
                continue;
            }
            RuntimeException e = assertThrows(RuntimeException.class, () -> CompressedModel.open(folder).close(), change[1]);
            assertTrue(e instanceof MalformedModelException m && m.offset() >= 0 || change[2].equals("cannot read")
                    && e instanceof UnsupportedRequestException, e.toString());
            assertTrue(e.getMessage().contains(change[2]), e.getMessage());
        }
        Path config = change(small(), "[\"lm_head\"]", "[]").resolve(Config.NAME);
        Files.writeString(config, Files.readString(config).replace("\"Linear\"", "\"lm_head\",\"Linear\""));
        assertTrue(malformed().contains("'lm_head.weight' is BF16"), "a dense weight");
    }

    private String malformed() {
        MalformedModelException e = assertThrows(MalformedModelException.class, () -> CompressedModel.open(folder).close());
        assertTrue(e.offset() >= 8 && e.getMessage().startsWith(folder.toString()), e.getMessage());
        return e.getMessage();
    }

    @Test
    void partsThatDoNotFitAreNamed() throws IOException {
        for (String lost : List.of("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")) {
            PackedFolder f = small();
            f.tensors.remove("m.a." + lost);
            f.write(folder, 1);
            assertTrue(malformed().contains("belongs to 'm.a', which has no '" + lost + "'"), lost);
        }
        PackedFolder plain = ints();
        plain.tensors.remove("a.weight_scale");
        plain.write(folder, 1);
        assertTrue(malformed().contains("'a.weight' belongs to 'a', which has no 'weight_scale'"), malformed());
        Object[][] wrong = {
            {"weight_packed", DType.I32, Shape.of(9, 9)}, {"weight_packed", DType.I32, Shape.of(9, 7)},
            {"weight_packed", DType.I32, Shape.of(10, 8)},
            {"weight_packed", DType.U32, Shape.of(9, 8)}, {"weight_packed", DType.I32, Shape.of(72)},
            {"weight_packed", DType.I32, Shape.of(9, 8, 1)},
            {"weight_packed", DType.I32, Shape.of(0, 1L << 62)}, {"weight_packed", DType.I32, Shape.of(Long.MAX_VALUE, 0)},
            {"weight_scale", DType.BF16, Shape.of(9, 1)}, {"weight_scale", DType.BF16, Shape.of(18)},
            {"weight_scale", DType.BF16, Shape.of(2, 9)},
            {"weight_scale", DType.F64, Shape.of(9, 2)}, {"weight_scale", DType.U8, Shape.of(9, 2)},
            {"weight_zero_point", DType.I32, Shape.of(9, 2)}, {"weight_zero_point", DType.I8, Shape.of(2, 2)},
            {"weight_zero_point", DType.I32, Shape.of(2, 1)},
            {"weight_shape", DType.I64, Shape.of(2, 1)}, {"weight_shape", DType.I64, Shape.of(3)},
            {"weight_shape", DType.I32, Shape.of(4)},
            {"weight", DType.BF16, Shape.of(9, 64)}, {"weight", DType.I8, Shape.of(9, 64)},
            {"weight_global_scale", DType.F32, Shape.of(1)},
        };
        for (Object[] w : wrong) {
            Shape shape = (Shape) w[2];
            DType type = (DType) w[1];
            small().put("m.a." + w[0], type, shape, new byte[(int) type.bytes(shape.elements())]).write(folder, 1);
            String message = malformed();
            assertTrue(message.contains("'m.a." + w[0] + "'") || message.contains("weight_shape"), message);
        }
        for (long[] lie : new long[][] {{9, 65}, {9, 56}, {10, 64}, {9, -64}, {-9, 64}, {9, 0}, {9, Long.MAX_VALUE},
        {9, Long.MIN_VALUE},
            {64, 9}}) {
            small().put("m.a.weight_shape", DType.I64, Shape.of(2), ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN)
                    .putLong(lie[0]).putLong(lie[1]).array()).write(folder, 1);
            assertTrue(malformed().contains("'m.a.weight_shape' says [" + lie[0] + ", " + lie[1] + "]"), malformed());
        }
    }
}
