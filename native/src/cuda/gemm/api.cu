/* The public functions: checks, and which kernels make which rows of C. */
#include "gemm/checks.h"

#include "cuda/gemm/product.cuh"

using namespace tp;

namespace {

/* Rows of C that pieces begin at: those of the smaller tiles. */
enum { GRANULE = 64 };

bool is_aligned(const void *base, int64_t first, int64_t stride, int bytes, int size) {
    return (reinterpret_cast<uintptr_t>(base) + (uintptr_t)(first * size)) % (uintptr_t)bytes == 0 && stride * size % bytes == 0;
}

/* Lines [first, end) of an operand. Rows are loaded by 16 bytes; so are columns, but by tensor cores' tiles of bytes 4. */
Operand operand_of(const void *base, int64_t stride, int64_t first, int64_t end, bool columns, int size) {
    const int bytes = columns && size == 1 ? 4 : 16;
    return {base, stride, first, end, is_aligned(base, columns ? first : first * stride, stride, bytes, size)};
}

enum Kind { EXACT_F32, EXACT_F64, INT8, TF32X3 };

/* Zeros and scales on the device, for all rows or columns of C. */
Affine affine_of(Call &call, const tp_gemm_spec *s, const tp_gemm_affine *f, int64_t rows) {
    Affine to = {};
    const auto length = [](int64_t lines, int32_t step) { return step ? lines : 1; };
    to.a_zero = call.whole(f->a_zero, length(s->m, f->a_zero_step), READ);
    to.b_zero = call.whole(f->b_zero, length(s->n, f->b_zero_step), READ);
    to.a_scale = call.whole(f->a_scale, length(s->m, f->a_scale_step) * 4, READ);
    to.b_scale = call.whole(f->b_scale, length(s->n, f->b_scale_step) * 4, READ);
    to.a_zero_step = f->a_zero_step;
    to.b_zero_step = f->b_zero_step;
    to.a_scale_step = f->a_scale_step;
    to.b_scale_step = f->b_scale_step;
    to.scaled = f->scaled;
    if (f->b_zero) to.a_sums = call.scratch<uint32_t>(rows);
    if (f->a_zero) to.b_sums = call.scratch<uint32_t>(s->n);
    return to;
}

tp_status multiply(tp_cuda *cuda, const tp_gemm_spec *s, const tp_gemm_affine *f, Kind kind, int64_t begin, int64_t end,
                   const void *a, const void *b, void *c) {
    TRY(tp_check_range(begin, end, s->m));
    if (begin == end || s->n == 0 || (s->k == 0 && s->accumulate)) return TP_OK;
    if ((s->k && (!a || !b)) || !c) return TP_ERR_ARGUMENT;
    const int size = kind == INT8 ? 1 : kind == EXACT_F64 ? 8 : 4, c_size = kind == EXACT_F64 ? 8 : 4;
    const bool a_columns = s->form == TP_GEMM_ATB, b_columns = s->form != TP_GEMM_ABT;
    Call call(cuda);
    const int a_at = call.lines(s->k ? a : nullptr, READ, {s->a_stride, s->k, size * 8, a_columns});
    const int c_at = call.lines(c, s->accumulate ? READ_WRITE : WRITE, {s->c_stride, s->n, c_size * 8, false});
    const int64_t b_rows = b_columns ? s->k : s->n, b_length = b_columns ? s->n : s->k;
    void *whole_b = nullptr;
    if (s->k) {
        const int64_t bytes = ((b_rows - 1) * s->b_stride + b_length) * size;
        if (kind == EXACT_F64)
            whole_b = call.whole(static_cast<double *>(const_cast<void *>(b)), bytes, READ);
        else if (kind == INT8)
            whole_b = call.whole(static_cast<int8_t *>(const_cast<void *>(b)), bytes, READ);
        else
            whole_b = call.whole(static_cast<float *>(const_cast<void *>(b)), bytes, READ);
    }
    Affine affine = {};
    if (kind == INT8) affine = affine_of(call, s, f, end - begin);
    const int multiprocessors = call.multiprocessors();
    return call.run(begin, end, GRANULE, [&](const Piece &piece) {
        Product p = {};
        p.a = operand_of(piece[a_at].base, piece[a_at].stride, piece.begin, piece.end, a_columns, size);
        p.b = operand_of(whole_b, s->b_stride, 0, s->n, b_columns, size);
        p.c = piece[c_at].base;
        p.c_stride = piece[c_at].stride;
        p.c_aligned = is_aligned(p.c, piece.begin * p.c_stride, p.c_stride, 16, c_size);
        p.k = s->k;
        p.accumulate = s->accumulate;
        switch (kind) {
        case EXACT_F32: return queue_exact_f32(p, s->form, multiprocessors, piece.stream);
        case EXACT_F64: return queue_exact_f64(p, s->form, multiprocessors, piece.stream);
        case TF32X3: return queue_tf32x3(p, s->form, multiprocessors, piece.stream);
        default: break;
        }
        cudaError_t error = cudaSuccess;
        if (affine.a_sums) error = queue_line_sums(p.a, a_columns, p.k, const_cast<uint32_t *>(affine.a_sums), piece.stream);
        if (affine.b_sums && piece.begin == begin && error == cudaSuccess)
            error = queue_line_sums(p.b, b_columns, p.k, const_cast<uint32_t *>(affine.b_sums), piece.stream);
        return error == cudaSuccess ? queue_int8(p, affine, s->form, multiprocessors, piece.stream) : error;
    });
}

}  // namespace

extern "C" tp_status tp_cuda_gemm(tp_cuda *cuda, const tp_gemm_spec *spec, int64_t begin, int64_t end, const void *a, const void *b,
                                  void *c) {
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_gemm_check_spec(spec));
    const tp_gemm_affine none = {};
    const Kind kind = spec->type == TP_F32 ? EXACT_F32 : spec->type == TP_F64 ? EXACT_F64 : INT8;
    return multiply(cuda, spec, &none, kind, begin, end, a, b, c);
}

extern "C" tp_status tp_cuda_gemm_int8(tp_cuda *cuda, const tp_gemm_spec *spec, const tp_gemm_affine *affine, int64_t begin,
                                       int64_t end, const void *a, const void *b, void *c) {
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_gemm_check_affine(spec, affine));
    TRY(tp_gemm_check_spec(spec));
    return multiply(cuda, spec, affine, INT8, begin, end, a, b, c);
}

extern "C" tp_status tp_cuda_gemm_tf32x3(tp_cuda *cuda, const tp_gemm_spec *spec, int64_t begin, int64_t end, const void *a,
                                         const void *b, void *c) {
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_gemm_check_spec(spec));
    if (spec->type != TP_F32) return TP_ERR_TYPE;
    return multiply(cuda, spec, nullptr, TF32X3, begin, end, a, b, c);
}
