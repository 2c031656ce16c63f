package dev.tensorpress.model.archive;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Map;
import org.bouncycastle.crypto.InvalidCipherTextException;
import org.bouncycastle.crypto.digests.SHA256Digest;
import org.bouncycastle.crypto.engines.AESEngine;
import org.bouncycastle.crypto.generators.HKDFBytesGenerator;
import org.bouncycastle.crypto.modes.GCMBlockCipher;
import org.bouncycastle.crypto.params.AEADParameters;
import org.bouncycastle.crypto.params.HKDFParameters;
import org.bouncycastle.crypto.params.KeyParameter;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Keys, what a header says of encryption, and sealed pieces; Bouncy Castle is the second opinion. */
final class SealingTest {
    private static final Path FILE = Path.of("m.tpa");
    /** As few as there may be, since what they cost is not what is tested. */
    private static final Argon2 CHEAP = new Argon2(8, 1, 1);
    private static final HexFormat HEX = HexFormat.of();

    @TempDir
    Path folder;

    private static byte[] bytes(int length, int first) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) (first + i * 7 + i / 256);
        }
        return bytes;
    }

    private ArchiveKey key(byte[] secret) throws IOException {
        Path file = folder.resolve("k" + secret[0]);
        if (!Files.exists(file)) {
            Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
            Files.writeString(file, "tensorpress-key-1:" + HEX.formatHex(secret) + "\n");
        }
        return ArchiveKey.read(file);
    }

    private static ByteBuffer direct(byte[] bytes) {
        return ByteBuffer.allocateDirect(bytes.length).put(bytes).flip();
    }

    private static byte[] seal(ChunkCipher cipher, long ordinal, byte[] associated, byte[] plain) {
        ByteBuffer out = ByteBuffer.allocateDirect(plain.length + cipher.overhead());
        ByteBuffer in = direct(plain);
        cipher.seal(ordinal, direct(associated), in, out);
        assertFalse(in.hasRemaining() || out.hasRemaining());
        byte[] sealed = new byte[out.flip().remaining()];
        out.get(sealed);
        return sealed;
    }

    /** Null if it does not open. */
    private static byte[] open(ChunkCipher cipher, long ordinal, byte[] associated, byte[] sealed) {
        ByteBuffer out = ByteBuffer.allocateDirect(Math.max(0, sealed.length - cipher.overhead()));
        if (!cipher.open(ordinal, direct(associated), direct(sealed), out)) {
            return null;
        }
        byte[] plain = new byte[out.flip().remaining()];
        out.get(plain);
        return plain;
    }

    private static byte[] expand(byte[] secret, byte[] salt, String info, int length) {
        HKDFBytesGenerator hkdf = new HKDFBytesGenerator(new SHA256Digest());
        hkdf.init(new HKDFParameters(secret, salt, info.getBytes(StandardCharsets.US_ASCII)));
        byte[] out = new byte[length];
        hkdf.generateBytes(out, 0, length);
        return out;
    }

    private static byte[] sha256(byte[] bytes) {
        SHA256Digest d = new SHA256Digest();
        d.update(bytes, 0, bytes.length);
        byte[] out = new byte[32];
        d.doFinal(out, 0);
        return out;
    }

    /** What the page on archives says, by another library. */
    @Test
    void anotherLibraryOpensIt() throws IOException, InvalidCipherTextException {
        byte[] secret = bytes(32, 3);
        byte[] salt = bytes(32, 90);
        Sealing sealing = Sealing.create(key(secret), salt, null);
        byte[] header = sealing.bytes();
        ByteBuffer expected = ByteBuffer.allocate(76).order(ByteOrder.LITTLE_ENDIAN).put((byte) 1).put((byte) 0).putShort((short) 0)
                .putInt(0).putInt(0).put(salt).put(expand(secret, salt, "tensorpress archive 1 check", 32));
        assertArrayEquals(expected.array(), header);
        byte[] whole = bytes(200, 8);
        byte[] frame = bytes(32, 1);
        byte[] plain = bytes(100_000, 5);
        byte[] sealed = seal(sealing.cipher(whole), 258, frame, plain);
        GCMBlockCipher gcm = (GCMBlockCipher) GCMBlockCipher.newInstance(AESEngine.newInstance());
        gcm.init(false, new AEADParameters(new KeyParameter(expand(secret, salt, "tensorpress archive 1 pieces", 32)), 128,
                HEX.parseHex("000000000000000000000102")));
        byte[] hash = sha256(whole);
        gcm.processAADBytes(hash, 0, hash.length);
        gcm.processAADBytes(frame, 0, frame.length);
        byte[] back = new byte[gcm.getOutputSize(sealed.length)];
        int done = gcm.processBytes(sealed, 0, sealed.length, back, 0);
        assertEquals(plain.length, done + gcm.doFinal(back, done));
        assertArrayEquals(plain, back);
    }

    /** A known answer of Argon2's own tests; then what is derived is the secret that a key would be. */
    @Test
    void passphrasesAreDerivedByArgon2() throws IOException {
        assertEquals("9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe", HEX.formatHex(new Argon2(256, 2, 1)
                .derive("password".getBytes(StandardCharsets.UTF_8), "somesalt".getBytes(StandardCharsets.UTF_8))));
        byte[] salt = bytes(32, 90);
        Argon2 argon2 = new Argon2(32, 2, 3);
        byte[] header = Sealing.create(ArchiveKey.ofPassphrase("entrée"), salt, argon2).bytes();
        byte[] derived = argon2.derive("entrée".getBytes(StandardCharsets.UTF_8), salt);
        ByteBuffer expected = ByteBuffer.allocate(76).order(ByteOrder.LITTLE_ENDIAN).put((byte) 1).put((byte) 1).putShort((short) 3)
                .putInt(32).putInt(2).put(salt).put(expand(derived, salt, "tensorpress archive 1 check", 32));
        assertArrayEquals(expected.array(), header);
        // However accents are composed.
        Sealing.open(FILE, 0, header, ArchiveKey.ofPassphrase("entre\u0301e"));
        assertThrows(WrongKeyException.class, () -> Sealing.open(FILE, 0, header, ArchiveKey.ofPassphrase("entree")));
        assertThrows(IllegalArgumentException.class, () -> ArchiveKey.ofPassphrase(""));
        assertEquals(new Argon2(65536, 3, 4), Argon2.USUAL);
    }

    @Test
    void sealedPiecesOpenWhereTheyWereSealedAndNowhereElse() throws IOException {
        ArchiveKey key = ArchiveKey.random();
        Sealing sealing = Sealing.create(key);
        byte[] header = bytes(300, 2);
        byte[] frame = bytes(32, 4);
        for (int length : new int[] {0, 1, 15, 16, 17, 4095, 70_001}) {
            byte[] plain = bytes(length, 6);
            byte[] sealed = seal(sealing.cipher(header), 7, frame, plain);
            assertEquals(length + 16, sealed.length);
            ChunkCipher reader = Sealing.open(FILE, 0, sealing.bytes(), key).cipher(header);
            assertArrayEquals(plain, open(reader, 7, frame, sealed));
            assertNull(open(reader, 8, frame, sealed));
            byte[] otherFrame = frame.clone();
            otherFrame[31] ^= 1;
            assertNull(open(reader, 7, otherFrame, sealed));
            byte[] otherHeader = header.clone();
            otherHeader[299] ^= 1;
            assertNull(open(sealing.cipher(otherHeader), 7, frame, sealed));
            assertNull(open(Sealing.create(key).cipher(header), 7, frame, sealed)); // another archive with the same secret
            for (int cut : new int[] {0, 1, 15, 16, sealed.length - 1}) {
                assertNull(open(reader, 7, frame, Arrays.copyOf(sealed, Math.min(cut, sealed.length - 1))));
            }
            for (int at = 0; at < sealed.length; at += Math.max(1, sealed.length / 50)) {
                byte[] changed = sealed.clone();
                changed[at] ^= 0x10;
                assertNull(open(reader, 7, frame, changed));
            }
        }
    }

    private static void assertNull(byte[] opened) {
        org.junit.jupiter.api.Assertions.assertNull(opened);
    }

    /** Two texts with one nonce would show how they differ. */
    @Test
    void nothingIsSealedTwiceInOnePlace() {
        ChunkCipher cipher = Sealing.create(ArchiveKey.random()).cipher(new byte[4]);
        byte[] first = seal(cipher, 0, new byte[0], new byte[40]);
        assertFalse(Arrays.equals(first, seal(cipher, 1, new byte[0], new byte[40])));
        assertThrows(IllegalStateException.class, () -> seal(cipher, 0, new byte[0], new byte[40]));
    }

    /** The same secret, other salts. */
    @Test
    void noTwoArchivesShareAKey() {
        ArchiveKey key = ArchiveKey.random();
        Sealing one = Sealing.create(key);
        Sealing two = Sealing.create(key);
        assertFalse(Arrays.equals(one.bytes(), two.bytes()));
        assertFalse(Arrays.equals(seal(one.cipher(new byte[4]), 0, new byte[0], new byte[40]),
                seal(two.cipher(new byte[4]), 0, new byte[0], new byte[40])));
    }

    @Test
    void aWrongKeyIsToldFromTheHeader() throws IOException {
        ArchiveKey key = key(bytes(32, 3));
        byte[] header = Sealing.create(key).bytes();
        assertArrayEquals(header, Sealing.open(FILE, 0, header, key).bytes());
        for (ArchiveKey other : new ArchiveKey[] {ArchiveKey.random(), ArchiveKey.ofPassphrase("x"), null}) {
            String message = assertThrows(WrongKeyException.class, () -> Sealing.open(FILE, 0, header, other)).getMessage();
            assertTrue(message.startsWith("m.tpa is encrypted with a"), message);
        }
        byte[] phrase = Sealing.create(ArchiveKey.ofPassphrase("x"), bytes(32, 1), CHEAP).bytes();
        for (ArchiveKey other : new ArchiveKey[] {key, null}) {
            String message = assertThrows(WrongKeyException.class, () -> Sealing.open(FILE, 0, phrase, other)).getMessage();
            assertTrue(message.startsWith("m.tpa is encrypted with a passphrase"), message);
        }
        for (byte[] good : new byte[][] {header, phrase}) {
            ArchiveKey right = good == header ? key : ArchiveKey.ofPassphrase("x");
            for (int bit = 0; bit < 8 * good.length; bit += 3) {
                byte[] changed = good.clone();
                changed[bit / 8] ^= (byte) (1 << bit % 8);
                RuntimeException e = assertThrows(RuntimeException.class, () -> Sealing.open(FILE, 0, changed, right));
                assertTrue(e instanceof WrongKeyException || e instanceof MalformedModelException, e.toString());
            }
        }
    }

    /** Before memory is taken. */
    @Test
    void headersAskForNoMoreWorkThanTheyMay() {
        byte[] header = Sealing.create(ArchiveKey.ofPassphrase("x"), bytes(32, 1), CHEAP).bytes();
        ByteBuffer view = ByteBuffer.wrap(header).order(ByteOrder.LITTLE_ENDIAN);
        for (int[] hostile : new int[][] {{2, 17}, {2, 0}, {2, -1}, {4, (256 << 10) + 1}, {4, 64 << 20}, {4, -1}, {4, 7}, {8, 0}, {8, 11},
                {8, Integer.MAX_VALUE}}) {
            byte[] before = header.clone();
            if (hostile[0] == 2) {
                view.putShort(2, (short) hostile[1]);
            } else {
                view.putInt(hostile[0], hostile[1]);
            }
            MalformedModelException e = assertThrows(MalformedModelException.class,
                    () -> Sealing.open(FILE, 12, header, ArchiveKey.ofPassphrase("x")));
            assertEquals(12, e.offset());
            assertTrue(e.getMessage().contains("of Argon2id"), e.getMessage());
            System.arraycopy(before, 0, header, 0, before.length);
        }
    }

    @Test
    void keysAreFilesOfTheirOwnerAlone() throws IOException {
        Path file = folder.resolve("key");
        ArchiveKey key = ArchiveKey.random();
        key.write(file);
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file)));
        assertTrue(Files.readString(file).matches("tensorpress-key-1:[0-9a-f]{64}\n"));
        Sealing.open(FILE, 0, Sealing.create(key).bytes(), ArchiveKey.read(file));
        byte[] before = Files.readAllBytes(file);
        assertThrows(FileAlreadyExistsException.class, () -> ArchiveKey.random().write(file));
        assertArrayEquals(before, Files.readAllBytes(file));
        for (String open : new String[] {"rw-r-----", "rw----r--", "rw--w----", "rwx-----x"}) {
            Files.setPosixFilePermissions(file, PosixFilePermissions.fromString(open));
            String message = assertThrows(UnsupportedRequestException.class, () -> ArchiveKey.read(file)).getMessage();
            assertTrue(message.contains(open) && message.contains("chmod 600"), message);
        }
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("r--------"));
        ArchiveKey.read(file);
        assertNotEquals(HEX.formatHex(before), key.toString());
        assertFalse(key.toString().matches(".*[0-9a-f]{8}.*"));
    }

    @Test
    void whatIsNoKeyIsRefused() throws IOException {
        Path file = folder.resolve("key");
        Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        String good = "tensorpress-key-1:" + "0123456789abcdef".repeat(4);
        for (String bad : new String[] {"", "\n", good.substring(1), good.substring(0, good.length() - 1), good + "0", good.replace('f', 'g'),
                good + "\n" + good, "-".repeat(70_000)}) {
            Files.writeString(file, bad);
            MalformedModelException e = assertThrows(MalformedModelException.class, () -> ArchiveKey.read(file));
            assertFalse(e.getMessage().contains("0123"), e.getMessage()); // a key that is spelt wrong is still a secret
        }
        Files.writeString(file, "\nx\n");
        assertThrows(MalformedModelException.class, () -> ArchiveKey.readPassphrase(file));
    }

    @Test
    void theEnvironmentNamesAKeyOrIsAPassphrase() throws IOException {
        Path file = folder.resolve("key");
        ArchiveKey.random().write(file);
        assertFalse(ArchiveKey.of(Map.of("TENSORPRESS_KEY_FILE", file.toString())).isPassphrase());
        assertTrue(ArchiveKey.of(Map.of("TENSORPRESS_PASSPHRASE", "x")).isPassphrase());
        assertEquals(null, ArchiveKey.of(Map.of("TENSORPRESS_PASSPHRASE", "")));
        assertThrows(UnsupportedRequestException.class,
                () -> ArchiveKey.of(Map.of("TENSORPRESS_KEY_FILE", file.toString(), "TENSORPRESS_PASSPHRASE", "x")));
        Path phrase = folder.resolve("phrase");
        Files.createFile(phrase, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        Files.writeString(phrase, "two words\nand a line\n");
        Sealing.open(FILE, 0, Sealing.create(ArchiveKey.readPassphrase(phrase), bytes(32, 1), CHEAP).bytes(),
                ArchiveKey.ofPassphrase("two words"));
    }
}
