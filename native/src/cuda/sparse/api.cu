/* The sparse family: how its arrays go through the device, and which kernels are queued. */
#include "tensorpress/cuda/sparse.h"

#include "cuda/sparse/check.cuh"
#include "cuda/sparse/count.cuh"
#include "cuda/sparse/unpack.cuh"

using namespace tp;

namespace {

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

Layout dense_layout(const tp_sparse_plan &p) { return {p.stride, p.cols, (int)p.size * 8, false}; }
Layout index_layout(const tp_sparse_plan &p) { return {p.index_row, p.index_row, 8, false}; }
Layout group_layout(const tp_sparse_plan &p) { return {p.groups * 2, p.groups * 2, (int)p.size * 8, false}; }

int64_t high_of(const tp_sparse_plan &p) { return p.layout == TP_SPARSE_BSR ? p.block_rows : 1; }

/* Blocks for so many pieces of work that are alike; twice as many as run at a time, so that few wait at the end. */
dim3 grid_for(const Call &call, int64_t work) { return dim3((unsigned)least(work, (int64_t)call.multiprocessors() * 16)); }
dim3 grid_for_warps(const Call &call, int64_t lines) { return grid_for(call, tp_divide_up(lines, SPARSE_WARPS)); }

/* The status of a call whose kernels may have found that the layout does not fit. */
tp_status fit_status(const Call &call, tp_status status) { return status == TP_OK && call.found() & FOUND_UNFIT ? TP_ERR_LAYOUT : status; }

/* Numbers of the first unit of lines [begin, end), and of the first one behind them. Offsets may be anywhere. */
tp_status units_of(tp_cuda *cuda, const tp_sparse_plan &p, int64_t begin, int64_t end, const int64_t *offsets, int64_t *from, int64_t *to) {
    *from = *to = 0;
    if (p.layout == TP_SPARSE_NM24) return TP_OK;
    TRY(tp_cuda_copy(cuda, from, offsets + begin, sizeof *from));
    return tp_cuda_copy(cuda, to, offsets + end, sizeof *to);
}

/* The units of a call's lines, all of them on the device. */
template <class T>
Packed<T> take_units(Call &call, const tp_sparse_plan &p, int64_t begin, int64_t end, const int64_t *offsets, int64_t from, int64_t to,
                     const void *indices, T *values, Role role) {
    const int64_t units = to > from ? to - from : 0, area = p.layout == TP_SPARSE_BSR ? p.block_rows * p.block_cols : 1;
    Packed<T> packed = {call.whole(offsets + begin, (end - begin + 1) * (int64_t)sizeof *offsets, READ), begin, from, nullptr, nullptr};
    if (!units) return packed;
    if (p.layout == TP_SPARSE_CSR16)
        packed.indices = const_cast<uint16_t *>(call.whole(static_cast<const uint16_t *>(indices) + from, units * 2, role));
    else if (p.layout != TP_SPARSE_BITMASK)
        packed.indices = const_cast<uint32_t *>(call.whole(static_cast<const uint32_t *>(indices) + from, units * 4, role));
    packed.values = call.whole(values + from * area, units * area * p.size, role);
    return packed;
}

/* Rows of a mask that goes with units, or none. */
template <class T> Rows<T> mask_of(const tp_sparse_plan &p, const Piece &piece, int i) {
    return p.layout == TP_SPARSE_BITMASK ? rows_of<T>(piece[i], p.index_row) : Rows<T>{nullptr, 0, 0};
}

}  // namespace

