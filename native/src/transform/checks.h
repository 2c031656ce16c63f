/* What the functions of this family ask of their arguments. */
#ifndef TP_TRANSFORM_CHECKS_H
#define TP_TRANSFORM_CHECKS_H

#include <float.h>

#include "core/dispatch.h"
#include "tensorpress/transform.h"

/* *any: whether there is something to do. */
static inline tp_status tp_check_dct(const tp_dct *s, int64_t begin, int64_t end, const float *in, const float *out, const void *scratch,
                                     bool *any) {
    if (!s || (s->dimensions != 1 && s->dimensions != 2) || (s->inverse != 0 && s->inverse != 1)) return TP_ERR_ARGUMENT;
    if (s->block < 2 || s->block > TP_DCT_MOST) return TP_ERR_SHAPE;
    TRY(tp_check_matrix(s->rows, s->cols, s->in_stride));
    TRY(tp_check_matrix(s->rows, s->cols, s->out_stride));
    TRY(tp_check_range(begin, end, s->rows));
    const bool whole = (begin % s->block == 0 || begin == s->rows) && (end % s->block == 0 || end == s->rows);
    if (s->dimensions == 2 && !whole) return TP_ERR_RANGE;
    *any = begin < end && s->cols > 0;
    return !*any || (in && out && tp_aligned(scratch)) ? TP_OK : TP_ERR_ARGUMENT;
}

static inline tp_status tp_check_wavelet(const tp_wavelet *s, bool columns, int64_t begin, int64_t end, const void *in, const void *out,
                                         bool *any) {
    if (!s || s->kind < TP_HAAR || s->kind > TP_CDF97 || (s->inverse != 0 && s->inverse != 1)) return TP_ERR_ARGUMENT;
    TRY(tp_check_matrix(s->rows, s->cols, s->in_stride));
    TRY(tp_check_matrix(s->rows, s->cols, s->out_stride));
    TRY(tp_check_range(begin, end, columns ? s->cols : s->rows));
    *any = begin < end && s->cols > 0 && s->rows > 0;
    if (!*any) return TP_OK;
    if (!in || !out || (in == out && (columns || s->in_stride != s->out_stride))) return TP_ERR_ARGUMENT;
    return TP_OK;
}

static inline tp_status tp_check_zone(const tp_zone *s, int64_t begin, int64_t end, const void *in, const void *out, bool *any) {
    if (!s) return TP_ERR_ARGUMENT;
    if (s->elements < 0 || s->elements > TP_MOST_ELEMENTS) return TP_ERR_SHAPE;
    const bool fields = s->step > 0 && s->step <= FLT_MAX && s->zone >= 0.5f && s->zone <= 1 && s->offset >= -0.5f && s->offset <= 0.5f
        && s->limit >= 1 && s->limit < 1 << 23;
    if (!fields) return TP_ERR_ARGUMENT;
    TRY(tp_check_range(begin, end, s->elements / TP_CODE_LINE + (s->elements % TP_CODE_LINE > 0)));
    *any = begin < end;
    return !*any || (in && out) ? TP_OK : TP_ERR_ARGUMENT;
}

static inline tp_status tp_check_codes(int64_t begin, int64_t end, const void *in, const void *out) {
    TRY(tp_check_range(begin, end, TP_MOST_ELEMENTS));
    return begin == end || (in && out) ? TP_OK : TP_ERR_ARGUMENT;
}

static inline tp_status tp_check_code_type(tp_dtype type) { return type == TP_I8 || type == TP_U8 || type == TP_I16 ? TP_OK : TP_ERR_TYPE; }

#endif
