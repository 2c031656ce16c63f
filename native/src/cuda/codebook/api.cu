/* The functions of the codebook family on CUDA devices. */
#include "tensorpress/cuda/codebook.h"

#include <type_traits>

#include "codebook/checks.h"
#include "cuda/codebook/codes.cuh"

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
template <class F> cudaError_t for_codes(const tp_codebook &s, F f) {
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
