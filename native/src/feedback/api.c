/* The public functions: checks up front, in checks.h, so that kernels have none. */
#include "core/dispatch.h"
#include "feedback/checks.h"
#include "feedback/kernels.h"

const tp_feedback_kernels tp_feedback_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_FEEDBACK_KERNELS);

TP_FIND_KERNELS(feedback)

tp_status tp_feedback_round(const tp_feedback *spec, int64_t begin, int64_t end, const float *m, const float *w, const float *outside,
                            const int32_t *groups, const float *scales, const float *zeros, float *e, float *change, int32_t *moved) {
    const tp_feedback_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_feedback_round(spec, begin, end, m, w, outside, groups, scales, e, change, moved, &any));
    return any ? kernels->feedback_round(spec, begin, end, m, w, outside, groups, scales, zeros, e, change, moved) : TP_OK;
}

tp_status tp_feedback_refit(const tp_refit *spec, int64_t begin, int64_t end, const float *m, const float *w, const float *outside,
                            const uint8_t *mask, float *e, float *change) {
    const tp_feedback_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_feedback_refit(spec, begin, end, m, w, outside, mask, e, change, &any));
    return any ? kernels->feedback_refit(spec, begin, end, m, w, outside, mask, e, change) : TP_OK;
}
