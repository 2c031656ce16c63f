/*
 * A tp_quant after its checks, brought to one picture for all granularities and layouts: there are `lines` lines of
 * `length` elements, each cut into `groups` groups of `group` elements (the last may be shorter). Per tensor, all
 * lines are one group.
 */
#ifndef TP_QUANTIZE_PLAN_H
#define TP_QUANTIZE_PLAN_H

#include "core/scalar.h"
#include "tensorpress/quantize.h"

typedef struct tp_plan {
    int64_t rows, cols, in_stride, out_stride;
    int64_t lines, length, group, groups;
    int64_t padded;      /* codes in a line: length, or the next multiple of group */
    int64_t code_count;  /* codes from the first to the last, gaps between lines included */
    bool by_column;      /* lines are columns of the input */
    bool code_lines;     /* the codes of a line follow one another: lines are rows, or the layout is transposed */
    bool per_tensor;
    bool four_bits;
    bool divide;         /* TP_ROUND_DIVIDE */
    tp_dtype in_type, out_type, scale_type;
    int32_t range;
    int32_t clip_steps;  /* 0: no search */
    float clip_min;
    bool power_of_two;
    float qmin, qmax;
    float zero;          /* z of symmetric codes */
    float divisor;       /* s = range of the values / divisor */
    const float *importance; /* null if all count alike, or there is no search */
    int64_t part;        /* lines that share as many numbers as a line has elements; 0: a number for each line, per tensor only */
} tp_plan;

#ifdef __cplusplus
extern "C" {
#endif

/* Each checks the fields that its callers use, and fills the part of the plan that goes with them. */
tp_status tp_plan_matrix(const tp_quant *spec, tp_plan *plan);   /* rows, cols, in_stride, in_type */
tp_status tp_plan_groups(const tp_quant *spec, tp_plan *plan);   /* shape and layout of codes and scales */
tp_status tp_plan_scales(const tp_quant *spec, tp_plan *plan);   /* how scales follow from values */
tp_status tp_plan_importance(const tp_quant *spec, tp_plan *plan); /* after both */

/* Checks [begin, end), where lines are cut for several threads. */
tp_status tp_plan_range(const tp_plan *plan, int64_t begin, int64_t end);

#ifdef __cplusplus
}
#endif

TP_SCALAR int64_t tp_in_index(const tp_plan *p, int64_t line, int64_t i) {
    return p->by_column ? i * p->in_stride + line : line * p->in_stride + i;
}

TP_SCALAR int64_t tp_code_index(const tp_plan *p, int64_t line, int64_t i) {
    return p->code_lines ? line * p->out_stride + i : i * p->out_stride + line;
}

TP_SCALAR int64_t tp_scale_index(const tp_plan *p, int64_t line, int64_t group) {
    if (p->per_tensor) return 0;
    return p->code_lines ? line * p->groups + group : group * p->cols + line;
}

/* The numbers of a line's elements, where they are not one for each line. */
TP_SCALAR const float *tp_importance_of(const tp_plan *p, int64_t line) {
    return p->by_column ? p->importance : p->importance + line / p->part * p->length;
}

/* Columns that column kernels take together, 64 floats being four cache lines. */
enum { TP_PANEL = 64 };

#endif
