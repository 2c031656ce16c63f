/* What the functions of this family ask of their arguments, and how scratch is laid out. */
#ifndef TP_CODEBOOK_CHECKS_H
#define TP_CODEBOOK_CHECKS_H

#include "codebook/clusters.h"
#include "codebook/scalar.h"
#include "core/checks.h"
#include "tensorpress/codebook.h"

/* In so many cells elements are counted, at most. */
#define CELLS (INT64_C(1) << 20)
/* Ranges of cells that dynamic programming chooses from. */
enum { MOST_RANGES = 2048 };
/* Vectors of a group that are looked at. */
#define MOST_POINTS (INT64_C(1) << 20)

/* Memory cut from scratch piece by piece. */
static inline void *tp_take(char **scratch, int64_t bytes) {
    char *p = *scratch;
    *scratch += (bytes + 63) / 64 * 64;
    return p;
}

static inline int64_t tp_codebook_least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t tp_codebook_across(const tp_codebook *s) { return s->cols / s->group_cols + (s->cols % s->group_cols > 0); }

static inline int64_t tp_codebook_groups(const tp_codebook *s) {
    return (s->rows / s->group_rows + (s->rows % s->group_rows > 0)) * tp_codebook_across(s);
}

/* Entries of a table. */
static inline int64_t tp_codebook_entries(const tp_codebook *s) { return INT64_C(1) << s->bits; }

/* Points of a group that are looked at, at most, in whole blocks. */
static inline int64_t tp_codebook_points(const tp_codebook *s) {
    const int64_t rows = tp_codebook_least(s->rows, s->group_rows), cols = tp_codebook_least(s->cols, s->group_cols) / s->dimension;
    const int64_t n = cols > 0 && rows > MOST_POINTS / cols ? MOST_POINTS : tp_codebook_least(rows * cols, MOST_POINTS);
    return (n + POINT_BLOCK - 1) / POINT_BLOCK * POINT_BLOCK;
}

static inline tp_status tp_check_codebook(const tp_codebook *s) {
    if (!s) return TP_ERR_ARGUMENT;
    if (!tp_is_float(s->type)) return TP_ERR_TYPE;
    const int32_t d = s->dimension;
    if ((d != 1 && d != 2 && d != 4 && d != 8) || s->bits < 1 || s->bits > (d == 1 ? 8 : TP_CODEBOOK_MOST_BITS)) return TP_ERR_ARGUMENT;
    if (s->zero != 0 && (s->zero != 1 || d > 1)) return TP_ERR_ARGUMENT;
    if (s->group_rows < 1 || s->group_cols < 1 || s->group_cols % d) return TP_ERR_SHAPE;
    TRY(tp_check_matrix(s->rows, s->cols, s->stride));
    if (s->cols % d || tp_codebook_groups(s) > TP_MOST_ELEMENTS / (tp_codebook_entries(s) * d)) return TP_ERR_SHAPE;
    return TP_OK;
}

static inline int64_t tp_codebook_scratch_bytes(const tp_codebook *s) {
    const int64_t points = tp_codebook_points(s), entries = tp_codebook_entries(s);
    /* Weights of columns; then counts with their bits, and what clusters take; or points, and sums of each entry. */
    const int64_t weights = (tp_codebook_least(s->cols, s->group_cols) * 4 + 63) / 64 * 64;
    if (s->dimension == 1) return weights + CELLS * 16 + CELLS / 8 + tp_clusters_scratch(s) + 3 * 64;
    return weights + points * ((s->dimension + 2) * 4 + 2) + points / POINT_BLOCK * 8 + entries * (s->dimension + 1) * 8 + 16 * 64;
}

/* *any: whether there is something to do. */
static inline tp_status tp_check_codebook_range(const tp_codebook *s, bool groups, int64_t begin, int64_t end, bool *any) {
    TRY(tp_check_codebook(s));
    TRY(tp_check_range(begin, end, groups ? tp_codebook_groups(s) : s->rows));
    *any = begin < end && s->rows > 0 && s->cols > 0;
    return TP_OK;
}

#endif
