/*
 * Kernel family "quantize" on CUDA devices: see tensorpress/quantize.h, whose contract holds with the same bits, and tensorpress/cuda/device.h.
 *
 * Example:
 *
 *     const float x[4] = {1, -2, 0.5f, 0.25f};
 *     const tp_quant spec = {.rows = 2, .cols = 2, .in_stride = 2, .out_stride = 2, .group_rows = 1, .group_cols = 2,
 *                            .in_type = TP_F32, .out_type = TP_I8, .scale_type = TP_F32, .qmin = -127, .qmax = 127,
 *                            .range = TP_RANGE_ABSMAX, .rounding = TP_ROUND_DIVIDE};
 *     int8_t codes[4];
 *     float scales[2];
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         assert(tp_cuda_quantize(cuda, &spec, 0, 2, x, codes, scales, NULL) == TP_OK);
 *         assert(codes[1] == -127 && codes[2] == 127 && codes[3] == 64);
 *         tp_cuda_close(cuda);
 *     }
 *
 * Sizes of arrays are those that tp_quantize_sizes gives. Codes of 4 bits that are not transposed, lines being columns, with an odd
 * out_stride: two calls may not write ranges of one matrix at the same time.
 */
#ifndef TENSORPRESS_CUDA_QUANTIZE_H
#define TENSORPRESS_CUDA_QUANTIZE_H

#include "tensorpress/cuda/device.h"
#include "tensorpress/quantize.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * As tp_quantize, with scratch of its own. Per tensor it reads a matrix of the host twice; with a clip search it takes it whole the
 * first time: TP_ERR_MEMORY if it does not fit.
 */
TP_API tp_status tp_cuda_quantize(tp_cuda *cuda, const tp_quant *spec, int64_t begin, int64_t end, const void *in, void *codes,
                                  float *scales, uint8_t *zeros);

/* As tp_minmax, with results in memory of the host or the device. */
TP_API tp_status tp_cuda_minmax(tp_cuda *cuda, const tp_quant *spec, int64_t begin, int64_t end, const void *in, float *min,
                                float *max);

/* As tp_dequantize. */
TP_API tp_status tp_cuda_dequantize(tp_cuda *cuda, const tp_quant *spec, int64_t begin, int64_t end, const void *codes,
                                    const float *scales, const uint8_t *zeros, float *out);

/* As tp_quantize_error. It is fastest where there are many lines: each is added up in order. */
TP_API tp_status tp_cuda_quantize_error(tp_cuda *cuda, const tp_quant *spec, int64_t begin, int64_t end, const void *in,
                                        const void *codes, const float *scales, const uint8_t *zeros, tp_error *errors);

/* As tp_pack4. */
TP_API tp_status tp_cuda_pack4(tp_cuda *cuda, const uint8_t *codes, int64_t n, uint8_t *packed);

/* As tp_unpack4. */
TP_API tp_status tp_cuda_unpack4(tp_cuda *cuda, tp_dtype type, const uint8_t *packed, int64_t n, uint8_t *codes);

/* As tp_convert. */
TP_API tp_status tp_cuda_convert(tp_cuda *cuda, tp_dtype from, const void *in, int64_t n, tp_dtype to, void *out);

/* As tp_find_nonfinite, with results in memory of the host or the device. */
TP_API tp_status tp_cuda_find_nonfinite(tp_cuda *cuda, const tp_quant *spec, const void *in, int64_t *row, int64_t *col);

#ifdef __cplusplus
}
#endif
#endif
