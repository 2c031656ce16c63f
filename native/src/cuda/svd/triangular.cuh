/* Cholesky and triangular systems: blocks of columns one after the other, and products for what they do to the others. */
#ifndef TP_CUDA_SVD_TRIANGULAR_CUH
#define TP_CUDA_SVD_TRIANGULAR_CUH

#include "cuda/svd/product.cuh"

namespace tp {
namespace {

enum { TRIANGLE = 64, TRIANGLE_THREADS = 256, ROWS_PER_WARP = 4 };
enum : unsigned { FOUND_INDEFINITE = 1 };

/* *limit = n u times the largest diagonal element. */
TP_KERNEL(TRIANGLE_THREADS) pivot_limit(int64_t n, int64_t stride, const double *__restrict__ g, double *__restrict__ limit) {
    TP_SHARED(double, found, [TRIANGLE_THREADS]);
    double largest = 0;
    for (int64_t i = threadIdx.x; i < n; i += TRIANGLE_THREADS) {
        const double x = g[i * stride + i];
        largest = x > largest ? x : largest;
    }
    found[threadIdx.x] = largest;
    for (unsigned step = TRIANGLE_THREADS / 2; step; step /= 2) {
        __syncthreads();
        if (threadIdx.x < step && found[threadIdx.x + step] > found[threadIdx.x]) found[threadIdx.x] = found[threadIdx.x + step];
    }
    if (threadIdx.x == 0) *limit = (double)n * U * found[0];
}

/* Cholesky of the block of `size` rows that g points to. */
TP_KERNEL(TRIANGLE_THREADS) factor_block(int size, int64_t stride, double *__restrict__ g, const double *__restrict__ limit,
                                         unsigned *__restrict__ flags) {
    TP_SHARED(double, block, [TRIANGLE][TRIANGLE + 1]);
    TP_SHARED(double, column, [TRIANGLE]);
    for (int e = threadIdx.x; e < size * size; e += TRIANGLE_THREADS)
        if (e % size <= e / size) block[e / size][e % size] = g[e / size * stride + e % size];
    __syncthreads();
    for (int j = 0; j < size; j++) {
        /* The column goes to an array of its own, since all others read its pivot. */
        const int own = j + (int)threadIdx.x;
        if (own < size) {
            const double pivot = block[j][j], root = sqrt(pivot);
            if (own == j && !(pivot > *limit)) atomicOr(flags, (unsigned)FOUND_INDEFINITE);
            column[own] = own == j ? root : block[own][j] / root;
        }
        __syncthreads();
        const int rest = size - j;
        for (int e = threadIdx.x; e < rest * rest; e += TRIANGLE_THREADS) {
            const int r = j + e / rest, c = j + e % rest;
            if (c > r) continue;
            block[r][c] = c == j ? column[r] : fma(-column[r], column[c], block[r][c]);
        }
        __syncthreads();
    }
    for (int e = threadIdx.x; e < size * size; e += TRIANGLE_THREADS)
        if (e % size <= e / size) g[e / size * stride + e % size] = block[e / size][e % size];
}

/*
 * Solves X L^T = B, or with `transposed` X L = B, for `size` columns of X, in place; l points to a block on the diagonal. A warp has some
 * rows, and its lanes two columns of each: an element that is found is taken off all others at once.
 */
template <bool transposed>
TP_KERNEL(TRIANGLE_THREADS) solve_block(int size, int64_t l_stride, const double *__restrict__ l, int64_t begin, int64_t end, int64_t x_stride,
                                        double *__restrict__ x) {
    TP_SHARED(double, factors, [TRIANGLE][TRIANGLE + 1]); /* [found][other], 0 where nothing is to be taken off */
    TP_SHARED(double, pivots, [TRIANGLE]);
    for (int e = threadIdx.x; e < TRIANGLE * TRIANGLE; e += TRIANGLE_THREADS) {
        const int row = e / TRIANGLE, col = e % TRIANGLE;
        const double value = col <= row && row < size ? l[row * l_stride + col] : row == col;
        if (row == col) pivots[row] = value;
        /* Each pair of row and column once, from either triangle. */
        if (transposed)
            factors[row][col] = col < row ? value : 0;
        else
            factors[col][row] = col < row ? value : 0;
    }
    __syncthreads();
    const int lane = threadIdx.x % TP_WARP, warp = threadIdx.x / TP_WARP, warps = TRIANGLE_THREADS / TP_WARP;
    for (int64_t first = begin + ((int64_t)blockIdx.x * warps + warp) * ROWS_PER_WARP; first < end;
         first += (int64_t)gridDim.x * warps * ROWS_PER_WARP) {
        double own[2][ROWS_PER_WARP];
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int r = 0; r < ROWS_PER_WARP; r++)
                own[h][r] = first + r < end && lane + h * TP_WARP < size ? x[(first + r) * x_stride + lane + h * TP_WARP] : 0;
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const int h = transposed ? 1 - part : part;
            for (int step = 0; step < TP_WARP; step++) {
                const int from = transposed ? TP_WARP - 1 - step : step, j = from + h * TP_WARP;
                if (j >= size) continue;
                const double pivot = pivots[j], low = factors[j][lane], high = factors[j][lane + TP_WARP];
#pragma unroll
                for (int r = 0; r < ROWS_PER_WARP; r++) {
                    const double found = __shfl_sync(TP_ALL_LANES, own[h][r], from) / pivot;
                    own[0][r] = fma(-found, low, own[0][r]);
                    own[1][r] = fma(-found, high, own[1][r]);
                    if (lane == from) own[h][r] = found;
                }
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int r = 0; r < ROWS_PER_WARP; r++)
                if (first + r < end && lane + h * TP_WARP < size) x[(first + r) * x_stride + lane + h * TP_WARP] = own[h][r];
    }
}

cudaError_t launch_solve_block(cudaStream_t stream, bool transposed, int64_t size, int64_t l_stride, const double *l, int64_t begin,
                                      int64_t end, int64_t x_stride, double *x, int multiprocessors) {
    const dim3 grid = grid_for(ceil_div(end - begin, TRIANGLE_THREADS / TP_WARP * ROWS_PER_WARP), multiprocessors);
    return tp_launch(stream, transposed ? solve_block<true> : solve_block<false>, grid, TRIANGLE_THREADS, 0, (int)size, l_stride, l, begin, end,
                     x_stride, x);
}

/* Rows [begin, end) of X. */
cudaError_t launch_solve(cudaStream_t stream, bool transposed, int64_t n, int64_t l_stride, const double *l, int64_t begin, int64_t end,
                                int64_t x_stride, double *x, int multiprocessors) {
    const int64_t blocks = ceil_div(n, TRIANGLE);
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t j = (transposed ? blocks - 1 - b : b) * TRIANGLE, size = std::min<int64_t>(n - j, TRIANGLE);
        /* What is known already is taken off. */
        const int64_t first = transposed ? j + size : 0, known = transposed ? n - first : j;
        const Operand coefficients = transposed ? Operand{l + first * l_stride + j, 1, l_stride, TP_F64} : Operand{l + j * l_stride, l_stride, 1, TP_F64};
        const Product off = {{x + first, x_stride, 1, TP_F64}, coefficients, x + j, x_stride, begin, end, size, known, false, -1, 1};
        cudaError_t error = known ? launch_product(stream, off, 1, nullptr, multiprocessors) : cudaSuccess;
        if (error == cudaSuccess)
            error = launch_solve_block(stream, transposed, size, l_stride, l + j * l_stride + j, begin, end, x_stride, x + j, multiprocessors);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

/* A block of columns, the rows below it, and what they do to the columns after it. `limit` is room for one number. */
cudaError_t launch_cholesky(cudaStream_t stream, int64_t n, int64_t stride, double *g, double *limit, unsigned *flags, int multiprocessors) {
    cudaError_t error = tp_launch(stream, pivot_limit, dim3(1), TRIANGLE_THREADS, 0, n, stride, (const double *)g, limit);
    for (int64_t j = 0; j < n && error == cudaSuccess; j += TRIANGLE) {
        const int64_t size = std::min<int64_t>(n - j, TRIANGLE), next = j + size;
        double *block = g + j * stride + j;
        error = tp_launch(stream, factor_block, dim3(1), TRIANGLE_THREADS, 0, (int)size, stride, block, (const double *)limit, flags);
        if (next == n || error != cudaSuccess) break;
        double *below = g + next * stride + j;
        error = launch_solve_block(stream, false, size, stride, block, 0, n - next, stride, below, multiprocessors);
        if (error != cudaSuccess) break;
        const Operand panel = {below, stride, 1, TP_F64};
        const Product off = {panel, panel, g + next * stride + next, stride, 0, n - next, n - next, size, true, -1, 1};
        error = launch_product(stream, off, 1, nullptr, multiprocessors);
    }
    return error;
}

}  // namespace
}  // namespace tp

#endif