tp_status tp_cuda_sparse_survey(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const void *in, tp_survey *survey) {
    const tp_survey none = {};
    tp_sparse_plan plan;
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_sparse_survey(spec, begin, end, in, survey, &plan, &any));
    TRY(tp_cuda_copy(cuda, survey, &none, sizeof none));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        const int x = call.lines(in, READ, dense_layout(plan));
        tp_survey *const sums = call.whole(survey, sizeof *survey, READ_WRITE);
        return call.run(begin, end, BAND, [&](const Piece &p) {
            return for_size(plan.size, [&](auto bits) {
                using T = decltype(bits);
                const auto word = [&](int64_t *n) { return reinterpret_cast<unsigned long long *>(n); };
                return tp_launch(p.stream, survey_rows<T>, grid_for(call, tp_divide_up(p.end - p.begin, BAND)), SPARSE_THREADS, 0,
                                 rows_of<const T>(p[x], plan.cols), p.begin, p.end, word(&sums->entries), word(&sums->widest),
                                 word(&sums->overfull), word(&sums->blocks4x4), word(&sums->blocks8x8));
            });
        });
    });
}

tp_status tp_cuda_sparse_count(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const void *in, int64_t *counts) {
    tp_sparse_plan plan;
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_sparse_count(spec, begin, end, in, counts, &plan, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        int64_t *const to = call.whole(counts, (end - begin) * (int64_t)sizeof *counts, WRITE);
        if (plan.cols == 0)
            return call.run(begin, end, 1, [&](const Piece &p) { return cudaMemsetAsync(to, 0, (size_t)(end - begin) * sizeof *to, p.stream); });
        const int64_t high = high_of(plan);
        const int x = call.lines(in, READ, dense_layout(plan));
        return fit_status(call, call.run(begin * high, least(end * high, plan.rows), high, [&](const Piece &p) {
            return for_size(plan.size, [&](auto bits) {
                using T = decltype(bits);
                const auto rows = rows_of<const T>(p[x], plan.cols);
                if (plan.layout == TP_SPARSE_BSR) {
                    const int64_t first = p.begin / high, last = tp_divide_up(p.end, high);
                    return tp_launch(p.stream, count_blocks<T>, grid_for(call, last - first), SPARSE_THREADS, 0, rows, first, last, plan.rows,
                                     (int)plan.block_rows, (int)plan.block_cols, begin, to);
                }
                if (plan.layout == TP_SPARSE_NM24) {
                    const Walk w = walk_over(p.begin, p.end, plan.index_row);
                    return tp_launch(p.stream, count_groups<T>, grid_of(w, call.multiprocessors()), SPARSE_THREADS, 0, rows, w, plan.groups, begin,
                                     to, call.flags());
                }
                const bool distances = plan.layout == TP_SPARSE_CSR16 && plan.cols - 1 > TP_SPARSE_GAP;
                auto *const kernel = distances ? count_rows<T, true> : count_rows<T, false>;
                return tp_launch(p.stream, kernel, grid_for_warps(call, p.end - p.begin), SPARSE_THREADS, 0, rows, p.begin, p.end, begin, to,
                                 call.flags());
            });
        }));
    });
}

tp_status tp_cuda_sparse_count_mask(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const uint8_t *indices,
                                    int64_t *counts) {
    tp_sparse_plan plan;
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_sparse_count_mask(spec, begin, end, indices, counts, &plan, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        int64_t *const to = call.whole(counts, (end - begin) * (int64_t)sizeof *counts, WRITE);
        const int m = call.lines(plan.cols ? indices : nullptr, READ, index_layout(plan));
        return call.run(begin, end, 1, [&](const Piece &p) {
            return tp_launch(p.stream, count_bits, grid_for_warps(call, p.end - p.begin), SPARSE_THREADS, 0,
                             rows_of<const uint8_t>(p[m], plan.index_row), p.begin, p.end, plan.cols, begin, to);
        });
    });
}

