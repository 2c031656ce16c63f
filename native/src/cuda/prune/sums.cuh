/* Sums in f64, in the order of the portable kernels: norms of blocks, and the error of rows. */
#ifndef TP_CUDA_PRUNE_SUMS_CUH
#define TP_CUDA_PRUNE_SUMS_CUH

#include "cuda/prune/scores.cuh"

namespace tp {

/* An element of type TYPE, of which T are the bits. */
template <tp_dtype TYPE, class T> __device__ __forceinline__ double value_of(T x) {
    return TYPE == TP_F32 ? tp_float(x) : TYPE == TP_F16 ? tp_f32_of_f16((uint16_t)x) : tp_f32_of_bf16((uint16_t)x);
}

/* f(TYPE as std::integral_constant, its bits) for the type of a matrix. */
template <class F> cudaError_t for_type(tp_dtype type, F f) {
    if (type == TP_F32) return f(std::integral_constant<tp_dtype, TP_F32>(), uint32_t());
    if (type == TP_F16) return f(std::integral_constant<tp_dtype, TP_F16>(), uint16_t());
    return f(std::integral_constant<tp_dtype, TP_BF16>(), uint16_t());
}

/* A block to a thread, which adds in order: loads run ahead, the sum does not. The walk goes over rows of blocks. */
template <tp_dtype TYPE, bool SQUARES, class T>
TP_KERNEL(ROW_THREADS) sum_blocks(Rows<const T> in, Walk w, int64_t rows, int64_t block_rows, int64_t block_cols, int64_t first_blocks,
                                  float *scores, unsigned *flags) {
    bool nan = false;
    walk(w, [&](int64_t b, int64_t a) {
        const T *from = in.at(b * block_rows, a * block_cols);
        const int64_t below = rows - b * block_rows, right = in.cols - a * block_cols;
        const int64_t width = right < block_cols ? right : block_cols;
        double sum = 0;
#pragma unroll 1
        for (int64_t left = below < block_rows ? below : block_rows; left > 0; left--, from += in.stride) {
#pragma unroll 4
            for (int64_t c = 0; c < width; c++) {
                const double x = value_of<TYPE>(from[c]);
                sum += SQUARES ? x * x : x;
            }
        }
        if (SQUARES) sum = sqrt(sum);
        scores[(b - first_blocks) * w.units + a] = (float)sum;
        nan |= sum != sum;
    });
    if (nan) atomicOr(flags, FOUND_NAN);
}

/*
 * A row to half a warp: lane c % 16 has the terms that the portable kernel adds to its partial sum c % 16, in the same order, and
 * the partial sums are added up as there.
 */
enum { ERROR_LANES = 16, ERROR_ROWS = ROW_THREADS / ERROR_LANES, ERROR_BATCH = 4 };

template <tp_dtype TYPE, class T>
TP_KERNEL(ROW_THREADS) add_errors(Rows<const T> in, Rows<const T> out, int64_t begin, int64_t end, int64_t first_row, tp_error *errors) {
    const int lane = (int)threadIdx.x % ERROR_LANES;
    for (int64_t r0 = begin + (int64_t)blockIdx.x * ERROR_ROWS; r0 < end; r0 += (int64_t)gridDim.x * ERROR_ROWS) {
        const int64_t row = r0 + threadIdx.x / ERROR_LANES, cols = row < end ? in.cols : 0;
        double error = 0, square = 0, most = 0;
        for (int64_t c0 = lane; c0 < cols; c0 += ERROR_BATCH * ERROR_LANES) {
            T x[ERROR_BATCH], y[ERROR_BATCH];
#pragma unroll
            for (int u = 0; u < ERROR_BATCH; u++) {
                const int64_t c = c0 + u * ERROR_LANES;
                x[u] = c < cols ? *in.at(row, c) : (T)0;
                y[u] = c < cols ? *out.at(row, c) : (T)0;
            }
            /* What is not there adds 0, which changes no sum of squares. */
#pragma unroll
            for (int u = 0; u < ERROR_BATCH; u++) {
                const double v = value_of<TYPE>(x[u]), d = v - value_of<TYPE>(y[u]);
                error += d * d;
                square += v * v;
                most = fabs(d) > most ? fabs(d) : most;
            }
        }
#pragma unroll
        for (int apart = ERROR_LANES / 2; apart; apart /= 2) {
            error += __shfl_down_sync(TP_ALL_LANES, error, apart, ERROR_LANES);
            square += __shfl_down_sync(TP_ALL_LANES, square, apart, ERROR_LANES);
            const double other = __shfl_down_sync(TP_ALL_LANES, most, apart, ERROR_LANES);
            most = other > most ? other : most;
        }
        if (lane == 0 && row < end) errors[row - first_row] = tp_error_of(error, square, most);
    }
}

}  // namespace tp

#endif
