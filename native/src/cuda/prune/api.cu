/* The prune family: how its arrays go through the device, and which kernels are queued. */
#include "tensorpress/cuda/prune.h"

#include "cuda/prune/lines.cuh"
#include "cuda/prune/masks.cuh"
#include "cuda/prune/select.cuh"
#include "cuda/prune/sums.cuh"
#include "prune/checks.h"

using namespace tp;

namespace {

Layout matrix_layout(const tp_scores *s) { return {s->stride, s->cols, s->type == TP_F32 ? 32 : 16, false}; }
Layout mask_layout(const tp_scores *s) { return {tp_mask_stride(s->cols), tp_mask_stride(s->cols), 8, false}; }

tp_status nan_status(const Call &call, tp_status status) { return status == TP_OK && call.found() & FOUND_NAN ? TP_ERR_NONFINITE : status; }

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Blocks for so many pieces of work that are alike; twice as many as run at a time, so that few wait at the end. */
dim3 grid_of_lines(const Call &call, int64_t lines) { return dim3((unsigned)least(lines, (int64_t)call.multiprocessors() * 16)); }

template <class T> Rows<T> mask_rows(const Array &a) { return {a.as<T>(), a.stride, a.stride}; }

/* Whether masks have no bits between the rows. */
bool whole_bytes(const tp_scores *s) { return s->cols % EIGHT == 0; }

}  // namespace

tp_status tp_cuda_prune_histogram(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, int32_t digit,
                                  uint32_t prefix, int64_t *counts) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_histogram(spec, begin, end, in, digit, counts, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        const int x = call.lines(in, READ, matrix_layout(spec));
        int64_t *const sums = call.whole(counts, TP_PRUNE_COUNTS * (int64_t)sizeof *counts, READ_WRITE);
        const uint32_t higher = digit ? UINT32_MAX << tp_digit_shift(digit - 1) : 0, digits = digit == 2 ? 0x3ff : 0x7ff;
        /* Infinity that no key passes: the later digits look at few elements. */
        const uint32_t infinity = digit ? UINT32_MAX : tp_infinity_key(spec->type);
        return nan_status(call, call.run(begin, end, 1, [&](const Piece &p) {
            return for_kind(*spec, [&](auto kind) {
                using K = decltype(kind);
                auto rows = rows_of<const typename K::Bits>(p[x], spec->cols);
                const Walk w = walk_eights(p.begin, p.end, rows.stride == rows.cols, &rows.cols);
                return tp_launch(p.stream, count_digits<K>, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, rows, w,
                                 tp_digit_shift(digit), digits, higher, prefix, infinity, reinterpret_cast<unsigned long long *>(sums),
                                 call.flags());
            });
        }));
    });
}

tp_status tp_cuda_prune_count(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                              int64_t *larger, int64_t *equal) {
    const int64_t none = 0;
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_count(spec, begin, end, in, larger, equal, &any));
    TRY(tp_cuda_copy(cuda, larger, &none, sizeof none));
    TRY(tp_cuda_copy(cuda, equal, &none, sizeof none));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        const int x = call.lines(in, READ, matrix_layout(spec));
        int64_t *const more = call.whole(larger, sizeof *larger, READ_WRITE), *const same = call.whole(equal, sizeof *equal, READ_WRITE);
        return call.run(begin, end, 1, [&](const Piece &p) {
            return for_kind(*spec, [&](auto kind) {
                using K = decltype(kind);
                auto rows = rows_of<const typename K::Bits>(p[x], spec->cols);
                const Walk w = walk_eights(p.begin, p.end, rows.stride == rows.cols, &rows.cols);
                return tp_launch(p.stream, count_around<K>, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, rows, w, key,
                                 reinterpret_cast<unsigned long long *>(more), reinterpret_cast<unsigned long long *>(same));
            });
        });
    });
}

