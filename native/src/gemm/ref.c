#include <math.h>
#include <string.h>

#include "gemm/kernels.h"

/* Panels of one column. */
tp_status tp_gemm_tiling__ref(tp_dtype type, tp_gemm_tiling *tiling) {
    *tiling = (tp_gemm_tiling){.rows = 1, .columns = 1, .unit_bytes = tp_gemm_size_of(type), .unit_k = 1,
                               .block_rows = 1, .block_units = 1};
    return TP_OK;
}

/* Index of op(A)[i, k] and op(B)[k, j]. */
static int64_t a_at(const tp_gemm_spec *s, int64_t i, int64_t k) {
    return s->form == TP_GEMM_ATB ? k * s->a_stride + i : i * s->a_stride + k;
}
static int64_t b_at(const tp_gemm_spec *s, int64_t k, int64_t j) {
    return s->form == TP_GEMM_ABT ? j * s->b_stride + k : k * s->b_stride + j;
}

/* Where column j begins. The space for column sums is left alone: this variant adds zero points where they belong. */
static int64_t column_at(const tp_gemm_spec *s, int64_t j) {
    tp_gemm_tiling t;
    tp_gemm_tiling__ref(s->type, &t);
    return j * tp_gemm_panel_bytes(s, &t);
}

tp_status tp_gemm_pack__ref(const tp_gemm_spec *spec, int64_t first, int64_t last, const void *b, void *packed) {
    const int size = tp_gemm_size_of(spec->type);
    for (int64_t j = first; j < last; j++) {
        char *to = (char *)packed + column_at(spec, j);
        for (int64_t k = 0; k < spec->k; k++)
            memcpy(to + k * size, (const char *)b + b_at(spec, k, j) * size, (size_t)size);
    }
    return TP_OK;
}

static void f32_element(const tp_gemm_spec *s, int64_t i, const char *a, const char *b, float *c) {
    float total = s->accumulate ? *c : 0;
    for (int64_t block = 0; block < s->k; block += TP_GEMM_BLOCK) {
        float sum = 0;
        for (int64_t k = block; k < s->k && k < block + TP_GEMM_BLOCK; k++) {
            float x, y;
            memcpy(&x, a + a_at(s, i, k) * 4, 4);
            memcpy(&y, b + k * 4, 4);
            sum = fmaf(x, y, sum);
        }
        total = block || s->accumulate ? total + sum : sum;
    }
    *c = total;
}

static void f64_element(const tp_gemm_spec *s, int64_t i, const char *a, const char *b, double *c) {
    double total = s->accumulate ? *c : 0;
    for (int64_t block = 0; block < s->k; block += TP_GEMM_BLOCK) {
        double sum = 0;
        for (int64_t k = block; k < s->k && k < block + TP_GEMM_BLOCK; k++) {
            double x, y;
            memcpy(&x, a + a_at(s, i, k) * 8, 8);
            memcpy(&y, b + k * 8, 8);
            sum = fma(x, y, sum);
        }
        total = block || s->accumulate ? total + sum : sum;
    }
    *c = total;
}

tp_status tp_gemm__ref(const tp_gemm_spec *spec, int64_t begin, int64_t end, int64_t first, int64_t last, const void *a,
                       const void *packed, void *c, void *scratch) {
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t j = first; j < last; j++) {
            const char *b = (const char *)packed + column_at(spec, j);
            if (spec->type == TP_F32)
                f32_element(spec, i, a, b, (float *)c + i * spec->c_stride + j);
            else
                f64_element(spec, i, a, b, (double *)c + i * spec->c_stride + j);
        }
    }
    return TP_OK;
}

tp_status tp_gemm_int8__ref(const tp_gemm_spec *spec, const tp_gemm_affine *affine, int64_t begin, int64_t end,
                            int64_t first, int64_t last, const void *a, const void *packed, void *c, void *scratch) {
    (void)scratch;
    const int8_t *from = a;
    for (int64_t i = begin; i < end; i++) {
        const int32_t a_zero = affine->a_zero ? affine->a_zero[i * affine->a_zero_step] : 0;
        const float a_scale = affine->a_scale ? affine->a_scale[i * affine->a_scale_step] : 1;
        for (int64_t j = first; j < last; j++) {
            const int8_t *b = (const int8_t *)packed + column_at(spec, j);
            const int32_t b_zero = affine->b_zero ? affine->b_zero[j * affine->b_zero_step] : 0;
            const float b_scale = affine->b_scale ? affine->b_scale[j * affine->b_scale_step] : 1;
            const int64_t at = i * spec->c_stride + j;
            uint32_t sum = spec->accumulate ? (uint32_t)((int32_t *)c)[at] : 0;
            for (int64_t k = 0; k < spec->k; k++)
                sum += (uint32_t)((from[a_at(spec, i, k)] - a_zero) * (b[k] - b_zero));
            if (affine->scaled)
                ((float *)c)[at] = (float)(int32_t)sum * a_scale * b_scale;
            else
                ((int32_t *)c)[at] = (int32_t)sum;
        }
    }
    return TP_OK;
}
