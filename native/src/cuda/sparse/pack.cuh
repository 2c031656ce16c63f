/* From a dense matrix to its units. A line's units are where its offset says; within the line, votes and scans tell. */
#ifndef TP_CUDA_SPARSE_PACK_CUH
#define TP_CUDA_SPARSE_PACK_CUH

#include "cuda/sparse/matrix.cuh"

namespace tp {

/* What a packed matrix is on the device: offsets from line `line` on, units from number `unit` on. */
template <class T> struct Packed {
    const int64_t *offsets;
    int64_t line, unit;
    void *indices;
    T *values;
    __device__ __forceinline__ int64_t first_of(int64_t l) const { return offsets[l - line] - unit; }
    template <class I> __device__ __forceinline__ I *index() const { return static_cast<I *>(indices); }
};

/* A row to a warp: each element that is stored goes behind those of the lanes before it. `mask` is for bits only. */
template <class T, int LAYOUT>
TP_KERNEL(SPARSE_THREADS) pack_rows(Rows<const T> in, int64_t begin, int64_t end, Packed<T> to, Rows<uint8_t> mask, unsigned *flags) {
    each_line_of_warp(begin, end, [&](int64_t row) {
        int64_t at = to.first_of(row);
        uint32_t last = 0;
        bool unfit = false;
        for (int64_t c0 = 0; c0 < in.cols; c0 += BATCH * TP_WARP) {
            T x[BATCH];
            unsigned own = 0; /* the word of which this lane writes a byte */
#pragma unroll
            for (int u = 0; u < BATCH; u++) {
                const int64_t col = c0 + u * TP_WARP + lane_of();
                x[u] = col < in.cols ? *in.at(row, col) : (T)0;
            }
#pragma unroll
            for (int u = 0; u < BATCH; u++) {
                const unsigned bits = __ballot_sync(TP_ALL_LANES, x[u] != 0), before = bits & lanes_before();
                const uint32_t word = (uint32_t)(c0 + u * TP_WARP), col = word + lane_of();
                if (x[u] != 0) {
                    const int64_t unit = at + __popc(before);
                    to.values[unit] = x[u];
                    if (LAYOUT == TP_SPARSE_CSR32) to.template index<uint32_t>()[unit] = col;
                    if (LAYOUT == TP_SPARSE_CSR16) {
                        const uint32_t distance = col - (before ? word + highest(before) : last);
                        unfit |= distance > TP_SPARSE_GAP;
                        to.template index<uint16_t>()[unit] = (uint16_t)distance;
                    }
                }
                at += __popc(bits);
                if (bits) last = word + highest(bits);
                if (lane_of() / 4 == (unsigned)u) own = bits;
            }
            if (LAYOUT == TP_SPARSE_BITMASK && lane_of() < 4 * BATCH && c0 / 8 + lane_of() < mask.cols)
                *mask.at(row, c0 / 8 + lane_of()) = (uint8_t)(own >> lane_of() % 4 * 8);
        }
        if (unfit) atomicOr(flags, FOUND_UNFIT);
    });
}

/* A row of blocks to a block: warps look for blocks that are stored, and copy them behind those of the warps before them. */
template <class T>
TP_KERNEL(SPARSE_THREADS) pack_blocks(Rows<const T> in, int64_t begin, int64_t end, int64_t rows, int block_rows, int block_cols,
                                      Packed<T> to) {
    TP_SHARED(unsigned, counts, [SPARSE_WARPS]);
    const int step = blocks_at_once(block_cols), warp = (int)threadIdx.x / TP_WARP, area = block_rows * block_cols;
    const int64_t across = (in.cols + block_cols - 1) / block_cols;
    for (int64_t line = begin + blockIdx.x; line < end; line += gridDim.x) {
        const int64_t row = line * block_rows, left = rows - row;
        const BlockLine<T> l = {in, row, left < block_rows ? (int)left : block_rows, block_cols};
        int64_t at = to.first_of(line);
        for (int64_t b0 = 0; b0 < across; b0 += SPARSE_WARPS * step) {
            const int64_t first = b0 + warp * step;
            unsigned blocks = first < across ? stored_blocks(l, first) : 0;
            if (lane_of() == 0) counts[warp] = __popc(blocks);
            __syncthreads();
            int64_t unit = at;
            for (int w = 0; w < SPARSE_WARPS; w++) {
                if (w < warp) unit += counts[w];
                at += counts[w];
            }
            for (; blocks; blocks &= blocks - 1, unit++) {
                const int64_t block = first + lowest(blocks), col = block * block_cols;
                if (lane_of() == 0) to.template index<uint32_t>()[unit] = (uint32_t)block;
                for (int i = (int)lane_of(); i < area; i += TP_WARP) {
                    const int r = i / block_cols, c = i % block_cols;
                    to.values[unit * area + i] = r < l.high && col + c < in.cols ? *in.at(row + r, col + c) : (T)0;
                }
            }
            __syncthreads();
        }
    }
}

/* To an address aligned to all of them. */
__device__ __forceinline__ void store_four(uint32_t *p, const uint32_t (&x)[4]) { *reinterpret_cast<uint4 *>(p) = make_uint4(x[0], x[1], x[2], x[3]); }
__device__ __forceinline__ void store_four(uint16_t *p, const uint16_t (&x)[4]) {
    *reinterpret_cast<uint2 *>(p) = make_uint2(joined(x), joined(x + 2));
}
__device__ __forceinline__ void store_four(uint8_t *p, const uint8_t (&x)[4]) { *reinterpret_cast<uint32_t *>(p) = joined(x); }

/* Two groups to a thread, which are a byte of indices. */
template <class T>
TP_KERNEL(SPARSE_THREADS) pack_groups(Rows<const T> in, Walk w, Rows<uint8_t> indices, Rows<T> values, unsigned *flags) {
    bool unfit = false;
    walk(w, [&](int64_t row, int64_t unit) {
        T x[EIGHT], kept[4];
        const int n = eight_or_fewer(unit * EIGHT, in.cols), groups = n > 4 ? 2 : 1;
        load_eight(in.at(row, unit * EIGHT), n, x);
        const unsigned stored = stored_of(x);
        unsigned byte = 0;
#pragma unroll
        for (int g = 0; g < 2; g++) {
            unsigned taken = stored >> 4 * g & 15;
            unfit |= __popc(taken) > 2;
            /* The lowest positions that are free fill up. */
            if (__popc(taken) < 2) taken |= ~taken & (taken + 1);
            if (__popc(taken) < 2) taken |= ~taken & (taken + 1);
            const unsigned first = lowest(taken), second = lowest(taken & (taken - 1));
            kept[2 * g] = kept[2 * g + 1] = 0;
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                if (i == first) kept[2 * g] = x[4 * g + i];
                if (i == second) kept[2 * g + 1] = x[4 * g + i];
            }
            if (g < groups) byte |= (first | second << 2) << 4 * g;
        }
        *indices.at(row, unit) = (uint8_t)byte;
        T *const to = values.at(row, unit * 4);
        if (groups == 2 && reinterpret_cast<uintptr_t>(to) % (4 * sizeof(T)) == 0) {
            store_four(to, kept);
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (k < 2 * groups) to[k] = kept[k];
        }
    });
    if (unfit) atomicOr(flags, FOUND_UNFIT);
}

}  // namespace tp

#endif
