package dev.tensorpress.model.archive;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.luben.zstd.Zstd;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Coding;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.archive.Frame.Stored;
import dev.tensorpress.model.archive.Index.Chunk;
import dev.tensorpress.model.archive.Index.Member;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Archives that are damaged, or made to do damage. */
final class DamagedArchiveTest {
    private static final byte[] TEXT = "a text that is somewhat longer than nothing, a text that repeats".getBytes();

    @TempDir
    Path temp;
    private Path folder;
    private Path archive;

    @BeforeEach
    void pack() throws IOException {
        folder = Files.createDirectory(temp.resolve("in"));
        InputFiles inputs = new InputFiles();
        Map<String, Path> files = new LinkedHashMap<>();
        for (String name : List.of("a", "b/c")) {
            Path p = folder.resolve(name);
            Files.createDirectories(p.getParent());
            Files.write(p, new byte[name.length() * 1500]);
            inputs.add(p);
            files.put(name, p);
        }
        Files.write(folder.resolve("a"), TEXT);
        inputs = new InputFiles();
        for (Path p : files.values()) {
            inputs.add(p);
        }
        archive = temp.resolve("m.tpa");
        Packer.pack(new Packer.Contents(files, true, "a", List.of(new Model.Array("zeros", folder.resolve("b/c"), 100, DType.F32,
                Shape.of(3, 200))), inputs), settings(), archive, false);
    }

    private static Packer.Settings settings() {
        return new Packer.Settings(null, null, null, 1, 1 << 27, null);
    }

    private Path write(byte[] bytes) throws IOException {
        return Files.write(temp.resolve("bad.tpa"), bytes);
    }

    /** Whoever reads it is told, and nothing is left of the attempt. */
    private String refused(Path bad) throws IOException {
        RuntimeException e = assertThrows(RuntimeException.class, () -> expand(bad));
        assertTrue(e instanceof MalformedModelException || e instanceof UnsupportedRequestException, () -> "" + e);
        assertFalse(Files.exists(temp.resolve("out")));
        return e.getMessage();
    }

    private void expand(Path bad) throws IOException {
        try (Archive a = Archive.open(bad)) {
            Unpacker.expand(a, temp.resolve("out"), new Unpacker.Settings(true, false, 1, 1 << 27, null));
        }
    }

    @Test
    void anyByteThatIsAnotherIsFound() throws IOException {
        byte[] bytes = Files.readAllBytes(archive);
        for (int i = 0; i < bytes.length; i++) {
            byte[] bad = bytes.clone();
            bad[i] ^= (byte) (1 << i % 8);
            refused(write(bad));
        }
        expand(archive);
    }

    @Test
    void anArchiveThatWasCutIsFound() throws IOException {
        byte[] bytes = Files.readAllBytes(archive);
        for (int n = 0; n < bytes.length; n++) {
            refused(write(java.util.Arrays.copyOf(bytes, n)));
            refused(write(java.util.Arrays.copyOfRange(bytes, n + 1, bytes.length)));
        }
        refused(write(java.util.Arrays.copyOf(bytes, bytes.length + 1)));
    }

    // Archives whose hashes are right, made by somebody who wants harm.

    private static byte[] sha256(byte[]... parts) {
        try {
            MessageDigest d = MessageDigest.getInstance("SHA-256");
            for (byte[] p : parts) {
                d.update(p);
            }
            return d.digest();
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }

    /** As docs/archive.md has it, by another way than {@link HashTree}. */
    private static byte[] root(List<byte[]> leaves) {
        if (leaves.size() == 1) {
            return leaves.getFirst();
        }
        int left = Integer.highestOneBit(leaves.size() - 1);
        return sha256(new byte[] {1}, root(leaves.subList(0, left)), root(leaves.subList(left, leaves.size())));
    }

    private static byte[] bytes(Frame frame, byte[] payload) {
        byte[] all = new byte[Frame.BYTES + payload.length];
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment s = arena.allocate(Frame.BYTES);
            frame.write(s);
            System.arraycopy(s.toArray(ValueLayout.JAVA_BYTE), 0, all, 0, Frame.BYTES);
        }
        System.arraycopy(payload, 0, all, Frame.BYTES, payload.length);
        return all;
    }

    /** With an index that is no index, or not of the length that is claimed. */
    private static byte[] withIndex(byte[] coded, int claimed) {
        byte[] header = Layout.header(new byte[0]);
        byte[] last = bytes(new Frame(0, 0, claimed, coded.length, Stored.INDEX, -1), coded);
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        all.writeBytes(header);
        all.writeBytes(last);
        all.writeBytes(Layout.end(header.length, new byte[0], root(List.of(sha256(new byte[1], header), sha256(new byte[1], last)))));
        return all.toByteArray();
    }

