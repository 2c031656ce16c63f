package dev.tensorpress.model.archive;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.CharBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.text.Normalizer;
import java.util.HexFormat;
import java.util.Map;

/**
 * The secret that archives are encrypted with: {@value #BYTES} random bytes, which a file holds, or a passphrase. Each archive has a key of
 * its own that is derived from it, so one secret serves any number of them.
 */
public final class ArchiveKey {
    /** The environment variable that names a file with a key. */
    public static final String KEY_FILE = "TENSORPRESS_KEY_FILE";
    /** The environment variable that is a passphrase. */
    public static final String PASSPHRASE = "TENSORPRESS_PASSPHRASE";

    static final int BYTES = 32;
    /** What a file of a key begins with; the bytes in hexadecimal and the end of the line follow. */
    private static final String PREFIX = "tensorpress-key-1:";

    private final byte[] secret;
    private final boolean passphrase;

    private ArchiveKey(byte[] secret, boolean passphrase) {
        this.secret = secret;
        this.passphrase = passphrase;
    }

    /** A new key. */
    public static ArchiveKey random() {
        byte[] secret = new byte[BYTES];
        new SecureRandom().nextBytes(secret);
        return new ArchiveKey(secret, false);
    }

    /**
     * A passphrase. How its letters with accents are composed makes no difference.
     *
     * @throws IllegalArgumentException if it is empty
     */
    public static ArchiveKey ofPassphrase(CharSequence passphrase) {
        if (passphrase.isEmpty()) {
            throw new IllegalArgumentException("the passphrase is empty");
        }
        String same = Normalizer.normalize(passphrase, Normalizer.Form.NFC);
        var bytes = StandardCharsets.UTF_8.encode(CharBuffer.wrap(same));
        byte[] secret = new byte[bytes.remaining()];
        bytes.get(secret);
        return new ArchiveKey(secret, true);
    }

    /**
     * Reads a file that {@link #write} wrote.
     *
     * @throws MalformedModelException if it holds no key
     * @throws UnsupportedRequestException if others than its owner may read it
     */
    public static ArchiveKey read(Path file) throws IOException {
        String text = SecretFile.read(file).strip();
        byte[] secret = null;
        if (text.startsWith(PREFIX) && text.length() == PREFIX.length() + 2 * BYTES) {
            try {
                secret = HexFormat.of().parseHex(text, PREFIX.length(), text.length());
            } catch (IllegalArgumentException e) {
                // said below
            }
        }
        if (secret == null) {
            throw new MalformedModelException(file, -1, "expected a key, which is one line, " + PREFIX + " and "
                    + 2 * BYTES + " hexadecimal digits");
        }
        return new ArchiveKey(secret, false);
    }

    /**
     * The first line of a file as a passphrase.
     *
     * @throws MalformedModelException if it is empty
     * @throws UnsupportedRequestException if others than its owner may read it
     */
    public static ArchiveKey readPassphrase(Path file) throws IOException {
        String line = SecretFile.read(file).lines().findFirst().orElse("");
        if (line.isEmpty()) {
            throw new MalformedModelException(file, -1, "expected a passphrase in the first line, which is empty");
        }
        return ofPassphrase(line);
    }

    /**
     * What {@value #KEY_FILE} or {@value #PASSPHRASE} names, or null if neither is set.
     *
     * @param environment such as {@link System#getenv()}
     * @throws UnsupportedRequestException if both are set
     */
    public static ArchiveKey of(Map<String, String> environment) throws IOException {
        String file = environment.getOrDefault(KEY_FILE, "");
        String text = environment.getOrDefault(PASSPHRASE, "");
        if (!file.isEmpty() && !text.isEmpty()) {
            throw new UnsupportedRequestException("both " + KEY_FILE + " and " + PASSPHRASE + " are set");
        }
        return !file.isEmpty() ? read(Path.of(file)) : !text.isEmpty() ? ofPassphrase(text) : null;
    }

    /**
     * Writes the key to a new file that only its owner may read.
     *
     * @throws java.nio.file.FileAlreadyExistsException if there is one: a key that is replaced is lost, and with it all archives of it
     * @throws IllegalStateException if this is a passphrase
     */
    public void write(Path file) throws IOException {
        if (passphrase) {
            throw new IllegalStateException("a passphrase is not written");
        }
        SecretFile.write(file, PREFIX + HexFormat.of().formatHex(secret) + "\n");
    }

    boolean isPassphrase() {
        return passphrase;
    }

    /** What keys of archives are derived from. {@code argon2} is null where this is no passphrase. */
    byte[] secret(Argon2 argon2, byte[] salt) {
        return passphrase ? argon2.derive(secret, salt) : secret.clone();
    }

    @Override
    public String toString() {
        return passphrase ? "a passphrase" : "a key"; // never more, since this may be shown
    }
}