tp_status tp_cuda_prune_find(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key, int64_t skip,
                             int64_t *row, int64_t *col) {
    const int64_t none = -1;
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_find(spec, begin, end, in, skip, row, col, &any));
    TRY(tp_cuda_copy(cuda, row, &none, sizeof none));
    TRY(tp_cuda_copy(cuda, col, &none, sizeof none));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        const int x = call.lines(in, READ, matrix_layout(spec));
        int64_t *const found_row = call.whole(row, sizeof *row, READ_WRITE), *const found_col = call.whole(col, sizeof *col, READ_WRITE);
        const bool gaps = spec->stride != spec->cols;
        unsigned *const counts = call.scratch<unsigned>(gaps ? (end - begin) * tp_groups(spec->cols, TILE)
                                                             : tp_groups((end - begin) * spec->cols, TILE));
        Search *const search = call.scratch<Search>(1);
        return call.run(begin, end, 1, [&](const Piece &p) {
            return for_kind(*spec, [&](auto kind) {
                using K = decltype(kind);
                auto rows = rows_of<const typename K::Bits>(p[x], spec->cols);
                const Walk w = walk_eights(p.begin, p.end, rows.stride == rows.cols, &rows.cols);
                const int64_t across = tp_groups(rows.cols, TILE), tiles = (w.end - w.begin) * across;
                const bool first = p.begin == begin;
                const dim3 grid = grid_of_lines(call, tiles);
                cudaError_t error =
                    tp_launch(p.stream, count_in_tiles<K>, grid, ROW_THREADS, 0, rows, p.begin, across, tiles, key, first, search, counts);
                if (error == cudaSuccess)
                    error = tp_launch(p.stream, pick_tile, dim3(1), ROW_THREADS, 0, tiles, counts, first, (unsigned long long)skip, search);
                if (error == cudaSuccess)
                    error = tp_launch(p.stream, find_in_tile<K>, dim3(1), ROW_THREADS, 0, rows, p.begin, across, spec->cols, key, search,
                                      found_row, found_col);
                return error;
            });
        });
    });
}

tp_status tp_cuda_prune_mask(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                             int64_t tie_row, int64_t tie_col, uint8_t *mask) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_mask(spec, begin, end, in, mask, &any));
    if (!any) return TP_OK;
    /* Inside of the matrix, or right behind it: so it is a place in rows that are taken as one as well. */
    if (tie_row < 0) tie_row = tie_col = 0;
    if (tie_row >= spec->rows) tie_row = spec->rows, tie_col = 0;
    tie_col = tie_col < 0 ? 0 : least(tie_col, spec->cols);
    return guarded([&] {
        Call call(cuda);
        const int x = call.lines(in, READ, matrix_layout(spec)), m = call.lines(mask, WRITE, mask_layout(spec));
        return call.run(begin, end, 1, [&](const Piece &p) {
            return for_kind(*spec, [&](auto kind) {
                using K = decltype(kind);
                auto rows = rows_of<const typename K::Bits>(p[x], spec->cols);
                const bool as_one = rows.stride == rows.cols && whole_bytes(spec);
                const Walk w = walk_eights(p.begin, p.end, as_one, &rows.cols);
                const int64_t tie = (tie_row - p.begin) * spec->cols + tie_col; /* in the one row */
                return tp_launch(p.stream, keep_from_key<K>, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, rows, w, key,
                                 as_one ? p.begin : tie_row, as_one ? tie : tie_col, mask_rows<uint8_t>(p[m]));
            });
        });
    });
}

