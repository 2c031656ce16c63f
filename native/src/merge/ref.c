#include "merge/kernels.h"
#include "merge/scalar.h"

tp_status tp_models_combine__ref(const tp_models *s, int64_t begin, int64_t end, const void *const *in, const double *weights, void *out) {
    return tp_combine_range(s, begin, end, in, weights, out);
}

tp_status tp_models_inner__ref(const tp_models *s, int64_t begin, int64_t end, const void *const *in, double *sums) {
    for (int64_t b = begin; b < end; b++) {
        double partial[3][16] = {{0}};
        for (int64_t c = 0; c < TP_MERGE_BLOCK && b * TP_MERGE_BLOCK + c < s->elements; c++)
            tp_inner_term(s->type, in[0], in[1], b * TP_MERGE_BLOCK + c, c % 16, partial);
        const tp_status status = tp_inner_finish(partial, sums + 3 * b);
        if (status) return status;
    }
    return TP_OK;
}

tp_status tp_models_delta__ref(const tp_models *s, int64_t begin, int64_t end, const void *const *in, float *out) {
    return tp_delta_range(s, begin, end, in, out);
}

tp_status tp_models_tasks__ref(const tp_tasks *s, int64_t begin, int64_t end, const void *const *in, const double *weights,
                               const float *thresholds, void *out) {
    return tp_tasks_range(s, begin, end, in, weights, thresholds, out);
}
