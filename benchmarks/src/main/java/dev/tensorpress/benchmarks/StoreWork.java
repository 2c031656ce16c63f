package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.tensorpress.benchmarks.Pruned.Pattern;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Sparse;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.kernel.SparseMatrix;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;

/** From a dense matrix with zeros to a layout that leaves them out. */
final class StoreWork implements Work {
    private final Arena arena = Arena.ofShared();
    private final Matrix in;
    private final Layout layout;
    private final int block;
    private final Executor executor;
    /** Null if each run has memory of its own. */
    private final MemorySegment buffer;
    private Arena own;
    private SparseMatrix last;

    /** @param fresh whether each run allocates its result, as tools do that return one, and frees the one before */
    StoreWork(Pruned a, Pattern pattern, Layout layout, boolean fresh) {
        in = a.dense(pattern);
        this.layout = layout;
        this.block = Pruned.block(pattern, layout);
        this.executor = a.executor;
        if (fresh) {
            buffer = null;
            return;
        }
        try (Arena scratch = Arena.ofShared()) {
            buffer = arena.allocate(pack(scratch).bytes() + 256, 64);
        }
    }

    private SparseMatrix pack(Arena to) {
        return Sparse.pack(DType.F32, in.rows, in.cols, in.data, layout, block, to, executor);
    }

    /** Hands out the same memory at each run, which a new arena would have to clear. */
    private record Again(SegmentAllocator from, Arena owner) implements Arena {
        @Override
        public MemorySegment allocate(long bytes, long alignment) {
            return from.allocate(bytes, alignment);
        }

        @Override
        public MemorySegment.Scope scope() {
            return owner.scope();
        }

        @Override
        public void close() {
            throw new UnsupportedOperationException("its owner closes it");
        }
    }

    @Override
    public void run() {
        if (buffer == null) {
            free();
            own = Arena.ofShared();
            last = pack(own);
            return;
        }
        last = pack(new Again(SegmentAllocator.slicingAllocator(buffer), arena));
    }

    @Override
    public void check() {
        for (long r = 0; r < in.rows; r++) {
            float[] row = row(r);
            for (int c = 0; c < in.cols; c++) {
                Plain.expect("value", r, c, in.data.getAtIndex(JAVA_FLOAT, r * in.cols + c), row[c]);
            }
        }
    }

    /** A row as {@code sparse.h} defines it. */
    private float[] row(long r) {
        float[] row = new float[in.cols];
        int side = Math.max(1, block);
        long line = r / side;
        long begin = layout == Layout.NM24 ? 0 : last.offsets().getAtIndex(JAVA_LONG, line);
        long end = layout == Layout.NM24 ? 0 : last.offsets().getAtIndex(JAVA_LONG, line + 1);
        switch (layout) {
            case CSR16 -> {
                int c = 0;
                for (long u = begin; u < end; u++) {
                    c += Short.toUnsignedInt(last.indices().getAtIndex(JAVA_SHORT, u));
                    row[c] = value(u);
                }
            }
            case CSR32, BSR -> {
                for (long u = begin; u < end; u++) {
                    int left = last.indices().getAtIndex(JAVA_INT, u) * side;
                    for (int c = left; c < Math.min(left + side, in.cols); c++) {
                        row[c] = value((u * side + r % side) * side + c - left);
                    }
                }
            }
            case BITMASK -> {
                long u = begin;
                for (int c = 0; c < in.cols; c++) {
                    if ((last.indices().get(JAVA_BYTE, r * ((in.cols + 7) / 8) + c / 8) >> c % 8 & 1) != 0) {
                        row[c] = value(u++);
                    }
                }
            }
            case NM24 -> {
                int groups = (in.cols + 3) / 4;
                for (int g = 0; g < groups; g++) {
                    int nibble = last.indices().get(JAVA_BYTE, r * ((groups + 1) / 2) + g / 2) >> g % 2 * 4;
                    for (int i = 0; i < 2; i++) {
                        int c = 4 * g + (nibble >> 2 * i & 3);
                        if (c < in.cols) {
                            row[c] = value((r * groups + g) * 2 + i);
                        }
                    }
                }
            }
        }
        return row;
    }

    private float value(long i) {
        return last.values().getAtIndex(JAVA_FLOAT, i);
    }

    @Override
    public long bytes() {
        return in.data.byteSize() + last.bytes();
    }

    private void free() {
        if (own != null) {
            own.close();
        }
    }

    @Override
    public void close() {
        free();
        arena.close();
    }

    /** The way back. */
    static final class Restore implements Work {
        private final Arena arena = Arena.ofShared();
        private final Matrix original;
        private final SparseMatrix from;
        private final MemorySegment out;
        private final Executor executor;

        Restore(Pruned a, Pattern pattern, Layout layout) {
            original = a.dense(pattern);
            from = a.packed(pattern, DType.F32, layout);
            out = arena.allocate(original.data.byteSize(), 64);
            executor = a.executor;
        }

        @Override
        public void run() {
            Sparse.unpack(from, out, executor);
        }

        @Override
        public void check() {
            long differs = original.data.mismatch(out);
            if (differs >= 0) {
                throw new IllegalStateException("wrong result: byte " + differs + " of the restored matrix");
            }
        }

        @Override
        public long bytes() {
            return from.bytes() + out.byteSize();
        }

        @Override
        public void close() {
            arena.close();
        }
    }
}
