/* Numbers that were counted, and the table of their clusters. */
#ifndef TP_CODEBOOK_CLUSTERS_H
#define TP_CODEBOOK_CLUSTERS_H

#include "tensorpress/codebook.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Elements whose first bits are the same: how often they count, and the same times what the other bits say. */
typedef struct tp_cell {
    uint64_t weight, low;
} tp_cell;

/*
 * Which cell an element is in: of bits that order floats, all but the last `shift`, less those of the smallest element. Bits of `used` are 1
 * where a weight is not 0.
 */
typedef struct tp_cells {
    tp_cell *of;
    uint64_t *used;
    uint32_t base;
    int shift;
} tp_cells;

/* Bytes of scratch that tp_cluster needs, 64-byte aligned. */
int64_t tp_clusters_scratch(const tp_codebook *spec);

/* The table of a group, whose counts are empty then. */
void tp_cluster(const tp_codebook *spec, int32_t iterations, const tp_cells *counts, void *scratch, float *table);

#ifdef __cplusplus
}
#endif
#endif
