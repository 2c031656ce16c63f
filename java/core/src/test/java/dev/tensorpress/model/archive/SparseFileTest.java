package dev.tensorpress.model.archive;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Encodings of single weights, written and read. */
final class SparseFileTest {
    private static final Executor ONE = Executor.cpu(1);

    @TempDir
    Path folder;

    private static Tensor tensor(Random r, DType type, Shape shape, int keep, int middle) {
        long bytes = type.bytes(shape.elements());
        int size = Math.max(1, type.bits() / 8);
        MemorySegment m = Arena.ofAuto().allocate(Math.max(1, bytes), 8).asSlice(0, bytes);
        for (long i = 0; i < bytes; i++) {
            boolean kept = Math.floorMod(i / size * 2654435761L >> 7, 100) < keep;
            m.set(ValueLayout.JAVA_BYTE, i, (byte) (kept ? r.nextInt(1, 256) : middle));
        }
        return new Tensor(type, shape, m);
    }

    private static Encoding dense(Random r, DType type, int keep, long... dims) {
        Tensor t = tensor(r, type, Shape.of(dims), keep, 0);
        return new Encoding.Sparse(new Form.Sparse(new Form.Dense(type), keep + " %", 7, Form.Storage.PACKED),
                new Encoding.Dense(t));
    }

    private static Encoding quantized(Random r, Form.Quantized f, int keep, long... dims) {
        Shape shape = Shape.of(dims);
        Tensor codes = tensor(r, f.type(), f.codes(shape), keep, f.type().bits() == 8 ? f.middle() : 0x88);
        long groups = f.grid(shape).groups();
        Tensor scales = tensor(r, f.scaleType(), Shape.of(groups), 100, 0);
        Tensor zeros = f.symmetric() ? null
                : tensor(r, f.type().signed() ? DType.I8 : DType.U8, Shape.of(groups), 100, 0);
        return new Encoding.Sparse(new Form.Sparse(f, "2:4", shape.elements(), Form.Storage.MASKED),
                new Encoding.Quantized(f, shape, codes, scales, zeros));
    }

    private static Form.Quantized form(int bits, int axis, int block, boolean symmetric, DType type, DType scale,
            boolean transposed, boolean padded) {
        return new Form.Quantized(bits, axis, block, symmetric, Form.Activations.BLOCKWISE, type, scale, transposed, padded);
    }

