/* The functions of the codebook family on CUDA devices. */
#include "tensorpress/cuda/codebook.h"

#include <memory>
#include <type_traits>

#include "codebook/checks.h"
#include "cuda/codebook/codes.cuh"
#include "cuda/codebook/train.cuh"

using namespace tp;

namespace {

int bits_of(tp_dtype type) { return type == TP_F32 ? 32 : 16; }

/* f(TYPE as std::integral_constant, its bits) for the type of a matrix. */
template <class F> cudaError_t for_type(tp_dtype type, F f) {
    if (type == TP_F32) return f(std::integral_constant<tp_dtype, TP_F32>(), uint32_t());
    if (type == TP_F16) return f(std::integral_constant<tp_dtype, TP_F16>(), uint16_t());
    return f(std::integral_constant<tp_dtype, TP_BF16>(), uint16_t());
}

/* f(D as std::integral_constant, a code) for what codes are of: vectors, or with 1 numbers, whose codes are bytes. */
template <class F> auto for_codes(const tp_codebook &s, F f) {
    const auto for_dimension = [&](auto code) {
        if (s.dimension == 2) return f(std::integral_constant<int, 2>(), code);
        if (s.dimension == 4) return f(std::integral_constant<int, 4>(), code);
        return f(std::integral_constant<int, 8>(), code);
    };
    if (s.dimension == 1) return f(std::integral_constant<int, 1>(), uint8_t());
    return s.bits <= 8 ? for_dimension(uint8_t()) : for_dimension(uint16_t());
}

dim3 grid_of(const Tiles &t, const Call &call) {
    const int64_t most = (int64_t)call.multiprocessors() * 16, tiles = t.count * t.across;
    return dim3((unsigned)(tiles < most ? tiles : most));
}

Layout layout_of_codes(const tp_codebook &s) { return {s.cols / s.dimension, s.cols / s.dimension, s.bits <= 8 ? 8 : 16, false}; }

const float *tables_on(Call &call, const tp_codebook &s, const float *tables) {
    return call.whole(tables, tp_codebook_groups(&s) * tp_codebook_entries(&s) * s.dimension * (int64_t)sizeof *tables, READ);
}

/* ---- tables ---- */

#define QUEUE(call)                                                                                                   \
    do {                                                                                                              \
        const cudaError_t queued = (call);                                                                            \
        if (queued != cudaSuccess) return queued;                                                                     \
    } while (0)

/* What training has on the device and on the host. */
struct Training {
    const tp_codebook &s;
    uint64_t seed;
    int32_t iterations;
    int64_t begin, end;
    int blocks;
    const float *row_weights, *col_weights;
    float *tables; /* of the range */
    Bounds *bounds;
    tp_cell *cells;
    Points points;
    double *loss;
    char *scratch; /* the host's */
    unsigned *flags;
    cudaStream_t stream;
};

/* Copies to the host what has been made by then. */
cudaError_t fetch(void *to, const void *from, int64_t bytes, cudaStream_t stream) {
    QUEUE(cudaStreamSynchronize(stream));
    return cudaMemcpy(to, from, (size_t)bytes, cudaMemcpyDeviceToHost);
}

template <tp_dtype TYPE, class T> cudaError_t train_numbers(const Training &t, const Group<T> &g, float *table) {
    const tp_codebook &s = t.s;
    char *scratch = t.scratch;
    tp_cells counts = {static_cast<tp_cell *>(tp_take(&scratch, CELLS * 16)), static_cast<uint64_t *>(tp_take(&scratch, CELLS / 8)), 0, 0};
    Bounds bounds;
    QUEUE(fetch(&bounds, t.bounds, sizeof bounds, t.stream));
    const uint32_t low = ~bounds.below, high = bounds.high;
    int64_t n = 0;
    if (low <= high) {
        while ((high >> counts.shift) - (low >> counts.shift) >= CELLS) counts.shift++;
        counts.base = low >> counts.shift;
        n = (int64_t)(high >> counts.shift) - counts.base + 1;
        QUEUE(cudaMemsetAsync(t.cells, 0, (size_t)n * sizeof *t.cells, t.stream));
        QUEUE(tp_launch(t.stream, count_elements<TYPE, T>, dim3((unsigned)t.blocks), CODE_THREADS, 0, g, s.zero != 0, bounds.weighted != 0, counts.base, counts.shift, t.cells));
        QUEUE(fetch(counts.of, t.cells, n * (int64_t)sizeof *t.cells, t.stream));
    }
    for (int64_t word = 0; word < CELLS / 64; word++) counts.used[word] = 0;
    for (int64_t i = 0; i < n; i++)
        if (counts.of[i].weight) counts.used[i / 64] |= UINT64_C(1) << i % 64;
    NumberTable made;
    tp_cluster(&s, t.iterations, &counts, scratch, made.entries);
    return tp_launch(t.stream, put_table, dim3(1), CODE_THREADS, 0, made, tp_codebook_entries(&s), table);
}

template <int D, tp_dtype TYPE, class T> cudaError_t train_vectors(const Training &t, const Group<T> &g, int64_t index, float *table) {
    const int64_t entries = tp_codebook_entries(&t.s), there = g.rows * (g.cols / D);
    Points p = t.points;
    p.n = there < MOST_POINTS ? there : MOST_POINTS;
    p.padded = (p.n + POINT_BLOCK - 1) / POINT_BLOCK * POINT_BLOCK;
    const dim3 all((unsigned)t.blocks), blocks((unsigned)(p.padded / POINT_BLOCK));
    QUEUE(tp_launch(t.stream, gather_points<D, TYPE, T>, all, CODE_THREADS, 0, g, t.bounds, p));
    QUEUE(cudaMemsetAsync(table, 0, (size_t)(entries * D) * sizeof *table, t.stream));
    QUEUE(tp_launch(t.stream, measure_points<D>, blocks, CODE_THREADS, 0, p, table, (int64_t)-1));
    for (int64_t e = 0; e < entries; e++) {
        QUEUE(tp_launch(t.stream, draw_entry<D>, dim3(1), TP_WARP, 0, p, t.seed, (uint64_t)index, e, table));
        QUEUE(tp_launch(t.stream, measure_points<D>, blocks, CODE_THREADS, 0, p, table, e));
    }
    double before = INFINITY, loss;
    for (int32_t step = 0; step < t.iterations; step++) {
        QUEUE(tp_launch(t.stream, find_nearest_entries<D>, all, CODE_THREADS, 0, p, table, entries));
        QUEUE(tp_launch(t.stream, sum_losses, dim3(1), CODE_THREADS, 0, p, t.loss));
        QUEUE(fetch(&loss, t.loss, sizeof loss, t.stream));
        if (step > 0 && !(before - loss > before * 0x1p-16)) break;
        before = loss;
        QUEUE(tp_launch(t.stream, move_entries<D>, dim3((unsigned)((entries + CODE_THREADS - 1) / CODE_THREADS)), CODE_THREADS, 0, p, entries, table));
    }
    return cudaSuccess;
}

template <tp_dtype TYPE, class T> cudaError_t train_groups(const Training &t, const T *in) {
    const tp_codebook &s = t.s;
    const int64_t across = tp_codebook_across(&s), floats = tp_codebook_entries(&s) * s.dimension;
    for (int64_t index = t.begin; index < t.end; index++) {
        const int64_t row = index / across * s.group_rows, col = index % across * s.group_cols;
        const Group<T> g = {in + row * s.stride + col, s.stride, tp_codebook_least(s.group_rows, s.rows - row), tp_codebook_least(s.group_cols, s.cols - col),
                            t.row_weights ? t.row_weights + row : nullptr, t.col_weights ? t.col_weights + col : nullptr};
        float *const table = t.tables + (index - t.begin) * floats;
        QUEUE(cudaMemsetAsync(t.bounds, 0, sizeof *t.bounds, t.stream));
        QUEUE(tp_launch(t.stream, bound_elements<TYPE, T>, dim3((unsigned)t.blocks), CODE_THREADS, 0, g, s.zero != 0, t.bounds, t.flags));
        unsigned found;
        QUEUE(fetch(&found, t.flags, sizeof found, t.stream));
        if (found) return cudaSuccess;
        if (s.dimension == 1) QUEUE((train_numbers<TYPE, T>(t, g, table)));
        if (s.dimension == 2) QUEUE((train_vectors<2, TYPE, T>(t, g, index, table)));
        if (s.dimension == 4) QUEUE((train_vectors<4, TYPE, T>(t, g, index, table)));
        if (s.dimension == 8) QUEUE((train_vectors<8, TYPE, T>(t, g, index, table)));
    }
    return cudaSuccess;
}

}  // namespace

