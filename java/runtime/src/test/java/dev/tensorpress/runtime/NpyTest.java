package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NpyTest {
    @TempDir
    Path folder;

    /** A file of version 1, as NumPy writes it. */
    static byte[] npy(String descr, String shape, byte... data) {
        return file(1, "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }", data);
    }

    private static byte[] file(int version, String dictionary, byte... data) {
        int before = version == 1 ? 10 : 12;
        String header = dictionary + " ".repeat(63 - (before + dictionary.length()) % 64) + "\n";
        ByteBuffer out = ByteBuffer.allocate(before + header.length() + data.length).order(ByteOrder.LITTLE_ENDIAN);
        out.put((byte) 0x93).put("NUMPY".getBytes(StandardCharsets.US_ASCII)).put((byte) version).put((byte) 0);
        if (version == 1) {
            out.putShort((short) header.length());
        } else {
            out.putInt(header.length());
        }
        return out.put(header.getBytes(StandardCharsets.UTF_8)).put(data).array();
    }

    static byte[] floats(float... values) {
        ByteBuffer b = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        for (float value : values) {
            b.putFloat(value);
        }
        return b.array();
    }

    /** An archive of files {@code NAME.npy}, in order of names and contents. */
    static Path npz(Path file, Object... namesAndFiles) throws IOException {
        try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(file))) {
            for (int i = 0; i < namesAndFiles.length; i += 2) {
                zip.putNextEntry(new ZipEntry(namesAndFiles[i] + ".npy"));
                zip.write((byte[]) namesAndFiles[i + 1]);
                zip.closeEntry();
            }
        }
        return file;
    }

    private Path write(byte[] file) throws IOException {
        return Files.write(folder.resolve("a.npy"), file);
    }

    private Path numpy(String name) throws IOException {
        try (InputStream in = NpyTest.class.getResourceAsStream(name)) {
            return Files.write(folder.resolve(name), in.readAllBytes());
        }
    }

    private static void check(DType type, Shape shape, byte[] data, Tensor array) {
        assertEquals(type, array.dtype());
        assertEquals(shape, array.shape());
        assertArrayEquals(data, array.data().toArray(ValueLayout.JAVA_BYTE));
    }

    private static byte[] little(int size, long... values) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (long value : values) {
            for (int i = 0; i < size; i++) {
                out.write((int) (value >> 8 * i));
            }
        }
        return out.toByteArray();
    }

    @Test
    void everyTypeAndVersion() throws IOException {
        Map<String, DType> types = Map.of("<f8", DType.F64, "<f4", DType.F32, "<f2", DType.F16, "<i8", DType.I64, "<i4", DType.I32,
                "<i2", DType.I16, "|i1", DType.I8, "|u1", DType.U8, "|b1", DType.BOOL);
        for (Map.Entry<String, DType> type : types.entrySet()) {
            byte[] data = new byte[2 * type.getValue().bits() / 8];
            data[data.length - 1] = 1;
            check(type.getValue(), Shape.of(2), data, Npy.read(write(npy(type.getKey(), "(2,)", data))));
        }
        for (int version = 1; version <= 3; version++) {
            String header = "{'shape': (2, 1),\n  'descr':'|u1', 'fortran_order' : False}";
            check(DType.U8, Shape.of(2, 1), new byte[] {3, 4}, Npy.read(write(file(version, header, (byte) 3, (byte) 4))));
        }
        check(DType.U8, Shape.of(), new byte[] {3}, Npy.read(write(npy("|u1", "()", (byte) 3))));
        check(DType.F32, Shape.of(4, 0), new byte[0], Npy.read(write(npy("<f4", "(4, 0)"))));
    }

    /** Files that NumPy 2.4 wrote: an array in Fortran's order, and archives, of which one is compressed. */
    @Test
    void whatNumPyWrote() throws IOException {
        long[] counting = new long[24];
        for (int i = 0; i < counting.length; i++) {
            counting[i] = i;
        }
        check(DType.I16, Shape.of(2, 3, 4), little(2, counting), Npy.read(numpy("columns.npy")));
        Map<String, Tensor> plain = Npy.archive(numpy("plain.npz"));
        assertEquals(Set.of("x", "half", "mask", "ids", "none"), plain.keySet());
        check(DType.F32, Shape.of(1, 3), floats(1.5f, -2, 0.25f), plain.get("x"));
        check(DType.F16, Shape.of(2), little(2, Float.floatToFloat16(1), Float.floatToFloat16(-0.5f)), plain.get("half"));
        check(DType.BOOL, Shape.of(2), new byte[] {1, 0}, plain.get("mask"));
        check(DType.I64, Shape.of(), little(8, 7), plain.get("ids"));
        check(DType.U8, Shape.of(0, 2), new byte[0], plain.get("none"));
        Map<String, Tensor> packed = Npy.archive(numpy("packed.npz"));
        check(DType.F64, Shape.of(5), little(8, Double.doubleToLongBits(-1), Double.doubleToLongBits(-0.5), 0,
                Double.doubleToLongBits(0.5), Double.doubleToLongBits(1)), packed.get("x"));
        check(DType.I8, Shape.of(2), new byte[] {-3, 4}, packed.get("y/z"));
        check(DType.I32, Shape.of(2), little(4, 5, -6), packed.get("w"));
    }

    private void malformed(String message, byte[] file) throws IOException {
        Path path = write(file);
        MalformedModelException e = assertThrows(MalformedModelException.class, () -> Npy.read(path));
        assertEquals(path, e.path());
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void brokenArraysAreRefused() throws IOException {
        byte[] good = npy("<f4", "(2,)", floats(1, 2));
        malformed("expected an array of NumPy", new byte[0]);
        malformed("expected an array of NumPy", "no array at all".getBytes(StandardCharsets.UTF_8));
        malformed("found 4", file(4, "{}"));
        malformed("expected a header", file(1, "{'descr': '<f4', 'shape': (2,)}"));
        malformed("expected a header", npy("<f4", "(-2,)"));
        malformed("expected a header", npy("<f4", "(" + "1, ".repeat(15_000) + ")"));
        malformed("8 bytes, 7 are there", Arrays.copyOf(good, good.length - 1));
        malformed("8 bytes, 9 are there", Arrays.copyOf(good, good.length + 1));
        malformed("multiply to more than 2^63", npy("<f4", "(999999999999999999, 999999999999999999)"));
        for (int n = 0; n < good.length; n++) {
            malformed("", Arrays.copyOf(good, n));
        }
        byte[] long4 = file(2, "{}");
        long4[11] = (byte) 0xff;
        malformed("a header of", long4);
        for (byte[] other : List.of(npy(">f4", "(2,)", floats(1, 2)), npy("<U4", "(1,)"), npy("<f4", "(999999999999,)"))) {
            Path file = write(other);
            assertTrue(assertThrows(UnsupportedRequestException.class, () -> Npy.read(file)).getMessage().startsWith(file.toString()));
        }
    }

    private void malformedArchive(String message, byte[] file) throws IOException {
        Path path = Files.write(folder.resolve("a.npz"), file);
        MalformedModelException e = assertThrows(MalformedModelException.class, () -> Npy.archive(path));
        assertEquals(path, e.path());
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void brokenArchivesAreRefused() throws IOException {
        Path file = npz(folder.resolve("good.npz"), "x", npy("<f4", "(2, 40)", new byte[320]));
        byte[] good = Files.readAllBytes(file);
        assertEquals(1, Npy.archive(file).size());
        malformedArchive("expected an archive", new byte[0]);
        malformedArchive("expected an archive", "PK no archive".getBytes(StandardCharsets.UTF_8));
        for (int n = 0; n < good.length; n++) {
            malformedArchive("", Arrays.copyOf(good, n));
        }
        malformedArchive("x.npy: shape and type ask for", Files.readAllBytes(npz(file, "x", npy("<f4", "(2,)"))));
        Files.write(file, good);
        // The central directory's entry: its checksum at 16, its unpacked size at 24.
        int directory = new String(good, StandardCharsets.ISO_8859_1).indexOf("PK\1\2");
        byte[] checksum = good.clone();
        checksum[directory + 16] ^= 1;
        malformedArchive("checksum", checksum);
        byte[] bomb = good.clone();
        ByteBuffer.wrap(bomb).order(ByteOrder.LITTLE_ENDIAN).putInt(directory + 24, 1 << 30);
        malformedArchive("claims 1073741824 bytes", bomb);
        // Any byte may be wrong: an error, or the array as it was; never anything else.
        for (int i = 0; i < good.length; i++) {
            byte[] wrong = good.clone();
            wrong[i] ^= 0x55;
            Path path = Files.write(folder.resolve("wrong.npz"), wrong);
            try {
                Npy.archive(path).values().forEach(array -> assertEquals(320, array.bytes()));
            } catch (MalformedModelException | UnsupportedRequestException e) {
                assertTrue(e.getMessage().startsWith(path.toString()), e.getMessage());
            }
        }
    }
}
