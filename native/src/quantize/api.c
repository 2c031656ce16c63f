/* The public functions: checks up front, so that kernels have none. */
#include "core/dispatch.h"
#include "quantize/checks.h"
#include "quantize/kernels.h"
#include "quantize/scalar.h"

const tp_quantize_kernels tp_quantize_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_QUANTIZE_KERNELS);

TP_FIND_KERNELS(quantize)

tp_status tp_quantize_sizes(const tp_quant *spec, int64_t *lines, int64_t *groups, int64_t *code_bytes) {
    tp_plan plan;
    TRY(tp_plan_groups(spec, &plan));
    if (!lines || !groups || !code_bytes) return TP_ERR_ARGUMENT;
    *lines = plan.lines;
    *groups = plan.per_tensor ? 1 : plan.lines * plan.groups;
    *code_bytes = plan.four_bits ? (plan.code_count + 1) / 2 : plan.code_count;
    return TP_OK;
}

static tp_status scratch_bytes(const tp_plan *plan, int64_t lines, int64_t *bytes) {
    *bytes = 0;
    if (!plan->by_column || lines == 0) return TP_OK;
    /* A panel as f32, one group high. */
    if (plan->length >= INT64_C(1) << 48) return TP_ERR_SHAPE;
    *bytes = plan->group * TP_PANEL * (int64_t)sizeof(float);
    return TP_OK;
}

tp_status tp_quantize_scratch(const tp_quant *spec, int64_t lines, int64_t *bytes) {
    tp_plan plan;
    TRY(tp_plan_groups(spec, &plan));
    if (!bytes) return TP_ERR_ARGUMENT;
    if (lines < 0 || lines > plan.lines) return TP_ERR_RANGE;
    return scratch_bytes(&plan, lines, bytes);
}

static tp_status check_given(const tp_plan *p, int64_t begin, int64_t end, const float *scales, const uint8_t *zeros) {
    bool valid = true;
    if (p->per_tensor) {
        valid = tp_valid_scale(p, scales[0], tp_zero_at(p, zeros, 0));
    } else if (p->code_lines) {
        for (int64_t i = begin * p->groups; i < end * p->groups; i++) valid &= tp_valid_scale(p, scales[i], tp_zero_at(p, zeros, i));
    } else {
        for (int64_t g = 0; g < p->groups; g++)
            for (int64_t c = begin; c < end; c++) valid &= tp_valid_scale(p, scales[g * p->cols + c], tp_zero_at(p, zeros, g * p->cols + c));
    }
    return valid ? TP_OK : TP_ERR_SCALE;
}

tp_status tp_quantize(const tp_quant *spec, int64_t begin, int64_t end, const void *in, void *codes, float *scales,
                      uint8_t *zeros, void *scratch) {
    const tp_quantize_kernels *kernels;
    tp_plan plan;
    int64_t bytes;
    TRY(find_kernels(&kernels));
    TRY(tp_check_quantize(spec, begin, end, in, codes, scales, zeros, &plan));
    TRY(scratch_bytes(&plan, end - begin, &bytes));
    if (bytes && !tp_aligned(scratch)) return TP_ERR_ARGUMENT;
    if (plan.range == TP_SCALES_GIVEN) TRY(check_given(&plan, begin, end, scales, zeros));
    return kernels->quantize(&plan, begin, end, in, codes, scales, zeros, scratch);
}

tp_status tp_minmax(const tp_quant *spec, int64_t begin, int64_t end, const void *in, float *min, float *max) {
    const tp_quantize_kernels *kernels;
    tp_plan plan;
    TRY(find_kernels(&kernels));
    TRY(tp_check_minmax(spec, begin, end, in, min, max, &plan));
    *min = *max = 0;
    if (begin == end || plan.cols == 0) return TP_OK;
    return kernels->minmax(&plan, begin, end, in, min, max);
}

tp_status tp_scale_of(const tp_quant *spec, float min, float max, float *scale, uint8_t *zero) {
    const tp_quantize_kernels *kernels;
    tp_plan plan;
    float z;
    TRY(find_kernels(&kernels)); /* for TP_ERR_ISA only: there is nothing here that vectors could speed up */
    TRY(tp_plan_scales(spec, &plan));
    if (plan.range == TP_SCALES_GIVEN || !scale || (!zero && plan.range == TP_RANGE_MINMAX)) return TP_ERR_ARGUMENT;
    if (!tp_is_finite(min) || !tp_is_finite(max)) return TP_ERR_NONFINITE;
    if (min > max) return TP_ERR_ARGUMENT;
    tp_scale(&plan, min, max, 1, scale, &z);
    if (!tp_is_finite(*scale)) return TP_ERR_SCALE;
    if (zero) *zero = tp_zero_byte(z);
    return TP_OK;
}

tp_status tp_dequantize(const tp_quant *spec, int64_t begin, int64_t end, const void *codes, const float *scales,
                        const uint8_t *zeros, float *out) {
    const tp_quantize_kernels *kernels;
    tp_plan plan;
    TRY(find_kernels(&kernels));
    TRY(tp_check_dequantize(spec, begin, end, codes, scales, out, &plan));
    if (begin == end || plan.length == 0) return TP_OK;
    return kernels->dequantize(&plan, begin, end, codes, scales, zeros, out);
}

tp_status tp_quantize_error(const tp_quant *spec, int64_t begin, int64_t end, const void *in, const void *codes,
                            const float *scales, const uint8_t *zeros, tp_error *errors) {
    const tp_quantize_kernels *kernels;
    tp_plan plan;
    TRY(find_kernels(&kernels));
    TRY(tp_check_quantize_error(spec, begin, end, in, codes, scales, errors, &plan));
    if (begin == end) return TP_OK;
    return kernels->quantize_error(&plan, begin, end, in, codes, scales, zeros, errors);
}

tp_status tp_pack4(const uint8_t *codes, int64_t n, uint8_t *packed) {
    const tp_quantize_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_pack4(codes, n, packed));
    if (n == 0) return TP_OK;
    return kernels->pack4(codes, n, packed);
}

tp_status tp_unpack4(tp_dtype type, const uint8_t *packed, int64_t n, uint8_t *codes) {
    const tp_quantize_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_unpack4(type, packed, n, codes));
    if (n == 0) return TP_OK;
    return kernels->unpack4(type, packed, n, codes);
}

tp_status tp_convert(tp_dtype from, const void *in, int64_t n, tp_dtype to, void *out) {
    const tp_quantize_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_convert(from, in, n, to, out));
    if (n == 0) return TP_OK;
    if (from == to) {
        memcpy(out, in, (size_t)(n * tp_size_of(from)));
        return TP_OK;
    }
    return kernels->convert(from, in, n, to, out);
}

tp_status tp_find_nonfinite(const tp_quant *spec, const void *in, int64_t *row, int64_t *col) {
    const tp_quantize_kernels *kernels;
    tp_plan plan;
    TRY(find_kernels(&kernels));
    TRY(tp_check_find_nonfinite(spec, in, row, col, &plan));
    *row = *col = -1;
    if (plan.rows == 0 || plan.cols == 0) return TP_OK;
    return kernels->find_nonfinite(&plan, in, row, col);
}
