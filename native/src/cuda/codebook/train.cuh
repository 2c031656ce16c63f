/*
 * Tables of groups, one after the other. Numbers are counted here, which is exact in any order; the host finds clusters of the counts. Vectors
 * stay here: sums over them have an order, which is the processor's.
 */
#ifndef TP_CUDA_CODEBOOK_TRAIN_CUH
#define TP_CUDA_CODEBOOK_TRAIN_CUH

#include "codebook/clusters.h"
#include "cuda/codebook/codes.cuh"
#include "cuda/scan.cuh"

namespace tp {

enum { FOUND_NONFINITE = 2, SUM_WARPS = CODE_THREADS / TP_WARP };

/* A group of a matrix whose elements have these bits, with the weights of its rows or columns, or null. */
template <class T> struct Group {
    const T *in;
    int64_t stride, rows, cols;
    const float *row_weights, *col_weights;
};

/* What is known of a group before its elements are counted. */
struct Bounds {
    uint32_t below, high; /* the complement of the lowest of the bits that order floats, and the highest of them; both 0 without elements */
    uint32_t weighted;
};

/* Nobody reads flags in between: a group with an element that is not finite is bounded as others are. */
template <tp_dtype TYPE, class T> TP_KERNEL(CODE_THREADS) bound_elements(Group<T> g, bool zero, Bounds *bounds, unsigned *flags) {
    uint32_t below = 0, high = 0;
    bool finite = true, weighted = false;
    const int64_t first = (int64_t)blockIdx.x * CODE_THREADS + threadIdx.x, step = (int64_t)gridDim.x * CODE_THREADS;
    for (int64_t i = first; i < g.rows * g.cols; i += step) {
        const float x = as_f32<TYPE>(g.in[i / g.cols * g.stride + i % g.cols]);
        finite = finite && tp_is_finite(x);
        if (zero && x == 0) continue;
        const uint32_t order = tp_order_of(x == 0 ? 0 : x);
        below = ~order > below ? ~order : below;
        high = order > high ? order : high;
    }
    for (int64_t i = first; g.row_weights && i < g.rows; i += step) weighted = weighted || g.row_weights[i] > 0;
    for (int64_t j = first; g.col_weights && j < g.cols; j += step) weighted = weighted || g.col_weights[j] > 0;
    below = __reduce_max_sync(TP_ALL_LANES, below);
    high = __reduce_max_sync(TP_ALL_LANES, high);
    if (lane_of() == 0) {
        atomicMax(&bounds->below, below);
        atomicMax(&bounds->high, high);
    }
    if (weighted) atomicOr(&bounds->weighted, 1u);
    if (!finite) atomicOr(flags, (unsigned)FOUND_NONFINITE);
}

template <tp_dtype TYPE, class T> TP_KERNEL(CODE_THREADS) count_elements(Group<T> g, bool zero, bool weighted, uint32_t base, int shift, tp_cell *cells) {
    const int64_t first = (int64_t)blockIdx.x * CODE_THREADS + threadIdx.x, step = (int64_t)gridDim.x * CODE_THREADS;
    for (int64_t i = first; i < g.rows * g.cols; i += step) {
        const int64_t row = i / g.cols, col = i % g.cols;
        const float x = as_f32<TYPE>(g.in[row * g.stride + col]);
        const uint32_t w = !weighted ? 1 : tp_steps_of(g.row_weights ? g.row_weights[row] : g.col_weights[col]);
        if (w == 0 || (zero && x == 0)) continue;
        const uint32_t order = tp_order_of(x == 0 ? 0 : x);
        tp_cell *const cell = cells + ((order >> shift) - base);
        atomicAdd(reinterpret_cast<unsigned long long *>(&cell->weight), (unsigned long long)w);
        atomicAdd(reinterpret_cast<unsigned long long *>(&cell->low), (unsigned long long)w * (order & ((1u << shift) - 1)));
    }
}

/* What the host has found, in the arguments of a kernel: then nobody has to wait for a copy. */
struct NumberTable {
    float entries[256];
};
TP_KERNEL(CODE_THREADS) put_table(NumberTable made, int64_t entries, float *table) {
    if (threadIdx.x < entries) table[threadIdx.x] = made.entries[threadIdx.x];
}

/* Vectors of a group that are looked at, coordinate by coordinate, padded with weight 0 to whole blocks of sums. */
struct Points {
    int64_t n, padded;
    float *x, *weight, *distance;
    uint16_t *nearest;
    double *blocks;
    int64_t *drawn;
};

template <int D, tp_dtype TYPE, class T> TP_KERNEL(CODE_THREADS) gather_points(Group<T> g, const Bounds *bounds, Points p) {
    const bool weighted = bounds->weighted;
    const int64_t line = g.cols / D, there = g.rows * line;
    for (int64_t i = (int64_t)blockIdx.x * CODE_THREADS + threadIdx.x; i < p.padded; i += (int64_t)gridDim.x * CODE_THREADS) {
        const bool here = i < p.n;
        const int64_t at = here ? there / p.n * i + there % p.n * i / p.n : 0, row = at / line, col = at % line * D;
        float w = 0;
        for (int c = 0; c < D; c++) {
            p.x[c * p.padded + i] = here ? as_f32<TYPE>(g.in[row * g.stride + col + c]) : 0;
            w += !weighted ? 1 : g.row_weights ? g.row_weights[row] : g.col_weights[col + c];
        }
        p.weight[i] = here ? w / (float)D : 0;
        p.distance[i] = 1;
    }
}

/* Adds weights times distances of a block of points to four sums, which are those of the first four threads; by all threads of a block. */
__device__ __forceinline__ void add_shares(const Points &p, int64_t block, double (&shares)[POINT_BLOCK], double *sum) {
    __syncthreads();
    for (int i = threadIdx.x; i < POINT_BLOCK; i += CODE_THREADS)
        shares[i] = (double)p.weight[block * POINT_BLOCK + i] * (double)p.distance[block * POINT_BLOCK + i];
    __syncthreads();
    for (int i = threadIdx.x; threadIdx.x < 4 && i < POINT_BLOCK; i += 4) *sum += shares[i];
}

/* (0 + 1) + (2 + 3) of what the first four lanes have. */
__device__ __forceinline__ double sum_of_four(double x) {
    const double pair = x + __shfl_xor_sync(TP_ALL_LANES, x, 1);
    return pair + __shfl_xor_sync(TP_ALL_LANES, pair, 2);
}

/* The sums of blocks, with the distance to an entry, or to the nearest of those up to it; before the first as they are. */
template <int D> TP_KERNEL(CODE_THREADS) measure_points(Points p, const float *table, int64_t entry) {
    TP_SHARED(double, shares, [POINT_BLOCK]);
    if (entry >= 0 && *p.drawn < 0) return;
    for (int i = threadIdx.x; entry >= 0 && i < POINT_BLOCK; i += CODE_THREADS) {
        const int64_t at = (int64_t)blockIdx.x * POINT_BLOCK + i;
        float now = 0;
        for (int c = 0; c < D; c++) {
            const float off = p.x[c * p.padded + at] - table[entry * D + c];
            now = fmaf(off, off, now);
        }
        p.distance[at] = entry == 0 || now < p.distance[at] ? now : p.distance[at];
    }
    double sum = 0;
    add_shares(p, blockIdx.x, shares, &sum);
    if (threadIdx.x >= TP_WARP) return;
    sum = sum_of_four(sum);
    if (threadIdx.x == 0) p.blocks[blockIdx.x] = sum;
}

/* One thread: the next entry becomes a point that is drawn, or the first one if there is none. */
template <int D> TP_KERNEL(TP_WARP) draw_entry(Points p, uint64_t seed, uint64_t stream, int64_t entry, float *table) {
    if (threadIdx.x) return;
    const int64_t at = tp_draw(p.weight, p.distance, p.blocks, p.padded, tp_unit_random(seed, stream, (uint64_t)entry));
    for (int c = 0; c < D; c++) table[entry * D + c] = at < 0 ? table[c] : p.x[c * p.padded + at];
    *p.drawn = at;
}

template <int D> TP_KERNEL(CODE_THREADS) find_nearest_entries(Points p, const float *table, int64_t entries) {
    constexpr int VECTORS = COMPARED<D>;
    TP_SHARED(float, part, [TABLE_FLOATS]);
    for (int64_t base = (int64_t)blockIdx.x * CODE_THREADS * VECTORS; base < p.padded; base += (int64_t)gridDim.x * CODE_THREADS * VECTORS) {
        float x[VECTORS][D], best[VECTORS];
        int32_t index[VECTORS];
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
#pragma unroll
            for (int d = 0; d < D; d++) {
                const int64_t i = base + v * CODE_THREADS + threadIdx.x;
                x[v][d] = i < p.padded ? p.x[d * p.padded + i] : 0;
            }
        find_nearest<D, VECTORS>(x, table, entries * D, part, best, index);
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const int64_t i = base + v * CODE_THREADS + threadIdx.x;
            if (i >= p.padded) continue;
            p.nearest[i] = (uint16_t)index[v];
            p.distance[i] = best[v];
        }
    }
}

