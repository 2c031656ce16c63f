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
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Base64;
import java.util.HexFormat;
import org.bouncycastle.crypto.params.Ed25519PublicKeyParameters;
import org.bouncycastle.crypto.signers.Ed25519Signer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Keys of signatures, and their files. */
final class SigningTest {
    private static final HexFormat HEX = HexFormat.of();
    /** PKCS #8 of a key of Ed25519, before its 32 bytes. */
    private static final String PKCS8 = "302e020100300506032b657004220420";

    @TempDir
    Path folder;

    private Path secret(String name, String text) throws IOException {
        Path file = Files.createFile(folder.resolve(name), PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        return Files.writeString(file, text);
    }

    private static String pem(String label, byte[] data) {
        return "-----BEGIN " + label + "-----\n" + Base64.getEncoder().encodeToString(data) + "\n-----END " + label + "-----\n";
    }

    /** The second of RFC 8032's examples, from a file as OpenSSL writes it. */
    @Test
    void signsAsTheStandardHasIt() throws Exception {
        Path file = secret("rfc.pem", pem("PRIVATE KEY", HEX.parseHex(PKCS8 + "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")));
        SigningKey key = SigningKey.read(file);
        assertEquals("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", HEX.formatHex(key.verifying().raw()));
        byte[] signature = key.sign(new byte[] {0x72});
        assertEquals("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                + "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00", HEX.formatHex(signature));
        VerifyingKey other = VerifyingKey.of(key.verifying().raw());
        assertEquals(key.verifying(), other);
        assertTrue(other.verifies(new byte[] {0x72}, signature));
        assertFalse(other.verifies(new byte[] {0x73}, signature));
        assertFalse(SigningKey.random("").verifying().verifies(new byte[] {0x72}, signature));
        for (int bit = 0; bit < 512; bit += 5) {
            byte[] changed = signature.clone();
            changed[bit / 8] ^= (byte) (1 << bit % 8);
            assertFalse(other.verifies(new byte[] {0x72}, changed));
        }
        byte[] high = signature.clone();
        java.util.Arrays.fill(high, 32, 64, (byte) -1);
        assertFalse(other.verifies(new byte[] {0x72}, high));
    }

    @Test
    void keysAreWrittenAndReadAgain() throws Exception {
        SigningKey key = SigningKey.random("Model team, 2030");
        Path secret = folder.resolve("k.pem");
        Path open = folder.resolve("k.pub.pem");
        key.write(secret);
        key.verifying().write(open);
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(secret)));
        assertTrue(Files.readString(open).startsWith("Model team, 2030\n-----BEGIN PUBLIC KEY-----\n"), Files.readString(open));
        byte[] message = "what is signed".getBytes(StandardCharsets.UTF_8);
        byte[] signature = SigningKey.read(secret).sign(message);
        VerifyingKey verifying = VerifyingKey.read(open);
        assertTrue(verifying.verifies(message, signature));
        assertEquals("Model team, 2030", verifying.comment());
        assertEquals(verifying.fingerprint() + " (Model team, 2030)", verifying.toString());
        Ed25519Signer second = new Ed25519Signer();
        second.init(false, new Ed25519PublicKeyParameters(verifying.raw()));
        second.update(message, 0, message.length);
        assertTrue(second.verifySignature(signature));
        for (Path there : new Path[] {secret, open}) {
            byte[] before = Files.readAllBytes(there);
            assertThrows(FileAlreadyExistsException.class, () -> SigningKey.random("").write(there));
            assertThrows(FileAlreadyExistsException.class, () -> SigningKey.random("").verifying().write(there));
            assertArrayEquals(before, Files.readAllBytes(there));
        }
        Files.setPosixFilePermissions(secret, PosixFilePermissions.fromString("rw-r--r--"));
        assertThrows(UnsupportedRequestException.class, () -> SigningKey.read(secret));
        assertNotEquals(SigningKey.random("").verifying(), verifying);
    }

    @Test
    void whatIsNoKeyIsRefused() throws Exception {
        byte[] raw = SigningKey.random("").verifying().raw();
        String[] texts = {"", "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----\n-----BEGIN PUBLIC KEY-----",
            pem("PUBLIC KEY", raw), pem("PUBLIC KEY", new byte[0]), pem("PUBLIC KEY", HEX.parseHex(PKCS8 + HEX.formatHex(raw))),
            pem("PRIVATE KEY", HEX.parseHex("302a300506032b6570032100" + HEX.formatHex(raw))),
            "-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n", "x".repeat(70_000),
            // A key of X25519, and one whose bytes are those of no point.
            pem("PUBLIC KEY", HEX.parseHex("302a300506032b656e032100" + HEX.formatHex(raw))),
            pem("PUBLIC KEY", HEX.parseHex("302a300506032b6570032100" + "02" + "00".repeat(31)))};
        for (int i = 0; i < texts.length; i++) {
            Path file = secret("k" + i, texts[i]);
            assertThrows(MalformedModelException.class, () -> VerifyingKey.read(file), texts[i]);
            assertThrows(MalformedModelException.class, () -> SigningKey.read(file), texts[i]);
        }
        for (String bad : new String[] {"two\nlines", "-----BEGIN PUBLIC KEY-----", "\u001b[2J"}) {
            assertThrows(IllegalArgumentException.class, () -> SigningKey.random(bad));
        }
    }
}
