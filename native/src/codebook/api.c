/* The public functions: checks up front, in checks.h, so that kernels have none. */
#include "codebook/checks.h"
#include "codebook/kernels.h"
#include "core/dispatch.h"

const tp_codebook_kernels tp_codebook_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_CODEBOOK_KERNELS);

TP_FIND_KERNELS(codebook)

tp_status tp_codebook_scratch(const tp_codebook *spec, int64_t *bytes) {
    if (!bytes) return TP_ERR_ARGUMENT;
    TRY(tp_check_codebook(spec));
    *bytes = tp_codebook_scratch_bytes(spec);
    return TP_OK;
}

tp_status tp_codebook_train(const tp_codebook *spec, uint64_t seed, int32_t iterations, int64_t begin, int64_t end, const void *in,
                            const float *row_weights, const float *col_weights, void *scratch, float *tables) {
    const tp_codebook_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_codebook_range(spec, true, begin, end, &any));
    if (iterations < 0 || (row_weights && col_weights)) return TP_ERR_ARGUMENT;
    if (!any) return TP_OK;
    if (!in || !tables || !tp_aligned(scratch)) return TP_ERR_ARGUMENT;
    return kernels->codebook_train(spec, seed, iterations, begin, end, in, row_weights, col_weights, scratch, tables);
}

tp_status tp_codebook_assign(const tp_codebook *spec, int64_t begin, int64_t end, const void *in, const float *tables, void *codes) {
    const tp_codebook_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_codebook_range(spec, false, begin, end, &any));
    if (!any) return TP_OK;
    return in && tables && codes ? kernels->codebook_assign(spec, begin, end, in, tables, codes) : TP_ERR_ARGUMENT;
}

tp_status tp_codebook_decode(const tp_codebook *spec, int64_t begin, int64_t end, const void *codes, const float *tables, float *out) {
    const tp_codebook_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_codebook_range(spec, false, begin, end, &any));
    if (!any) return TP_OK;
    return codes && tables && out ? kernels->codebook_decode(spec, begin, end, codes, tables, out) : TP_ERR_ARGUMENT;
}

tp_status tp_codebook_gradients(const tp_codebook *spec, int64_t begin, int64_t end, const void *codes, const float *gradients,
                                double *sums) {
    const tp_codebook_kernels *kernels;
    bool any;
    TRY(find_kernels(&kernels));
    TRY(tp_check_codebook_range(spec, true, begin, end, &any));
    if (!any) return TP_OK;
    return codes && gradients && sums ? kernels->codebook_gradients(spec, begin, end, codes, gradients, sums) : TP_ERR_ARGUMENT;
}
