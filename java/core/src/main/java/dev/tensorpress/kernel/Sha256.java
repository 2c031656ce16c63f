package dev.tensorpress.kernel;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_sha256;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.HexFormat;

/**
 * SHA-256 of bytes off-heap that come in pieces. That of the JVM is fast only with the second compiler, and copies such bytes to
 * the heap.
 */
public final class Sha256 {
    private static final int DIGEST = 32;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private final MemorySegment state;
    private final MemorySegment digest;
    private final OneThread oneThread = new OneThread("this digest");

    /** @param arena that the state is in; with it, this object dies */
    public Sha256(Arena arena) {
        state = arena.allocate(tp_sha256.layout());
        digest = arena.allocate(DIGEST);
        start();
    }

    private void start() {
        Native.check("tp_sha256_start", Kernels.tp_sha256_start(state));
    }

    /** The next bytes of the message. */
    public void update(MemorySegment bytes) {
        update(null, bytes);
    }

    /** The next bytes of this message, and of {@code other}, if it is not null; which takes hardly longer than of one. */
    public void update(Sha256 other, MemorySegment bytes) {
        Native.input("bytes", bytes, 0, null);
        try (OneThread _ = oneThread.enter(); OneThread _ = (other == null ? this : other).oneThread.enter()) {
            Native.call("tp_sha256_update", null, 1, Native.Cost.of(bytes.byteSize(), 0), () ->
                    Kernels.tp_sha256_update(state, other == null ? MemorySegment.NULL : other.state, bytes, bytes.byteSize()));
        }
    }

    /** The digest in hexadecimal. Another message begins. */
    public String finish() {
        return HexFormat.of().formatHex(digest());
    }

    /** The 32 bytes of the digest. Another message begins. */
    public byte[] digest() {
        try (OneThread _ = oneThread.enter()) {
            Native.check("tp_sha256_finish", Kernels.tp_sha256_finish(state, digest));
            start();
            return digest.toArray(ValueLayout.JAVA_BYTE);
        }
    }
}
