/*
 * Lines of a sparse matrix times a dense one. A warp has some rows of a line and some columns of out. Its lanes fetch 32 entries of the
 * line at a time. Then, where out is wide, all lanes take one entry after the other, each lane for columns of its own
 * (Yang, Buluc and Owens, "Design Principles for Sparse Matrix Multiplication on the GPU", 2018: "row split"); where it is narrow, each
 * lane takes the entries that it fetched, and a tree adds up the lanes' sums.
 *
 * Lines of more than TP_SPMM_SEGMENT units are left to a second launch of the same kernel, in which a warp has a segment, wherever it lies, and
 * leaves its sum in `partials`; a third kernel adds those. Which segments there are is read from the offsets: cut all units into
 * windows of TP_SPMM_SEGMENT. In each, at most two segments of such lines begin: one of a line that began before the window,
 * and the first one of the line that reaches beyond it. So there are two places for partial sums for each window.
 */
#ifndef TP_CUDA_SPMM_LINES_CUH
#define TP_CUDA_SPMM_LINES_CUH

#include "cuda/spmm/product.cuh"

namespace tp {

/* Units of a line, counted from the first of the arrays. */
struct Units {
    int64_t from, to;
};

template <int LAYOUT> __device__ Units units_of(const SparseLines &a, int64_t line) {
    const int64_t i = line - a.first;
    if (LAYOUT == TP_SPARSE_NM24) {
        const int64_t units = (a.cols + 3) / 4 * 2;
        return {i * units, (i + 1) * units};
    }
    return {a.offsets[i] - a.offsets[0], a.offsets[i + 1] - a.offsets[0]};
}

/* The line that unit `unit` is of. */
__device__ inline int64_t line_of_unit(const SparseLines &a, int64_t unit) {
    int64_t low = a.first, high = a.end;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (a.offsets[middle - a.first] - a.offsets[0] <= unit)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* A stretch of units of a line, fetched 32 entries at a time by a warp. An entry is an element of A, in BSR for ROWS rows. */
template <int LAYOUT, class T, int ROWS> struct Entries {
    /* Entries that are no elements of A are among those of blocks and groups at the edge. */
    static constexpr bool GAPS = LAYOUT == TP_SPARSE_BSR || LAYOUT == TP_SPARSE_NM24;
    const SparseLines &a;
    int64_t from, count; /* first unit; entries */
    int64_t line;
    int row;             /* of the block */
    uint32_t before = 0; /* CSR16: the column of the unit before the next one */

    uint32_t column;     /* of this lane's entry */
    T values[ROWS];
    bool there;

    __device__ Entries(const SparseLines &a, Units units, int64_t line, int row)
        : a(a), from(units.from), count((units.to - units.from) * (LAYOUT == TP_SPARSE_BSR ? a.block_cols : 1)), line(line), row(row) {}

    /* A segment may begin within its line: there distances add up from the line's first unit on. */
    __device__ void skip(int64_t line_from) {
        if (LAYOUT != TP_SPARSE_CSR16) return;
        uint32_t sum = 0;
        for (int64_t u = line_from + threadIdx.x % TP_WARP; u < from; u += TP_WARP) sum += static_cast<const uint16_t *>(a.indices)[u];
        before = warp_sum(sum);
    }

    __device__ void fetch(int64_t first) {
        const int64_t e = first + threadIdx.x % TP_WARP;
        const T *all = static_cast<const T *>(a.values);
        there = e < count;
        column = 0;
#pragma unroll
        for (int r = 0; r < ROWS; r++) values[r] = 0;
        if (LAYOUT == TP_SPARSE_CSR16) {
            column = before + warp_scan<uint32_t>(there ? static_cast<const uint16_t *>(a.indices)[from + e] : 0);
            before = __shfl_sync(TP_ALL_LANES, column, TP_WARP - 1);
        }
        if (!there) return;
        if (LAYOUT == TP_SPARSE_BSR) {
            const uint32_t unit = (uint32_t)e / (uint32_t)a.block_cols, c = (uint32_t)e % (uint32_t)a.block_cols;
            const int64_t at = static_cast<const uint32_t *>(a.indices)[from + unit] * (int64_t)a.block_cols + c;
            there = at < a.cols;
            column = (uint32_t)at;
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                if (row + r < a.block_rows) values[r] = all[((from + unit) * a.block_rows + row + r) * a.block_cols + c];
            return;
        }
        if (LAYOUT == TP_SPARSE_CSR32) column = static_cast<const uint32_t *>(a.indices)[from + e];
        if (LAYOUT == TP_SPARSE_NM24) {
            const int64_t group = e / 2, row_bytes = ((a.cols + 3) / 4 + 1) / 2;
            const int nibble = static_cast<const uint8_t *>(a.indices)[(line - a.first) * row_bytes + group / 2] >> group % 2 * 4;
            const int64_t at = 4 * group + (e % 2 ? nibble >> 2 & 3 : nibble & 3);
            there = at < a.cols;
            column = (uint32_t)at;
        }
        values[0] = all[from + e];
    }
};

/* Sums of ROWS rows and, for each lane, WIDTH columns from its `j` on; where all lanes have the same j the sums are lane 0's. */
template <class T, int ROWS, int WIDTH> struct LaneSums {
    using Sum = typename Arithmetic<T>::Sum;
    static constexpr int ENTRIES_AHEAD = ROWS > 1 ? 2 : 4;
    Sum sums[ROWS][WIDTH] = {};

    __device__ void add(const SparseProduct &p, const T (&values)[ROWS], uint32_t column, int64_t j) {
        const T *b = static_cast<const T *>(p.b) + column * p.b_stride + j;
        T y[WIDTH];
        if (WIDTH == 4 && p.b_aligned && j + 4 <= p.n) {
            const typename Arithmetic<T>::Four four = *reinterpret_cast<const typename Arithmetic<T>::Four *>(b);
            y[0] = four.x, y[WIDTH / 4] = four.y, y[WIDTH / 2] = four.z, y[WIDTH * 3 / 4] = four.w;
        } else {
#pragma unroll
            for (int w = 0; w < WIDTH; w++) y[w] = j + w < p.n ? b[w] : T(0);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int w = 0; w < WIDTH; w++) sums[r][w] = Arithmetic<T>::fused(values[r], y[w], sums[r][w]);
    }

    template <class E> __device__ void add_by_columns(const SparseProduct &p, E &entries, int64_t j) {
        for (int64_t first = 0; first < entries.count; first += TP_WARP) {
            entries.fetch(first);
            const unsigned there = E::GAPS ? __ballot_sync(TP_ALL_LANES, entries.there) : TP_ALL_LANES;
            const int some = entries.count - first < TP_WARP ? (int)(entries.count - first) : TP_WARP;
#pragma unroll ENTRIES_AHEAD
            for (int i = 0; i < some; i++) {
                const uint32_t column = __shfl_sync(TP_ALL_LANES, entries.column, i);
                T values[ROWS];
#pragma unroll
                for (int r = 0; r < ROWS; r++) values[r] = (T)__shfl_sync(TP_ALL_LANES, (Sum)entries.values[r], i);
                if ((there >> i & 1) && j < p.n) add(p, values, column, j);
            }
        }
    }

    template <class E> __device__ void add_by_entries(const SparseProduct &p, E &entries, int64_t j) {
        for (int64_t first = 0; first < entries.count; first += TP_WARP) {
            entries.fetch(first);
            if (entries.there) add(p, entries.values, entries.column, j);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int w = 0; w < WIDTH; w++)
#pragma unroll
                for (int step = TP_WARP / 2; step; step /= 2) sums[r][w] += __shfl_down_sync(TP_ALL_LANES, sums[r][w], step);
    }

    /* To rows that are `stride` apart. */
    __device__ void store(Sum *to, int64_t stride, int64_t rows, int64_t j, int64_t n) const {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int w = 0; w < WIDTH; w++)
                if (r < rows && j + w < n) to[r * stride + j + w] = sums[r][w];
        }
    }
};

