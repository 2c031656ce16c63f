package dev.tensorpress.model.archive;

import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
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
import java.util.function.LongConsumer;

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

    /**
     * Signs an archive, encrypted or not, by its bytes alone: of a signature that it has nothing is left. All hashes are checked first. The result is whole or
     * absent at any moment, and so is the archive, where it takes the place of that.
     *
     * @param out where the signed archive goes, beside which it is written first; {@code archive} itself to replace that
     * @param replace whether the signature that {@code archive} has, or another file of that name, may be replaced
     * @param progress told how many bytes are copied; or null
     * @throws MalformedModelException if it is no archive, is cut, or was changed
     * @throws UnsupportedRequestException if it is signed and would lose that
     * @throws java.nio.file.FileAlreadyExistsException if there is another file of that name, and that may not be replaced
     * @throws IOException if the archive cannot be read, changes meanwhile, or cannot be written
     */
    public Verification sign(Path archive, Path out, boolean replace, LongConsumer progress) throws IOException {
        InputFiles.named(archive);
        boolean inPlace = Files.exists(out) && Files.isSameFile(archive, out);
        Path target = inPlace ? InputFiles.target(archive) : out.toAbsolutePath().normalize();
        try (FileChannel channel = FileChannel.open(archive, StandardOpenOption.READ)) {
            if (inPlace && !replace && Layout.read(channel, archive).signature().length > 0) {
                throw new UnsupportedRequestException(archive + " is signed already; its signature is replaced only when asked to", "overwrite");
            }
        }
        try (Buffers buffers = new Buffers(0);
                StreamFile file = StreamFile.growing(target.getParent(), target.getFileName().toString(), buffers)) {
            if (inPlace) {
                file.permitAs(archive);
            }
            Verification.Checked checked = Verification.check(archive, progress, buffers, file);
            Layout layout = checked.layout();
            byte[] end = Layout.end(layout.indexAt(), Signatures.write(this, layout.root()), layout.root());
            file.write(MemorySegment.ofArray(end));
            file.commit(target, replace || inPlace);
            return checked.signed(layout.signatureAt() + end.length, verifying);
        }
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
