/* Histograms, sums of matrices, and what windows see of images. */
#ifndef TP_CUDA_STATISTICS_ELEMENTS_CUH
#define TP_CUDA_STATISTICS_ELEMENTS_CUH

#include "cuda/rows.cuh"
#include "statistics/scalar.h"

namespace tp {

/* Each block counts in shared memory, where atomics of a warp that add 1 to one counter are one operation; 32 bits are enough for its share. */
TP_KERNEL(ROW_THREADS) count_bins(Rows<const uint32_t> in, Walk w, float per_width, unsigned long long *counts) {
    TP_SHARED(unsigned, table, [TP_STATISTICS_BINS]);
    for (int b = threadIdx.x; b < TP_STATISTICS_BINS; b += ROW_THREADS) table[b] = 0;
    __syncthreads();
    walk(w, [&](int64_t row, int64_t unit) {
        uint32_t x[EIGHT];
        const int n = eight_or_fewer(unit * EIGHT, in.cols);
        load_eight(in.at(row, unit * EIGHT), n, x);
#pragma unroll
        for (int i = 0; i < EIGHT; i++)
            if (i < n) atomicAdd(&table[tp_bin_of(tp_float(x[i]), per_width)], 1u);
    });
    __syncthreads();
    for (int b = threadIdx.x; b < TP_STATISTICS_BINS; b += ROW_THREADS)
        if (table[b]) atomicAdd(&counts[b], (unsigned long long)table[b]);
}

/* Elements of a row that a block takes together, some to a thread, whose loads are on their way at a time. */
enum { SUM_EACH = 4, SUM_TILE = ROW_THREADS * SUM_EACH };

TP_KERNEL(ROW_THREADS) add_rows(Rows<const float> in, Rows<double> out, int64_t begin, int64_t end, int64_t across) {
    for (int64_t t = blockIdx.x; t < (end - begin) * across; t += gridDim.x) {
        const int64_t row = begin + t / across, first = t % across * SUM_TILE + threadIdx.x;
        float x[SUM_EACH];
        double y[SUM_EACH];
#pragma unroll
        for (int i = 0; i < SUM_EACH; i++) {
            const int64_t c = first + i * ROW_THREADS;
            x[i] = c < in.cols ? *in.at(row, c) : 0;
            y[i] = c < in.cols ? *out.at(row, c) : 0;
        }
#pragma unroll
        for (int i = 0; i < SUM_EACH; i++) {
            const int64_t c = first + i * ROW_THREADS;
            if (c < in.cols) *out.at(row, c) = y[i] + (double)x[i];
        }
    }
}

/* Positions that follow one another and that a thread takes for one element of the window: where that lies in it is found once for all of them. */
enum { WINDOW_RUN = 16 };

/*
 * Positions [begin, end), which are numbers first + begin .. of all; `w` is over runs of positions and elements of the window. Positions move
 * along the width of the image.
 */
TP_KERNEL(ROW_THREADS) see_patches(const tp_window s, int64_t columns, int64_t first, int64_t begin, int64_t end, Walk w, const float *image, float *out) {
    const int64_t kernel = (int64_t)s.kernel_height * s.kernel_width;
    const int lanes = 1 << w.across, high = ROW_THREADS >> w.across;
    for (int64_t u = ((int64_t)blockIdx.x << w.across) + (threadIdx.x & (lanes - 1)); u < w.units; u += (int64_t)gridDim.x << w.across) {
        const int64_t channel = u / kernel, within = u % kernel;
        const int64_t down = within / s.kernel_width * s.dilation_height - s.before_height;
        const int64_t across = within % s.kernel_width * s.dilation_width - s.before_width;
        const float *const from = image + channel * s.height * s.width;
        for (int64_t run = (int64_t)blockIdx.y * high + (threadIdx.x >> w.across); run < w.end; run += (int64_t)gridDim.y * high) {
            int64_t p = begin + run * WINDOW_RUN, row = (first + p) / columns, column = (first + p) % columns;
            const int64_t last = end - p < WINDOW_RUN ? end : p + WINDOW_RUN;
#pragma unroll 4
            for (; p < last; p++) {
                const int64_t y = row * s.stride_height + down, x = column * s.stride_width + across;
                const bool inside = y >= 0 && y < s.height && x >= 0 && x < s.width;
                out[p * w.units + u] = inside ? from[y * s.width + x] : 0;
                if (++column == columns) column = 0, row++;
            }
        }
    }
}

}  // namespace tp

#endif
