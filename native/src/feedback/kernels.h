/* The kernels of the feedback family. Arguments are those of the public functions after the checks of api.c; ranges are not empty. */
#ifndef TP_FEEDBACK_KERNELS_H
#define TP_FEEDBACK_KERNELS_H

#include "core/family.h"
#include "tensorpress/feedback.h"

#define TP_FEEDBACK_KERNELS(X)                                                                                        \
    X(feedback_round, (const tp_feedback *spec, int64_t begin, int64_t end, const float *m, const float *w,           \
                       const float *outside, const int32_t *groups, const float *scales, const float *zeros, float *e, \
                       float *change, int32_t *moved))                                                                \
    X(feedback_refit, (const tp_refit *spec, int64_t begin, int64_t end, const float *m, const float *w,              \
                       const float *outside, const uint8_t *mask, float *e, float *change))

typedef struct tp_feedback_kernels {
    TP_FEEDBACK_KERNELS(TP_KERNEL_FIELD)
} tp_feedback_kernels;
TP_FEEDBACK_KERNELS(TP_KERNEL_DECLARE)
extern const tp_feedback_kernels tp_feedback_tables[TP_TIERS_BUILT];

#endif
