package dev.tensorpress.model.gguf;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Files of importance matrices: one that the package gguf of llama.cpp wrote, and the older form. */
final class ImportanceMatrixTest {
    private static final String Q = "blk.0.attn_q.weight";
    private static final String UP = "blk.1.ffn_up_exps.weight";

    @TempDir
    Path folder;

    private static Path gguf() throws URISyntaxException {
        return Path.of(ImportanceMatrixTest.class.getResource("/imatrix/imatrix.gguf").toURI());
    }

    private static void text(ByteBuffer to, String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        to.putInt(bytes.length).put(bytes);
    }

    /** The same numbers as in the other file: each sum divided by its rows, times 5 chunks; what was never asked for is 1. */
    private static byte[] older() {
        ByteBuffer b = ByteBuffer.allocate(1000).order(ByteOrder.LITTLE_ENDIAN).putInt(2);
        text(b, Q);
        b.putInt(5).putInt(16);
        for (int i = 0; i < 16; i++) {
            b.putFloat(5 * (i + 1));
        }
        text(b, UP);
        b.putInt(5).putInt(24);
        for (int i = 0; i < 24; i++) {
            b.putFloat(i < 8 ? 5 * i : i < 16 ? 5 : 5 * i / 3f);
        }
        b.putInt(5);
        text(b, "wiki.train.raw");
        return Arrays.copyOf(b.array(), b.position());
    }

    private Path write(byte[] bytes) throws IOException {
        return Files.write(folder.resolve("imatrix.dat"), bytes);
    }

    @Test
    void bothFormsAreRead() throws Exception {
        assertTrue(ImportanceMatrix.detect(gguf()));
        ImportanceMatrix m = ImportanceMatrix.read(gguf());
        assertEquals(List.of("wiki.train.raw", "second.txt"), m.datasets());
        assertEquals(5, m.chunks());
        assertEquals(List.of(Q, UP), List.copyOf(m.entries().keySet()));
        assertArrayEquals(new long[] {2560}, m.entries().get(Q).counts());
        assertArrayEquals(new long[] {10, 0, 30}, m.entries().get(UP).counts());
        assertEquals(16 * 2560, m.entries().get(Q).squares()[15]);
        assertEquals(-16 * 256, m.entries().get(Q).sums()[15]);
        assertEquals(230, m.entries().get(UP).squares()[23]);
        assertNull(m.entries().get(UP).sums());

        Path file = write(older());
        assertTrue(ImportanceMatrix.detect(file));
        ImportanceMatrix o = ImportanceMatrix.read(file);
        assertEquals(List.of("wiki.train.raw"), o.datasets());
        assertEquals(5, o.chunks());
        for (int i = 0; i < 16; i++) {
            assertEquals(m.entries().get(Q).squares()[i] / 2560, o.entries().get(Q).squares()[i] / o.entries().get(Q).counts()[0]);
        }
        byte[] bytes = older();
        assertEquals(List.of(), ImportanceMatrix.read(write(Arrays.copyOf(bytes, bytes.length - 18))).datasets());
        assertEquals(List.of(), ImportanceMatrix.read(write(Arrays.copyOf(bytes, bytes.length - 22))).datasets());
    }

    private SmallFolder model() {
        SmallFolder model = new SmallFolder(1).add("model.embed_tokens.weight", DType.F32, 32, 16).add("model.layers.0.self_attn.q_proj.weight", DType.BF16, 4, 16);
        for (int e = 0; e < 3; e++) {
            model.add("model.layers.1.mlp.experts." + e + ".up_proj.weight", DType.BF16, 4, 8);
        }
        return model;
    }

    @Test
    void statisticsOfWeights() throws Exception {
        Path model = model().write(folder.resolve("m"), 1);
        for (Path file : List.of(gguf(), write(older()))) {
            boolean older = !file.equals(gguf());
            try (Compressor c = Compressor.open(model); Statistics s = Statistics.load(file, c.model())) {
                c.use(s);
                assertEquals(older ? 4 : 3, s.values().size(), "an expert that was never asked is not known, where the file tells");
                ValueStatistics q = s.values().getFirst();
                assertEquals(List.of("model.layers.0.self_attn.q_proj.weight"), q.weights());
                assertEquals(older ? 5 : 2560, q.rows());
                assertEquals(16, q.squares()[15] / q.rows());
                assertEquals(!older, q.hasSum());
                ValueStatistics last = s.values().getLast();
                assertEquals(UP + ", expert 2", last.name());
                assertEquals(8, last.channels());
                assertEquals(23 / 3f, (float) (last.squares()[7] / last.rows()));
                assertEquals(List.of(), s.unused());
                assertTrue(s.source().contains("wiki.train.raw"), s.source());
            }
        }
    }

