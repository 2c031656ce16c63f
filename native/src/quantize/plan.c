#include "quantize/plan.h"

#include "core/checks.h"

/* Elements from the first to the last of `lines` lines, or -1 if there are too many. */
static int64_t extent(int64_t lines, int64_t stride, int64_t length) {
    if (lines == 0 || length == 0) return 0;
    if (length >= TP_MOST_ELEMENTS) return -1;
    if (lines > 1 && stride >= TP_MOST_ELEMENTS / lines) return -1;
    return (lines - 1) * stride + length;
}

/* B of blocks. */
static bool is_block(int64_t size) { return size >= 16 && size <= 256 && size % 16 == 0; }

static tp_status plan_shape(const tp_quant *spec, tp_plan *plan) {
    TRY(tp_check_matrix(spec->rows, spec->cols, spec->in_stride));
    if (spec->rows >= TP_MOST_ELEMENTS || spec->cols >= TP_MOST_ELEMENTS) return TP_ERR_SHAPE;
    plan->rows = spec->rows;
    plan->cols = spec->cols;
    plan->in_stride = spec->in_stride;
    return TP_OK;
}

tp_status tp_plan_matrix(const tp_quant *spec, tp_plan *plan) {
    if (!spec) return TP_ERR_ARGUMENT;
    if (!tp_is_float(spec->in_type)) return TP_ERR_TYPE;
    plan->in_type = spec->in_type;
    return plan_shape(spec, plan);
}

tp_status tp_plan_groups(const tp_quant *spec, tp_plan *plan) {
    if (!spec) return TP_ERR_ARGUMENT;
    if (spec->out_type < TP_I8 || spec->out_type > TP_U4) return TP_ERR_TYPE;
    if (spec->layout != TP_LAYOUT_SAME && spec->layout != TP_LAYOUT_TRANSPOSED) return TP_ERR_ARGUMENT;
    if (spec->pad != 0 && spec->pad != 1) return TP_ERR_ARGUMENT;
    TRY(plan_shape(spec, plan));

    /* The order decides where two readings fit: see "Lines" in quantize.h. */
    const int64_t rows = spec->rows, cols = spec->cols;
    const bool whole_column = spec->group_cols == 1 && spec->group_rows == rows;
    const bool whole_row = spec->group_rows == 1 && spec->group_cols == cols;
    const bool whole = spec->group_rows == rows && spec->group_cols == cols;
    plan->by_column = whole_column || (!whole_row && !whole && spec->group_cols == 1);
    plan->per_tensor = whole && !whole_column && !whole_row;
    plan->lines = plan->by_column ? cols : rows;
    plan->length = plan->by_column ? rows : cols;
    plan->group = plan->by_column ? spec->group_rows : spec->group_cols;
    if (whole_column || whole_row || whole) {
        plan->groups = 1;
    } else {
        if (!is_block(plan->group) || (plan->by_column ? spec->group_cols : spec->group_rows) != 1) return TP_ERR_SHAPE;
        plan->groups = (plan->length + plan->group - 1) / plan->group;
    }

    plan->padded = plan->length;
    if (spec->pad) {
        if (!is_block(plan->group) || plan->per_tensor) return TP_ERR_SHAPE;
        plan->padded = (plan->length + plan->group - 1) / plan->group * plan->group;
    }
    const bool transposed = spec->layout == TP_LAYOUT_TRANSPOSED;
    if (transposed && !plan->by_column) return TP_ERR_SHAPE;
    plan->code_lines = transposed || !plan->by_column;
    plan->out_stride = spec->out_stride;
    const int64_t out_rows = plan->code_lines ? plan->lines : plan->padded;
    const int64_t out_cols = plan->code_lines ? plan->padded : plan->lines;
    if (spec->out_stride < out_cols) return TP_ERR_SHAPE;
    plan->code_count = extent(out_rows, spec->out_stride, out_cols);
    if (plan->code_count < 0) return TP_ERR_SHAPE;

    plan->out_type = spec->out_type;
    plan->four_bits = spec->out_type == TP_I4 || spec->out_type == TP_U4;
    plan->zero = spec->out_type == TP_U8 ? 128 : spec->out_type == TP_U4 ? 8 : 0;
    return TP_OK;
}