/*
 * Lines [begin, end): those of few units, or with `segments` the segments of the others. BY_ENTRIES: a lane has entries, and all
 * have the same WIDTH columns.
 */
template <int LAYOUT, class T, int ROWS, int WIDTH, bool BY_ENTRIES>
TP_KERNEL(LINE_THREADS) multiply_lines(const SparseProduct p, int64_t begin, int64_t end, bool segments) {
    using Sum = typename Arithmetic<T>::Sum;
    const int lane = threadIdx.x % TP_WARP;
    /* Warps side by side have columns of the same line. */
    constexpr int COLUMNS = BY_ENTRIES ? WIDTH : WIDTH * TP_WARP;
    const int64_t item = (int64_t)blockIdx.x * LINE_WARPS + threadIdx.x / TP_WARP, tiles = (p.n + COLUMNS - 1) / COLUMNS;
    const int64_t j = item % tiles * COLUMNS + (BY_ENTRIES ? 0 : lane * WIDTH), parts = (p.a.block_rows + ROWS - 1) / ROWS;
    const int64_t place = item / tiles / parts; /* of lines, or of segments */
    const int row = (int)(item / tiles % parts) * ROWS;
    int64_t line = begin + place, skipped_from = 0;
    Units units;
    Sum *to;
    int64_t stride, rows;
    if (segments) {
        const int64_t window = place / 2 * TP_SPMM_SEGMENT;
        if (window >= p.units) return;
        const int64_t window_end = window + TP_SPMM_SEGMENT < p.units ? window + TP_SPMM_SEGMENT : p.units;
        line = line_of_unit(p.a, place % 2 ? window_end - 1 : window);
        units = units_of<LAYOUT>(p.a, line);
        /* The second place is that of the line that begins here. */
        if (line < begin || line >= end || units.to - units.from <= TP_SPMM_SEGMENT || (units.from >= window) != (place % 2 == 1)) return;
        skipped_from = units.from;
        if (units.from < window) units.from += (window - units.from + TP_SPMM_SEGMENT - 1) / TP_SPMM_SEGMENT * TP_SPMM_SEGMENT;
        if (units.from >= units.to || units.from >= window_end) return;
        if (units.to - units.from > TP_SPMM_SEGMENT) units.to = units.from + TP_SPMM_SEGMENT;
        to = static_cast<Sum *>(p.partials) + (place * p.a.block_rows + row) * p.n;
        stride = p.n;
        rows = p.a.block_rows - row;
    } else {
        if (line >= end) return;
        units = units_of<LAYOUT>(p.a, line);
        if (LAYOUT != TP_SPARSE_NM24 && units.to - units.from > TP_SPMM_SEGMENT) return;
        skipped_from = units.from;
        to = static_cast<Sum *>(p.out) + (line * p.a.block_rows + row) * p.out_stride;
        stride = p.out_stride;
        const int64_t left = p.a.rows - line * p.a.block_rows;
        rows = (left < p.a.block_rows ? left : p.a.block_rows) - row;
    }
    Entries<LAYOUT, T, ROWS> entries(p.a, units, line, row);
    entries.skip(skipped_from);
    LaneSums<T, ROWS, WIDTH> sums;
    if (BY_ENTRIES)
        sums.add_by_entries(p, entries, j);
    else
        sums.add_by_columns(p, entries, j);
    if (!BY_ENTRIES || lane == 0) sums.store(to, stride, rows, j, p.n);
}