    @Test
    void theIndexIsNoBomb() throws IOException {
        byte[] empty = new Index(true, "", List.of(), List.of(), List.of(), List.of(), List.of()).write();
        byte[] coded = Zstd.compress(empty);
        expand(write(withIndex(coded, empty.length)));
        Files.delete(temp.resolve("out"));
        for (int claimed : new int[] {empty.length - 1, empty.length + 1, 0, -1, Index.LARGEST + 1, Integer.MAX_VALUE}) {
            refused(write(withIndex(coded, claimed)));
        }
        refused(write(withIndex(Zstd.compress(new byte[Index.LARGEST + 1]), Index.LARGEST)));
        refused(write(withIndex(Zstd.compress(new byte[Index.LARGEST]), Index.LARGEST)));
        refused(write(withIndex(empty, empty.length)));
        refused(write(withIndex(new byte[0], 0)));
    }

    private record Forged(List<Frame> frames, List<byte[]> payloads) {
        Forged() {
            this(new ArrayList<>(), new ArrayList<>());
        }

        Forged add(int plain, int stored, Stored coding, long base, byte[] payload) {
            long position = frames.stream().mapToLong(Frame::plain).sum();
            frames.add(new Frame(frames.size(), position, plain, stored, coding, base));
            payloads.add(payload);
            return this;
        }

        byte[] archive(boolean folder, String entry, List<Member> members, List<Index.Array> arrays) {
            List<byte[]> leaves = new ArrayList<>();
            ByteArrayOutputStream all = new ByteArrayOutputStream();
            byte[] header = Layout.header(new byte[0]);
            all.writeBytes(header);
            leaves.add(sha256(new byte[1], header));
            List<Chunk> chunks = new ArrayList<>();
            for (int i = 0; i < frames.size(); i++) {
                byte[] chunk = bytes(frames.get(i), payloads.get(i));
                all.writeBytes(chunk);
                leaves.add(sha256(new byte[1], chunk));
                chunks.add(new Chunk(frames.get(i), leaves.getLast()));
            }
            byte[] index = new Index(folder, entry, members, List.of(), arrays, List.of(), chunks).write();
            byte[] coded = Zstd.compress(index);
            long at = all.size();
            byte[] last = bytes(new Frame(chunks.size(), frames.stream().mapToLong(Frame::plain).sum(), index.length, coded.length,
                    Stored.INDEX, -1), coded);
            all.writeBytes(last);
            leaves.add(sha256(new byte[1], last));
            all.writeBytes(Layout.end(at, new byte[0], root(leaves)));
            return all.toByteArray();
        }
    }

    private static Forged text() {
        return new Forged().add(TEXT.length, TEXT.length, Stored.PLAIN, -1, TEXT);
    }

    private static Member member(String name, byte[] bytes) {
        return new Member(name, bytes.length, sha256(bytes));
    }

    @Test
    void whatIsRightIsTaken() throws IOException {
        expand(write(text().archive(true, "a", List.of(member("a", TEXT), member("b/c", new byte[0])), List.of())));
        assertEquals(-1, Files.mismatch(folder.resolve("a"), temp.resolve("out/a")));
        assertEquals(0, Files.size(temp.resolve("out/b/c")));
    }

    @Test
    void namesStayInTheFolder() throws IOException {
        for (String name : List.of("../a", "/a", "a/../../b", "a//b", "./a", "a/", "", "a\\b", "a\0b", "b/..", "x".repeat(5000))) {
            refused(write(text().archive(true, "", List.of(member(name, TEXT)), List.of())));
        }
        for (List<String> names : List.of(List.of("a", "a"), List.of("a", "a/b"), List.of("a/b", "a"))) {
            refused(write(text().archive(true, "", List.of(member(names.getFirst(), TEXT), member(names.getLast(), new byte[0])), List.of())));
        }
        try (Stream<Path> there = Files.list(temp)) {
            assertEquals(3, there.count());
        }
    }

