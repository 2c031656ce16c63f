/* What the kernels of dense products share: their arguments, and which block makes which tile of C. */
#ifndef TP_CUDA_GEMM_PRODUCT_CUH
#define TP_CUDA_GEMM_PRODUCT_CUH

#include "cuda/context.cuh"
#include "tensorpress/cuda/gemm.h"

namespace tp {

/*
 * An operand as lines of k elements: the rows of op(A), the columns of op(B). Element i of line l is number l * stride + i, or
 * i * stride + l if lines are columns of the array. `aligned`: chunks that begin where lines of a tile do, or at multiples of
 * 16 bytes within a line, may be loaded at once.
 */
struct Operand {
    const void *base;
    int64_t stride;
    int64_t first, end; /* lines that are there */
    bool aligned;
};

/* Rows [a.first, a.end) of C, all columns. */
struct Product {
    Operand a, b;
    void *c;
    int64_t c_stride, k;
    bool c_aligned; /* chunks that begin where rows of C do, or at multiples of 16 bytes within a row, may be accessed at once */
    bool accumulate;
};

/* What is done to sums of int8 at the end. Null is as in tp_gemm_affine; sums of lines are there where the other's zeros are. */
struct Affine {
    const int8_t *a_zero, *b_zero;
    const float *a_scale, *b_scale;
    const uint32_t *a_sums, *b_sums;
    int a_zero_step, b_zero_step, a_scale_step, b_scale_step;
    bool scaled;
};

/* Sixteen bytes. */
template <class T> struct alignas(16) Chunk {
    static constexpr int COUNT = 16 / sizeof(T);
    T x[COUNT];
};

struct Tile {
    int64_t row, column; /* of C */
};

/* Tiles of this size that C has. */
inline int64_t count_tiles(const Product &p, int64_t rows, int64_t columns) {
    return ((p.a.end - p.a.first + rows - 1) / rows) * ((p.b.end + columns - 1) / columns);
}

/* Blocks go down eight tiles, then to the right, so that blocks that run together share lines of both operands in the cache. */
__device__ inline Tile tile_of_block(const Product &p, int rows, int columns) {
    const int64_t down = (p.a.end - p.a.first + rows - 1) / rows, across = (p.b.end + columns - 1) / columns;
    const int64_t group = blockIdx.x / (8 * across), rest = blockIdx.x % (8 * across), left = down - 8 * group;
    const int64_t height = left < 8 ? left : 8;
    return {p.a.first + (8 * group + rest % height) * rows, rest / height * columns};
}

/* Queue the product in rows of C. Blocks take large tiles where there are enough of those for all multiprocessors. */
cudaError_t queue_exact_f32(const Product &p, int32_t form, int multiprocessors, cudaStream_t stream);
cudaError_t queue_exact_f64(const Product &p, int32_t form, int multiprocessors, cudaStream_t stream);
cudaError_t queue_int8(const Product &p, const Affine &affine, int32_t form, int multiprocessors, cudaStream_t stream);
cudaError_t queue_tf32x3(const Product &p, int32_t form, int multiprocessors, cudaStream_t stream);

/* sums[l] = sum of the bytes of line l, for lines [first, end), modulo 2^32. */
cudaError_t queue_line_sums(const Operand &operand, bool columns, int64_t k, uint32_t *sums, cudaStream_t stream);

}  // namespace tp

#endif
