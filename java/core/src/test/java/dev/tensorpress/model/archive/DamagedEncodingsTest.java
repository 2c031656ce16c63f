package dev.tensorpress.model.archive;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.luben.zstd.Zstd;
import dev.tensorpress.Effort;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Archives with encodings that say what cannot be, all hashes being right. */
final class DamagedEncodingsTest {
    private static final int ROWS = 48;
    private static final int COLS = 160;
    private static final Shape SHAPE = Shape.of(ROWS, COLS);
    private static final List<Form> FORMS = List.of(
            new Form.Quantized(4, 1, 32, false, Form.Activations.FLOAT, DType.I4, DType.F16, false, false),
            new Form.Codebook(2, 1, 0, 1, false, DType.F16, false),
            new Form.Transformed(Form.Basis.DCT, 8, 2, 0, 5, DType.I8),
            new Form.Transformed(Form.Basis.CDF53, 0, 2, 16, 0, DType.I16),
            new Form.Hashed(500, 7, DType.F32));

    @TempDir
    Path temp;
    private final Random random = Effort.random();
    private Path archive;
    private byte[] index;
    private List<byte[]> pieces;

    /** Elements that decode from arrays with anything in them, and an archive that has these. */
    @BeforeEach
    void pack() throws IOException {
        Path data = temp.resolve("data");
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        List<Model.Array> arrays = new ArrayList<>();
        archive = temp.resolve("m.tpa");
        try (Executor executor = Executor.cpu(2); Arena arena = executor.arena(); KeptEncodings kept = new KeptEncodings(temp)) {
            for (Form form : FORMS) {
                String name = "w" + arrays.size();
                Encoded e = new Encoded(all.size(), arrays.size() == 2 ? DType.BF16 : DType.F32, SHAPE, form);
                MemorySegment stored = e.allocate(arena);
                fill(e, stored);
                kept.add(name, 0, e.encoding(stored));
                arrays.add(new Model.Array(name, data, all.size(), e.type(), SHAPE));
                all.writeBytes(e.decode(stored, arena, executor).toArray(ValueLayout.JAVA_BYTE));
                all.writeBytes("between".getBytes(StandardCharsets.UTF_8));
            }
            Files.write(data, all.toByteArray());
            InputFiles inputs = new InputFiles();
            inputs.add(data);
            Packer.Packed packed = Packer.pack(new Packer.Contents(Map.of("data", data), true, "", arrays, inputs), kept,
                    new Packer.Settings(null, null, null, 2, 1 << 27, null), archive, false);
            packed.arrays().forEach(a -> assertTrue(a.form().isPresent(), a.toString()));
        }
        byte[] file = Files.readAllBytes(archive);
        ByteBuffer b = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
        int end = file.length - Layout.TRAILER;
        pieces = new ArrayList<>(List.of(Arrays.copyOf(file, 16)));
        for (int at = 16; at < end;) {
            int n = Frame.BYTES + b.getInt(at + 16);
            pieces.add(Arrays.copyOfRange(file, at, at + n));
            at += n;
        }
        byte[] last = pieces.removeLast();
        index = Zstd.decompress(Arrays.copyOfRange(last, Frame.BYTES, last.length));
    }

    private void fill(Encoded e, MemorySegment stored) {
        long at = 0;
        for (Encoded.Part p : e.parts()) {
            for (long i = 0; i < p.bytes(); i++) {
                // Codes of few bits, and floats that are finite and positive.
                boolean last = (i + 1) % Math.max(1, p.type().bits() / 8) == 0;
                int value = !p.type().compressible() ? random.nextInt(4) : last ? 0x38 : random.nextInt();
                stored.set(ValueLayout.JAVA_BYTE, at + i, (byte) value);
            }
            at += p.bytes();
        }
    }

