package dev.tensorpress.model.onnx;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** The elements of which a bit is set, or where they are: what a sparse tensor of ONNX consists of. */
final class Coordinates {
    private static final int CHUNK = 1 << 14;

    private Coordinates() {}

    /** Takes bytes in pieces. */
    @FunctionalInterface
    interface Sink {
        void put(ByteBuffer bytes) throws IOException;
    }

    /**
     * Writes the elements that are stored, in their order, or the position of each as a little-endian int64.
     *
     * @param size bytes of an element, 2 or 4
     */
    static void write(MemorySegment elements, int size, boolean positions, Sink to) throws IOException {
        int step = positions ? 8 : size;
        // Through the heap: before the JIT has run, reads from a segment cost ten times as much.
        byte[] chunk = new byte[CHUNK];
        ByteBuffer in = ByteBuffer.wrap(chunk).order(ByteOrder.LITTLE_ENDIAN);
        ByteBuffer out = ByteBuffer.allocate(CHUNK / size * step).order(ByteOrder.LITTLE_ENDIAN);
        for (long from = 0; from < elements.byteSize(); from += CHUNK) {
            int n = (int) Math.min(CHUNK, elements.byteSize() - from);
            MemorySegment.copy(elements, ValueLayout.JAVA_BYTE, from, chunk, 0, n);
            for (int i = 0; i < n; i += size) {
                int bits = size == 4 ? in.getInt(i) : in.getShort(i);
                if (bits == 0) {
                    continue;
                }
                if (positions) {
                    out.putLong((from + i) / size);
                } else if (size == 4) {
                    out.putInt(bits);
                } else {
                    out.putShort((short) bits);
                }
            }
            to.put(out.flip());
            out.clear();
        }
    }
}