tp_status tp_cuda_prune_lines(tp_cuda *cuda, const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int64_t k,
                              uint8_t *mask) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_lines(spec, axis, begin, end, in, k, mask, &any));
    if (!any) return TP_OK;
    const bool columns = axis == 0;
    const int64_t length = columns ? spec->rows : spec->cols;
    if (length > UINT32_MAX) return TP_ERR_SHAPE;
    return guarded([&] {
        Call call(cuda);
        Layout scores = matrix_layout(spec), bits = mask_layout(spec);
        if (columns) {
            scores.columns = true;
            scores.length = length;
            bits = {tp_mask_stride(spec->cols) * 8, length, 1, true};
        }
        const int x = call.lines(in, READ, scores), m = call.lines(mask, WRITE, bits);
        /* A piece of columns is a multiple of a panel, so that panels are whole sectors of memory where rows are. */
        return nan_status(call, call.run(begin, end, columns ? 32 : 1, [&](const Piece &p) {
            return for_kind(*spec, [&](auto kind) {
                using K = decltype(kind);
                const auto rows = rows_of<const typename K::Bits>(p[x], spec->cols);
                auto to = mask_rows<uint8_t>(p[m]);
                if (columns) to.stride /= 8;
                const auto launch = [&](auto along) {
                    constexpr bool down = decltype(along)::value;
                    using P = Panel<typename K::Bits, down>;
                    const int64_t bytes = length * P::WIDTH * (int64_t)sizeof(typename K::Bits);
                    const bool cached = bytes <= P::CACHE_BYTES;
                    auto *const kernel = cached ? keep_largest<K, down, true> : keep_largest<K, down, false>;
                    if (cached) {
                        const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
                        if (error != cudaSuccess) return error;
                    }
                    const dim3 grid = grid_of_lines(call, tp_groups(p.end - p.begin, P::WIDTH));
                    return tp_launch(p.stream, kernel, grid, LINE_THREADS, cached ? (size_t)bytes : 0, rows, p.begin, p.end, length,
                                     (unsigned)least(k, length), tp_infinity_key(spec->type), to, call.flags());
                };
                return columns ? launch(std::true_type()) : launch(std::false_type());
            });
        }));
    });
}

tp_status tp_cuda_prune_nm(tp_cuda *cuda, const tp_scores *spec, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n,
                           int32_t m, uint8_t *mask) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_nm(spec, axis, begin, end, in, n, m, mask, &any));
    if (!any) return TP_OK;
    const bool columns = axis == 0;
    const int64_t high = columns ? m : 1;
    return guarded([&] {
        Call call(cuda);
        const int x = call.lines(in, READ, matrix_layout(spec)), bits = call.lines(mask, WRITE, mask_layout(spec));
        return nan_status(call, call.run(begin * high, least(end * high, spec->rows), high, [&](const Piece &p) {
            return for_kind(*spec, [&](auto kind) {
                using K = decltype(kind);
                auto rows = rows_of<const typename K::Bits>(p[x], spec->cols);
                const auto to = mask_rows<uint8_t>(p[bits]);
                const uint32_t infinity = tp_infinity_key(spec->type);
                const auto launch = [&](auto size) {
                    constexpr int M = decltype(size)::value;
                    if (columns) {
                        const Walk w = walk_over(p.begin / M, tp_groups(p.end, M), tp_mask_stride(spec->cols));
                        return tp_launch(p.stream, keep_in_column_groups<K, M>, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, rows, w,
                                         spec->rows, n, infinity, to, call.flags());
                    }
                    const Walk w = walk_eights(p.begin, p.end, rows.stride == rows.cols && whole_bytes(spec), &rows.cols);
                    return tp_launch(p.stream, keep_in_row_groups<K, M>, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, rows, w, n,
                                     infinity, to, call.flags());
                };
                switch (m) {
                case 1: return launch(std::integral_constant<int, 1>());
                case 2: return launch(std::integral_constant<int, 2>());
                case 4: return launch(std::integral_constant<int, 4>());
                case 8: return launch(std::integral_constant<int, 8>());
                default: break;
                }
                const Walk w = walk_over(p.begin, p.end, tp_mask_stride(spec->cols));
                auto *const kernel = columns ? keep_in_groups<K, true> : keep_in_groups<K, false>;
                return tp_launch(p.stream, kernel, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, rows, w, spec->rows, n, m, infinity, to,
                                 call.flags());
            });
        }));
    });
}

tp_status tp_cuda_prune_blocks(tp_cuda *cuda, const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                               const void *in, float *scores) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_blocks(spec, block_rows, block_cols, begin, end, in, scores, &any));
    if (!any) return TP_OK;
    const int64_t high = least(block_rows, spec->rows), across = tp_groups(spec->cols, block_cols);
    return guarded([&] {
        Call call(cuda);
        const int x = call.lines(in, READ, matrix_layout(spec));
        float *const sums = call.whole(scores + begin * across, (end - begin) * across * (int64_t)sizeof *scores, WRITE);
        return nan_status(call, call.run(begin * high, least(end * high, spec->rows), high, [&](const Piece &p) {
            return for_type(spec->type, [&](auto type, auto bits) {
                using T = decltype(bits);
                const Walk w = walk_over(p.begin / high, tp_groups(p.end, high), across);
                constexpr tp_dtype TYPE = decltype(type)::value;
                auto *const kernel = spec->order == TP_ORDER_MAGNITUDE ? sum_blocks<TYPE, true, T> : sum_blocks<TYPE, false, T>;
                return tp_launch(p.stream, kernel, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, rows_of<const T>(p[x], spec->cols), w,
                                 spec->rows, high, block_cols, begin, sums, call.flags());
            });
        }));
    });
}

