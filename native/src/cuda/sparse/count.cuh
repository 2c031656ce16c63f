/* What is stored: figures of a matrix, and units of its lines. */
#ifndef TP_CUDA_SPARSE_COUNT_CUH
#define TP_CUDA_SPARSE_COUNT_CUH

#include "cuda/sparse/matrix.cuh"

namespace tp {

enum { BAND = 8 }; /* rows that a survey looks at together */

/* Of four bits each: 1 where any is set; where more than two are. */
__device__ __forceinline__ unsigned any_of_fours(unsigned word) {
    word |= word >> 1;
    return (word | word >> 2) & 0x11111111;
}
__device__ __forceinline__ unsigned overfull_fours(unsigned word) {
    unsigned n = word - (word >> 1 & 0x55555555);
    n = (n & 0x33333333) + (n >> 2 & 0x33333333);
    return (n >> 2 | (n & n >> 1)) & 0x11111111;
}

/*
 * A band of eight rows to a block, a stretch of columns to each warp, a column to a lane. The distances across the ends of stretches
 * come from their first and last columns.
 */
template <class T>
TP_KERNEL(SPARSE_THREADS) survey_rows(Rows<const T> in, int64_t begin, int64_t end, unsigned long long *entries, unsigned long long *widest,
                                      unsigned long long *overfull, unsigned long long *blocks4x4, unsigned long long *blocks8x8) {
    TP_SHARED(uint32_t, firsts, [SPARSE_WARPS][BAND]);
    TP_SHARED(uint32_t, lasts, [SPARSE_WARPS][BAND]);
    const int warp = (int)threadIdx.x / TP_WARP;
    const unsigned lane = lane_of();
    const int64_t words = (in.cols + TP_WARP - 1) / TP_WARP, share = (words + SPARSE_WARPS - 1) / SPARSE_WARPS;
    const int64_t stop = (warp + 1) * share < words ? (warp + 1) * share : words;
    unsigned n = 0, n_overfull = 0, n4x4 = 0, n8x8 = 0, most = 0;
    for (int64_t row = begin + (int64_t)blockIdx.x * BAND; row < end; row += (int64_t)gridDim.x * BAND) {
        uint32_t first[BAND], last[BAND];
#pragma unroll
        for (int r = 0; r < BAND; r++) first[r] = last[r] = NO_COLUMN;
        for (int64_t word = warp * share; word < stop; word++) {
            const int64_t col = word * TP_WARP + lane;
            T x[BAND];
#pragma unroll
            for (int r = 0; r < BAND; r++) x[r] = row + r < end && col < in.cols ? *in.at(row + r, col) : (T)0;
            unsigned own = 0, upper = 0, lower = 0; /* of row lane % 8, of the first four and of the last four */
#pragma unroll
            for (int r = 0; r < BAND; r++) {
                const unsigned bits = __ballot_sync(TP_ALL_LANES, x[r] != 0), before = bits & lanes_before();
                if (lane == (unsigned)r) own = bits;
                (r < BAND / 2 ? upper : lower) |= bits;
                if (x[r] != 0 && (before || last[r] != NO_COLUMN)) {
                    const unsigned distance = before ? lane - highest(before) : (uint32_t)col - last[r];
                    most = distance > most ? distance : most;
                }
                if (bits && first[r] == NO_COLUMN) first[r] = (uint32_t)(word * TP_WARP) + lowest(bits);
                if (bits) last[r] = (uint32_t)(word * TP_WARP) + highest(bits);
            }
            n += __popc(own); /* lanes 8 .. 31 have none */
            n_overfull += __popc(overfull_fours(own));
            if (lane == 0) {
                const unsigned fours = any_of_fours(upper | lower);
                n4x4 += __popc(any_of_fours(upper)) + __popc(any_of_fours(lower));
                n8x8 += __popc((fours | fours >> 4) & 0x01010101);
            }
        }
#pragma unroll
        for (int r = 0; r < BAND; r++) {
            if (lane == (unsigned)r) {
                firsts[warp][r] = first[r];
                lasts[warp][r] = last[r];
            }
        }
        __syncthreads();
        if (threadIdx.x < BAND) {
            uint32_t before = 0;
            for (int w = 0; w < SPARSE_WARPS; w++) {
                if (firsts[w][threadIdx.x] == NO_COLUMN) continue;
                most = firsts[w][threadIdx.x] - before > most ? firsts[w][threadIdx.x] - before : most;
                before = lasts[w][threadIdx.x];
            }
        }
        __syncthreads();
    }
    most = __reduce_max_sync(TP_ALL_LANES, most);
    const unsigned long long all[4] = {warp_sum((unsigned long long)n), warp_sum((unsigned long long)n_overfull),
                                       warp_sum((unsigned long long)n4x4), warp_sum((unsigned long long)n8x8)};
    if (lane) return;
    if (all[0]) atomicAdd(entries, all[0]);
    if (all[1]) atomicAdd(overfull, all[1]);
    if (all[2]) atomicAdd(blocks4x4, all[2]);
    if (all[3]) atomicAdd(blocks8x8, all[3]);
    if (most) atomicMax(widest, (unsigned long long)most);
}

/* A row to a warp. Where distances may be too wide they are looked at as well. */
template <class T, bool DISTANCES>
TP_KERNEL(SPARSE_THREADS) count_rows(Rows<const T> in, int64_t begin, int64_t end, int64_t first_line, int64_t *counts, unsigned *flags) {
    each_line_of_warp(begin, end, [&](int64_t row) {
        unsigned n = 0, last = 0;
        bool unfit = false;
        if (DISTANCES) {
            const uint32_t cols = (uint32_t)in.cols, words = cols / TP_WARP + (cols % TP_WARP != 0);
            const T *from = in.at(row, lane_of());
#pragma unroll 1
            for (uint32_t word = 0; word < words; word++, from += TP_WARP) {
                const uint32_t col = word * TP_WARP + lane_of();
                const bool stored = col < cols && *from != 0;
                const unsigned bits = __ballot_sync(TP_ALL_LANES, stored), before = bits & lanes_before();
                unfit |= stored && (before ? lane_of() - highest(before) : col - last) > TP_SPARSE_GAP;
                if (bits) last = word * TP_WARP + highest(bits);
                n += stored;
            }
        } else {
#pragma unroll 2
            for (int64_t col = (int64_t)lane_of() * EIGHT; col < in.cols; col += TP_WARP * EIGHT) {
                T x[EIGHT];
                load_eight(in.at(row, col), eight_or_fewer(col, in.cols), x);
                n += __popc(stored_of(x));
            }
        }
        n = warp_sum(n);
        if (lane_of() == 0) counts[row - first_line] = n;
        if (unfit) atomicOr(flags, FOUND_UNFIT);
    });
}

/* A row of blocks to a block. */
template <class T>
TP_KERNEL(SPARSE_THREADS) count_blocks(Rows<const T> in, int64_t begin, int64_t end, int64_t rows, int block_rows, int block_cols,
                                       int64_t first_line, int64_t *counts) {
    TP_SHARED(unsigned, sum, [1]);
    const int step = blocks_at_once(block_cols);
    const int64_t across = (in.cols + block_cols - 1) / block_cols;
    for (int64_t line = begin + blockIdx.x; line < end; line += gridDim.x) {
        const int64_t row = line * block_rows, left = rows - row;
        const BlockLine<T> l = {in, row, left < block_rows ? (int)left : block_rows, block_cols};
        if (threadIdx.x == 0) sum[0] = 0;
        __syncthreads();
        unsigned n = 0;
        for (int64_t block = (int64_t)(threadIdx.x / TP_WARP) * step; block < across; block += SPARSE_WARPS * step)
            n += __popc(stored_blocks(l, block));
        if (lane_of() == 0) atomicAdd(&sum[0], n);
        __syncthreads();
        if (threadIdx.x == 0) counts[line - first_line] = sum[0];
    }
}

/* Every group has two values, and no more than two elements. */
template <class T>
TP_KERNEL(SPARSE_THREADS) count_groups(Rows<const T> in, Walk w, int64_t groups, int64_t first_line, int64_t *counts, unsigned *flags) {
    bool unfit = false;
    walk(w, [&](int64_t row, int64_t unit) {
        T x[EIGHT];
        load_eight(in.at(row, unit * EIGHT), eight_or_fewer(unit * EIGHT, in.cols), x);
        unfit |= overfull_fours(stored_of(x)) != 0;
        if (unit == 0) counts[row - first_line] = groups * 2;
    });
    if (unfit) atomicOr(flags, FOUND_UNFIT);
}

/* Bits of byte i of a row of so many columns. */
__device__ __forceinline__ unsigned bits_of_columns(unsigned byte, int64_t i, int64_t cols) {
    return cols - i * EIGHT < EIGHT ? byte & ((1u << (cols - i * EIGHT)) - 1) : byte;
}

/* A row of a mask to a warp. */
TP_KERNEL(SPARSE_THREADS) count_bits(Rows<const uint8_t> mask, int64_t begin, int64_t end, int64_t cols, int64_t first_line, int64_t *counts) {
    each_line_of_warp(begin, end, [&](int64_t row) {
        unsigned n = 0;
#pragma unroll 4
        for (int64_t i = lane_of(); i < mask.cols; i += TP_WARP) n += __popc(bits_of_columns(*mask.at(row, i), i, cols));
        n = warp_sum(n);
        if (lane_of() == 0) counts[row - first_line] = n;
    });
}

}  // namespace tp

#endif
