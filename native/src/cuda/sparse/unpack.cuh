/* From units to a dense matrix. What is read was checked: see check.cuh. */
#ifndef TP_CUDA_SPARSE_UNPACK_CUH
#define TP_CUDA_SPARSE_UNPACK_CUH

#include "cuda/sparse/pack.cuh"

namespace tp {

/* A row to a warp. Rows of the two others begin as zeros, which are still in the cache when the units come. */
template <class T, int LAYOUT>
TP_KERNEL(SPARSE_THREADS) unpack_rows(Rows<T> out, int64_t begin, int64_t end, Packed<const T> from, Rows<const uint8_t> mask) {
    each_line_of_warp(begin, end, [&](int64_t row) {
        int64_t at = from.first_of(row);
        if (LAYOUT == TP_SPARSE_BITMASK) {
            for (int64_t c0 = 0; c0 < out.cols; c0 += EIGHT * TP_WARP) {
                const int64_t byte = c0 / 8 + lane_of();
                const unsigned bytes = byte < mask.cols ? *mask.at(row, byte) : 0;
#pragma unroll
                for (int u = 0; u < EIGHT; u++) {
                    const unsigned own = __shfl_sync(TP_ALL_LANES, bytes, u * 4 + (int)lane_of() / 8) >> lane_of() % 8 & 1;
                    const unsigned bits = __ballot_sync(TP_ALL_LANES, own);
                    const int64_t col = c0 + u * TP_WARP + lane_of();
                    if (col < out.cols) *out.at(row, col) = own ? from.values[at + __popc(bits & lanes_before())] : (T)0;
                    at += __popc(bits);
                }
            }
        } else {
            const T zeros[EIGHT] = {};
            for (int64_t col = (int64_t)lane_of() * EIGHT; col < out.cols; col += TP_WARP * EIGHT)
                store_eight(out.at(row, col), eight_or_fewer(col, out.cols), zeros);
            __syncwarp();
            const int64_t stop = from.first_of(row + 1);
            uint32_t last = 0;
            for (int64_t i0 = at; i0 < stop; i0 += TP_WARP) {
                const int64_t i = i0 + lane_of();
                uint32_t col = 0;
                if (LAYOUT == TP_SPARSE_CSR32) {
                    if (i < stop) col = from.template index<const uint32_t>()[i];
                } else {
                    col = last + warp_scan(i < stop ? (uint32_t)from.template index<const uint16_t>()[i] : 0);
                    last = __shfl_sync(TP_ALL_LANES, col, TP_WARP - 1);
                }
                if (i < stop) *out.at(row, col) = from.values[i];
            }
        }
    });
}

/* A row of blocks to a block, blocks to its warps. */
template <class T>
TP_KERNEL(SPARSE_THREADS) unpack_blocks(Rows<T> out, int64_t begin, int64_t end, int64_t rows, int block_rows, int block_cols,
                                        Packed<const T> from) {
    const int warp = (int)threadIdx.x / TP_WARP, area = block_rows * block_cols;
    for (int64_t line = begin + blockIdx.x; line < end; line += gridDim.x) {
        const int64_t row = line * block_rows, left = rows - row, stop = from.first_of(line + 1);
        const int high = left < block_rows ? (int)left : block_rows;
        const T zeros[EIGHT] = {};
        for (int r = warp; r < high; r += SPARSE_WARPS)
            for (int64_t col = (int64_t)lane_of() * EIGHT; col < out.cols; col += TP_WARP * EIGHT)
                store_eight(out.at(row + r, col), eight_or_fewer(col, out.cols), zeros);
        __syncthreads();
        for (int64_t unit = from.first_of(line) + warp; unit < stop; unit += SPARSE_WARPS) {
            const int64_t col = (int64_t)from.template index<const uint32_t>()[unit] * block_cols;
            for (int i = (int)lane_of(); i < area; i += TP_WARP) {
                const int r = i / block_cols, c = i % block_cols;
                if (r < high && col + c < out.cols) *out.at(row + r, col + c) = from.values[unit * area + i];
            }
        }
    }
}

/* Two groups to a thread. */
template <class T> TP_KERNEL(SPARSE_THREADS) unpack_groups(Rows<T> out, Walk w, Rows<const uint8_t> indices, Rows<const T> values) {
    walk(w, [&](int64_t row, int64_t unit) {
        T x[EIGHT];
        const int n = eight_or_fewer(unit * EIGHT, out.cols), groups = n > 4 ? 2 : 1;
        const unsigned byte = *indices.at(row, unit);
        const T *const from = values.at(row, unit * 4);
#pragma unroll
        for (int g = 0; g < 2; g++) {
            const unsigned first = byte >> 4 * g & 3, second = byte >> (4 * g + 2) & 3;
            const T low = g < groups ? from[2 * g] : (T)0, high = g < groups ? from[2 * g + 1] : (T)0;
#pragma unroll
            for (unsigned i = 0; i < 4; i++) x[4 * g + i] = i == second ? high : i == first ? low : (T)0;
        }
        store_eight(out.at(row, unit * EIGHT), n, x);
    });
}

}  // namespace tp

#endif