    @Test
    void lengthsAreNotBelieved() throws IOException {
        byte[] bomb = Zstd.compress(new byte[100 << 20]);
        int n = bomb.length;
        List<Member> large = List.of(new Member("a", 100 << 20, new byte[32]));
        refused(write(new Forged().add(100 << 20, n, Stored.ZSTD, -1, bomb).archive(true, "", large, List.of())));
        List<Member> small = List.of(new Member("a", 1 << 20, new byte[32]));
        assertTrue(refused(write(new Forged().add(1 << 20, n, Stored.ZSTD, -1, bomb).archive(true, "", small, List.of()))).contains("Zstandard"));
        byte[] less = Zstd.compress(new byte[1000]);
        refused(write(new Forged().add(1001, less.length, Stored.ZSTD, -1, less).archive(true, "", List.of(member("a", new byte[1001])), List.of())));
        refused(write(new Forged().add(TEXT.length, TEXT.length, Stored.ZSTD, -1, TEXT).archive(true, "", List.of(member("a", TEXT)), List.of())));
        // Sizes that do not add up, in all places where there are some.
        refused(write(text().archive(true, "", List.of(new Member("a", TEXT.length + 1, sha256(TEXT))), List.of())));
        refused(write(text().archive(true, "", List.of(new Member("a", TEXT.length - 1, sha256(TEXT))), List.of())));
        refused(write(text().archive(true, "", List.of(new Member("a", -1, sha256(TEXT))), List.of())));
        refused(write(text().archive(true, "", List.of(new Member("a", Long.MAX_VALUE, sha256(TEXT)), new Member("b", Long.MAX_VALUE,
                sha256(TEXT))), List.of())));
        refused(write(new Forged().add(TEXT.length, TEXT.length - 1, Stored.PLAIN, -1, TEXT).archive(true, "", List.of(member("a", TEXT)),
                List.of())));
        refused(write(new Forged().add(TEXT.length, TEXT.length, Stored.PLAIN, 0, TEXT).archive(true, "", List.of(member("a", TEXT)),
                List.of())));
        refused(write(new Forged().add(TEXT.length, TEXT.length, Stored.INDEX, -1, TEXT).archive(true, "", List.of(member("a", TEXT)),
                List.of())));
    }

    @Test
    void membersAndArraysAreWhatTheIndexSays() throws IOException {
        assertTrue(refused(write(text().archive(true, "", List.of(new Member("a", TEXT.length, new byte[32])), List.of()))).contains("SHA-256"));
        refused(write(text().archive(true, "b", List.of(member("a", TEXT)), List.of())));
        refused(write(text().archive(false, "", List.of(member("a", TEXT)), List.of())));
        refused(write(text().archive(false, "a", List.of(member("a", TEXT), member("b", new byte[0])), List.of())));
        List<Member> a = List.of(member("a", TEXT));
        refused(write(text().archive(true, "", a, List.of(new Index.Array("x", DType.I8, Shape.of(TEXT.length), 1)))));
        refused(write(text().archive(true, "", a, List.of(new Index.Array("x", DType.I8, Shape.of(1), -1)))));
        refused(write(text().archive(true, "", a, List.of(new Index.Array("x", DType.F64, Shape.of(1L << 61), 0)))));
        Index.Array x = new Index.Array("x", DType.I8, Shape.of(1), 0);
        refused(write(text().archive(true, "", a, List.of(x, x))));
    }

    @Test
    void palettesAndBlocksAreNotBelieved() throws IOException {
        byte[] codes = new byte[1000];
        for (int i = 0; i < codes.length; i++) {
            codes[i] = (byte) (i % 7 % 3);
        }
        byte[] block = block(Coding.Elements.BYTES, codes);
        byte[] plain = new byte[4000];
        ByteBuffer values = ByteBuffer.wrap(plain).order(ByteOrder.LITTLE_ENDIAN);
        for (byte c : codes) {
            values.putInt(c * 7);
        }
        List<Member> a = List.of(member("a", plain));
        expand(write(palette(4, 3, block).archive(true, "a", a, List.of())));
        Files.delete(temp.resolve("out/a"));
        Files.delete(temp.resolve("out"));
        for (int width : new int[] {0, 1, 2, 3, 5, 8, -1}) {
            refused(write(palette(width, 3, block).archive(true, "a", a, List.of())));
        }
        for (int count : new int[] {0, 1, 2, 4, 300, 5000, -1, Integer.MAX_VALUE}) {
            refused(write(palette(4, count, block).archive(true, "a", a, List.of())));
        }
        refused(write(palette(4, 3, block(Coding.Elements.BYTES, new byte[999])).archive(true, "a", a, List.of())));
        refused(write(palette(4, 3, block(Coding.Elements.SYMBOLS, new byte[1000])).archive(true, "a", a, List.of())));
        refused(write(palette(4, 3, new byte[50]).archive(true, "a", a, List.of())));
        refused(write(new Forged().add(4000, 5, Stored.PALETTE, -1, new byte[5]).archive(true, "a", a, List.of())));
        refused(write(new Forged().add(4000, block.length, Stored.CODED, -1, block).archive(true, "a", a, List.of())));
        refused(write(new Forged().add(4000, 70, Stored.CODED, -1, new byte[70]).archive(true, "a", a, List.of())));
        refused(write(new Forged().add(1001, block.length, Stored.CODED, -1, block).archive(true, "a", List.of(member("a", new byte[1001])),
                List.of())));
    }