/* Lines of more than TP_SPMM_SEGMENT units from their segments' sums, added in order: a warp for each row of out. */
template <int LAYOUT, class T> TP_KERNEL(LINE_THREADS) add_segments(const SparseProduct p, int64_t begin, int64_t end) {
    using Sum = typename Arithmetic<T>::Sum;
    const int64_t item = (int64_t)blockIdx.x * LINE_WARPS + threadIdx.x / TP_WARP, line = begin + item / p.a.block_rows;
    const int64_t row = item % p.a.block_rows, r = line * p.a.block_rows + row;
    if (line >= end || r >= p.a.rows) return;
    const Units units = units_of<LAYOUT>(p.a, line);
    if (units.to - units.from <= TP_SPMM_SEGMENT) return;
    Sum *out = static_cast<Sum *>(p.out) + r * p.out_stride;
    for (int64_t j = threadIdx.x % TP_WARP; j < p.n; j += TP_WARP) {
        Sum total = 0;
        for (int64_t from = units.from; from < units.to; from += TP_SPMM_SEGMENT) {
            const int64_t place = from / TP_SPMM_SEGMENT * 2 + (from == units.from);
            const Sum sum = static_cast<const Sum *>(p.partials)[(place * p.a.block_rows + row) * p.n + j];
            total = from == units.from ? sum : total + sum;
        }
        out[j] = total;
    }
}

