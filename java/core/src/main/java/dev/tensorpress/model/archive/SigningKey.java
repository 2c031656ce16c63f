package dev.tensorpress.model.archive;

import dev.tensorpress.model.MalformedModelException;
import java.io.IOException;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.SecureRandom;
import java.security.Signature;
import java.security.interfaces.EdECPrivateKey;
import java.security.interfaces.EdECPublicKey;
import java.security.spec.NamedParameterSpec;
import java.security.spec.PKCS8EncodedKeySpec;

/** The secret that somebody signs archives with, by Ed25519 (RFC 8032). Files are PEM with PKCS #8, as OpenSSL has them. */
public final class SigningKey {
    private static final String LABEL = "PRIVATE KEY";

    private final EdECPrivateKey key;
    private final VerifyingKey verifying;

    private SigningKey(KeyPair pair, String comment) {
        key = (EdECPrivateKey) pair.getPrivate();
        verifying = new VerifyingKey((EdECPublicKey) pair.getPublic(), comment);
    }

    /**
     * A new key.
     *
     * @param comment who has it, or what it is for; may be empty. Both files begin with it, and archives do not have it
     * @throws IllegalArgumentException if the comment could be taken for something else
     */
    public static SigningKey random(String comment) {
        if (comment.contains("-----") || comment.chars().anyMatch(Character::isISOControl)) {
            throw new IllegalArgumentException("the comment is not one line of text without -----");
        }
        return new SigningKey(pair(new SecureRandom()), comment.strip());
    }

    /**
     * Reads a file that {@link #write}, or {@code openssl genpkey -algorithm ed25519}, wrote.
     *
     * @throws MalformedModelException if it holds no such key
     * @throws dev.tensorpress.model.UnsupportedRequestException if others than its owner may read it
     */
    public static SigningKey read(Path file) throws IOException {
        Pem pem = Pem.parse(file, SecretFile.read(file), LABEL);
        try {
            EdECPrivateKey key = (EdECPrivateKey) KeyFactory.getInstance("Ed25519").generatePrivate(new PKCS8EncodedKeySpec(pem.data()));
            // The public key is not in the file, and generating a pair from these bytes is the JDK's only way to it.
            byte[] seed = key.getBytes().orElseThrow();
            KeyPair pair = pair(new SecureRandom() {
                private static final long serialVersionUID = 1;

                @Override
                public void nextBytes(byte[] bytes) {
                    System.arraycopy(seed, 0, bytes, 0, bytes.length);
                }
            });
            if (!key.equals(pair.getPrivate())) {
                throw new IllegalStateException("this JDK does not make keys of Ed25519 from their 32 bytes");
            }
            return new SigningKey(pair, pem.comment());
        } catch (GeneralSecurityException e) {
            throw new MalformedModelException(file, -1, "expected a private key of Ed25519, this is none: " + e.getMessage());
        }
    }

    private static KeyPair pair(SecureRandom random) {
        try {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("Ed25519");
            generator.initialize(NamedParameterSpec.ED25519, random);
            return generator.generateKeyPair();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }

    /**
     * Writes the key to a new file that only its owner may read.
     *
     * @throws java.nio.file.FileAlreadyExistsException if there is one
     */
    public void write(Path file) throws IOException {
        SecretFile.write(file, new Pem(verifying.comment(), key.getEncoded()).text(LABEL));
    }

    /** What others tell its signatures by. */
    public VerifyingKey verifying() {
        return verifying;
    }

    /** 64 bytes. */
    byte[] sign(byte[] message) {
        try {
            Signature signature = Signature.getInstance("Ed25519");
            signature.initSign(key);
            signature.update(message);
            return signature.sign();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }
}