    private Path write(byte[] bad) throws IOException {
        byte[] coded = Zstd.compress(bad);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment frame = arena.allocate(Frame.BYTES);
            long stored;
            try (Archive a = Archive.open(archive)) {
                stored = a.sequence().storedBytes();
            }
            new Frame(pieces.size() - 1, stored, bad.length, coded.length, Frame.Stored.INDEX, -1).write(frame);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            HashTree tree = new HashTree(arena);
            HashTree.Leaf leaf = new HashTree.Leaf(arena);
            for (byte[] piece : pieces) {
                out.writeBytes(piece);
                tree.add(leaf.digest(arena.allocateFrom(ValueLayout.JAVA_BYTE, piece)));
            }
            int at = out.size();
            byte[] last = ByteBuffer.allocate(Frame.BYTES + coded.length).put(frame.toArray(ValueLayout.JAVA_BYTE)).put(coded).array();
            out.writeBytes(last);
            tree.add(leaf.digest(arena.allocateFrom(ValueLayout.JAVA_BYTE, last)));
            out.writeBytes(Layout.end(at, new byte[0], tree.root()));
            return Files.write(temp.resolve("bad.tpa"), out.toByteArray());
        }
    }

    /** @return why it is refused; null if it is not */
    private String refusal(byte[] bad) throws IOException {
        Path path = write(bad);
        Path out = temp.resolve("out");
        boolean opened = false;
        try (Archive a = Archive.open(path)) {
            opened = true;
            RuntimeException alone = null;
            for (Archive.Array x : a.arrays()) {
                try (Arena arena = Arena.ofConfined()) {
                    a.encoding(x.name());
                    a.weight(x.name(), arena.allocate(x.bytes()));
                } catch (MalformedModelException e) {
                    alone = e;
                }
            }
            Unpacker.expand(a, out, new Unpacker.Settings(false, false, 2, 1 << 27, null));
            assertEquals(null, alone);
            Unpacker.delete(out);
            return null;
        } catch (MalformedModelException | UnsupportedRequestException e) {
            assertFalse(Files.exists(out) || Files.exists(temp.resolve("out.partial")));
            if (!opened) {
                assertThrows(e.getClass(), () -> Verification.of(path, null));
            }
            return e.getMessage();
        }
    }

    private int find(String text, int from) {
        byte[] wanted = text.getBytes(StandardCharsets.UTF_8);
        for (int i = from; i <= index.length - wanted.length; i++) {
            if (Arrays.equals(index, i, i + wanted.length, wanted, 0, wanted.length)) {
                return i;
            }
        }
        throw new AssertionError(text);
    }

    /** Each number that forms and shapes are made of, as many others. */
    @Test
    void formsAreNotBelieved() throws IOException {
        assertEquals(null, refusal(index));
        int refused = 0;
        for (Form.Kind kind : List.of(Form.Kind.QUANTIZED, Form.Kind.CODEBOOK, Form.Kind.TRANSFORMED, Form.Kind.HASHED)) {
            int at = find(kind.name(), 0);
            // Before it position and shape, behind it what belongs to the form, up to the next one or the chunks.
            for (int i = at - 36; i < at + kind.name().length() + 40; i += 4) {
                int old = ByteBuffer.wrap(index).order(ByteOrder.LITTLE_ENDIAN).getInt(i);
                for (int value : new int[] {0, 1, -1, old + 1, old - 1, 1 << 12, 1 << 24, Integer.MAX_VALUE, Integer.MIN_VALUE, random.nextInt()}) {
                    byte[] bad = index.clone();
                    ByteBuffer.wrap(bad).order(ByteOrder.LITTLE_ENDIAN).putInt(i, value);
                    refused += value != old && refusal(bad) != null ? 1 : 0;
                }
            }
        }
        assertTrue(refused > 500, "" + refused);
    }

    @Test
    void anIndexOfAnybodyIsReadOrRefused() throws IOException {
        int encodings = find("QUANTIZED", 0) - 40;
        int end = find("HASHED", 0) + 20;
        int opened = 0;
        for (int i = 0; i < 1000; i++) {
            byte[] bad = index.clone();
            for (int n = random.nextInt(1, 4); n > 0; n--) {
                bad[random.nextInt(encodings, end)] = (byte) (random.nextBoolean() ? random.nextInt() : random.nextInt(4));
            }
            opened += refusal(bad) == null ? 1 : 0;
        }
        assertTrue(opened < 500, opened + " of them opened");
    }

    @Test
    void arraysOfAnotherFormAreNone() throws IOException {
        byte[] bad = index.clone();
        int bits = find("CODEBOOK", 0) + "CODEBOOK".length();
        ByteBuffer fields = ByteBuffer.wrap(bad).order(ByteOrder.LITTLE_ENDIAN);
        assertEquals(2, fields.getInt(bits));
        // Half the entries, and as many more bytes of another array: codes are too large then.
        fields.putInt(bits, 1);
        fields.putInt(find("HASHED", 0) + "HASHED".length(), 500 + ROWS);
        String why = refusal(bad);
        assertTrue(why.contains("the arrays of an encoding, codebook 1 bits per row, are none"), why);
    }

    @Test
    void whatTakesTooMuchIsNoEncoding() {
        Form.Hashed one = new Form.Hashed(1, 0, DType.F16);
        new Encoded(0, DType.F32, Shape.of(1 << 10, 1 << 10), one);
        for (Shape shape : List.of(Shape.of(1 << 14, 1 << 14), Shape.of(1L << 60), Shape.of(0, 5), Shape.of(0))) {
            assertThrows(IllegalArgumentException.class, () -> new Encoded(0, DType.F32, shape, one), shape.toString());
        }
        assertThrows(IllegalArgumentException.class, () -> new Encoded(0, DType.I8, SHAPE, one));
        assertThrows(IllegalArgumentException.class, () -> new Encoded(0, DType.F32, SHAPE, new Form.Hashed(Integer.MAX_VALUE, 0, DType.F32)));
        assertThrows(IllegalArgumentException.class, () -> new Encoded(0, DType.F32, SHAPE, new Form.Dense(DType.F32)));
        // A table for each row, each as large as all of the others.
        assertThrows(IllegalArgumentException.class,
                () -> new Encoded(0, DType.F32, Shape.of(1 << 20, 8), new Form.Codebook(12, 8, 0, 1, false, DType.F32, false)));
        Encoded e = new Encoded(10, DType.F32, Shape.of(2, 3), one);
        assertEquals(10 + 2 + 24, new Sequence(10 + 24 + 24, List.of(e)).storedBytes());
        for (List<Encoded> bad : List.of(List.of(e, e), List.of(new Encoded(-1, DType.F32, SHAPE, one)), List.of(new Encoded(35, DType.F32, Shape.of(2, 3), one)))) {
            assertThrows(IllegalArgumentException.class, () -> new Sequence(58, bad));
        }
    }
}