    @Test
    void whatDoesNotFit() throws Exception {
        SmallFolder part = new SmallFolder(1).add("model.layers.0.self_attn.q_proj.weight", DType.F32, 4, 16);
        try (Compressor c = Compressor.open(part.write(folder.resolve("part"), 1)); Statistics s = Statistics.load(gguf(), c.model())) {
            assertEquals(List.of(UP), s.unused());
        }
        SmallFolder other = new SmallFolder(1).add("model.layers.7.self_attn.q_proj.weight", DType.F32, 4, 16);
        try (Compressor c = Compressor.open(other.write(folder.resolve("other"), 1))) {
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> Statistics.load(gguf(), c.model())).getMessage().contains("not of this model"));
        }
        SmallFolder wide = new SmallFolder(1).add("model.layers.0.self_attn.q_proj.weight", DType.F32, 16, 4);
        SmallFolder few = new SmallFolder(1).add("model.layers.1.mlp.experts.3.up_proj.weight", DType.F32, 4, 8);
        for (SmallFolder model : List.of(wide, few)) {
            try (Compressor c = Compressor.open(model.write(folder.resolve(model == wide ? "wide" : "few"), 1))) {
                for (Path file : List.of(gguf(), write(older()))) {
                    String message = assertThrows(UnsupportedRequestException.class, () -> Statistics.load(file, c.model())).getMessage();
                    assertTrue(message.contains("inputs of blk."), message);
                }
            }
        }
    }

    @Test
    void safetensorsAreNotTaken() throws Exception {
        Path model = model().write(folder.resolve("m"), 1);
        assertFalse(ImportanceMatrix.detect(model.resolve("model.safetensors")));
        assertFalse(ImportanceMatrix.detect(write(new byte[4])));
        try (Compressor c = Compressor.open(model)) {
            assertThrows(MalformedModelException.class, () -> Statistics.load(write(new byte[100]), c.model()));
        }
    }

    private static Optional<Names.Place> place(String name, String... uses) {
        Tensor tensor = new Tensor(DType.F32, Shape.of(1, 1), MemorySegment.ofArray(new float[1]));
        return Names.of(new Weight(name, Role.LINEAR, tensor, 1, 0, List.of(uses), Optional.empty()));
    }

    @Test
    void names() {
        assertEquals("blk.12.attn_output.weight", place("model.layers.12.self_attn.o_proj.weight").orElseThrow().toString());
        assertEquals("blk.0.ffn_down.weight", place("language_model.model.layers.0.mlp.down_proj.weight").orElseThrow().toString());
        assertEquals("blk.3.ffn_gate_exps.weight, expert 5", place("model.layers.3.block_sparse_moe.experts.5.w1.weight").orElseThrow().toString());
        assertEquals("blk.3.ffn_down_shexp.weight", place("model.layers.3.mlp.shared_expert.down_proj.weight").orElseThrow().toString());
        assertEquals("output.weight", place("lm_head.weight").orElseThrow().toString());
        assertEquals("blk.2.attn_k.weight", place("onnx::MatMul_77", "MatMul /encoder/layer.2/attention/self/key/MatMul").orElseThrow().toString());
        assertEquals("blk.2.ffn_up.weight", place("onnx::MatMul_78", "MatMul /model/layers.2/mlp/up_proj/MatMul").orElseThrow().toString());
        for (String name : List.of("model.layers.0.self_attn.q_proj.bias", "vision_tower.encoder.layers.0.self_attn.q_proj.weight", "w",
                "model.layers.99999999999.self_attn.q_proj.weight", "model.layers.0.mlp.experts.1.other.weight")) {
            assertEquals(Optional.empty(), place(name, "Gemm", "MatMul /", "MatMul /x"), name);
        }
    }

    /** Whatever the bytes are, there is a result, or an error that says which byte. */
    @Test
    void damagedFiles() throws Exception {
        for (byte[] whole : List.of(Files.readAllBytes(gguf()), older())) {
            boolean older = whole[0] != 'G';
            for (int n = 0; n < whole.length; n++) {
                Path file = write(Arrays.copyOf(whole, n));
                if (older ? n == whole.length - 18 || n == whole.length - 22 : n >= whole.length - 20) {
                    assertEquals(2, ImportanceMatrix.read(file).entries().size()); // complete, without what is optional, or padding
                    continue;
                }
                assertThrows(MalformedModelException.class, () -> ImportanceMatrix.read(file), "of " + n + " bytes");
            }
            assertThrows(MalformedModelException.class, () -> ImportanceMatrix.read(write(Arrays.copyOf(whole, whole.length + 64))));
            int refused = 0;
            for (int at = 0; at < whole.length; at++) {
                for (int mask : new int[] {0xff, 0x80, 0x01}) {
                    byte[] bytes = whole.clone();
                    bytes[at] ^= (byte) mask;
                    try {
                        ImportanceMatrix.read(write(bytes));
                    } catch (MalformedModelException | UnsupportedRequestException e) {
                        refused++;
                    }
                }
            }
            assertTrue(refused > 200, Integer.toString(refused));
        }
    }

    @Test
    void otherGguf() throws Exception {
        byte[] bytes = Files.readAllBytes(gguf());
        String text = new String(bytes, StandardCharsets.ISO_8859_1);
        Path model = write(text.replace("\0imatrix\u0010", "\0tmatrix\u0010").getBytes(StandardCharsets.ISO_8859_1));
        String message = assertThrows(UnsupportedRequestException.class, () -> ImportanceMatrix.read(model)).getMessage();
        assertTrue(message.contains("'tmatrix'"), message);
        Path without = write(text.replace(".chunk_count", ".chunk_coun_").getBytes(StandardCharsets.ISO_8859_1));
        assertThrows(MalformedModelException.class, () -> ImportanceMatrix.read(without));
        Path twice = write(text.replace("attn_q.weight.counts", "attn_q.weight.in_sum").getBytes(StandardCharsets.ISO_8859_1));
        assertThrows(MalformedModelException.class, () -> ImportanceMatrix.read(twice));
        bytes[4] = 0;
        bytes[7] = 3;
        Path swapped = write(bytes);
        assertThrows(UnsupportedRequestException.class, () -> ImportanceMatrix.read(swapped));
    }
}