tp_status tp_cuda_sparse_pack(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const void *in, const int64_t *offsets,
                              void *indices, void *values) {
    tp_sparse_plan plan;
    bool any;
    int64_t from, to;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_sparse_lines(spec, begin, end, in, offsets, &plan, &any));
    if (!any) return TP_OK;
    TRY(units_of(cuda, plan, begin, end, offsets, &from, &to));
    TRY(tp_check_sparse_arrays(&plan, to > from, indices, values));
    const int64_t high = high_of(plan);
    return guarded([&] {
        Call call(cuda);
        return for_size(plan.size, [&](auto bits) {
            using T = decltype(bits);
            const int x = call.lines(in, READ, dense_layout(plan));
            const int m = plan.index_row ? call.lines(indices, WRITE, index_layout(plan)) : -1;
            if (plan.layout == TP_SPARSE_NM24) {
                const int v = call.lines(values, WRITE, group_layout(plan));
                return fit_status(call, call.run(begin, end, 1, [&](const Piece &p) {
                    const Walk w = walk_over(p.begin, p.end, plan.index_row);
                    return tp_launch(p.stream, pack_groups<T>, grid_of(w, call.multiprocessors()), SPARSE_THREADS, 0,
                                     rows_of<const T>(p[x], plan.cols), w, rows_of<uint8_t>(p[m], plan.index_row),
                                     rows_of<T>(p[v], plan.groups * 2), call.flags());
                }));
            }
            const auto packed = take_units(call, plan, begin, end, offsets, from, to, indices, static_cast<T *>(values), WRITE);
            return fit_status(call, call.run(begin * high, least(end * high, plan.rows), high, [&](const Piece &p) {
                const auto rows = rows_of<const T>(p[x], plan.cols);
                if (plan.layout == TP_SPARSE_BSR) {
                    const int64_t first = p.begin / high, last = tp_divide_up(p.end, high);
                    return tp_launch(p.stream, pack_blocks<T>, grid_for(call, last - first), SPARSE_THREADS, 0, rows, first, last, plan.rows,
                                     (int)plan.block_rows, (int)plan.block_cols, packed);
                }
                return for_layout(plan.layout, [&](auto layout) {
                    return tp_launch(p.stream, pack_rows<T, decltype(layout)::value>, grid_for_warps(call, p.end - p.begin), SPARSE_THREADS, 0,
                                     rows, p.begin, p.end, packed, mask_of<uint8_t>(plan, p, m), call.flags());
                });
            }));
        });
    });
}

tp_status tp_cuda_sparse_check(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, int64_t units, const int64_t *offsets,
                               const void *indices, int64_t *bad_line) {
    tp_sparse_plan plan;
    bool any;
    int64_t bad = -1, first = 0;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_sparse_check(spec, begin, end, units, offsets, indices, bad_line, &plan, &any));
    if (plan.layout != TP_SPARSE_NM24 && plan.lines == 0) {
        TRY(tp_cuda_copy(cuda, &first, offsets, sizeof first));
        if (units || first) bad = 0;
    }
    TRY(tp_cuda_copy(cuda, bad_line, &bad, sizeof bad));
    if (!any) return bad < 0 ? TP_OK : TP_ERR_FORMAT;
    return guarded([&] {
        Call call(cuda);
        const bool columns = !plan.index_row && plan.layout != TP_SPARSE_NM24 && plan.layout != TP_SPARSE_BITMASK;
        const int m = columns ? -1 : call.lines(plan.index_row ? indices : nullptr, READ, index_layout(plan));
        unsigned long long *const line = reinterpret_cast<unsigned long long *>(call.whole(bad_line, sizeof *bad_line, READ_WRITE));
        Offsets o = {nullptr, begin, plan.lines, units};
        if (plan.layout != TP_SPARSE_NM24) o.offsets = call.whole(offsets + begin, (end - begin + 1) * (int64_t)sizeof *offsets, READ);
        const void *columns_of = nullptr;
        if (columns && plan.layout == TP_SPARSE_CSR16)
            columns_of = call.whole(static_cast<const uint16_t *>(indices), units * 2, READ);
        else if (columns)
            columns_of = call.whole(static_cast<const uint32_t *>(indices), units * 4, READ);
        const tp_status status = call.run(begin, end, 1, [&](const Piece &p) {
            const dim3 grid = grid_for_warps(call, p.end - p.begin);
            if (plan.layout == TP_SPARSE_BITMASK)
                return tp_launch(p.stream, check_bits, grid, SPARSE_THREADS, 0, o, p.begin, p.end, plan.cols,
                                 rows_of<const uint8_t>(p[m], plan.index_row), line, call.flags());
            if (plan.layout == TP_SPARSE_NM24)
                return tp_launch(p.stream, check_groups, grid, SPARSE_THREADS, 0, p.begin, p.end, plan.cols, plan.groups,
                                 rows_of<const uint8_t>(p[m], plan.index_row), line, call.flags());
            const int64_t limit = plan.layout == TP_SPARSE_BSR ? tp_divide_up(plan.cols, plan.block_cols) : plan.cols;
            auto *const kernel = plan.layout == TP_SPARSE_CSR16 ? check_columns<TP_SPARSE_CSR16> : check_columns<TP_SPARSE_CSR32>;
            return tp_launch(p.stream, kernel, grid, SPARSE_THREADS, 0, o, p.begin, p.end, limit, columns_of, line, call.flags());
        });
        return status == TP_OK && call.found() & FOUND_MALFORMED ? TP_ERR_FORMAT : status;
    });
}

