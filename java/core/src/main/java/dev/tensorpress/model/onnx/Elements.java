package dev.tensorpress.model.onnx;

import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Finds the elements of tensors, in whichever field or file they are. */
final class Elements {
    private final Wire w;
    private final DataFiles files;
    private final Arena arena;

    Elements(Wire w, DataFiles files, Arena arena) {
        this.w = w;
        this.files = files;
        this.arena = arena;
    }

    /** A view of the file where that is possible, or memory of the arena. */
    MemorySegment of(TensorInfo t) throws IOException {
        if (t.external) {
            return files.view(t);
        }
        if (t.hasRaw && (t.rawLength > 0 || t.typedCount == 0)) {
            return w.slice(t.rawStart, t.rawLength);
        }
        DType type = t.dtype();
        long bytes = type.bytes(t.elements);
        if (t.typedContiguous) {
            return w.slice(t.typedStart, bytes);
        }
        // As many numbers as elements were counted in the file, so this cannot outgrow it by much.
        MemorySegment decoded = arena.allocate(bytes, 8);
        decode(t, decoded);
        return decoded;
    }

    private void decode(TensorInfo t, MemorySegment to) {
        int field = t.type == TensorInfo.FLOAT ? 4 : t.type == TensorInfo.DOUBLE ? 10 : 5;
        int size = t.dtype().bits() / 8;
        long at = 0;
        w.seek(t.start, t.end);
        while (w.next()) {
            if (w.field != field) {
                continue;
            }
            if (w.type != Wire.BYTES) {
                at = put(t, to, at, size, w.value);
                continue;
            }
            long outer = w.enter("typed data");
            while (w.more()) {
                at = put(t, to, at, size, size == 2 ? w.varint() : w.fixed(size));
            }
            w.leave(outer);
        }
    }

    private long put(TensorInfo t, MemorySegment to, long at, int size, long v) {
        if (size == 2) {
            if (v >>> 16 != 0) {
                throw w.bad(w.fieldStart, "tensor '" + t.name + "': expected 16 bits in int32_data, found " + v);
            }
            to.set(ValueLayout.JAVA_SHORT_UNALIGNED, at, (short) v);
        } else if (size == 4) {
            to.set(ValueLayout.JAVA_INT_UNALIGNED, at, (int) v);
        } else {
            to.set(ValueLayout.JAVA_LONG_UNALIGNED, at, v);
        }
        return at + size;
    }
}