/* One block. */
TP_KERNEL(CODE_THREADS) sum_losses(Points p, double *loss) {
    TP_SHARED(double, shares, [POINT_BLOCK]);
    double sum = 0;
    for (int64_t b = 0; b < p.padded / POINT_BLOCK; b++) add_shares(p, b, shares, &sum);
    if (threadIdx.x >= TP_WARP) return;
    sum = sum_of_four(sum);
    if (threadIdx.x == 0) *loss = sum;
}

/*
 * Sums by code, in order: lane l of a warp has those of code first + l, and takes its values one after the other from the lane that has loaded
 * them. load(i, code, values) says what is at i; it returns false for what has no code.
 */
template <int N, class Load> __device__ __forceinline__ void sum_by_code(int64_t n, uint32_t first, Load load, double (&sums)[N]) {
    const unsigned lane = lane_of();
#pragma unroll
    for (int c = 0; c < N; c++) sums[c] = 0;
    for (int64_t base = 0; base < n; base += TP_WARP) {
        uint32_t code = 0;
        double values[N];
        const bool here = base + lane < n && load(base + lane, &code, values);
        unsigned waiting = __ballot_sync(TP_ALL_LANES, here && code - first < TP_WARP);
        while (waiting) {
            const int from = __ffs((int)waiting) - 1;
            waiting &= waiting - 1;
            const bool mine = __shfl_sync(TP_ALL_LANES, code, from) - first == lane;
#pragma unroll
            for (int c = 0; c < N; c++) {
                const double value = __shfl_sync(TP_ALL_LANES, values[c], from);
                if (mine) sums[c] += value;
            }
        }
    }
}

