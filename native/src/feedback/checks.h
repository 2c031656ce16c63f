/* What the functions of this family ask of their arguments. */
#ifndef TP_FEEDBACK_CHECKS_H
#define TP_FEEDBACK_CHECKS_H

#include "core/checks.h"
#include "tensorpress/feedback.h"

/* *any: whether there is something to do. */
static inline tp_status tp_check_feedback_round(const tp_feedback *s, int64_t begin, int64_t end, const float *m, const float *w,
                                                const float *outside, const int32_t *groups, const float *scales, const float *e,
                                                const float *change, const int32_t *moved, bool *any) {
    if (!s || !moved) return TP_ERR_ARGUMENT;
    if (s->qmin < -128 || s->qmax > 255 || s->qmin >= s->qmax || (s->keep_zeros != 0 && s->keep_zeros != 1)) return TP_ERR_ARGUMENT;
    if (s->inputs > TP_FEEDBACK_BLOCK) return TP_ERR_SHAPE;
    TRY(tp_check_matrix(s->inputs, s->inputs, s->m_stride));
    TRY(tp_check_matrix(s->inputs, s->outputs, s->stride));
    TRY(tp_check_matrix(1, s->outputs, s->scale_stride));
    TRY(tp_check_range(begin, end, s->outputs));
    *any = begin < end && s->inputs > 0;
    if (!*any) return TP_OK;
    if (!m || !w || !outside || !groups || !scales || !e || !change) return TP_ERR_ARGUMENT;
    for (int64_t i = 0; i < s->inputs; i++)
        if (groups[i] < 0 || groups[i] > (TP_MOST_ELEMENTS - 1) / (s->scale_stride > 0 ? s->scale_stride : 1)) return TP_ERR_ARGUMENT;
    return TP_OK;
}

static inline tp_status tp_check_feedback_refit(const tp_refit *s, int64_t begin, int64_t end, const float *m, const float *w,
                                                const float *outside, const uint8_t *mask, const float *e, const float *change, bool *any) {
    if (!s) return TP_ERR_ARGUMENT;
    if (s->inputs > TP_FEEDBACK_BLOCK) return TP_ERR_SHAPE;
    TRY(tp_check_matrix(s->inputs, s->inputs, s->m_stride));
    TRY(tp_check_matrix(s->inputs, s->outputs, s->stride));
    TRY(tp_check_matrix(s->inputs, s->outputs / 8 + (s->outputs % 8 > 0), s->mask_stride));
    TRY(tp_check_range(begin, end, s->outputs));
    if (begin % 8) return TP_ERR_RANGE;
    *any = begin < end && s->inputs > 0;
    return !*any || (m && w && outside && mask && e && change) ? TP_OK : TP_ERR_ARGUMENT;
}

#endif
