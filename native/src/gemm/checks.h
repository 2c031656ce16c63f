/* What the functions of this family ask of their arguments, on the processor and on CUDA devices. */
#ifndef TP_GEMM_CHECKS_H
#define TP_GEMM_CHECKS_H

#include "core/checks.h"
#include "tensorpress/gemm.h"

static inline tp_status tp_gemm_check_spec(const tp_gemm_spec *s) {
    if (!s) return TP_ERR_ARGUMENT;
    if (s->type != TP_F32 && s->type != TP_F64 && s->type != TP_I8) return TP_ERR_TYPE;
    if (s->form != TP_GEMM_AB && s->form != TP_GEMM_ATB && s->form != TP_GEMM_ABT) return TP_ERR_ARGUMENT;
    if (s->accumulate != 0 && s->accumulate != 1) return TP_ERR_ARGUMENT;
    TRY(s->form == TP_GEMM_ATB ? tp_check_matrix(s->k, s->m, s->a_stride) : tp_check_matrix(s->m, s->k, s->a_stride));
    TRY(s->form == TP_GEMM_ABT ? tp_check_matrix(s->n, s->k, s->b_stride) : tp_check_matrix(s->k, s->n, s->b_stride));
    TRY(tp_check_matrix(s->m, s->n, s->c_stride));
    /* Packed sizes are those of B, with padding. */
    const int64_t limit = INT64_C(1) << 56;
    return s->n >= limit || s->k >= limit || (s->k && s->n > limit / s->k) ? TP_ERR_SHAPE : TP_OK;
}

static inline bool tp_gemm_is_flag(int32_t x) { return x == 0 || x == 1; }

/* Before the spec itself is checked. */
static inline tp_status tp_gemm_check_affine(const tp_gemm_spec *spec, const tp_gemm_affine *affine) {
    if (!spec || !affine) return TP_ERR_ARGUMENT;
    if (spec->type != TP_I8) return TP_ERR_TYPE;
    if (!tp_gemm_is_flag(affine->a_zero_step) || !tp_gemm_is_flag(affine->b_zero_step)
        || !tp_gemm_is_flag(affine->a_scale_step) || !tp_gemm_is_flag(affine->b_scale_step)
        || !tp_gemm_is_flag(affine->scaled) || (affine->scaled && spec->accumulate))
        return TP_ERR_ARGUMENT;
    return TP_OK;
}

#endif
