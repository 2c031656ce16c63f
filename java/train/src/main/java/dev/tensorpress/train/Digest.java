package dev.tensorpress.train;

import dev.tensorpress.tensor.Tensor;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** SHA-256 of names, texts and elements, in the order in which they are added. */
final class Digest {
    private static final long STEP = 8 << 20;

    private final MessageDigest sha;

    Digest() {
        try {
            sha = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    Digest add(String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        sha.update(ByteBuffer.allocate(4).putInt(bytes.length).flip());
        sha.update(bytes);
        return this;
    }

    Digest add(String name, Tensor t) {
        add(name + " " + t.dtype() + " " + t.shape());
        for (long at = 0; at < t.data().byteSize(); at += STEP) {
            sha.update(t.data().asSlice(at, Math.min(STEP, t.data().byteSize() - at)).asByteBuffer());
        }
        return this;
    }

    /** Of what has been added so far; more can be added after it. */
    String text() {
        try {
            return HexFormat.of().formatHex(((MessageDigest) sha.clone()).digest());
        } catch (CloneNotSupportedException e) {
            throw new IllegalStateException(e);
        }
    }
}
