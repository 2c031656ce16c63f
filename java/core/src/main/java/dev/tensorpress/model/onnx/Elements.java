package dev.tensorpress.model.onnx;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Finds the elements of tensors, in whichever field or file they are. */
final class Elements {
    private static final int UINT32 = 12;
    private static final int UINT64 = 13;
    private static final int COMPLEX64 = 14;

    private final Wire w;
    private final DataFiles files;
    private final Arena arena;

    Elements(Wire w, DataFiles files, Arena arena) {
        this.w = w;
        this.files = files;
        this.arena = arena;
    }

    /** A view of the file where that is possible, or memory of the arena. Of all types of numbers that ONNX has and this library knows. */
    MemorySegment of(TensorInfo t) throws IOException {
        if (t.external) {
            return files.view(t);
        }
        if (t.hasRaw && (t.rawLength > 0 || t.typedCount == 0)) {
            return w.slice(t.rawStart, t.rawLength);
        }
        if (t.typedContiguous) {
            return w.slice(t.typedStart, t.bytes());
        }
        // Each number takes a byte at least, so this cannot outgrow the file by much.
        if (t.bytes() / unit(t) > t.end - t.start) {
            throw w.bad(t.start, "the shape of tensor '" + t.name + "' asks for " + t.elements + " numbers, it has " + (t.end - t.start) + " bytes");
        }
        MemorySegment decoded = arena.allocate(t.bytes(), 8);
        decode(t, decoded);
        return decoded;
    }

    /** Bytes of what one number of a typed field says: an element, or two of four bits. */
    private static int unit(TensorInfo t) {
        return t.type == COMPLEX64 ? 4 : Math.max(1, t.bits() / 8);
    }

    private void decode(TensorInfo t, MemorySegment to) {
        int field = switch (t.type) {
            case TensorInfo.FLOAT, COMPLEX64 -> 4;
            case TensorInfo.DOUBLE -> 10;
            case TensorInfo.INT64 -> 7;
            case UINT32, UINT64 -> 11;
            default -> 5;
        };
        int unit = unit(t);
        long at = 0;
        w.seek(t.start, t.end);
        while (w.next()) {
            if (w.field != field) {
                continue;
            }
            if (w.type != Wire.BYTES) {
                at = put(t, to, at, unit, w.value);
                continue;
            }
            long outer = w.enter("typed data");
            while (w.more()) {
                at = put(t, to, at, unit, field == 4 ? w.fixed(4) : field == 10 ? w.fixed(8) : w.varint());
            }
            w.leave(outer);
        }
        if (at < to.byteSize()) {
            throw w.bad(t.start, "tensor '" + t.name + "' has " + (to.byteSize() - at) + " bytes fewer than its shape asks for");
        }
    }

    private long put(TensorInfo t, MemorySegment to, long at, int unit, long v) {
        if (at >= to.byteSize()) {
            throw w.bad(w.fieldStart, "tensor '" + t.name + "' has more numbers than its shape asks for");
        }
        switch (unit) {
            case 1 -> to.set(ValueLayout.JAVA_BYTE, at, (byte) v);
            case 2 -> {
                if (t.dtype() != null && v >>> 16 != 0) {
                    throw w.bad(w.fieldStart, "tensor '" + t.name + "': expected 16 bits in int32_data, found " + v);
                }
                to.set(ValueLayout.JAVA_SHORT_UNALIGNED, at, (short) v);
            }
            case 4 -> to.set(ValueLayout.JAVA_INT_UNALIGNED, at, (int) v);
            default -> to.set(ValueLayout.JAVA_LONG_UNALIGNED, at, v);
        }
        return at + unit;
    }
}
