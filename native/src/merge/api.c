/* The public functions: checks up front, so that kernels have none. */
#include <math.h>

#include "core/checks.h"
#include "core/dispatch.h"
#include "merge/kernels.h"

const tp_merge_kernels tp_merge_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_MERGE_KERNELS);

TP_FIND_KERNELS(merge)

static tp_status check(int64_t elements, int32_t sources, tp_dtype type, int64_t begin, int64_t end) {
    if (elements < 0 || elements >= TP_MOST_ELEMENTS || sources < 1 || sources > TP_MERGE_MOST) return TP_ERR_SHAPE;
    if (!tp_is_float(type)) return TP_ERR_TYPE;
    return tp_check_range(begin, end, elements);
}

static bool all_there(const void *const *in, int32_t n) {
    if (!in) return false;
    for (int32_t j = 0; j < n; j++)
        if (!in[j]) return false;
    return true;
}

static tp_status check_weights(const double *weights, int32_t n, bool negative) {
    if (!weights) return TP_ERR_ARGUMENT;
    for (int32_t j = 0; j < n; j++)
        if (!isfinite(weights[j]) || (weights[j] < 0 && !negative)) return TP_ERR_ARGUMENT;
    return TP_OK;
}

tp_status tp_models_combine(const tp_models *spec, int64_t begin, int64_t end, const void *const *in, const double *weights, void *out) {
    const tp_merge_kernels *kernels;
    TRY(find_kernels(&kernels));
    if (!spec) return TP_ERR_ARGUMENT;
    TRY(check(spec->elements, spec->sources, spec->type, begin, end));
    TRY(check_weights(weights, spec->sources, true));
    if (begin == end) return TP_OK;
    return all_there(in, spec->sources) && out ? kernels->models_combine(spec, begin, end, in, weights, out) : TP_ERR_ARGUMENT;
}

tp_status tp_models_inner(const tp_models *spec, int64_t begin, int64_t end, const void *const *in, double *sums) {
    const tp_merge_kernels *kernels;
    TRY(find_kernels(&kernels));
    if (!spec) return TP_ERR_ARGUMENT;
    TRY(check(spec->elements, spec->sources, spec->type, 0, 0));
    if (spec->sources != 2) return TP_ERR_SHAPE;
    TRY(tp_check_range(begin, end, (spec->elements + TP_MERGE_BLOCK - 1) / TP_MERGE_BLOCK));
    if (begin == end) return TP_OK;
    return all_there(in, 2) && sums ? kernels->models_inner(spec, begin, end, in, sums) : TP_ERR_ARGUMENT;
}

tp_status tp_models_delta(const tp_models *spec, int64_t begin, int64_t end, const void *const *in, float *out) {
    const tp_merge_kernels *kernels;
    TRY(find_kernels(&kernels));
    if (!spec) return TP_ERR_ARGUMENT;
    TRY(check(spec->elements, spec->sources, spec->type, begin, end));
    if (spec->sources != 2) return TP_ERR_SHAPE;
    if (begin == end) return TP_OK;
    return all_there(in, 2) && out ? kernels->models_delta(spec, begin, end, in, out) : TP_ERR_ARGUMENT;
}

tp_status tp_models_tasks(const tp_tasks *spec, int64_t begin, int64_t end, const void *const *in, const double *weights,
                          const float *thresholds, void *out) {
    const tp_merge_kernels *kernels;
    TRY(find_kernels(&kernels));
    if (!spec) return TP_ERR_ARGUMENT;
    TRY(check(spec->elements, spec->sources, spec->type, begin, end));
    if (spec->first < 0 || spec->first >= TP_MOST_ELEMENTS - spec->elements) return TP_ERR_SHAPE;
    if (spec->drop < TP_DROP_NONE || spec->drop > TP_DROP_RANDOM || spec->elect < 0 || spec->elect > 1 || !isfinite(spec->scale))
        return TP_ERR_ARGUMENT;
    if (spec->drop == TP_DROP_RANDOM && !(spec->keep > 0 && spec->keep <= 1)) return TP_ERR_ARGUMENT;
    TRY(check_weights(weights, spec->sources, !spec->elect));
    if (begin == end) return TP_OK;
    if (!all_there(in, spec->sources + 1) || !out || (spec->drop == TP_DROP_SMALL && !thresholds)) return TP_ERR_ARGUMENT;
    return kernels->models_tasks(spec, begin, end, in, weights, thresholds, out);
}
