package dev.tensorpress.model.archive;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.luben.zstd.Zstd;
import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Archives that are encrypted, or signed, and what an attacker makes of them, who can compute any hash and has no key. */
final class SealedArchiveTest {
    private static final ArchiveKey KEY = ArchiveKey.random();
    private static final SigningKey SIGNER = SigningKey.random("");
    private static final Path FILE = Path.of("m.tpa");
    private static final String SECRET_NAME = "unreleased-model.bin";

    @TempDir
    Path folder;

    private Path in;
    private Path out;

    @BeforeEach
    void writeFiles() throws IOException {
        in = Files.createDirectory(folder.resolve("in"));
        out = folder.resolve("out");
        byte[] noise = new byte[9 << 20];
        new Random(1).nextBytes(noise);
        Files.write(in.resolve(SECRET_NAME), noise);
        Files.writeString(in.resolve("config.json"), "{\"secret\": true}\n".repeat(100));
    }

    private Path pack(String name, ArchiveKey key, SigningKey signer, String... members) throws IOException {
        Map<String, Path> files = new LinkedHashMap<>();
        InputFiles inputs = new InputFiles();
        for (String m : members.length == 0 ? new String[] {"config.json", SECRET_NAME} : members) {
            files.put(m, in.resolve(m));
            inputs.add(in.resolve(m));
        }
        Path archive = folder.resolve(name);
        Packer.pack(new Packer.Contents(files, true, "", List.of(), inputs), new Packer.Settings(key, signer, null, 2, 64 << 20, null), archive, true);
        return archive;
    }

    private void expand(Archive archive) throws IOException {
        Unpacker.expand(archive, out, new Unpacker.Settings(false, false, 2, 64 << 20, null));
    }

    private boolean nothingWritten() throws IOException {
        try (Stream<Path> all = Files.list(folder)) {
            return all.noneMatch(p -> p.getFileName().toString().startsWith("out"));
        }
    }

    @Test
    void whatIsEncryptedIsReadWithItsKeyAlone() throws IOException {
        Path a = pack("a.tpa", KEY, SIGNER);
        String text = Files.readString(a, StandardCharsets.ISO_8859_1);
        assertFalse(text.contains(SECRET_NAME) || text.contains("config"));
        for (ArchiveKey wrong : new ArchiveKey[] {null, ArchiveKey.random(), ArchiveKey.ofPassphrase("x")}) {
            WrongKeyException e = assertThrows(WrongKeyException.class, () -> Archive.open(a, wrong));
            assertTrue(e.getMessage().startsWith(a + " is encrypted with a"), e.getMessage());
        }
        try (Archive archive = Archive.open(a, KEY)) {
            assertTrue(archive.isEncrypted());
            assertEquals(Optional.of(SIGNER.verifying()), archive.signer());
            archive.requireSigner(SIGNER.verifying());
            assertArrayEquals(Files.readAllBytes(in.resolve(SECRET_NAME)), archive.stream(SECRET_NAME).readAllBytes());
            expand(archive);
        }
        for (String name : List.of(SECRET_NAME, "config.json")) {
            assertEquals(-1, Files.mismatch(in.resolve(name), out.resolve(name)));
        }
        assertFalse(Arrays.equals(Files.readAllBytes(a), Files.readAllBytes(pack("b.tpa", KEY, SIGNER))));
    }

    @Test
    void passphrasesOpenArchivesToo() throws IOException {
        Path a = pack("a.tpa", ArchiveKey.ofPassphrase("open sesame"), null, "config.json");
        assertThrows(WrongKeyException.class, () -> Archive.open(a, KEY));
        assertThrows(WrongKeyException.class, () -> Archive.open(a, ArchiveKey.ofPassphrase("open barley")));
        try (Archive archive = Archive.open(a, ArchiveKey.ofPassphrase("open sesame"))) {
            assertEquals(Optional.empty(), archive.signer());
            assertArrayEquals(Files.readAllBytes(in.resolve("config.json")), archive.stream("config.json").readAllBytes());
        }
    }

