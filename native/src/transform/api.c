/* The public functions: checks up front, in checks.h, so that kernels have none. */
#include "core/dispatch.h"
#include "transform/checks.h"
#include "transform/kernels.h"

const tp_transform_kernels tp_transform_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_TRANSFORM_KERNELS);

TP_FIND_KERNELS(transform)

tp_status tp_dct_blocks(const tp_dct *spec, int64_t begin, int64_t end, const float *in, float *out, void *scratch) {
    const tp_transform_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_dct(spec, begin, end, in, out, scratch, &any));
    return any ? kernels->dct_blocks(spec, begin, end, in, out, scratch) : TP_OK;
}

tp_status tp_wavelet_rows(const tp_wavelet *spec, int64_t begin, int64_t end, const void *in, void *out, void *scratch) {
    const tp_transform_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_wavelet(spec, false, begin, end, in, out, &any));
    if (any && !tp_aligned(scratch)) return TP_ERR_ARGUMENT;
    return any ? kernels->wavelet_rows(spec, begin, end, in, out, scratch) : TP_OK;
}

tp_status tp_wavelet_columns(const tp_wavelet *spec, int64_t begin, int64_t end, const void *in, void *out) {
    const tp_transform_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_wavelet(spec, true, begin, end, in, out, &any));
    return any ? kernels->wavelet_columns(spec, begin, end, in, out) : TP_OK;
}

tp_status tp_zone_quantize(const tp_zone *spec, int64_t begin, int64_t end, const float *in, int32_t *codes, double *errors) {
    const tp_transform_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_zone(spec, begin, end, in, codes, &any));
    return any ? kernels->zone_quantize(spec, begin, end, in, codes, errors) : TP_OK;
}

tp_status tp_zone_decode(const tp_zone *spec, int64_t begin, int64_t end, const int32_t *codes, float *out) {
    const tp_transform_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_zone(spec, begin, end, codes, out, &any));
    return any ? kernels->zone_decode(spec, begin, end, codes, out) : TP_OK;
}

tp_status tp_widen_codes(tp_dtype type, int64_t begin, int64_t end, const void *in, int32_t *out) {
    const tp_transform_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_code_type(type));
    TRY(tp_check_codes(begin, end, in, out));
    return begin < end ? kernels->widen_codes(type, begin, end, in, out) : TP_OK;
}

tp_status tp_narrow_codes(tp_dtype type, int64_t begin, int64_t end, const int32_t *in, void *out) {
    const tp_transform_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_code_type(type));
    TRY(tp_check_codes(begin, end, in, out));
    return begin < end ? kernels->narrow_codes(type, begin, end, in, out) : TP_OK;
}

tp_status tp_count_codes(int32_t limit, int64_t begin, int64_t end, const int32_t *codes, int64_t *counts) {
    const tp_transform_kernels *kernels;
    TRY(find_kernels(&kernels));
    if (limit < 1 || limit >= 1 << 23) return TP_ERR_ARGUMENT;
    TRY(tp_check_codes(begin, end, codes, counts));
    return begin < end ? kernels->count_codes(limit, begin, end, codes, counts) : TP_OK;
}
