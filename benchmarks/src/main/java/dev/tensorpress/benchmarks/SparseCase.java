package dev.tensorpress.benchmarks;

import dev.tensorpress.benchmarks.Pruned.Pattern;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.OneDnn;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.tensor.DType;

/** What is timed of sparsity, for a matrix that is pruned to any degree; as {@link Case} with its baselines among it. */
public enum SparseCase {
    READ("stream: reads the matrix", (a, n) -> new ReadWork(a.dense(Pattern.WHOLE).data, a.executor)),
    KTH("k-th magnitude", (a, n) -> new ChooseWork.Kth(a)),
    KEEP("k-th magnitude and the mask of what is larger", (a, n) -> ChooseWork.Mask.global(a)),
    KEEP_ROWS("mask of the largest of each row", (a, n) -> ChooseWork.Mask.rows(a)),
    KEEP_2_4("mask of 2:4", (a, n) -> ChooseWork.Mask.nm(a, 2, 4)),
    KEEP_4_8("mask of 4:8", (a, n) -> ChooseWork.Mask.nm(a, 4, 8)),

    TO_CSR16("dense to CSR, 16-bit distances", (a, n) -> new StoreWork(a, Pattern.SCATTERED, Layout.CSR16, false)),
    TO_CSR16_FRESH("dense to CSR, 16-bit distances, in new memory", (a, n) ->
            new StoreWork(a, Pattern.SCATTERED, Layout.CSR16, true)),
    TO_CSR32("dense to CSR, 32-bit columns", (a, n) -> new StoreWork(a, Pattern.SCATTERED, Layout.CSR32, false)),
    TO_BITMASK("dense to bitmask", (a, n) -> new StoreWork(a, Pattern.SCATTERED, Layout.BITMASK, false)),
    TO_BSR4("dense to blocks of 4 x 4", (a, n) -> new StoreWork(a, Pattern.BLOCKS4, Layout.BSR, false)),
    TO_BSR8("dense to blocks of 8 x 8", (a, n) -> new StoreWork(a, Pattern.BLOCKS8, Layout.BSR, false)),
    TO_NM24("dense to 2:4", (a, n) -> new StoreWork(a, Pattern.PAIRS, Layout.NM24, false)),
    FROM_CSR16("CSR, 16-bit distances, to dense", (a, n) -> new StoreWork.Restore(a, Pattern.SCATTERED, Layout.CSR16)),
    FROM_BITMASK("bitmask to dense", (a, n) -> new StoreWork.Restore(a, Pattern.SCATTERED, Layout.BITMASK)),

    /** In a result and a factor of their own, so that it follows what reads other memory. */
    READ_CSR16("stream: as many bytes as CSR16 moves", (a, n) -> {
        try (ProductWork product = ours(a, Pattern.SCATTERED, DType.F32, Layout.CSR16, n)) {
            return new ReadWork(product.bytes(), a.executor);
        }
    }),
    CSR16("CSR16", ours(Pattern.SCATTERED, DType.F32, Layout.CSR16)),
    CSR32("CSR32", ours(Pattern.SCATTERED, DType.F32, Layout.CSR32)),
    BSR4("BSR 4x4", ours(Pattern.BLOCKS4, DType.F32, Layout.BSR)),
    BSR8("BSR 8x8", ours(Pattern.BLOCKS8, DType.F32, Layout.BSR)),
    NM24("2:4", ours(Pattern.PAIRS, DType.F32, Layout.NM24)),
    CSR16_TRANSPOSED("CSR16, transposed", (a, n) ->
            new ProductWork.Ours(a, Pattern.SCATTERED, DType.F32, Layout.CSR16, n, true)),
    ONEDNN_CSR("oneDNN CSR", (a, n) -> new ProductWork.Csr(a, n)),
    ONEDNN_MATMUL("matmul", (a, n) -> new ProductWork.Matmul(a, DType.F32, n, false)),
    ONEDNN_REORDERING("matmul that reorders B", (a, n) -> new ProductWork.Matmul(a, DType.F32, n, true)),
    ONEDNN_LINEAR("matmul with A reordered before", (a, n) -> new ProductWork.Linear(a, DType.F32, n)),
    ONEDNN_SGEMM("dnnl_sgemm", (a, n) -> new ProductWork.Sgemm(a, n)),

    CSR16_INT8("CSR16", ours(Pattern.SCATTERED, DType.I8, Layout.CSR16)),
    CSR32_INT8("CSR32", ours(Pattern.SCATTERED, DType.I8, Layout.CSR32)),
    BSR4_INT8("BSR 4x4", ours(Pattern.BLOCKS4, DType.I8, Layout.BSR)),
    BSR8_INT8("BSR 8x8", ours(Pattern.BLOCKS8, DType.I8, Layout.BSR)),
    NM24_INT8("2:4", ours(Pattern.PAIRS, DType.I8, Layout.NM24)),
    ONEDNN_INT8("matmul", (a, n) -> new ProductWork.Matmul(a, DType.I8, n, false)),
    ONEDNN_INT8_LINEAR("matmul with A reordered before", (a, n) -> new ProductWork.Linear(a, DType.I8, n));

    private final String description;
    private final Maker maker;

    @FunctionalInterface
    private interface Maker {
        /** @param n columns of the dense factor */
        Work make(Pruned a, int n);
    }

    SparseCase(String description, Maker maker) {
        this.description = description;
        this.maker = maker;
    }

    /** A line or a column of a table. */
    String description() {
        return description;
    }

    /** True if half of the elements are zero, whatever the sparsity of the others. */
    boolean pairs() {
        return this == NM24 || this == NM24_INT8 || this == TO_NM24;
    }

    private boolean oneDnn() {
        return name().startsWith("ONEDNN_");
    }

    /** Why this cannot run here, or null if it can. */
    String missing() {
        if (!oneDnn()) {
            return null;
        }
        try {
            if (this == ONEDNN_CSR) {
                OneDnn.sparseMatmul(1, 1, 1, 1).close();
            }
            return OneDnn.version().isEmpty() ? "oneDNN is not there" : null;
        } catch (KernelException e) {
            return "not in this build of oneDNN: " + e.getMessage();
        } catch (LinkageError e) {
            return "oneDNN is not there: " + e.getMessage();
        }
    }

    /**
     * Allocates, runs once and checks the result.
     *
     * @param a must outlive the work
     * @param n columns of the dense factor, where there is one
     * @throws IllegalStateException if the result is wrong
     */
    Work prepare(Pruned a, int n) {
        Work work = maker.make(a, n);
        try {
            work.run();
            work.check();
        } catch (RuntimeException | Error e) {
            work.close();
            throw e;
        }
        return work;
    }

    private static ProductWork ours(Pruned a, Pattern pattern, DType type, Layout layout, int n) {
        return new ProductWork.Ours(a, pattern, type, layout, n, false);
    }

    private static Maker ours(Pattern pattern, DType type, Layout layout) {
        return (a, n) -> ours(a, pattern, type, layout, n);
    }
}