    /** Who has no key can make an archive without one, and put it in the place of another. */
    @Test
    void aKeyIsNotGivenForNothing() throws IOException {
        Path a = pack("a.tpa", null, null);
        String message = assertThrows(WrongKeyException.class, () -> Archive.open(a, KEY)).getMessage();
        assertTrue(message.contains("is not encrypted"), message);
        try (Archive archive = Archive.open(a)) {
            assertFalse(archive.isEncrypted());
        }
    }

    /** Neither a changed byte nor a missing one passes, wherever it is, and nothing is written of either. */
    @Test
    void noByteCanBeChangedOrLeftOut() throws IOException {
        Path a = pack("a.tpa", KEY, SIGNER, "config.json");
        byte[] good = Files.readAllBytes(a);
        Path bad = folder.resolve("bad.tpa");
        for (int i = 0; i < good.length; i++) {
            byte[] changed = good.clone();
            changed[i] ^= (byte) (1 << i % 8);
            check(Files.write(bad, changed));
            if (i % 3 == 0) {
                check(Files.write(bad, Arrays.copyOf(good, i)));
            }
        }
        check(Files.write(bad, Arrays.copyOf(good, good.length + 1)));
        check(Files.write(bad, concat(good, good)));
        Verification v = Verification.of(a, null);
        assertEquals(new Verification(good.length, 1, true, v.root(), Optional.of(SIGNER.verifying())), v);
    }

    private void check(Path bad) throws IOException {
        typed(assertThrows(RuntimeException.class, () -> {
            try (Archive archive = Archive.open(bad, KEY)) {
                expand(archive);
            }
        }));
        typed(assertThrows(RuntimeException.class, () -> Verification.of(bad, null)));
        assertTrue(nothingWritten());
    }

    private static void typed(RuntimeException e) {
        assertTrue(e instanceof MalformedModelException || e instanceof UnsupportedRequestException, e.toString());
    }

    private static byte[] concat(byte[]... parts) {
        ByteBuffer all = ByteBuffer.allocate(Arrays.stream(parts).mapToInt(p -> p.length).sum());
        for (byte[] p : parts) {
            all.put(p);
        }
        return all.array();
    }

    private static byte[] leaf(byte[] piece) {
        try (Arena arena = Arena.ofConfined()) {
            return new HashTree.Leaf(arena).digest(arena.allocateFrom(ValueLayout.JAVA_BYTE, piece));
        }
    }

    /** An archive in parts, which an attacker puts together anew. */
    private static final class Parts {
        byte[] header;
        final List<byte[]> chunks = new ArrayList<>();
        byte[] index;
        byte[] signature;

        Parts(Path file) throws IOException {
            byte[] all = Files.readAllBytes(file);
            ByteBuffer b = ByteBuffer.wrap(all).order(ByteOrder.LITTLE_ENDIAN);
            int end = all.length - Layout.TRAILER;
            int indexAt = Math.toIntExact(b.getLong(end));
            int signed = b.getInt(end + 8);
            int at = 16 + b.getInt(12);
            header = Arrays.copyOf(all, at);
            while (at < indexAt) {
                int n = Frame.BYTES + b.getInt(at + 16);
                chunks.add(Arrays.copyOfRange(all, at, at + n));
                at += n;
            }
            index = Arrays.copyOfRange(all, at, end - signed);
            signature = Arrays.copyOfRange(all, end - signed, end);
        }

        byte[] root() {
            try (Arena arena = Arena.ofConfined()) {
                HashTree tree = new HashTree(arena);
                tree.add(leaf(header));
                chunks.forEach(c -> tree.add(leaf(c)));
                tree.add(leaf(index));
                return tree.root();
            }
        }