tp_status tp_plan_scales(const tp_quant *spec, tp_plan *plan) {
    if (!spec) return TP_ERR_ARGUMENT;
    if (spec->out_type < TP_I8 || spec->out_type > TP_U4 || !tp_is_float(spec->scale_type)) return TP_ERR_TYPE;
    if (spec->range < TP_RANGE_ABSMAX || spec->range > TP_SCALES_GIVEN) return TP_ERR_ARGUMENT;
    if (spec->rounding != TP_ROUND_DIVIDE && spec->rounding != TP_ROUND_MULTIPLY) return TP_ERR_ARGUMENT;
    if (spec->clip_steps < 0 || spec->clip_steps > 64) return TP_ERR_ARGUMENT;
    if (spec->clip_steps > 1 && !(spec->clip_min > 0 && spec->clip_min <= 1)) return TP_ERR_ARGUMENT;

    if (spec->power_of_two != 0 && spec->power_of_two != 1) return TP_ERR_ARGUMENT;

    const bool is_signed = spec->out_type == TP_I8 || spec->out_type == TP_I4;
    const int32_t values = spec->out_type == TP_I8 || spec->out_type == TP_U8 ? 256 : 16;
    const int32_t lowest = is_signed ? -values / 2 : 0, zero = is_signed ? 0 : values / 2;
    if (spec->qmin < lowest || spec->qmax >= lowest + values || spec->qmin >= spec->qmax) return TP_ERR_ARGUMENT;

    const int32_t below = zero - spec->qmin, above = spec->qmax - zero;
    switch (spec->range) {
    case TP_RANGE_ABSMAX:
        if (below <= 0 || above <= 0) return TP_ERR_ARGUMENT;
        plan->divisor = (float)(below < above ? below : above);
        break;
    case TP_RANGE_ABSMAX_FULL:
        if (below < 0 || above < 0) return TP_ERR_ARGUMENT;
        plan->divisor = (float)(spec->qmax - spec->qmin) / 2;
        break;
    default:
        plan->divisor = (float)(spec->qmax - spec->qmin);
    }
    plan->out_type = spec->out_type;
    plan->scale_type = spec->scale_type;
    plan->range = spec->range;
    plan->divide = spec->rounding == TP_ROUND_DIVIDE;
    plan->clip_steps = spec->clip_steps > 1 && spec->range != TP_SCALES_GIVEN ? spec->clip_steps : 0;
    plan->clip_min = spec->clip_min;
    plan->power_of_two = spec->power_of_two;
    plan->qmin = (float)spec->qmin;
    plan->qmax = (float)spec->qmax;
    plan->zero = (float)zero;
    return TP_OK;
}

tp_status tp_plan_importance(const tp_quant *spec, tp_plan *plan) {
    const int64_t parts = spec->importance_parts;
    plan->importance = NULL;
    plan->part = 0;
    if (!spec->importance) return TP_OK;
    if (parts < 0) return TP_ERR_ARGUMENT;
    if (!plan->per_tensor && (parts == 0) != plan->by_column) return TP_ERR_SHAPE;
    if (parts && spec->rows % parts) return TP_ERR_SHAPE;
    if (plan->clip_steps && plan->lines) {
        plan->importance = spec->importance;
        plan->part = parts ? plan->lines / parts : 0;
    }
    return TP_OK;
}

tp_status tp_plan_range(const tp_plan *plan, int64_t begin, int64_t end) {
    TRY(tp_check_range(begin, end, plan->lines));
    if (plan->four_bits) {
        if (plan->code_lines) {
            if (begin * plan->out_stride % 2 || (end < plan->lines && end * plan->out_stride % 2)) return TP_ERR_RANGE;
        } else {
            if (begin % 2 || (end < plan->lines && end % 2)) return TP_ERR_RANGE;
        }
    }
    return TP_OK;
}