tp_status tp_cuda_codebook_assign(tp_cuda *cuda, const tp_codebook *spec, int64_t begin, int64_t end, const void *in, const float *tables, void *codes) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_codebook_range(spec, false, begin, end, &any));
    if (!any) return TP_OK;
    if (!in || !tables || !codes) return TP_ERR_ARGUMENT;
    return guarded([&] {
        const tp_codebook &s = *spec;
        Call call(cuda);
        const int x = call.lines(in, READ, {s.stride, s.cols, bits_of(s.type), false}), y = call.lines(codes, WRITE, layout_of_codes(s));
        const float *const table = tables_on(call, s, tables);
        return call.run(begin, end, 1, [&](const Piece &p) {
            const Tiles t = tiles_over(s, p.begin, p.end);
            return for_type(s.type, [&](auto type, auto element) {
                using T = decltype(element);
                constexpr tp_dtype TYPE = decltype(type)::value;
                return for_codes(s, [&](auto dimension, auto code) {
                    using Code = decltype(code);
                    constexpr int D = decltype(dimension)::value;
                    const Rows<const T> from = rows_of<const T>(p[x], s.cols);
                    const Rows<Code> to = rows_of<Code>(p[y], s.cols / D);
                    if constexpr (D == 1)
                        return tp_launch(p.stream, assign_numbers<TYPE, T>, grid_of(t, call), CODE_THREADS, 0, t, s.bits, s.zero != 0, from, table, to);
                    else
                        return tp_launch(p.stream, assign_vectors<D, TYPE, T, Code>, grid_of(t, call), CODE_THREADS, 0, t, s.bits, from, table, to);
                });
            });
        });
    });
}