        /** With the hashes that it should have. */
        Path write(Path to) throws IOException {
            List<byte[]> all = new ArrayList<>(List.of(header));
            all.addAll(chunks);
            long indexAt = all.stream().mapToLong(p -> p.length).sum();
            all.add(index);
            all.add(Layout.end(indexAt, signature, root()));
            return Files.write(to, concat(all.toArray(byte[][]::new)));
        }
    }

    private MalformedModelException malformed(Path bad, ArchiveKey key) throws IOException {
        MalformedModelException e = assertThrows(MalformedModelException.class, () -> {
            try (Archive archive = Archive.open(bad, key)) {
                expand(archive);
            }
        });
        assertTrue(nothingWritten());
        return e;
    }

    /** All hashes are right here; only who has the key can tell. */
    @Test
    void chunksAreNotSwappedReplayedOrLeftOut() throws IOException {
        Path a = pack("a.tpa", KEY, null);
        Path older = pack("older.tpa", KEY, null);
        Path bad = folder.resolve("bad.tpa");
        new Parts(a).write(bad);
        assertEquals(-1, Files.mismatch(a, bad));
        Parts p = new Parts(a);
        assertTrue(p.chunks.size() >= 3);
        p.chunks.add(p.chunks.remove(0));
        malformed(p.write(bad), KEY);
        p = new Parts(a);
        p.chunks.set(1, p.chunks.get(0));
        malformed(p.write(bad), KEY);
        p = new Parts(a);
        p.chunks.removeLast();
        malformed(p.write(bad), KEY);
        p = new Parts(a);
        p.chunks.add(p.chunks.getLast());
        malformed(p.write(bad), KEY);
        for (int i = 0; i < new Parts(a).chunks.size(); i++) {
            p = new Parts(a);
            p.chunks.set(i, new Parts(older).chunks.get(i));
            malformed(p.write(bad), KEY);
        }
        p = new Parts(a);
        p.index = new Parts(older).index;
        malformed(p.write(bad), KEY);
        p = new Parts(a);
        p.header = new Parts(older).header;
        malformed(p.write(bad), KEY);
    }

    /** The tags of pieces alone, without the digests that the index has of them. */
    @Test
    void piecesAreBoundToPlaceLengthAndArchive() throws IOException {
        Path a = pack("a.tpa", KEY, null);
        Parts p = new Parts(a);
        Parts older = new Parts(pack("older.tpa", KEY, null));
        ChunkCipher cipher = Sealing.open(a, 0, Arrays.copyOfRange(p.header, 16, p.header.length), KEY).cipher(p.header);
        byte[] first = p.chunks.get(0);
        byte[] second = p.chunks.get(1);
        assertTrue(opens(cipher, 0, first, first));
        assertTrue(opens(cipher, 1, second, second));
        assertFalse(opens(cipher, 0, first, second));
        assertFalse(opens(cipher, 1, second, first));
        assertFalse(opens(cipher, 0, older.chunks.get(0), older.chunks.get(0)));
        assertFalse(opens(cipher, 1, first, first));
        for (int i = 0; i < Frame.BYTES; i++) {
            byte[] frame = first.clone();
            frame[i] ^= 1;
            assertFalse(opens(cipher, 0, frame, first));
        }
        int last = p.chunks.size();
        assertTrue(opens(cipher, last, p.index, p.index));
        byte[] asChunk = p.index.clone();
        asChunk[20] = 0;
        assertFalse(opens(cipher, last, asChunk, p.index));
    }

