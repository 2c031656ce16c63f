package dev.tensorpress.model.archive;

import dev.tensorpress.model.MalformedModelException;
import java.io.IOException;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.Signature;
import java.security.SignatureException;
import java.security.interfaces.EdECPublicKey;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import java.util.HexFormat;

/** What tells whose a signature is: the public half of a {@link SigningKey}. Files are PEM with X.509, as OpenSSL has them. */
public final class VerifyingKey {
    static final int BYTES = 32;
    static final int SIGNATURE = 64;

    private static final String LABEL = "PUBLIC KEY";
    /** What X.509 has before the bytes of a key of Ed25519. */
    private static final byte[] X509 = HexFormat.of().parseHex("302a300506032b6570032100");

    private final EdECPublicKey key;
    private final String comment;

    VerifyingKey(EdECPublicKey key, String comment) {
        this.key = key;
        this.comment = comment;
    }

    /**
     * Reads a file that {@link #write}, or {@code openssl pkey -pubout}, wrote.
     *
     * @throws MalformedModelException if it holds no such key
     */
    public static VerifyingKey read(Path file) throws IOException {
        Pem pem = Pem.parse(file, SecretFile.readPublic(file), LABEL);
        try {
            return of(pem.data(), pem.comment());
        } catch (GeneralSecurityException e) {
            throw new MalformedModelException(file, -1, "expected a public key of Ed25519, this is none: " + e.getMessage());
        }
    }

    /**
     * The key of these bytes.
     *
     * @throws GeneralSecurityException if they are none
     */
    static VerifyingKey of(byte[] raw) throws GeneralSecurityException {
        byte[] encoded = Arrays.copyOf(X509, X509.length + BYTES);
        System.arraycopy(raw, 0, encoded, X509.length, BYTES);
        return of(encoded, "");
    }

    private static VerifyingKey of(byte[] encoded, String comment) throws GeneralSecurityException {
        PublicKey key = KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(encoded));
        Signature.getInstance("Ed25519").initVerify(key); // only this looks whether the bytes are those of a point
        return new VerifyingKey((EdECPublicKey) key, comment);
    }

    /**
     * Writes the key to a new file, which anyone may read.
     *
     * @throws java.nio.file.FileAlreadyExistsException if there is one
     */
    public void write(Path file) throws IOException {
        SecretFile.writePublic(file, new Pem(comment, key.getEncoded()).text(LABEL));
    }

    /** SHA-256 of the key in X.509, in hexadecimal: what {@code openssl pkey -pubin -outform DER | sha256sum} gives. */
    public String fingerprint() {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(key.getEncoded()));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }

    /** What the file said before the key, which no signature vouches for; empty if nothing. */
    public String comment() {
        return comment;
    }

    byte[] raw() {
        byte[] encoded = key.getEncoded();
        return Arrays.copyOfRange(encoded, X509.length, encoded.length);
    }

    /** Whether it is this key's signature of a message. */
    boolean verifies(byte[] message, byte[] signature) {
        try {
            Signature verifier = Signature.getInstance("Ed25519");
            verifier.initVerify(key);
            verifier.update(message);
            return verifier.verify(signature);
        } catch (SignatureException e) {
            return false; // its numbers are out of range
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof VerifyingKey v && Arrays.equals(raw(), v.raw());
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(raw());
    }

    @Override
    public String toString() {
        return fingerprint() + (comment.isEmpty() ? "" : " (" + comment + ")");
    }
}