tp_status tp_cuda_codebook_decode(tp_cuda *cuda, const tp_codebook *spec, int64_t begin, int64_t end, const void *codes, const float *tables, float *out) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_codebook_range(spec, false, begin, end, &any));
    if (!any) return TP_OK;
    if (!codes || !tables || !out) return TP_ERR_ARGUMENT;
    return guarded([&] {
        const tp_codebook &s = *spec;
        Call call(cuda);
        const int x = call.lines(codes, READ, layout_of_codes(s)), y = call.lines(out, WRITE, {s.stride, s.cols, 32, false});
        const float *const table = tables_on(call, s, tables);
        TRY(call.run(begin, end, 1, [&](const Piece &p) {
            const Tiles t = tiles_over(s, p.begin, p.end);
            return for_codes(s, [&](auto dimension, auto code) {
                using Code = decltype(code);
                constexpr int D = decltype(dimension)::value;
                return tp_launch(p.stream, decode_codes<D, Code>, grid_of(t, call), CODE_THREADS, 0, t, s.bits, rows_of<const Code>(p[x], s.cols / D), table,
                                 rows_of<float>(p[y], s.cols), call.flags());
            });
        }));
        return (tp_status)(call.found() & FOUND_FORMAT ? TP_ERR_FORMAT : TP_OK);
    });
}