    private static Forged palette(int width, int count, byte[] block) {
        byte[] all = ByteBuffer.allocate(8 + 12 + block.length).order(ByteOrder.LITTLE_ENDIAN).putInt(width).putInt(count).putInt(0).putInt(7).putInt(14)
                .put(block).array();
        return new Forged().add(4000, all.length, Stored.PALETTE, -1, all);
    }

    private static byte[] block(Coding.Elements e, byte[] bytes) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(Coding.bound(e, bytes.length));
            MemorySegment scratch = arena.allocate(Coding.scratchBytes(e, bytes.length), 64);
            long n = Coding.encode(e, arena.allocateFrom(ValueLayout.JAVA_BYTE, bytes), MemorySegment.NULL, out, scratch).bytes();
            return out.asSlice(0, n).toArray(ValueLayout.JAVA_BYTE);
        }
    }

    /** Each chunk says where it belongs. */
    @Test
    void chunksStayInTheirPlaces() throws IOException {
        byte[] one = "first".getBytes();
        byte[] two = "other".getBytes();
        byte[] good = new Forged().add(5, 5, Stored.PLAIN, -1, one).add(5, 5, Stored.PLAIN, -1, two).archive(false, "a",
                List.of(member("a", "firstother".getBytes())), List.of());
        int at = Layout.header(new byte[0]).length;
        int n = Frame.BYTES + 5;
        expand(write(good));
        Files.delete(temp.resolve("out"));
        byte[] swapped = good.clone();
        System.arraycopy(good, at, swapped, at + n, n);
        System.arraycopy(good, at + n, swapped, at, n);
        refused(write(swapped));
        byte[] replayed = good.clone();
        System.arraycopy(good, at, replayed, at + n, n);
        refused(write(replayed));
    }

    @Test
    void repetitionsAreOfWhatIsThere() throws IOException {
        byte[] one = "first".getBytes();
        byte[] two = "other".getBytes();
        byte[] none = new byte[0];
        List<Member> a = List.of(member("a", "firstotherfirst".getBytes()));
        expand(write(new Forged().add(5, 5, Stored.PLAIN, -1, one).add(5, 5, Stored.PLAIN, -1, two).add(5, 0, Stored.REPEATED, 0, none)
                .archive(true, "a", a, List.of())));
        assertEquals("firstotherfirst", Files.readString(temp.resolve("out/a")));
        Files.delete(temp.resolve("out/a"));
        Files.delete(temp.resolve("out"));
        // Itself, what comes later, what is no beginning, what is nowhere, and other bytes than the member has.
        for (long origin : new long[] {10, 15, 2, -1, Long.MAX_VALUE, Long.MIN_VALUE, 5}) {
            refused(write(new Forged().add(5, 5, Stored.PLAIN, -1, one).add(5, 5, Stored.PLAIN, -1, two).add(5, 0, Stored.REPEATED, origin, none)
                    .archive(true, "a", a, List.of())));
        }
        List<Member> same = List.of(member("a", "firstfirstfirst".getBytes()));
        refused(write(new Forged().add(5, 5, Stored.PLAIN, -1, one).add(5, 0, Stored.REPEATED, 0, none).add(5, 0, Stored.REPEATED, 5, none)
                .archive(true, "a", same, List.of())));
        refused(write(new Forged().add(5, 5, Stored.PLAIN, -1, one).add(4, 0, Stored.REPEATED, 0, none)
                .archive(true, "a", List.of(member("a", "firstfirs".getBytes())), List.of())));
        refused(write(new Forged().add(5, 5, Stored.PLAIN, -1, one).add(5, 5, Stored.REPEATED, 0, one)
                .archive(true, "a", List.of(member("a", "firstfirst".getBytes())), List.of())));
        refused(write(new Forged().add(5, 0, Stored.REPEATED, 0, none).archive(true, "a", List.of(member("a", one)), List.of())));
        refused(write(new Forged().add(5, 0, Stored.PLAIN, -1, none).archive(true, "a", List.of(member("a", one)), List.of())));
    }

    @Test
    void thereMayBeVeryManyMembers() throws IOException {
        List<Member> many = new ArrayList<>();
        for (int i = 0; i < 100_000; i++) {
            many.add(member("folder/" + i, new byte[0]));
        }
        try (Archive a = Archive.open(write(new Forged().archive(true, "", many, List.of())))) {
            assertEquals(100_000, a.members().size());
            assertEquals(0, a.plainBytes());
        }
    }
}
