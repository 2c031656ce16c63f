#include "feedback/kernels.h"
#include "feedback/scalar.h"

tp_status tp_feedback_round__ref(const tp_feedback *spec, int64_t begin, int64_t end, const float *m, const float *w, const float *outside,
                                 const int32_t *groups, const float *scales, const float *zeros, float *e, float *change,
                                 int32_t *moved) {
    const float qmin = (float)spec->qmin, qmax = (float)spec->qmax;
    for (int64_t i = 0; i < spec->inputs; i++) {
        for (int64_t j = begin; j < end; j++) {
            const int64_t at = i * spec->stride + j, group = groups[i] * spec->scale_stride + j;
            const float s = scales[group], z = zeros ? zeros[group] : 0;
            float sum = 0;
            for (int64_t l = 0; l < i; l++) sum = fmaf(m[i * spec->m_stride + l], change[l * spec->stride + j], sum);
            const float error = tp_error_of_rounding(w[at], outside[at] + sum, s, z, qmin, qmax, spec->keep_zeros != 0);
            change[at] = error - e[at];
            moved[j] += error != e[at];
            e[at] = error;
        }
    }
    return TP_OK;
}

tp_status tp_feedback_refit__ref(const tp_refit *spec, int64_t begin, int64_t end, const float *m, const float *w, const float *outside,
                                 const uint8_t *mask, float *e, float *change) {
    for (int64_t i = 0; i < spec->inputs; i++) {
        for (int64_t j = begin; j < end; j++) {
            const int64_t at = i * spec->stride + j;
            const bool kept = mask[i * spec->mask_stride + j / 8] >> j % 8 & 1;
            float sum = 0;
            for (int64_t l = 0; l < i; l++) sum = fmaf(m[i * spec->m_stride + l], change[l * spec->stride + j], sum);
            const float error = tp_error_of_pruning(w[at], outside[at] + sum, kept);
            change[at] = error - e[at];
            e[at] = error;
        }
    }
    return TP_OK;
}
