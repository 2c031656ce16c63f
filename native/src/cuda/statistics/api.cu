/* The functions of the statistics family on CUDA devices. */
#include "tensorpress/cuda/statistics.h"

#include "cuda/statistics/channels.cuh"
#include "cuda/statistics/elements.cuh"
#include "statistics/checks.h"

using namespace tp;

namespace {

int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }

dim3 grid_for(int64_t blocks, int64_t most) { return dim3((unsigned)(blocks < most ? blocks : most)); }

}  // namespace

tp_status tp_cuda_observe_channels(tp_cuda *cuda, int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,
                                   float *min, float *max, double *sum, double *squares, int64_t *nonfinite) {
    const int64_t none = -1;
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_observe_channels(rows, channels, stride, begin, end, x, min, max, sum, squares, nonfinite, &any));
    TRY(tp_cuda_copy(cuda, nonfinite, &none, sizeof none));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        const int in = call.lines(x, READ, {stride, rows, 32, true});
        const int least = call.lines(min, READ_WRITE, {1, 1, 32, false}), most = call.lines(max, READ_WRITE, {1, 1, 32, false});
        const int sums = call.lines(sum, READ_WRITE, {1, 1, 64, false}), square = call.lines(squares, READ_WRITE, {1, 1, 64, false});
        int64_t *const wrong = call.whole(nonfinite, sizeof *nonfinite, READ_WRITE); /* -1 is the largest number without a sign */
        return call.run(begin, end, 1, [&](const Piece &p) {
            return tp_launch(p.stream, add_channels, grid_for(ceil_div(p.end - p.begin, TP_WARP), (int64_t)call.multiprocessors() * 8), CHANNEL_THREADS, 0,
                             rows, channels, p.begin, p.end, (const float *)p[in].as<float>(), p[in].stride, p[least].as<float>(), p[most].as<float>(),
                             p[sums].as<double>(), p[square].as<double>(), reinterpret_cast<unsigned long long *>(wrong));
        });
    });
}

tp_status tp_cuda_observe_histogram(tp_cuda *cuda, int64_t rows, int64_t channels, int64_t stride, int64_t begin, int64_t end, const void *x,
                                    float width, int64_t *counts) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_observe_histogram(rows, channels, stride, begin, end, x, width, counts, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        const int in = call.lines(x, READ, {stride, channels, 32, false});
        int64_t *const sums = call.whole(counts, TP_STATISTICS_BINS * (int64_t)sizeof *counts, READ_WRITE);
        return call.run(begin, end, 1, [&](const Piece &p) {
            auto matrix = rows_of<const uint32_t>(p[in], channels);
            const Walk w = walk_eights(p.begin, p.end, matrix.stride == matrix.cols, &matrix.cols);
            return tp_launch(p.stream, count_bins, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, matrix, w, 1 / width,
                             reinterpret_cast<unsigned long long *>(sums));
        });
    });
}

tp_status tp_cuda_accumulate(tp_cuda *cuda, int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t begin, int64_t end,
                             const float *in, double *out) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_accumulate(rows, cols, in_stride, out_stride, begin, end, in, out, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        const int from = call.lines(in, READ, {in_stride, cols, 32, false}), to = call.lines(out, READ_WRITE, {out_stride, cols, 64, false});
        return call.run(begin, end, 1, [&](const Piece &p) {
            Rows<const float> x = rows_of<const float>(p[from], cols);
            Rows<double> y = rows_of<double>(p[to], cols);
            int64_t last = p.end;
            if (x.stride == cols && y.stride == cols) {
                x.cols *= p.end - p.begin;
                last = p.begin + 1;
            }
            const int64_t across = ceil_div(x.cols, SUM_TILE);
            return tp_launch(p.stream, add_rows, grid_for((last - p.begin) * across, (int64_t)call.multiprocessors() * 8), ROW_THREADS, 0, x, y, p.begin,
                             last, across);
        });
    });
}

tp_status tp_cuda_patches(tp_cuda *cuda, const tp_window *window, int64_t begin, int64_t end, const void *image, float *out) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_patches(window, begin, end, image, out, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        const tp_window &s = *window;
        const int64_t length = s.channels * s.kernel_height * s.kernel_width, bytes = s.channels * s.height * s.width * (int64_t)sizeof *out;
        Call call(cuda);
        const float *const whole = call.whole(static_cast<const float *>(image), bytes, READ);
        const int to = call.lines(out, WRITE, {length, length, 32, false});
        return call.run(0, end - begin, 1, [&](const Piece &p) {
            const Walk w = walk_over(0, ceil_div(p.end - p.begin, WINDOW_RUN), length);
            return tp_launch(p.stream, see_patches, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, s, tp_window_columns(&s), begin, p.begin, p.end, w,
                             whole, p[to].as<float>());
        });
    });
}
