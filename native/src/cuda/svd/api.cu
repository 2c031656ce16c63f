/* The functions of the svd family on CUDA devices. */
#include "tensorpress/cuda/svd.h"

#include "cuda/svd/qb.cuh"
#include "cuda/svd/random.cuh"
#include "cuda/svd/rows.cuh"
#include "cuda/svd/small.cuh"
#include "cuda/svd/triangular.cuh"

using namespace tp;

tp_status tp_cuda_gaussian(tp_cuda *cuda, uint64_t seed, uint64_t stream, int64_t begin, int64_t end, tp_dtype type, void *out) {
    TRY(tp_check_gaussian(begin, end, type, out));
    return guarded([&] {
        Call call(cuda);
        const int x = call.lines(out, WRITE, {1, 1, bits_of(type), false});
        return call.run(0, end - begin, 1, [&](const Piece &p) {
            return with_type(type, [&](auto t) {
                using T = decltype(t);
                const dim3 grid = grid_for(ceil_div(p.end - p.begin + 3, 4 * RANDOM_THREADS), call.multiprocessors());
                return tp_launch(p.stream, gaussian_numbers<T>, grid, RANDOM_THREADS, 0, seed, stream, begin, p.begin, p.end, p[x].as<T>());
            });
        });
    });
}

tp_status tp_cuda_row_norms(tp_cuda *cuda, tp_dtype type, int64_t rows, int64_t cols, int64_t stride, int64_t begin, int64_t end, const void *in,
                            double *sums, double *largest) {
    TRY(tp_check_row_norms(type, rows, cols, stride, begin, end, in, sums, largest));
    return guarded([&] {
        Call call(cuda);
        const int x = call.lines(in, READ, {stride, cols, bits_of(type), false});
        const int s = call.lines(sums, WRITE, {1, 1, 64, false}), l = call.lines(largest, WRITE, {1, 1, 64, false});
        TRY(call.run(begin, end, 1, [&](const Piece &p) {
            return with_type(type, [&](auto t) {
                using T = decltype(t);
                const dim3 grid = grid_for(ceil_div(p.end - p.begin, ROWS_THREADS / NORM_LANES), call.multiprocessors());
                return tp_launch(p.stream, norms_of_rows<T>, grid, ROWS_THREADS, 0, cols, p.begin, p.end, (const T *)p[x].as<T>(), p[x].stride,
                                 p[s].as<double>(), p[l].as<double>(), call.flags());
            });
        }));
        return (tp_status)(call.found() & FOUND_NONFINITE ? TP_ERR_NONFINITE : TP_OK);
    });
}

tp_status tp_cuda_copy_rows(tp_cuda *cuda, const tp_copying *spec, int64_t begin, int64_t end, const int64_t *order, const double *factors,
                            const void *in, void *out) {
    TRY(tp_check_copying(spec, begin, end, in, out));
    if (begin == end || spec->cols == 0) return TP_OK;
    return guarded([&] {
        const tp_copying &s = *spec;
        Call call(cuda);
        /* With an order, which rows of `in` a piece needs is anybody's guess. */
        const void *whole = order ? call.whole_bytes(in, span_bytes(s.in_type, s.rows, s.cols, s.in_stride), READ) : nullptr;
        const int x = call.lines(order ? nullptr : in, READ, {s.in_stride, s.cols, bits_of(s.in_type), false});
        const int y = call.lines(out, WRITE, {s.out_stride, s.cols, bits_of(s.out_type), s.transposed != 0});
        const int o = call.lines(order, READ, {1, 1, 64, false});
        const double *f = call.whole(factors, s.rows * 8, READ);
        TRY(call.run(begin, end, 1, [&](const Piece &p) {
            return with_type(s.in_type, [&](auto from) {
                return with_type(s.out_type, [&](auto to) {
                    using From = decltype(from);
                    using To = decltype(to);
                    const int64_t n = p.end - p.begin;
                    const int64_t blocks = s.transposed ? ceil_div(n, COPY_TILE) * ceil_div(s.cols, COPY_TILE) : n * ceil_div(s.cols, ROWS_THREADS);
                    const From *a = order ? static_cast<const From *>(whole) : p[x].as<From>();
                    return tp_launch(p.stream, s.transposed ? copy_transposed<From, To> : copy_in_rows<From, To>,
                                     grid_for(blocks, call.multiprocessors()), ROWS_THREADS, 0, s.rows, s.cols, s.factor, p.begin, p.end,
                                     (const int64_t *)p[o].as<int64_t>(), f, a, order ? s.in_stride : p[x].stride, p[y].as<To>(), p[y].stride,
                                     call.flags());
                });
            });
        }));
        return (tp_status)(call.found() & FOUND_WRONG_ORDER ? TP_ERR_RANGE : TP_OK);
    });
}