inline unsigned blocks_of(int64_t items) { return (unsigned)((items + LINE_WARPS - 1) / LINE_WARPS); }

template <int LAYOUT, class T, int ROWS, int WIDTH, bool BY_ENTRIES>
cudaError_t queue_lines(const SparseProduct &p, int64_t begin, int64_t end, cudaStream_t stream) {
    const auto kernel = multiply_lines<LAYOUT, T, ROWS, WIDTH, BY_ENTRIES>;
    const int64_t columns = BY_ENTRIES ? WIDTH : WIDTH * TP_WARP, tiles = (p.n + columns - 1) / columns;
    const int64_t parts = (p.a.block_rows + ROWS - 1) / ROWS, places = (p.units + TP_SPMM_SEGMENT - 1) / TP_SPMM_SEGMENT * 2;
    cudaError_t error = tp_launch(stream, kernel, dim3(blocks_of((end - begin) * parts * tiles)), LINE_THREADS, 0, p, begin, end, false);
    if (!p.partials || error != cudaSuccess) return error;
    error = tp_launch(stream, kernel, dim3(blocks_of(places * parts * tiles)), LINE_THREADS, 0, p, begin, end, true);
    if (error != cudaSuccess) return error;
    const dim3 rows(blocks_of((end - begin) * p.a.block_rows));
    return tp_launch(stream, add_segments<LAYOUT, T>, rows, LINE_THREADS, 0, p, begin, end);
}

/* Up to NARROW columns lanes take entries; four columns for each lane where out is wide. */
enum { NARROW = 8, WIDE = 64 };

template <int LAYOUT, class T, int ROWS>
cudaError_t queue_layout(const SparseProduct &p, int64_t begin, int64_t end, cudaStream_t stream) {
    if (p.n == 1) return queue_lines<LAYOUT, T, ROWS, 1, true>(p, begin, end, stream);
    if (p.n <= NARROW) return queue_lines<LAYOUT, T, ROWS, 4, true>(p, begin, end, stream);
    if (p.n < WIDE) return queue_lines<LAYOUT, T, ROWS, 1, false>(p, begin, end, stream);
    return queue_lines<LAYOUT, T, ROWS, 4, false>(p, begin, end, stream);
}

template <class T> cudaError_t queue_product(const SparseProduct &p, int64_t begin, int64_t end, cudaStream_t stream) {
    switch (p.a.layout) {
    case TP_SPARSE_CSR16: return queue_layout<TP_SPARSE_CSR16, T, 1>(p, begin, end, stream);
    case TP_SPARSE_CSR32: return queue_layout<TP_SPARSE_CSR32, T, 1>(p, begin, end, stream);
    case TP_SPARSE_BSR: return queue_layout<TP_SPARSE_BSR, T, 4>(p, begin, end, stream);
    default: return queue_layout<TP_SPARSE_NM24, T, 1>(p, begin, end, stream);
    }
}

}  // namespace tp

#endif
