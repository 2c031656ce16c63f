package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Prune;
import dev.tensorpress.kernel.Prune.Cut;
import dev.tensorpress.kernel.Prune.Scores;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;

/** Choosing the elements with the largest magnitudes: what a pruning does first. */
abstract class ChooseWork implements Work {
    final Arena arena = Arena.ofShared();
    final Matrix in;
    final Executor executor;
    final Scores scores;

    private ChooseWork(Matrix in, Executor executor) {
        this.in = in;
        this.executor = executor;
        scores = Scores.of(in.rows, in.cols, in.type);
    }

    final Cut select(long k) {
        return Prune.select(List.of(scores), List.of(in.data), k, executor);
    }

    final float magnitude(long i) {
        return Math.abs(in.data.getAtIndex(JAVA_FLOAT, i));
    }

    private static long share(long n, int percent) {
        return Math.max(1, n * (100 - percent) / 100);
    }

    @Override
    public long bytes() {
        return in.data.byteSize();
    }

    @Override
    public void close() {
        arena.close();
    }

    /** The k-th largest magnitude. */
    static final class Kth extends ChooseWork {
        private final long k;
        private Cut cut;

        Kth(Pruned a) {
            super(a.dense(Pruned.Pattern.WHOLE), a.executor);
            k = share(scores.elements(), a.percent);
        }

        @Override
        public void run() {
            cut = select(k - 1); // ends at the first element that is not kept, which is the k-th
        }

        @Override
        public void check() {
            float kth = Float.intBitsToFloat(cut.key() >>> 1);
            long larger = 0;
            long equal = 0;
            for (long i = 0; i < scores.elements(); i++) {
                larger += magnitude(i) > kth ? 1 : 0;
                equal += magnitude(i) == kth ? 1 : 0;
            }
            if (larger >= k || larger + equal < k) {
                throw new IllegalStateException("wrong result: " + larger + " magnitudes are larger than that of rank " + k);
            }
        }
    }

    /** A mask of the largest of each group of elements. */
    static final class Mask extends ChooseWork {
        private final MemorySegment mask;
        private final long groupRows;
        private final long groupCols;
        private final long kept;
        private final Runnable run;

        private Mask(Pruned a, long groupRows, long groupCols, long kept) {
            super(a.dense(Pruned.Pattern.WHOLE), a.executor);
            this.groupRows = groupRows;
            this.groupCols = groupCols;
            this.kept = kept;
            mask = arena.allocate(scores.maskBytes(), 64);
            if (groupRows > 1) {
                run = () -> Prune.mask(scores, in.data, select(kept), 0, mask, executor);
            } else if (groupCols == in.cols) {
                run = () -> Prune.lines(scores, 1, in.data, kept, mask, executor);
            } else {
                run = () -> Prune.nm(scores, 1, in.data, (int) kept, (int) groupCols, mask, executor);
            }
        }

        /** Of the whole matrix: the selection, and the mask that follows from it. */
        static Mask global(Pruned a) {
            return new Mask(a, a.rows, a.cols, share((long) a.rows * a.cols, a.percent));
        }

        /** Of each row. */
        static Mask rows(Pruned a) {
            return new Mask(a, 1, a.cols, share(a.cols, a.percent));
        }

        /** N:M along the rows. */
        static Mask nm(Pruned a, int n, int m) {
            return new Mask(a, 1, m, n);
        }

        @Override
        public void run() {
            run.run();
        }

        @Override
        public void check() {
            for (long top = 0; top < in.rows; top += groupRows) {
                for (long left = 0; left < in.cols; left += groupCols) {
                    checkGroup(top, Math.min(top + groupRows, in.rows), left, Math.min(left + groupCols, in.cols));
                }
            }
        }

        private void checkGroup(long top, long bottom, long left, long right) {
            long count = 0;
            float smallest = Float.POSITIVE_INFINITY;
            float largest = 0;
            long stride = (in.cols + 7) / 8;
            for (long r = top; r < bottom; r++) {
                for (long c = left; c < right; c++) {
                    float x = magnitude(r * in.cols + c);
                    if ((mask.get(JAVA_BYTE, r * stride + c / 8) >> c % 8 & 1) != 0) {
                        count++;
                        smallest = Math.min(smallest, x);
                    } else {
                        largest = Math.max(largest, x);
                    }
                }
            }
            Plain.expect("number of kept elements", top, left, Math.min(kept, (bottom - top) * (right - left)), count);
            if (smallest < largest) {
                throw new IllegalStateException("wrong result: " + largest + " was removed and " + smallest
                        + " kept in the group at row " + top + ", column " + left);
            }
        }

        @Override
        public long bytes() {
            return super.bytes() + mask.byteSize();
        }
    }
}