/* 32 entries to a warp: each moves to the mean of its points, and stays where it has none. */
template <int D> TP_KERNEL(CODE_THREADS) move_entries(Points p, int64_t entries, float *table) {
    const int64_t first = ((int64_t)blockIdx.x * SUM_WARPS + threadIdx.x / TP_WARP) * TP_WARP, entry = first + lane_of();
    if (first >= entries) return;
    double sums[D + 1];
    sum_by_code<D + 1>(p.n, (uint32_t)first, [&](int64_t i, uint32_t *code, double (&values)[D + 1]) {
        *code = p.nearest[i];
        const double w = (double)p.weight[i];
#pragma unroll
        for (int c = 0; c < D; c++) values[c] = w * (double)p.x[c * p.padded + i];
        values[D] = w;
        return true;
    }, sums);
#pragma unroll
    for (int c = 0; c < D; c++)
        if (entry < entries && sums[D] > 0) table[entry * D + c] = (float)(sums[c] / sums[D]);
}

/* The groups of a range and their gradients: of each group 32 entries to a warp. Row 0 is the first of `codes` and of `gradients`. */
struct Gradients {
    int64_t begin, end, across, first_row, rows, cols, stride, group_rows, group_cols;
    int32_t bits;
};

template <int D, class Code>
TP_KERNEL(CODE_THREADS) sum_gradients(Gradients g, const Code *codes, const float *gradients, double *sums, unsigned *flags) {
    const int64_t entries = INT64_C(1) << g.bits, warps = (entries + TP_WARP - 1) / TP_WARP, line = g.cols / D;
    const int64_t step = (int64_t)gridDim.x * SUM_WARPS;
    bool wrong = false;
    for (int64_t w = (int64_t)blockIdx.x * SUM_WARPS + threadIdx.x / TP_WARP; w < (g.end - g.begin) * warps; w += step) {
        const int64_t index = g.begin + w / warps, row = index / g.across * g.group_rows, col = index % g.across * g.group_cols;
        const int64_t rows = g.rows - row < g.group_rows ? g.rows - row : g.group_rows, cols = (g.cols - col < g.group_cols ? g.cols - col : g.group_cols) / D;
        const uint32_t first = (uint32_t)(w % warps) * TP_WARP;
        double of[D];
        sum_by_code<D>(rows * cols, first, [&](int64_t i, uint32_t *code, double (&values)[D]) {
            const int64_t r = row - g.first_row + i / cols, c = i % cols;
            *code = codes[r * line + col / D + c];
            wrong = wrong || *code >> g.bits;
#pragma unroll
            for (int d = 0; d < D; d++) values[d] = (double)gradients[r * g.stride + col + c * D + d];
            return *code >> g.bits == 0;
        }, of);
#pragma unroll
        for (int d = 0; d < D; d++)
            if (first + lane_of() < entries) sums[((index - g.begin) * entries + first + lane_of()) * D + d] = of[d];
    }
    if (wrong) atomicOr(flags, (unsigned)FOUND_FORMAT);
}

}  // namespace tp

#endif
