/* What the functions of this family ask of their arguments, on the processor and on CUDA devices. Each fills the plan as far as it is asked for. */
#ifndef TP_QUANTIZE_CHECKS_H
#define TP_QUANTIZE_CHECKS_H

#include "core/checks.h"
#include "quantize/plan.h"

/* Pointers to nothing may be null. */
static inline tp_status tp_check_pointers(const tp_plan *p, int64_t begin, int64_t end, const void *in, const void *codes,
                                const float *scales) {
    const bool any_line = begin < end;
    if (any_line && p->length && (!in || !codes)) return TP_ERR_ARGUMENT;
    if ((any_line || p->per_tensor) && p->groups && !scales) return TP_ERR_ARGUMENT;
    return TP_OK;
}

/* All but what scratch and given scales have to be. */
static inline tp_status tp_check_quantize(const tp_quant *spec, int64_t begin, int64_t end, const void *in, const void *codes,
                                          const float *scales, const uint8_t *zeros, tp_plan *plan) {
    TRY(tp_plan_matrix(spec, plan));
    TRY(tp_plan_groups(spec, plan));
    TRY(tp_plan_scales(spec, plan));
    TRY(tp_plan_importance(spec, plan));
    TRY(tp_plan_range(plan, begin, end));
    if (plan->per_tensor && plan->range != TP_SCALES_GIVEN && (begin != 0 || end != plan->lines)) return TP_ERR_RANGE;
    TRY(tp_check_pointers(plan, begin, end, in, codes, scales));
    return !zeros && plan->range == TP_RANGE_MINMAX ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_minmax(const tp_quant *spec, int64_t begin, int64_t end, const void *in, const float *min,
                                        const float *max, tp_plan *plan) {
    TRY(tp_plan_matrix(spec, plan));
    TRY(tp_check_range(begin, end, plan->rows));
    return !min || !max || (!in && begin < end && plan->cols) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_dequantize(const tp_quant *spec, int64_t begin, int64_t end, const void *codes,
                                            const float *scales, const float *out, tp_plan *plan) {
    TRY(tp_plan_groups(spec, plan));
    TRY(tp_plan_range(plan, begin, end));
    return tp_check_pointers(plan, begin, end, out, codes, scales);
}

static inline tp_status tp_check_quantize_error(const tp_quant *spec, int64_t begin, int64_t end, const void *in,
                                                const void *codes, const float *scales, const tp_error *errors, tp_plan *plan) {
    TRY(tp_plan_matrix(spec, plan));
    TRY(tp_plan_groups(spec, plan));
    TRY(tp_plan_range(plan, begin, end));
    TRY(tp_check_pointers(plan, begin, end, in, codes, scales));
    return begin < end && !errors ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_pack4(const uint8_t *codes, int64_t n, const uint8_t *packed) {
    if (n < 0) return TP_ERR_SHAPE;
    return n && (!codes || !packed) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_unpack4(tp_dtype type, const uint8_t *packed, int64_t n, const uint8_t *codes) {
    return type != TP_I4 && type != TP_U4 ? TP_ERR_TYPE : tp_check_pack4(codes, n, packed);
}

static inline tp_status tp_check_convert(tp_dtype from, const void *in, int64_t n, tp_dtype to, const void *out) {
    if (!tp_is_float(from) || !tp_is_float(to)) return TP_ERR_TYPE;
    if (n < 0 || n >= TP_MOST_ELEMENTS) return TP_ERR_SHAPE;
    return n && (!in || !out) ? TP_ERR_ARGUMENT : TP_OK;
}

static inline tp_status tp_check_find_nonfinite(const tp_quant *spec, const void *in, const int64_t *row, const int64_t *col,
                                                tp_plan *plan) {
    TRY(tp_plan_matrix(spec, plan));
    return !row || !col || (!in && plan->rows && plan->cols) ? TP_ERR_ARGUMENT : TP_OK;
}

#endif
