/*
 * What is known of channels. Their sums go on in order of rows, so a channel is one thread's: the first warp of a block adds up 32 of them, from
 * shared memory, while all warps load the rows that come next.
 */
#ifndef TP_CUDA_STATISTICS_CHANNELS_CUH
#define TP_CUDA_STATISTICS_CHANNELS_CUH

#include "cuda/kernel.cuh"
#include "statistics/scalar.h"

namespace tp {

enum { CHANNEL_THREADS = 256, CHANNEL_ROWS = 64, CHANNEL_WARPS = CHANNEL_THREADS / TP_WARP, CHANNEL_EACH = CHANNEL_ROWS / CHANNEL_WARPS };

TP_KERNEL(CHANNEL_THREADS) add_channels(int64_t rows, int64_t channels, int64_t begin, int64_t end, const float *x, int64_t stride, float *min,
                                        float *max, double *sum, double *squares, unsigned long long *nonfinite) {
    TP_SHARED(float, tiles, [2][CHANNEL_ROWS][TP_WARP]);
    const int lane = threadIdx.x % TP_WARP, warp = threadIdx.x / TP_WARP;
    unsigned long long wrong = ~0ull;
    for (int64_t c0 = begin + (int64_t)blockIdx.x * TP_WARP; c0 < end; c0 += (int64_t)gridDim.x * TP_WARP) {
        const int64_t c = c0 + lane;
        const bool here = c < end, adds = here && warp == 0;
        float held[CHANNEL_EACH];
        const auto load = [&](int64_t first) {
#pragma unroll
            for (int i = 0; i < CHANNEL_EACH; i++) {
                const int64_t r = first + warp + i * CHANNEL_WARPS;
                held[i] = here && r < rows ? x[r * stride + c] : 0;
            }
        };
        const auto store = [&](int64_t first, int buffer) {
#pragma unroll
            for (int i = 0; i < CHANNEL_EACH; i++) {
                const int row = warp + i * CHANNEL_WARPS;
                const unsigned long long at = (unsigned long long)((first + row) * channels + c);
                tiles[buffer][row][lane] = held[i];
                if (!tp_is_finite(held[i]) && at < wrong) wrong = at;
            }
        };
        float least = 0, most = 0;
        double total = 0, total_squares = 0;
        if (adds) {
            least = min[c];
            most = max[c];
            total = sum[c];
            total_squares = squares[c];
        }
        load(0);
        store(0, 0);
        __syncthreads();
        int buffer = 0;
        for (int64_t first = 0; first < rows; first += CHANNEL_ROWS, buffer ^= 1) {
            const bool more = rows - first > CHANNEL_ROWS;
            if (more) load(first + CHANNEL_ROWS);
            if (adds) {
                const int n = more ? (int)CHANNEL_ROWS : (int)(rows - first);
#pragma unroll 8
                for (int r = 0; r < n; r++) {
                    const float v = tiles[buffer][r][lane];
                    least = v < least ? v : least;
                    most = v > most ? v : most;
                    total += (double)v;
                    total_squares = fma((double)v, (double)v, total_squares);
                }
            }
            if (more) store(first + CHANNEL_ROWS, buffer ^ 1);
            __syncthreads();
        }
        if (adds) {
            min[c] = least;
            max[c] = most;
            sum[c] = total;
            squares[c] = total_squares;
        }
    }
    if (wrong != ~0ull) atomicMin(nonfinite, wrong);
}

}  // namespace tp

#endif