    private static boolean opens(ChunkCipher cipher, long ordinal, byte[] frame, byte[] payload) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment f = arena.allocateFrom(ValueLayout.JAVA_BYTE, frame).asSlice(0, Frame.BYTES);
            MemorySegment sealed = arena.allocateFrom(ValueLayout.JAVA_BYTE, payload).asSlice(Frame.BYTES);
            return cipher.open(ordinal, f.asByteBuffer(), sealed.asByteBuffer(), arena.allocate(sealed.byteSize()).asByteBuffer());
        }
    }

    /** Archives of an earlier day, that {@code pack} made of two files; the second of RFC 8032's keys signed one of them. */
    @Test
    void whatWasSealedOnceStillOpens() throws Exception {
        Path text = Files.createFile(folder.resolve("k"), PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        Files.writeString(text, "tensorpress-key-1:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n");
        Map<String, ArchiveKey> keys = Map.of("key.tpa", ArchiveKey.read(text), "passphrase.tpa", ArchiveKey.ofPassphrase("correct horse"));
        for (Map.Entry<String, ArchiveKey> e : keys.entrySet()) {
            Path a = Path.of(SealedArchiveTest.class.getResource("/sealed/" + e.getKey()).toURI());
            Parts p = new Parts(a);
            ChunkCipher cipher = Sealing.open(a, 0, Arrays.copyOfRange(p.header, 16, p.header.length), e.getValue()).cipher(p.header);
            assertEquals(1, p.chunks.size());
            assertEquals("sealed once\n{\"layers\": 2}\n", plain(cipher, 0, p.chunks.getFirst()));
            plain(cipher, 1, p.index);
            assertEquals(e.getKey().equals("key.tpa") ? Optional.of("deb2ded39dc26fce0e6085b6fc34bf6b5941913bbfe2ea614113cff9e004c170")
                    : Optional.empty(), Verification.of(a, null).signer().map(VerifyingKey::fingerprint));
        }
    }

    private static String plain(ChunkCipher cipher, long ordinal, byte[] piece) {
        ByteBuffer out = ByteBuffer.allocateDirect(piece.length - Frame.BYTES - cipher.overhead());
        assertTrue(cipher.open(ordinal, ByteBuffer.wrap(piece, 0, Frame.BYTES), ByteBuffer.wrap(piece, Frame.BYTES, piece.length - Frame.BYTES),
                out));
        return StandardCharsets.ISO_8859_1.decode(out.flip()).toString();
    }

    /** Without a key given, what was encrypted may become what is not: then it is another archive, and has no signature. */
    @Test
    void encryptionIsNotTakenAway() throws IOException {
        Path a = pack("a.tpa", KEY, SIGNER);
        Path bad = folder.resolve("bad.tpa");
        Parts plain = new Parts(pack("plain.tpa", null, null));
        assertThrows(WrongKeyException.class, () -> Archive.open(plain.write(bad), KEY));
        plain.signature = new Parts(a).signature;
        malformed(plain.write(bad), null);
        // Parameters that are too few, or too many.
        Parts p = new Parts(a);
        for (int length : new int[] {1, 75, 77}) {
            p.header = concat(Arrays.copyOf(p.header, 12), ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(length).array(),
                    new byte[length]);
            assertEquals(16, malformed(p.write(bad), KEY).offset());
        }
    }

    @Test
    void signaturesAreNotStrippedExchangedOrMoved() throws IOException {
        for (ArchiveKey key : new ArchiveKey[] {null, KEY}) {
            Path a = pack("a.tpa", key, SIGNER);
            Path bad = folder.resolve("bad.tpa");
            VerifyingKey mine = SIGNER.verifying();
            // Stripped: a good archive, that nobody signed.
            Parts p = new Parts(a);
            p.signature = new byte[0];
            p.write(bad);
            assertEquals(Optional.empty(), Verification.of(bad, null).signer());
            assertTrue(refused(bad, key, mine).contains("is not signed"));
            // Signed anew, by somebody else.
            SigningKey other = SigningKey.random("");
            p.signature = Signatures.write(other, p.root());
            p.write(bad);
            assertEquals(Optional.of(other.verifying()), Verification.of(bad, null).signer());
            assertTrue(refused(bad, key, mine).contains("it is signed by " + other.verifying().fingerprint()));
            // By somebody else, with this one's name.
            System.arraycopy(mine.raw(), 0, p.signature, 0, 32);
            assertTrue(malformed(p.write(bad), key).getMessage().contains("the signature is not one of this archive"));
            assertThrows(MalformedModelException.class, () -> Verification.of(bad, null));
            // From another archive of the same signer.
            p = new Parts(a);
            p.signature = new Parts(pack("b.tpa", key, SIGNER, "config.json")).signature;
            malformed(p.write(bad), key);
            // Other contents, with hashes that fit; of an encrypted one, only the hashes do.
            p = new Parts(a);
            p.chunks.getLast()[Frame.BYTES + 20] ^= 1;
            p.write(bad);
            assertThrows(MalformedModelException.class, () -> Verification.of(bad, null));
            malformed(bad, key);
            // Of another length, or with a key that is none.
            for (int length : new int[] {1, 95, 97}) {
                p = new Parts(a);
                p.signature = Arrays.copyOf(p.signature, length);
                malformed(p.write(bad), key);
            }
            p = new Parts(a);
            Arrays.fill(p.signature, 0, 32, (byte) 0);
            p.signature[0] = 2;
            assertTrue(malformed(p.write(bad), key).getMessage().contains("expected a public key"));
            // What is signed is the root with words before it, never the root as such.
            p = new Parts(a);
            p.signature = concat(mine.raw(), SIGNER.sign(p.root()));
            malformed(p.write(bad), key);
        }
    }

    private String refused(Path file, ArchiveKey key, VerifyingKey expected) throws IOException {
        String message = assertThrows(MalformedModelException.class,
                () -> Verification.of(file, null).requireSigner(file, expected)).getMessage();
        try (Archive archive = Archive.open(file, key)) {
            assertEquals(message, assertThrows(MalformedModelException.class, () -> archive.requireSigner(expected)).getMessage());
        }
        return message;
    }

    /** Lengths that lead past the index, or to no end. */
    @Test
    void framesAreFollowedOnlyWithinTheFile() throws IOException {
        Path a = pack("a.tpa", null, null);
        Path bad = folder.resolve("bad.tpa");
        byte[] good = Files.readAllBytes(a);
        for (int stored : new int[] {-1, -32, -33, Integer.MIN_VALUE, Integer.MAX_VALUE, 17 << 20, good.length, 0, 1}) {
            byte[] changed = good.clone();
            ByteBuffer.wrap(changed).order(ByteOrder.LITTLE_ENDIAN).putInt(16 + 16, stored);
            Files.write(bad, changed);
            assertThrows(MalformedModelException.class, () -> Verification.of(bad, null));
        }
    }

    /** Indexes and chunks whose hashes are right, and which say anything: what opens all the same is read, or found out. */
    @RandomTest
    void anArchiveOfAnybodyIsReadOrRefused() throws IOException {
        Random random = Effort.random();
        ByteBuffer elements = ByteBuffer.allocate(16_000).order(ByteOrder.LITTLE_ENDIAN);
        while (elements.position() < 2400) {
            elements.putFloat((float) random.nextGaussian());
        }
        while (elements.position() < 4800) {
            elements.putShort((short) (Float.floatToIntBits((float) random.nextGaussian()) >> 16));
        }
        while (elements.hasRemaining()) {
            elements.put((byte) Math.round(3 * random.nextGaussian())); // few values, whatever they are elements of
        }
        Path data = Files.write(in.resolve("data"), elements.array());
        InputFiles inputs = new InputFiles();
        inputs.add(data);
        DType[] types = {DType.F32, DType.BF16, DType.F8E4M3, DType.I8, DType.U4, DType.I32};
        List<Model.Array> arrays = new ArrayList<>();
        for (int i = 0; i < types.length; i++) {
            arrays.add(new Model.Array(types[i].name(), data, 2400 * i, types[i], Shape.of(2400 * 8 / types[i].bits())));
        }
        Path a = folder.resolve("a.tpa");
        Packer.pack(new Packer.Contents(Map.of("data", data), true, "", arrays, inputs), new Packer.Settings(null, null, null, 1, 64 << 20, null),
                a, true);
        Parts good = new Parts(a);
        List<Integer> codings = good.chunks.stream().map(c -> (int) c[20]).toList();
        assertTrue(Collections.frequency(codings, Frame.Stored.CODED.ordinal()) >= 4, codings.toString());
        Path bad = folder.resolve("bad.tpa");
        int opened = 0;
        for (int i = 0; i < 1500; i++) {
            Parts p = new Parts(a);
            byte[] index = concat(Arrays.copyOf(p.index, Frame.BYTES), Zstd.decompress(Arrays.copyOfRange(p.index, Frame.BYTES, p.index.length)));
            if (random.nextBoolean()) {
                change(random, index);
                if (random.nextInt(8) == 0) {
                    index = Arrays.copyOf(index, random.nextInt(Frame.BYTES, index.length + 10));
                }
            } else {
                int chunk = random.nextInt(p.chunks.size());
                change(random, p.chunks.get(chunk));
                byte[] digest = leaf(p.chunks.get(chunk));
                System.arraycopy(digest, 0, index, index.length - 52 * (p.chunks.size() - chunk) + 20, digest.length);
            }
            byte[] coded = Zstd.compress(Arrays.copyOfRange(index, Frame.BYTES, index.length));
            p.index = concat(Arrays.copyOf(index, Frame.BYTES), coded);
            ByteBuffer.wrap(p.index).order(ByteOrder.LITTLE_ENDIAN).putInt(12, index.length - Frame.BYTES).putInt(16, coded.length);
            p.write(bad);
            try (Archive archive = Archive.open(bad)) {
                opened++;
                for (Archive.Array x : archive.arrays()) {
                    try (Arena arena = Arena.ofConfined()) {
                        archive.weight(x.name(), arena.allocate(x.bytes()));
                    }
                }
                expand(archive);
                Unpacker.delete(out);
            } catch (MalformedModelException | UnsupportedRequestException e) {
                assertTrue(nothingWritten());
            }
        }
        assertTrue(opened > 500, opened + " of them opened");
    }

    /** Some bytes behind the frame. */
    private static void change(Random random, byte[] piece) {
        ByteBuffer b = ByteBuffer.wrap(piece).order(ByteOrder.LITTLE_ENDIAN);
        for (int changes = random.nextInt(1, 4); changes > 0; changes--) {
            int at = Frame.BYTES + random.nextInt(Math.min(piece.length - Frame.BYTES - 8, random.nextBoolean() ? 64 : Integer.MAX_VALUE));
            switch (random.nextInt(4)) {
                case 0 -> b.put(at, (byte) random.nextInt());
                case 1 -> b.putInt(at, random.nextInt(-2, 3));
                case 2 -> b.putLong(at, Long.MAX_VALUE - random.nextInt(3));
                default -> b.putInt(at, 1 << random.nextInt(32));
            }
        }
    }

    /** Each folder of each name is looked up, and there may be half as many as there are letters. */
    @Test
    void namesLieInAsManyFoldersAsAnybodyHas() {
        for (int folders : new int[] {63, 64, 2000}) {
            List<Index.Member> members = new ArrayList<>();
            for (int i = 0; i < 5000; i++) {
                members.add(new Index.Member(i + "/" + "a/".repeat(folders - 1) + "b", 0, new byte[32]));
            }
            byte[] bytes = new Index(true, "", members, List.of(), List.of(), List.of(), List.of()).write();
            if (folders == 63) {
                assertEquals(5000, Index.read(ByteBuffer.wrap(bytes), FILE, 0, 0).members().size());
            } else {
                String message = assertThrows(MalformedModelException.class, () -> Index.read(ByteBuffer.wrap(bytes), FILE, 0, 0)).getMessage();
                assertTrue(message.contains("more than 63 folders"), message);
            }
        }
    }
}
