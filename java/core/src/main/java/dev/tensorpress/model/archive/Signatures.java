package dev.tensorpress.model.archive;

import dev.tensorpress.model.MalformedModelException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.util.Arrays;

/** The part of an archive behind its index: the key that signed the root of its hash tree, and the signature. */
final class Signatures {
    private static final byte[] PREFIX = "tensorpress archive 1 root ".getBytes(StandardCharsets.US_ASCII);

    private Signatures() {}

    /** @param signer or null: then the part has no bytes */
    static byte[] write(SigningKey signer, byte[] root) {
        if (signer == null) {
            return new byte[0];
        }
        byte[] all = Arrays.copyOf(signer.verifying().raw(), VerifyingKey.BYTES + VerifyingKey.SIGNATURE);
        System.arraycopy(signer.sign(message(root)), 0, all, VerifyingKey.BYTES, VerifyingKey.SIGNATURE);
        return all;
    }

    /**
     * Whose signature it is; null if there is none.
     *
     * @throws MalformedModelException if it is not one of this root
     */
    static VerifyingKey read(Path file, Layout layout) {
        byte[] part = layout.signature();
        long at = layout.signatureAt();
        if (part.length == 0) {
            return null;
        }
        if (part.length != VerifyingKey.BYTES + VerifyingKey.SIGNATURE) {
            throw new MalformedModelException(file, at, "expected a signature of " + (VerifyingKey.BYTES + VerifyingKey.SIGNATURE)
                    + " bytes with its key, this has " + part.length);
        }
        VerifyingKey key;
        try {
            key = VerifyingKey.of(Arrays.copyOf(part, VerifyingKey.BYTES));
        } catch (GeneralSecurityException e) {
            throw new MalformedModelException(file, at, "expected a public key of Ed25519, this is none: " + e.getMessage());
        }
        if (!key.verifies(message(layout.root()), Arrays.copyOfRange(part, VerifyingKey.BYTES, part.length))) {
            throw new MalformedModelException(file, at + VerifyingKey.BYTES, "the signature is not one of this archive by the key "
                    + key.fingerprint());
        }
        return key;
    }

    private static byte[] message(byte[] root) {
        byte[] message = Arrays.copyOf(PREFIX, PREFIX.length + root.length);
        System.arraycopy(root, 0, message, PREFIX.length, root.length);
        return message;
    }

    /** @throws MalformedModelException unless the archive is signed, and by whom is expected */
    static void require(Path file, VerifyingKey found, VerifyingKey expected) {
        if (!expected.equals(found)) {
            throw new MalformedModelException(file, -1, "expected a signature by " + expected + ", "
                    + (found == null ? "the archive is not signed" : "it is signed by " + found));
        }
    }
}
