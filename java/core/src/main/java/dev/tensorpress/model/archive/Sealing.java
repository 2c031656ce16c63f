package dev.tensorpress.model.archive;

import dev.tensorpress.model.MalformedModelException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import javax.crypto.KDF;
import javax.crypto.SecretKey;
import javax.crypto.spec.HKDFParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * How an archive is encrypted: the part of its header that says so, and the key that is the archive's own. {@code docs/archive.md}
 * describes the bytes.
 */
final class Sealing {
    static final int BYTES = 76;

    private static final byte AES_256_GCM = 1;
    private static final byte KEY = 0;
    private static final byte ARGON2ID = 1;
    private static final int SALT = 32;
    private static final int CHECK = 32;

    private final byte[] bytes;
    private final SecretKey key;

    private Sealing(byte[] bytes, SecretKey key) {
        this.bytes = bytes;
        this.key = key;
    }

    /** Encryption of a new archive: with a salt that no other archive has, and so with another key. */
    static Sealing create(ArchiveKey secret) {
        byte[] salt = new byte[SALT];
        new SecureRandom().nextBytes(salt);
        Argon2 argon2 = secret.isPassphrase() ? Argon2.USUAL : null;
        return create(secret, salt, argon2);
    }

    /** {@link #create(ArchiveKey)} with nothing at random. */
    static Sealing create(ArchiveKey secret, byte[] salt, Argon2 argon2) {
        byte[] derived = secret.secret(argon2, salt);
        ByteBuffer to = ByteBuffer.allocate(BYTES).order(ByteOrder.LITTLE_ENDIAN);
        to.put(AES_256_GCM).put(argon2 == null ? KEY : ARGON2ID);
        to.putShort((short) (argon2 == null ? 0 : argon2.lanes())).putInt(argon2 == null ? 0 : argon2.memory());
        to.putInt(argon2 == null ? 0 : argon2.passes()).put(salt).put(expand(derived, salt, "check", CHECK));
        return new Sealing(to.array(), new SecretKeySpec(expand(derived, salt, "pieces", 32), "AES"));
    }

    /**
     * What opens the pieces of an archive that is read; null if they are not encrypted.
     *
     * @param key or null, for the one that the environment names
     * @throws MalformedModelException if its header says what none says, or asks for more work than it may
     * @throws WrongKeyException if it is not the key of this archive
     */
    static ChunkCipher cipher(Path file, Layout layout, ArchiveKey key) throws IOException {
        byte[] parameters = layout.parameters();
        if (parameters.length == 0) {
            if (key != null) {
                throw new WrongKeyException(file + " is not encrypted, and " + key + " was given: whoever has no key can have made it");
            }
            return null;
        }
        if (parameters.length != BYTES) {
            throw new MalformedModelException(file, layout.parametersAt(), "expected " + BYTES + " bytes that say how it is encrypted, there are "
                    + parameters.length);
        }
        return open(file, layout.parametersAt(), parameters, key != null ? key : ArchiveKey.of(System.getenv())).cipher(layout.header());
    }

    /**
     * Encryption of an archive that is read.
     *
     * @param header what it says, {@value #BYTES} bytes
     * @param offset of these in the file
     * @throws MalformedModelException if they are none, or ask for more work than they may
     * @throws WrongKeyException if it is not the secret of this archive, or null
     */
    static Sealing open(Path file, long offset, byte[] header, ArchiveKey secret) {
        ByteBuffer from = ByteBuffer.wrap(header).order(ByteOrder.LITTLE_ENDIAN);
        byte scheme = from.get();
        byte source = from.get();
        short lanes = from.getShort();
        int memory = from.getInt();
        int passes = from.getInt();
        byte[] salt = new byte[SALT];
        from.get(salt);
        byte[] check = new byte[CHECK];
        from.get(check);
        if (scheme != AES_256_GCM || source != KEY && source != ARGON2ID || source == KEY && (lanes | memory | passes) != 0) {
            throw new MalformedModelException(file, offset, "expected encryption by AES-256-GCM, with a key or a passphrase; there is scheme "
                    + scheme + " and source " + source);
        }
        Argon2 argon2 = null;
        try {
            argon2 = source == KEY ? null : new Argon2(memory, passes, lanes);
        } catch (IllegalArgumentException e) {
            throw new MalformedModelException(file, offset, e.getMessage());
        }
        String needed = argon2 == null ? "a key" : "a passphrase";
        if (secret == null) {
            throw new WrongKeyException(file + " is encrypted with " + needed + "; give it, or set "
                    + (argon2 == null ? ArchiveKey.KEY_FILE : ArchiveKey.PASSPHRASE));
        }
        if (secret.isPassphrase() != (argon2 != null)) {
            throw new WrongKeyException(file + " is encrypted with " + needed + ", and " + secret + " was given");
        }
        Sealing sealing = create(secret, salt, argon2);
        if (!MessageDigest.isEqual(sealing.bytes, header)) { // which takes as long wherever they differ
            throw new WrongKeyException(file + " is encrypted with another " + needed.substring(2) + ", or its header was changed");
        }
        return sealing;
    }

    /** What the header says. */
    byte[] bytes() {
        return bytes.clone();
    }

    /** What seals and opens the pieces of the archive with this header. */
    ChunkCipher cipher(byte[] header) {
        try {
            return new AesGcm(key, MessageDigest.getInstance("SHA-256").digest(header));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }

    private static byte[] expand(byte[] secret, byte[] salt, String purpose, int length) {
        try {
            return KDF.getInstance("HKDF-SHA256").deriveData(HKDFParameterSpec.ofExtract().addIKM(secret).addSalt(salt)
                    .thenExpand(("tensorpress archive 1 " + purpose).getBytes(StandardCharsets.US_ASCII), length));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }
}