tp_status tp_cuda_prune_expand(tp_cuda *cuda, const tp_scores *spec, int64_t block_rows, int64_t block_cols, int64_t begin, int64_t end,
                               const uint8_t *block_mask, uint8_t *mask) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_expand(spec, block_rows, block_cols, begin, end, block_mask, mask, &any));
    if (!any) return TP_OK;
    const int64_t high = least(block_rows, spec->rows), block_stride = tp_mask_stride(tp_groups(spec->cols, block_cols));
    return guarded([&] {
        Call call(cuda);
        const int m = call.lines(mask, WRITE, mask_layout(spec));
        const uint8_t *const blocks = call.whole(block_mask + begin * block_stride, (end - begin) * block_stride, READ);
        return call.run(begin * high, least(end * high, spec->rows), 1, [&](const Piece &p) {
            const Walk w = walk_over(p.begin, p.end, tp_mask_stride(spec->cols));
            const auto launch = [&](auto index) {
                using Index = decltype(index);
                return tp_launch(p.stream, expand_blocks<Index>, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, w, (Index)spec->cols, high,
                                 (Index)block_cols, begin, blocks, block_stride, mask_rows<uint8_t>(p[m]));
            };
            return spec->cols <= UINT32_MAX ? launch(uint32_t()) : launch(uint64_t());
        });
    });
}

tp_status tp_cuda_prune_apply(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, const uint8_t *mask,
                              void *out) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_apply(spec, begin, end, in, mask, out, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        Layout packed = matrix_layout(spec);
        packed.stride = spec->cols;
        const int x = call.lines(in, READ, matrix_layout(spec)), m = call.lines(mask, READ, mask_layout(spec)), y = call.lines(out, WRITE, packed);
        return call.run(begin, end, 1, [&](const Piece &p) {
            const auto launch = [&](auto bits) {
                using T = decltype(bits);
                auto rows = rows_of<const T>(p[x], spec->cols);
                const Walk w = walk_eights(p.begin, p.end, rows.stride == rows.cols && whole_bytes(spec), &rows.cols);
                return tp_launch(p.stream, apply_mask<T>, grid_of(w, call.multiprocessors()), ROW_THREADS, 0, rows, w, mask_rows<const uint8_t>(p[m]), rows_of<T>(p[y], rows.cols));
            };
            return spec->type == TP_F32 ? launch(uint32_t()) : launch(uint16_t());
        });
    });
}

tp_status tp_cuda_prune_error(tp_cuda *cuda, const tp_scores *spec, int64_t begin, int64_t end, const void *in, const void *out,
                              tp_error *errors) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_prune_error(spec, begin, end, in, out, errors, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        Layout packed = matrix_layout(spec);
        packed.stride = spec->cols;
        const int x = call.lines(spec->cols ? in : nullptr, READ, matrix_layout(spec)), y = call.lines(spec->cols ? out : nullptr, READ, packed);
        tp_error *const sums = call.whole(errors, (end - begin) * (int64_t)sizeof *errors, WRITE);
        return call.run(begin, end, 1, [&](const Piece &p) {
            return for_type(spec->type, [&](auto type, auto bits) {
                using T = decltype(bits);
                const dim3 grid = grid_of_lines(call, tp_groups(p.end - p.begin, ERROR_ROWS));
                return tp_launch(p.stream, add_errors<decltype(type)::value, T>, grid, ROW_THREADS, 0, rows_of<const T>(p[x], spec->cols),
                                 rows_of<const T>(p[y], spec->cols), p.begin, p.end, begin, sums);
            });
        });
    });
}
