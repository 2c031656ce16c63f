/* Norms and copies of rows. */
#ifndef TP_CUDA_SVD_ROWS_CUH
#define TP_CUDA_SVD_ROWS_CUH

#include "cuda/svd/common.cuh"

namespace tp {
namespace {

enum { ROWS_THREADS = 256, NORM_LANES = 16, COPY_TILE = 32 };

/* Bits of the word of flags. */
enum : unsigned { FOUND_NONFINITE = 1, FOUND_WRONG_ORDER = 2 };

/* Sixteen lanes to a row, each with every sixteenth element, as on the processor: the sums are the same bits. */
template <class T>
TP_KERNEL(ROWS_THREADS) norms_of_rows(int64_t cols, int64_t begin, int64_t end, const T *__restrict__ in, int64_t stride,
                                  double *__restrict__ sums, double *__restrict__ largest, unsigned *__restrict__ flags) {
    const int lane = threadIdx.x % NORM_LANES, own = threadIdx.x / NORM_LANES;
    const int rows = ROWS_THREADS / NORM_LANES;
    /* The loop is the same for all lanes of a warp, since they exchange sums. */
    for (int64_t first = begin + (int64_t)blockIdx.x * rows; first < end; first += (int64_t)gridDim.x * rows) {
        const int64_t row = first + own;
        const T *x = in + row * stride;
        double sum = 0, most = 0;
        bool odd = false;
        if (row < end) {
#pragma unroll 8
            for (int64_t i = lane; i < cols; i += NORM_LANES) {
                const double v = (double)x[i], a = fabs(v);
                sum += v * v;
                most = a > most ? a : most;
                odd |= !(v - v == 0);
            }
        }
        if (odd) atomicOr(flags, (unsigned)FOUND_NONFINITE);
#pragma unroll
        for (int step = NORM_LANES / 2; step; step /= 2) {
            sum += __shfl_down_sync(TP_ALL_LANES, sum, step, NORM_LANES);
            const double other = __shfl_down_sync(TP_ALL_LANES, most, step, NORM_LANES);
            most = most > other ? most : other;
        }
        if (lane == 0 && row < end) {
            sums[row] = sum;
            largest[row] = most;
        }
    }
}

/* Where row i of the result comes from, and the factor of its own; false if the order is wrong. */
__device__ __forceinline__ bool copied_row(int64_t i, int64_t rows, const int64_t *order, const double *factors, int64_t *row, double *own) {
    *row = order ? order[i] : i;
    const bool right = *row >= 0 && *row < rows;
    *own = right && factors ? factors[*row] : 1;
    return right;
}

template <class From, class To>
TP_KERNEL(ROWS_THREADS) copy_in_rows(int64_t rows, int64_t cols, double factor, int64_t begin, int64_t end, const int64_t *__restrict__ order,
                                  const double *__restrict__ factors, const From *__restrict__ in, int64_t in_stride, To *__restrict__ out,
                                  int64_t out_stride, unsigned *__restrict__ flags) {
    const int64_t parts = (cols + ROWS_THREADS - 1) / ROWS_THREADS;
    for (int64_t part = blockIdx.x; part < (end - begin) * parts; part += gridDim.x) {
        const int64_t i = begin + part / parts, c = part % parts * ROWS_THREADS + threadIdx.x;
        int64_t row;
        double own;
        if (!copied_row(i, rows, order, factors, &row, &own)) {
            atomicOr(flags, (unsigned)FOUND_WRONG_ORDER);
            continue;
        }
        if (c < cols) out[i * out_stride + c] = (To)((double)in[row * in_stride + c] * own * factor);
    }
}

/* Through a tile in shared memory, so that rows are read and written along their elements. */
template <class From, class To>
TP_KERNEL(ROWS_THREADS) copy_transposed(int64_t rows, int64_t cols, double factor, int64_t begin, int64_t end, const int64_t *__restrict__ order,
                                        const double *__restrict__ factors, const From *__restrict__ in, int64_t in_stride, To *__restrict__ out,
                                        int64_t out_stride, unsigned *__restrict__ flags) {
    TP_SHARED(To, tile, [COPY_TILE][COPY_TILE + 1]);
    const int x = threadIdx.x % COPY_TILE, y = threadIdx.x / COPY_TILE;
    const int64_t across = (cols + COPY_TILE - 1) / COPY_TILE, down = (end - begin + COPY_TILE - 1) / COPY_TILE;
    for (int64_t part = blockIdx.x; part < across * down; part += gridDim.x) {
        const int64_t i0 = begin + part / across * COPY_TILE, c0 = part % across * COPY_TILE;
        __syncthreads(); /* the last tile has been read */
        for (int k = y; k < COPY_TILE; k += ROWS_THREADS / COPY_TILE) {
            int64_t row;
            double own;
            if (i0 + k >= end || c0 + x >= cols) continue;
            if (copied_row(i0 + k, rows, order, factors, &row, &own))
                tile[k][x] = (To)((double)in[row * in_stride + c0 + x] * own * factor);
            else
                atomicOr(flags, (unsigned)FOUND_WRONG_ORDER);
        }
        __syncthreads();
        for (int k = y; k < COPY_TILE; k += ROWS_THREADS / COPY_TILE)
            if (i0 + x < end && c0 + k < cols) out[(c0 + k) * out_stride + i0 + x] = tile[x][k];
    }
}

}  // namespace
}  // namespace tp

#endif
