/* Sparse matrices on the device. Kernels know the size of an element, of which T are the bits, not its type. */
#ifndef TP_CUDA_SPARSE_MATRIX_CUH
#define TP_CUDA_SPARSE_MATRIX_CUH

#include <type_traits>

#include "cuda/rows.cuh"
#include "cuda/scan.cuh"
#include "sparse/checks.h"

namespace tp {

/* What kernels find, in Call::flags(). */
enum { FOUND_UNFIT = 1, FOUND_MALFORMED = 2 };

/* Blocks of 256 threads: a line to a warp, or to a block. */
enum { SPARSE_THREADS = ROW_THREADS, SPARSE_WARPS = SPARSE_THREADS / TP_WARP, BATCH = 4 };

/* A column that is none: there are fewer than 2^32. */
constexpr uint32_t NO_COLUMN = UINT32_MAX;

/* f(T()) for the size of an element. */
template <class F> auto for_size(int64_t size, F f) {
    return size == 4 ? f(uint32_t()) : size == 2 ? f(uint16_t()) : f(uint8_t());
}

/* f(std::integral_constant) for the layouts that have a unit for each element. */
template <class F> cudaError_t for_layout(int layout, F f) {
    if (layout == TP_SPARSE_CSR16) return f(std::integral_constant<int, TP_SPARSE_CSR16>());
    if (layout == TP_SPARSE_CSR32) return f(std::integral_constant<int, TP_SPARSE_CSR32>());
    return f(std::integral_constant<int, TP_SPARSE_BITMASK>());
}

/* body(line) for the lines of this warp. */
template <class Body> __device__ __forceinline__ void each_line_of_warp(int64_t begin, int64_t end, Body body) {
    for (int64_t line = begin + (int64_t)blockIdx.x * SPARSE_WARPS + threadIdx.x / TP_WARP; line < end;
         line += (int64_t)gridDim.x * SPARSE_WARPS)
        body(line);
}

/* The place of the highest bit of a word that has one. */
__device__ __forceinline__ uint32_t highest(unsigned word) { return 31 - (uint32_t)__clz((int)word); }
__device__ __forceinline__ uint32_t lowest(unsigned word) { return (uint32_t)__ffs((int)word) - 1; }

/* Bit i: x[i] is stored. */
template <class T> __device__ __forceinline__ unsigned stored_of(const T (&x)[EIGHT]) {
    unsigned stored = 0;
#pragma unroll
    for (int i = 0; i < EIGHT; i++) stored |= (unsigned)(x[i] != 0) << i;
    return stored;
}

/* A row of blocks; what lies beyond the edges is not there. */
template <class T> struct BlockLine {
    Rows<const T> in;
    int64_t row;
    int high, block_cols; /* rows that are there */
};

/* Blocks whose columns a warp looks at together: as many as have at most 32 columns, or one. */
__device__ __forceinline__ int blocks_at_once(int block_cols) { return block_cols > TP_WARP ? 1 : TP_WARP / block_cols; }

/* Bit i: block first + i has an element that is stored. By a warp. */
template <class T> __device__ __forceinline__ unsigned stored_blocks(const BlockLine<T> &l, int64_t first) {
    const int n = blocks_at_once(l.block_cols), width = n * l.block_cols, lane = (int)lane_of();
    const int64_t col = first * l.block_cols + lane;
    const bool low = lane < width && col < l.in.cols, high = lane + TP_WARP < width && col + TP_WARP < l.in.cols;
    bool any = false, any_high = false;
#pragma unroll 4
    for (int r = 0; r < l.high; r++) {
        const T *const from = l.in.at(l.row + r, col);
        any |= low && from[0] != 0;
        any_high |= high && from[TP_WARP] != 0;
    }
    const unsigned columns = __ballot_sync(TP_ALL_LANES, any), more = __ballot_sync(TP_ALL_LANES, any_high);
    if (l.block_cols > TP_WARP) return (columns | more) != 0;
    const unsigned of_block = lane < n ? columns >> lane * l.block_cols & (TP_ALL_LANES >> (TP_WARP - l.block_cols)) : 0;
    return __ballot_sync(TP_ALL_LANES, of_block != 0);
}

}  // namespace tp

#endif