tp_status tp_cuda_codebook_train(tp_cuda *cuda, const tp_codebook *spec, uint64_t seed, int32_t iterations, int64_t begin, int64_t end, const void *in,
                                 const float *row_weights, const float *col_weights, float *tables) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_codebook_range(spec, true, begin, end, &any));
    if (iterations < 0 || (row_weights && col_weights)) return TP_ERR_ARGUMENT;
    if (!any) return TP_OK;
    if (!in || !tables) return TP_ERR_ARGUMENT;
    return guarded([&] {
        const tp_codebook &s = *spec;
        const int64_t elements = (s.rows - 1) * s.stride + s.cols, points = tp_codebook_points(&s), floats = tp_codebook_entries(&s) * s.dimension;
        const std::unique_ptr<char, decltype(&std::free)> scratch(
            s.dimension == 1 ? static_cast<char *>(std::aligned_alloc(64, (size_t)(tp_codebook_scratch_bytes(&s) + 63) / 64 * 64)) : nullptr, &std::free);
        if (s.dimension == 1 && !scratch) throw std::bad_alloc();
        Call call(cuda);
        Training t = {s, seed, iterations, begin, end, call.multiprocessors() * 8, nullptr, nullptr, nullptr, nullptr, nullptr, {}, nullptr, scratch.get(), nullptr, nullptr};
        const uint32_t *const in32 = s.type == TP_F32 ? call.whole(static_cast<const uint32_t *>(in), elements * 4, READ) : nullptr;
        const uint16_t *const in16 = s.type == TP_F32 ? nullptr : call.whole(static_cast<const uint16_t *>(in), elements * 2, READ);
        t.row_weights = call.whole(row_weights, s.rows * 4, READ);
        t.col_weights = call.whole(col_weights, s.cols * 4, READ);
        t.tables = call.whole(tables + begin * floats, (end - begin) * floats * 4, WRITE);
        t.bounds = call.scratch<Bounds>(1);
        t.loss = call.scratch<double>(1);
        if (s.dimension == 1) {
            t.cells = call.scratch<tp_cell>(CELLS);
        } else {
            t.points.x = call.scratch<float>(points * s.dimension);
            t.points.weight = call.scratch<float>(points);
            t.points.distance = call.scratch<float>(points);
            t.points.nearest = call.scratch<uint16_t>(points);
            t.points.blocks = call.scratch<double>(points / POINT_BLOCK);
            t.points.drawn = call.scratch<int64_t>(1);
        }
        t.flags = call.flags();
        TRY(call.run(0, 1, 1, [&](const Piece &p) {
            t.stream = p.stream;
            if (s.type == TP_F32) return train_groups<TP_F32>(t, in32);
            return s.type == TP_F16 ? train_groups<TP_F16>(t, in16) : train_groups<TP_BF16>(t, in16);
        }));
        return (tp_status)(call.found() & FOUND_NONFINITE ? TP_ERR_NONFINITE : TP_OK);
    });
}

tp_status tp_cuda_codebook_gradients(tp_cuda *cuda, const tp_codebook *spec, int64_t begin, int64_t end, const void *codes, const float *gradients,
                                     double *sums) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_codebook_range(spec, true, begin, end, &any));
    if (!any) return TP_OK;
    if (!codes || !gradients || !sums) return TP_ERR_ARGUMENT;
    return guarded([&] {
        const tp_codebook &s = *spec;
        const int64_t across = tp_codebook_across(&s), floats = tp_codebook_entries(&s) * s.dimension, line = s.cols / s.dimension;
        const int64_t first = begin / across * s.group_rows, last = tp_codebook_least(s.rows - s.group_rows, (end - 1) / across * s.group_rows) + s.group_rows;
        const Gradients g = {begin, end, across, first, s.rows, s.cols, s.stride, s.group_rows, s.group_cols, s.bits};
        Call call(cuda);
        const float *const from = call.whole(gradients + first * s.stride, ((last - first - 1) * s.stride + s.cols) * 4, READ);
        double *const to = call.whole(sums + begin * floats, (end - begin) * floats * 8, WRITE);
        const int64_t warps = (end - begin) * ((tp_codebook_entries(&s) + TP_WARP - 1) / TP_WARP), blocks = (warps + SUM_WARPS - 1) / SUM_WARPS;
        const int64_t most = (int64_t)call.multiprocessors() * 8;
        const dim3 grid((unsigned)(blocks < most ? blocks : most));
        TRY(for_codes(s, [&](auto dimension, auto code) {
            using Code = decltype(code);
            constexpr int D = decltype(dimension)::value;
            const Code *const c = call.whole(static_cast<const Code *>(codes) + first * line, (last - first) * line * (int64_t)sizeof(Code), READ);
            return call.run(0, 1, 1, [&](const Piece &p) {
                return tp_launch(p.stream, sum_gradients<D, Code>, grid, CODE_THREADS, 0, g, c, from, to, call.flags());
            });
        }));
        return (tp_status)(call.found() & FOUND_FORMAT ? TP_ERR_FORMAT : TP_OK);
    });
}
