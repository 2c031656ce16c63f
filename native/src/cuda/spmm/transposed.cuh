/*
 * A^T B, added to out, each element in the order of A's rows. A is sorted by columns first, rows of a column in order, without a
 * question of which thread came first: rows are cut into chunks, a warp each, which counts how many units it has in each column; these counts,
 * added up, say where a chunk's units of a column begin; then the warps go the same way again and put them there. Units of one row
 * are in different columns, so lanes never meet.
 */
#ifndef TP_CUDA_SPMM_TRANSPOSED_CUH
#define TP_CUDA_SPMM_TRANSPOSED_CUH

#include "cuda/spmm/product.cuh"

namespace tp {

enum { SCAN_THREADS = 1024, SCAN_WARPS = SCAN_THREADS / TP_WARP };

/* Rows [first, end) of A by columns. */
struct ByColumns {
    int64_t first, end;
    int64_t chunk_rows, chunks;
    int32_t *counts;  /* [chunks, cols]: units of a chunk in a column, then where they go, counted from the column's first */
    int64_t *starts;  /* [cols + 1]: of columns */
    uint16_t *rows;   /* of a column's units, counted from `first` */
    void *values;
};

/* Calls visit(row, unit, column) for a chunk's units, in order of rows; all lanes of a warp. */
template <int LAYOUT, class Visit> __device__ void each_unit(const SparseLines &a, const ByColumns &s, int64_t chunk, Visit visit) {
    const int lane = threadIdx.x % TP_WARP;
    const int64_t first = s.first + chunk * s.chunk_rows, last = first + s.chunk_rows, end = last < s.end ? last : s.end;
    for (int64_t row = first; row < end; row++) {
        const int64_t from = a.offsets[row - a.first] - a.offsets[0], to = a.offsets[row - a.first + 1] - a.offsets[0];
        uint32_t before = 0;
        for (int64_t u = from; u < to; u += TP_WARP) {
            const bool there = u + lane < to;
            uint32_t column;
            if (LAYOUT == TP_SPARSE_CSR16) {
                column = before + warp_scan<uint32_t>(there ? static_cast<const uint16_t *>(a.indices)[u + lane] : 0);
                before = __shfl_sync(TP_ALL_LANES, column, TP_WARP - 1);
            } else {
                column = there ? static_cast<const uint32_t *>(a.indices)[u + lane] : 0;
            }
            if (there) visit(row, u + lane, column);
        }
        __syncwarp(); /* the next row has some of the same columns, at other lanes */
    }
}

template <int LAYOUT> TP_KERNEL(LINE_THREADS) count_columns(const SparseLines a, const ByColumns s) {
    const int64_t chunk = (int64_t)blockIdx.x * LINE_WARPS + threadIdx.x / TP_WARP;
    if (chunk >= s.chunks) return;
    int32_t *counts = s.counts + chunk * a.cols;
    each_unit<LAYOUT>(a, s, chunk, [&](int64_t, int64_t, uint32_t column) { counts[column]++; });
}

/* A thread for each column: from counts of chunks to where they begin; the column's count goes to starts. */
TP_KERNEL(LINE_THREADS) add_up_chunks(int64_t cols, const ByColumns s) {
    const int64_t column = (int64_t)blockIdx.x * LINE_THREADS + threadIdx.x;
    if (column >= cols) return;
    int32_t sum = 0;
    for (int64_t c = 0; c < s.chunks; c++) {
        const int32_t count = s.counts[c * cols + column];
        s.counts[c * cols + column] = sum;
        sum += count;
    }
    s.starts[column] = sum;
}

/* One block: from counts of columns to where they begin. */
TP_KERNEL(SCAN_THREADS) add_up_columns(int64_t cols, const ByColumns s) {
    TP_SHARED(int64_t, warps, [SCAN_WARPS]);
    int64_t before = 0;
    for (int64_t first = 0; first < cols; first += SCAN_THREADS) {
        const int64_t column = first + threadIdx.x;
        int64_t all;
        const int64_t sum = block_scan<SCAN_THREADS, int64_t>(column < cols ? s.starts[column] : 0, warps, &all);
        if (column < cols) s.starts[column] = before + sum;
        before += all;
        __syncthreads();
    }
    if (threadIdx.x == 0) s.starts[cols] = before;
}

template <int LAYOUT, class T> TP_KERNEL(LINE_THREADS) sort_by_columns(const SparseLines a, const ByColumns s) {
    const int64_t chunk = (int64_t)blockIdx.x * LINE_WARPS + threadIdx.x / TP_WARP;
    if (chunk >= s.chunks) return;
    int32_t *next = s.counts + chunk * a.cols;
    each_unit<LAYOUT>(a, s, chunk, [&](int64_t row, int64_t unit, uint32_t column) {
        const int64_t at = s.starts[column] + next[column]++;
        s.rows[at] = (uint16_t)(row - s.first);
        static_cast<T *>(s.values)[at] = static_cast<const T *>(a.values)[unit];
    });
}

/* A thread for each element of out, those of a row side by side. */
template <class T> TP_KERNEL(LINE_THREADS) add_columns(const SparseProduct p, const ByColumns s, int64_t begin, int64_t end) {
    using Sum = typename Arithmetic<T>::Sum;
    const int64_t item = (int64_t)blockIdx.x * LINE_THREADS + threadIdx.x, column = begin + item / p.n, j = item % p.n;
    if (column >= end) return;
    Sum *to = static_cast<Sum *>(p.out) + column * p.out_stride + j;
    const T *b = static_cast<const T *>(p.b) + (s.first - p.a.first) * p.b_stride + j;
    const int64_t last = s.starts[column + 1];
    Sum sum = *to;
    for (int64_t u = s.starts[column]; u < last; u++)
        sum = Arithmetic<T>::fused(static_cast<const T *>(s.values)[u], b[s.rows[u] * p.b_stride], sum);
    *to = sum;
}

}  // namespace tp

#endif