tp_status tp_cuda_multiply(tp_cuda *cuda, const tp_multiplication *spec, int64_t begin, int64_t end, const void *a, const void *b, double *c) {
    TRY(tp_check_multiply(spec, begin, end, a, b, c));
    if (begin == end || spec->n == 0) return TP_OK;
    return guarded([&] {
        const tp_multiplication &s = *spec;
        Call call(cuda);
        const int x = call.lines(s.k ? a : nullptr, READ, {s.a_stride, s.k, bits_of(s.a_type), s.a_transposed != 0});
        const int64_t b_bytes = s.b_transposed ? span_bytes(s.b_type, s.n, s.k, s.b_stride) : span_bytes(s.b_type, s.k, s.n, s.b_stride);
        const void *whole = call.whole_bytes(s.k ? b : nullptr, b_bytes, READ);
        const int z = call.lines(c, s.beta == 0 && !s.lower ? WRITE : READ_WRITE, {s.c_stride, s.n, 64, false});
        const int sms = call.multiprocessors();
        const int64_t apart = segments_apart(end - begin, s.n, s.k, sms);
        double *parts = call.scratch<double>(parts_size(end - begin, s.n, apart));
        return call.run(begin, end, 8, [&](const Piece &p) {
            const int64_t a_pitch = p[x].stride;
            const Operand left = {p[x].base, s.a_transposed ? 1 : a_pitch, s.a_transposed ? a_pitch : 1, s.a_type};
            const Operand right = {whole, s.b_transposed ? s.b_stride : 1, s.b_transposed ? 1 : s.b_stride, s.b_type};
            const Product product = {left, right, p[z].as<double>(), p[z].stride, p.begin, p.end, s.n, s.k, s.lower != 0, s.alpha, s.beta};
            return launch_product(p.stream, product, apart, parts, sms);
        });
    });
}

tp_status tp_cuda_cholesky(tp_cuda *cuda, int64_t n, int64_t stride, double *g) {
    TRY(tp_check_cholesky(n, stride, g));
    return guarded([&] {
        Call call(cuda);
        double *whole = call.whole(g, span_bytes(TP_F64, n, n, stride), READ_WRITE);
        double *limit = call.scratch<double>(1);
        TRY(call.run(0, n ? 1 : 0, 1, [&](const Piece &p) {
            return launch_cholesky(p.stream, n, stride, whole, limit, call.flags(), call.multiprocessors());
        }));
        return (tp_status)(call.found() & FOUND_INDEFINITE ? TP_ERR_INDEFINITE : TP_OK);
    });
}

tp_status tp_cuda_triangular_solve(tp_cuda *cuda, int64_t n, int64_t l_stride, const double *l, int32_t transposed, int64_t x_stride, int64_t begin,
                                   int64_t end, double *x) {
    TRY(tp_check_triangular_solve(n, l_stride, l, transposed, x_stride, begin, end, x));
    if (n == 0) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        const double *whole = call.whole(l, span_bytes(TP_F64, n, n, l_stride), READ);
        const int y = call.lines(x, READ_WRITE, {x_stride, n, 64, false});
        return call.run(begin, end, 1, [&](const Piece &p) {
            return launch_solve(p.stream, transposed != 0, n, l_stride, whole, p.begin, p.end, p[y].stride, p[y].as<double>(), call.multiprocessors());
        });
    });
}

tp_status tp_cuda_svd_small(tp_cuda *cuda, const tp_small *spec, int64_t begin, int64_t end, const void *in, void *u, void *s, void *vt) {
    TRY(tp_check_small(spec, begin, end, in, u, s, vt));
    return guarded([&] {
        const tp_small &q = *spec;
        const int64_t r = q.rows < q.cols ? q.rows : q.cols, length = (q.rows - 1) * q.in_stride + q.cols;
        const int bits = bits_of(q.type);
        Call call(cuda);
        /* Matrices that overlap are no lines. */
        const bool apart = q.in_step >= length;
        const void *whole = apart || begin == end ? nullptr : call.whole_bytes(in, span_bytes(q.type, q.count, length, q.in_step), READ);
        const int x = call.lines(apart ? in : nullptr, READ, {q.in_step, length, bits, false});
        const int y = call.lines(u, WRITE, {q.rows * r, q.rows * r, bits, false});
        const int v = call.lines(s, WRITE, {r, r, bits, false});
        const int z = call.lines(vt, WRITE, {r * q.cols, r * q.cols, bits, false});
        TRY(call.run(begin, end, 1, [&](const Piece &p) {
            return with_type(q.type, [&](auto t) {
                using T = decltype(t);
                const T *a = apart ? p[x].as<T>() : static_cast<const T *>(whole);
                return launch_small<T>(p.stream, q, p.begin, p.end, a, apart ? p[x].stride : q.in_step, p[y].as<T>(), p[v].as<T>(), p[z].as<T>(),
                                       call.flags(), call.multiprocessors());
            });
        }));
        return (tp_status)(call.found() & FOUND_ODD ? TP_ERR_NONFINITE : call.found() & FOUND_NO_END ? TP_ERR_CONVERGENCE : TP_OK);
    });
}

tp_status tp_cuda_qb(tp_cuda *cuda, const tp_qb *spec, const void *in, void *q, void *b, double *residual) {
    TRY(check_qb(spec, in, q, b, residual));
    if (!cuda) return TP_ERR_ARGUMENT;
    if (cuda->lost) return TP_ERR_DEVICE_LOST;
    return guarded([&] {
        TRY_CUDA(cuda, cudaSetDevice(cuda->index));
        return RangeFinder(cuda, *spec).run(in, q, b, residual);
    });
}
