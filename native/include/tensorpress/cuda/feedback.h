/*
 * The feedback family on a device: rounding and pruning by what errors cost. See tensorpress/feedback.h.
 *
 * Example:
 *
 *     const float m[4] = {0, 0, 0.5f, 0}, w[2] = {1.4f, 2}, scale = 1, outside[2] = {0, 0};
 *     const int32_t groups[2] = {0, 0};
 *     const tp_feedback spec = {.inputs = 2, .outputs = 1, .m_stride = 2, .stride = 1, .scale_stride = 1, .qmin = -7, .qmax = 7};
 *     float e[2] = {0, 0}, change[2];
 *     int32_t moved = 0;
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         assert(tp_cuda_feedback_round(cuda, &spec, 0, 1, m, w, outside, groups, &scale, NULL, e, change, &moved) == TP_OK);
 *         assert(e[0] == 1.4f - 1 && e[1] == 0 && moved == 1);
 *         tp_cuda_close(cuda);
 *     }
 *
 * The rules of tensorpress/cuda/device.h hold. Every result has the bits of the function without "cuda_". Outputs go through the device in
 * pieces; m is taken whole.
 */
#ifndef TENSORPRESS_CUDA_FEEDBACK_H
#define TENSORPRESS_CUDA_FEEDBACK_H

#include "tensorpress/cuda/device.h"
#include "tensorpress/feedback.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As tp_feedback_round. `groups` is memory of the host. */
TP_API tp_status tp_cuda_feedback_round(tp_cuda *cuda, const tp_feedback *spec, int64_t begin, int64_t end, const float *m, const float *w,
                                        const float *outside, const int32_t *groups, const float *scales, const float *zeros, float *e,
                                        float *change, int32_t *moved);

/* As tp_feedback_refit. */
TP_API tp_status tp_cuda_feedback_refit(tp_cuda *cuda, const tp_refit *spec, int64_t begin, int64_t end, const float *m, const float *w,
                                        const float *outside, const uint8_t *mask, float *e, float *change);

#ifdef __cplusplus
}
#endif
#endif
