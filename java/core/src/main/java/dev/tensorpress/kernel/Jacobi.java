package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_jacobi;
import dev.tensorpress.kernel.LinearAlgebra.View;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/** One-sided Jacobi: rotates rows until they are orthogonal to each other. */
final class Jacobi {
    private static final int SWEEPS = 40;

    private final LinearAlgebra la;
    private final MemorySegment spec;
    int limit = SWEEPS;

    Jacobi(LinearAlgebra la) {
        this.la = la;
        spec = tp_jacobi.allocate(la.arena);
    }

    /** Of all rows of W, in rounds of disjoint pairs of blocks; rows of Z go along. */
    void run(long n, MemorySegment w, long wCols, MemorySegment z, long zCols, double tolerance, double negligible) {
        long block = n <= 128 ? 16 : 32;
        int blocks = (int) ((n + block - 1) / block);
        tp_jacobi.n(spec, n);
        tp_jacobi.block(spec, block);
        tp_jacobi.w_cols(spec, wCols);
        tp_jacobi.w_stride(spec, wCols);
        tp_jacobi.z_cols(spec, zCols);
        tp_jacobi.z_stride(spec, zCols);
        // Stricter than the check below, whose sums run in another order: what that finds, this must not overlook.
        tp_jacobi.tolerance(spec, 0.5 * tolerance);
        tp_jacobi.negligible(spec, negligible);
        MemorySegment g = la.buffer("gram", n * n);
        MemorySegment cosines = la.buffer("cosines", (long) blocks * blocks);
        MemorySegment pairs = la.buffer("pairs", blocks + 1);
        MemorySegment rotated = la.buffer("rotated", 8L * la.executor.threads());
        for (int sweep = 0;; sweep++) {
            la.gram(View.of(w, wCols), false, n, wCols, 1, g);
            la.spread("tp_gram_blocks", blocks, 1, 0.5 * n * n, Native.Cost.of(4 * n * n, 4L * blocks * blocks), (begin, end, worker) ->
                    Kernels.tp_gram_blocks(spec, n, g, begin, end, cosines));
            boolean[][] active = active(blocks, cosines, tolerance);
            if (active == null) {
                return;
            }
            if (sweep == limit) {
                throw new KernelException("one-sided Jacobi", KernelException.CONVERGENCE,
                        "not orthogonal after " + sweep + " sweeps");
            }
            for (List<int[]> round : rounds(blocks, active)) {
                for (int i = 0; i < round.size(); i++) {
                    pairs.setAtIndex(JAVA_INT, 2L * i, round.get(i)[0]);
                    pairs.setAtIndex(JAVA_INT, 2L * i + 1, round.get(i)[1]);
                }
                long moved = 16 * block * round.size() * (wCols + zCols);
                // A Gram matrix of 2 b rows, and their product with a rotation.
                Native.Cost cost = new Native.Cost(moved, moved, 4 * block * block * round.size() * (3 * wCols + 2 * zCols));
                Native.run("tp_jacobi_pairs", la.executor, round.size(), 1, 1, LinearAlgebra.SCRATCH, cost, (begin, end, worker) ->
                        Kernels.tp_jacobi_pairs(spec, pairs, begin, end, w, z, worker.scratch(), rotated.asSlice(64L * worker.index())));
            }
        }
    }

    /** The pairs of blocks with rows that are not orthogonal; null if there are none. */
    private static boolean[][] active(int blocks, MemorySegment cosines, double tolerance) {
        boolean[][] active = new boolean[blocks][blocks];
        boolean any = false;
        for (int i = 0; i < blocks; i++) {
            for (int j = 0; j <= i; j++) {
                active[j][i] = !(cosines.getAtIndex(JAVA_DOUBLE, (long) i * blocks + j) <= tolerance);
                any |= active[j][i];
            }
        }
        return any ? active : null;
    }

    /** A tournament: each active pair of blocks once, those of a round disjoint; blocks alone where nothing else has them. */
    private static List<List<int[]>> rounds(int blocks, boolean[][] active) {
        List<List<int[]>> rounds = new ArrayList<>();
        boolean[] met = new boolean[blocks];
        int seats = blocks + blocks % 2;
        for (int round = 0; round < seats - 1; round++) {
            List<int[]> pairs = new ArrayList<>();
            for (int k = 0; k < seats / 2; k++) {
                int p = k == 0 ? seats - 1 : (round + k) % (seats - 1);
                int q = (round - k + seats - 1) % (seats - 1);
                int i = Math.min(p, q);
                int j = Math.max(p, q);
                if (j < blocks && active[i][j]) {
                    pairs.add(new int[] {i, j});
                    met[i] = met[j] = true;
                }
            }
            if (!pairs.isEmpty()) {
                rounds.add(pairs);
            }
        }
        List<int[]> alone = new ArrayList<>();
        for (int i = 0; i < blocks; i++) {
            if (active[i][i] && !met[i]) {
                alone.add(new int[] {i, i});
            }
        }
        if (!alone.isEmpty()) {
            rounds.add(alone);
        }
        return rounds;
    }
}
