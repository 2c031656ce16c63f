/* What the kernels of sparse products share: their arguments, and the arithmetic of both types. */
#ifndef TP_CUDA_SPMM_PRODUCT_CUH
#define TP_CUDA_SPMM_PRODUCT_CUH

#include "cuda/context.cuh"
#include "cuda/scan.cuh"
#include "tensorpress/cuda/spmm.h"

namespace tp {

enum { LINE_THREADS = 256, LINE_WARPS = LINE_THREADS / TP_WARP };

/* Lines of A: the arrays begin with line `first`, and offsets count from offsets[0]. */
struct SparseLines {
    const int64_t *offsets;
    const void *indices, *values;
    int64_t first, end;
    int64_t rows, cols;
    int32_t layout, block_rows, block_cols; /* 1 but for TP_SPARSE_BSR */
};

struct SparseProduct {
    SparseLines a;
    const void *b;
    void *out;
    int64_t b_stride, out_stride, n;
    bool b_aligned; /* four elements of a row of B that begin at a multiple of four may be loaded at once */
    /* Of lines with more than TP_SPMM_SEGMENT units, for which see lines.cuh; null if there are none. */
    void *partials;
    int64_t units;
};

/* Sums are of 4 bytes; those of int8 wrap around. */
template <class T> struct Arithmetic;
template <> struct Arithmetic<float> {
    using Sum = float;
    using Four = float4;
    static __device__ float fused(float x, float y, float sum) { return fmaf(x, y, sum); }
};
template <> struct Arithmetic<int8_t> {
    using Sum = uint32_t;
    using Four = char4;
    static __device__ uint32_t fused(int8_t x, int8_t y, uint32_t sum) { return sum + (uint32_t)(x * y); }
};

/* Queue the product of lines [begin, end), or what A^T B adds to rows [begin, end) of out. */
cudaError_t queue_lines_f32(const SparseProduct &p, int64_t begin, int64_t end, cudaStream_t stream);
cudaError_t queue_lines_i8(const SparseProduct &p, int64_t begin, int64_t end, cudaStream_t stream);

}  // namespace tp

#endif
