/* What the functions of each family ask before they call a kernel, on the processor and on CUDA devices. */
#ifndef TP_CORE_CHECKS_H
#define TP_CORE_CHECKS_H

#include <stdbool.h>

#include "tensorpress/core.h"

/* Leaves with the status of a call that failed. */
#define TRY(call)                                                                                                     \
    do {                                                                                                              \
        const tp_status try_status = (call);                                                                          \
        if (try_status) return try_status;                                                                            \
    } while (0)

/* Elements that any array may have, so that no offset in bytes overflows. */
#define TP_MOST_ELEMENTS (INT64_C(1) << 60)

static inline tp_status tp_check_range(int64_t begin, int64_t end, int64_t lines) {
    return begin < 0 || begin > end || end > lines ? TP_ERR_RANGE : TP_OK;
}

/* rows x cols with this stride. Where there are no rows, or no columns, there may be any number of the others. */
static inline tp_status tp_check_matrix(int64_t rows, int64_t cols, int64_t stride) {
    if (rows < 0 || cols < 0 || stride < cols) return TP_ERR_SHAPE;
    return rows && stride > (TP_MOST_ELEMENTS - 1) / rows ? TP_ERR_SHAPE : TP_OK;
}

/* What elements are of that are weights. */
static inline bool tp_is_float(tp_dtype type) { return type == TP_F32 || type == TP_F16 || type == TP_BF16; }

#endif