tp_status tp_cuda_sparse_unpack(tp_cuda *cuda, const tp_sparse *spec, int64_t begin, int64_t end, const int64_t *offsets, const void *indices,
                                const void *values, void *out) {
    tp_sparse_plan plan;
    bool any;
    int64_t from, to;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_sparse_lines(spec, begin, end, out, offsets, &plan, &any));
    if (!any) return TP_OK;
    TRY(units_of(cuda, plan, begin, end, offsets, &from, &to));
    TRY(tp_check_sparse_arrays(&plan, to > from, indices, values));
    const int64_t high = high_of(plan);
    return guarded([&] {
        Call call(cuda);
        return for_size(plan.size, [&](auto bits) {
            using T = decltype(bits);
            const int x = call.lines(out, WRITE, dense_layout(plan));
            const int m = plan.index_row ? call.lines(indices, READ, index_layout(plan)) : -1;
            if (plan.layout == TP_SPARSE_NM24) {
                const int v = call.lines(values, READ, group_layout(plan));
                return call.run(begin, end, 1, [&](const Piece &p) {
                    const Walk w = walk_over(p.begin, p.end, plan.index_row);
                    return tp_launch(p.stream, unpack_groups<T>, grid_of(w, call.multiprocessors()), SPARSE_THREADS, 0,
                                     rows_of<T>(p[x], plan.cols), w, rows_of<const uint8_t>(p[m], plan.index_row),
                                     rows_of<const T>(p[v], plan.groups * 2));
                });
            }
            const auto packed = take_units(call, plan, begin, end, offsets, from, to, indices, static_cast<const T *>(values), READ);
            return call.run(begin * high, least(end * high, plan.rows), high, [&](const Piece &p) {
                const auto rows = rows_of<T>(p[x], plan.cols);
                if (plan.layout == TP_SPARSE_BSR) {
                    const int64_t first = p.begin / high, last = tp_divide_up(p.end, high);
                    return tp_launch(p.stream, unpack_blocks<T>, grid_for(call, last - first), SPARSE_THREADS, 0, rows, first, last, plan.rows,
                                     (int)plan.block_rows, (int)plan.block_cols, packed);
                }
                return for_layout(plan.layout, [&](auto layout) {
                    return tp_launch(p.stream, unpack_rows<T, decltype(layout)::value>, grid_for_warps(call, p.end - p.begin), SPARSE_THREADS, 0,
                                     rows, p.begin, p.end, packed, mask_of<const uint8_t>(plan, p, m));
                });
            });
        });
    });
}