    private static Map<String, Encoding> encodings() {
        Random r = Effort.random();
        Map<String, Encoding> all = new LinkedHashMap<>();
        for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
            for (int keep : new int[] {0, 1, 20, 50, 95, 100}) {
                all.put(type + " " + keep, dense(r, type, keep, 33, 70));
            }
        }
        all.put("kernel", dense(r, DType.F32, 40, 16, 8, 3, 3));
        all.put("vector", dense(r, DType.F32, 40, 1000));
        all.put("scalar", dense(r, DType.F32, 100));
        all.put("empty", dense(r, DType.F32, 100, 5, 0));
        all.put("a", dense(r, DType.F32, 40, 64, 64));
        all.put("a.values", dense(r, DType.F32, 40, 64, 64));
        all.put("skeleton", dense(r, DType.F32, 40, 64, 64));
        all.put("not sparse", ((Encoding.Sparse) dense(r, DType.F32, 90, 5, 7)).values());
        all.put("i8", quantized(r, form(8, 0, 0, true, DType.I8, DType.F32, false, false), 50, 40, 80));
        all.put("u8", quantized(r, form(8, 0, 32, true, DType.U8, DType.F16, true, true), 50, 70, 50));
        all.put("u8 asymmetric", quantized(r, form(8, 1, 32, false, DType.U8, DType.F32, false, false), 50, 70, 64));
        all.put("i4", quantized(r, form(4, 1, 32, true, DType.I4, DType.BF16, false, false), 50, 7, 33));
        all.put("u4", quantized(r, form(4, 0, 16, false, DType.U4, DType.F32, true, true), 50, 70, 5));
        all.put("per tensor", quantized(r, form(7, -1, 0, true, DType.I8, DType.F32, false, false), 50, 3, 4, 5));
        return all;
    }

    private static byte[] bytes(Tensor t) {
        return t == null ? null : t.data().toArray(ValueLayout.JAVA_BYTE);
    }

    private static void same(String name, Encoding a, Encoding b) {
        assertEquals(a.form(), b.form(), name);
        assertEquals(a.shape(), b.shape(), name);
        if (a instanceof Encoding.Sparse s) {
            same(name, s.values(), ((Encoding.Sparse) b).values());
        } else if (a instanceof Encoding.Dense d) {
            assertEquals(d.tensor().dtype(), ((Encoding.Dense) b).tensor().dtype(), name);
            assertArrayEquals(bytes(d.tensor()), bytes(((Encoding.Dense) b).tensor()), name);
        } else {
            Encoding.Quantized p = (Encoding.Quantized) a;
            Encoding.Quantized q = (Encoding.Quantized) b;
            assertArrayEquals(bytes(p.codes()), bytes(q.codes()), name);
            assertArrayEquals(bytes(p.scales()), bytes(q.scales()), name);
            assertArrayEquals(bytes(p.zeros()), bytes(q.zeros()), name);
        }
    }

    @Test
    void whatIsWrittenIsRead() throws IOException {
        Map<String, Encoding> all = encodings();
        Path p = folder.resolve("weights.safetensors");
        SparseFile.write(p, all, ONE);
        byte[] first = Files.readAllBytes(p);
        try (Executor three = Executor.cpu(3)) {
            SparseFile.write(p, all, three);
            assertArrayEquals(first, Files.readAllBytes(p));
            try (SparseFile f = SparseFile.open(p); Arena arena = Arena.ofShared()) {
                assertEquals(List.copyOf(all.keySet()), List.copyOf(f.names()));
                assertFalse(f.holdsModel());
                for (String name : all.keySet()) {
                    same(name, all.get(name), f.encoding(name, arena, three));
                }
                assertEquals("bitmask", f.layout("F32 50"));
                assertTrue(f.bytes("F32 50") < 33 * 70 * 4 * 0.56);
                assertEquals("dense", f.layout("F32 100"));
                // Rows of blocks have the fewest offsets.
                assertEquals("bsr", f.layout("F32 0"));
                // 3 x 3 rows would waste bits: input channels are part of the row.
                assertTrue(f.bytes("kernel") < 16 * 8 * 9 * 4 * 0.46, f.layout("kernel"));
                for (String codes : List.of("i8", "u8")) {
                    assertEquals("bitmask", f.layout(codes));
                }
                for (String codes : List.of("u8 asymmetric", "i4", "u4")) {
                    assertEquals("dense", f.layout(codes), codes);
                }
                assertThrows(IllegalArgumentException.class, () -> f.encoding("none", arena, three));
                assertThrows(UnsupportedRequestException.class, () -> f.expand(folder.resolve("out"), three));
            }
        }
        try (var files = Files.list(folder)) {
            assertEquals(1, files.count());
        }
    }

    @Test
    void productsOfFactorsHaveNoPlace() {
        Random r = Effort.random();
        Form f = new Form.Dense(DType.F32);
        Encoding left = new Encoding.Dense(tensor(r, DType.F32, Shape.of(5, 2), 100, 0));
        Encoding right = new Encoding.Dense(tensor(r, DType.F32, Shape.of(2, 7), 100, 0));
        Map<String, Encoding> all = Map.of("w", new Encoding.LowRank(new Form.LowRank(f, f, 2, false), Shape.of(5, 7), left, right));
        Exception e = assertThrows(IllegalArgumentException.class, () -> SparseFile.write(folder.resolve("w"), all, ONE));
        assertTrue(e.getMessage().contains("rank 2 f32"), e.getMessage());
    }

    @Test
    void filesForAnotherPurposeAreNotTakenForThis() throws IOException {
        Path p = folder.resolve("x.safetensors");
        for (Map<String, String> metadata : List.of(Map.<String, String>of(), Map.of("format", "pt"),
                Map.of("format", "tensorpress-sparse", "version", "2"))) {
            try (var c = java.nio.channels.FileChannel.open(p, java.nio.file.StandardOpenOption.CREATE,
                    java.nio.file.StandardOpenOption.TRUNCATE_EXISTING, java.nio.file.StandardOpenOption.WRITE)) {
                new SafetensorsWriter(List.of(), metadata).write(c);
            }
            assertThrows(UnsupportedRequestException.class, () -> SparseFile.open(p));
        }
        Files.write(p, new byte[100]);
        assertThrows(MalformedModelException.class, () -> SparseFile.open(p));
    }

    /** Checksums are no proof against those who can compute them: what they vouch for is checked to be well formed. */
    @RandomTest
    void arraysThatContradictEachOtherAreRefused() throws IOException {
        Random r = Effort.random();
        for (int keep : new int[] {1, 20}) {
            Path p = folder.resolve("w.safetensors");
            SparseFile.write(p, Map.of("w", dense(r, DType.F32, keep, 17, 700)), ONE);
            boolean csr = keep == 1;
            int refused = 0;
            byte[] whole = Files.readAllBytes(p);
            for (String part : csr ? List.of("offsets", "indices") : List.of("indices")) {
                for (int i = 0; i < 50; i++) {
                    byte[] b = whole.clone();
                    long start;
                    try (Safetensors s = Safetensors.open(p)) {
                        Safetensors.Entry e = s.entry("w." + part);
                        start = e.start();
                        b[(int) (start + r.nextLong(e.length()))] ^= (byte) 0x80;
                        String weights = s.metadata().get("weights");
                        String old = SparseFormat.hex(SparseFormat.checksum(s.tensor("w." + part).data()));
                        String now = SparseFormat.hex(SparseFormat.checksum(MemorySegment.ofArray(b).asSlice(start, e.length())));
                        String changed = weights.replace(old, now);
                        String text = new String(b, java.nio.charset.StandardCharsets.ISO_8859_1);
                        text = text.substring(0, (int) start).replace(old, now)
                                .replace(SparseFormat.hex(SparseFormat.checksum(weights)),
                                        SparseFormat.hex(SparseFormat.checksum(changed))) + text.substring((int) start);
                        b = text.getBytes(java.nio.charset.StandardCharsets.ISO_8859_1);
                    }
                    Path q = folder.resolve("changed.safetensors");
                    Files.write(q, b);
                    try (SparseFile f = SparseFile.open(q); Arena arena = Arena.ofShared()) {
                        assertEquals(csr ? "csr16" : "bitmask", f.layout("w"));
                        f.encoding("w", arena, ONE);
                    } catch (MalformedModelException e) {
                        assertTrue(e.offset() >= 8 && e.offset() < b.length, e.getMessage());
                        assertTrue(e.getMessage().contains("weight 'w'"), e.getMessage());
                        refused++;
                    }
                }
            }
            assertTrue(refused >= 45, refused + " were refused");
        }
    }

    /** Any damage is named with its place, or what is read is what was written. */
    @RandomTest
    void damageIsNamedOrHarmless() throws IOException {
        Map<String, Encoding> all = new LinkedHashMap<>(encodings());
        all.keySet().removeIf(name -> name.contains("16 "));
        Path p = folder.resolve("weights.safetensors");
        SparseFile.write(p, all, ONE);
        byte[] whole = Files.readAllBytes(p);
        int header = (int) java.nio.ByteBuffer.wrap(whole).order(java.nio.ByteOrder.LITTLE_ENDIAN).getLong(0);
        Random r = Effort.random();
        int harmless = 0;
        int n = 1000;
        for (int i = 0; i < n; i++) {
            byte[] b = whole.clone();
            if (r.nextInt(8) == 0) {
                b = Arrays.copyOf(b, r.nextInt(b.length));
            } else {
                b[r.nextInt(3) == 0 ? 8 + r.nextInt(header) : r.nextInt(b.length)] ^= (byte) (1 << r.nextInt(8));
            }
            Files.write(p, b);
            try (SparseFile f = SparseFile.open(p); Arena arena = Arena.ofShared()) {
                for (String name : f.names()) {
                    same(name, all.get(name), f.encoding(name, arena, ONE));
                }
                assertEquals(all.keySet(), f.names());
                harmless++;
            } catch (MalformedModelException e) {
                assertTrue(e.offset() >= 0 && e.offset() <= b.length, e.getMessage());
            } catch (UnsupportedRequestException e) {
                assertTrue(e.getMessage().contains("format"), e.getMessage());
            }
        }
        // Spaces behind the header are as good as other white space.
        assertTrue(harmless < n / 50, harmless + " went unnoticed");
    }
}
