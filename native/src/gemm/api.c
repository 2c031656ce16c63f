/* The public functions: checks up front, so that kernels have none. */
#include "core/dispatch.h"
#include "gemm/checks.h"
#include "gemm/kernels.h"

const tp_gemm_kernels tp_gemm_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_GEMM_KERNELS);

#ifdef TP_TIERS_X86
#define TP_KERNEL_VNNI(name, params) .name = tp_##name##__vnni,
static const tp_gemm_kernels vnni_table = {TP_GEMM_KERNELS(TP_KERNEL_VNNI)};
#endif

static tp_status find_kernels(tp_dtype type, const tp_gemm_kernels **kernels) {
    tp_tier tier;
    TRY(tp_active_tier(&tier));
    *kernels = &tp_gemm_tables[tier];
#ifdef TP_TIERS_X86
    if (type == TP_I8 && tier == TP_TIER_AVX512 && tp_use_vnni()) *kernels = &vnni_table;
#else
    (void)type;
#endif
    return TP_OK;
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

tp_status tp_gemm_layout_of(const tp_gemm_spec *spec, tp_gemm_layout *layout) {
    const tp_gemm_kernels *kernels;
    tp_gemm_tiling t;
    TRY(tp_gemm_check_spec(spec));
    if (!layout) return TP_ERR_ARGUMENT;
    TRY(find_kernels(spec->type, &kernels));
    TRY(kernels->gemm_tiling(spec->type, &t));
    const int64_t panels = (spec->n + t.columns - 1) / t.columns;
    const int64_t units = smaller((spec->k + t.unit_k - 1) / t.unit_k, t.block_units);
    *layout = (tp_gemm_layout){
        .panels = panels,
        .panel_columns = t.columns,
        .row_granule = t.rows,
        .packed_bytes = panels * tp_gemm_panel_bytes(spec, &t),
        /* A panel of packed rows may end with up to 95 bytes of padding; int8 has two numbers for each row in front. */
        .scratch_bytes = smaller(spec->m, t.block_rows) * (units * t.unit_bytes + 95 + 8) + 64,
    };
    return TP_OK;
}

tp_status tp_gemm_pack(const tp_gemm_spec *spec, int64_t first, int64_t last, const void *b, void *packed) {
    const tp_gemm_kernels *kernels;
    tp_gemm_layout layout;
    TRY(tp_gemm_layout_of(spec, &layout));
    TRY(find_kernels(spec->type, &kernels));
    TRY(tp_check_range(first, last, layout.panels));
    if (first == last || layout.packed_bytes == 0) return TP_OK;
    if ((!b && spec->k) || !tp_aligned(packed)) return TP_ERR_ARGUMENT;
    return kernels->gemm_pack(spec, first, last, b, packed);
}

/* *idle: nothing to do. */
static tp_status check_product(const tp_gemm_spec *spec, int64_t begin, int64_t end, int64_t first, int64_t last,
                               const void *a, const void *packed, const void *c, const void *scratch, int *idle) {
    tp_gemm_layout layout;
    TRY(tp_gemm_layout_of(spec, &layout));
    TRY(tp_check_range(begin, end, spec->m));
    TRY(tp_check_range(first, last, layout.panels));
    *idle = begin == end || first == last || (spec->k == 0 && spec->accumulate);
    if (*idle) return TP_OK;
    if ((spec->k && !a) || (layout.packed_bytes && !tp_aligned(packed)) || !c || !tp_aligned(scratch)) return TP_ERR_ARGUMENT;
    return TP_OK;
}

tp_status tp_gemm(const tp_gemm_spec *spec, int64_t begin, int64_t end, int64_t first, int64_t last, const void *a,
                  const void *packed, void *c, void *scratch) {
    const tp_gemm_kernels *kernels;
    int idle;
    if (spec && spec->type == TP_I8) {
        const tp_gemm_affine none = {0};
        return tp_gemm_int8(spec, &none, begin, end, first, last, a, packed, c, scratch);
    }
    TRY(check_product(spec, begin, end, first, last, a, packed, c, scratch, &idle));
    if (idle) return TP_OK;
    TRY(find_kernels(spec->type, &kernels));
    return kernels->gemm(spec, begin, end, first, last, a, packed, c, scratch);
}

tp_status tp_gemm_int8(const tp_gemm_spec *spec, const tp_gemm_affine *affine, int64_t begin, int64_t end,
                       int64_t first, int64_t last, const void *a, const void *packed, void *c, void *scratch) {
    const tp_gemm_kernels *kernels;
    int idle;
    TRY(tp_gemm_check_affine(spec, affine));
    TRY(check_product(spec, begin, end, first, last, a, packed, c, scratch, &idle));
    if (idle) return TP_OK;
    TRY(find_kernels(spec->type, &kernels));
    return kernels->gemm_int8(spec, affine, begin, end, first, last, a, packed, c, scratch);
}
