/* What all tiers of the family share: xxHash32 of a position, whose first prime is for longer inputs, and means. */
#ifndef TP_HASHING_SCALAR_H
#define TP_HASHING_SCALAR_H

#include "core/scalar.h"
#include "tensorpress/hashing.h"

#define TP_HASH_2 UINT32_C(0x85ebca77)
#define TP_HASH_3 UINT32_C(0xc2b2ae3d)
#define TP_HASH_4 UINT32_C(0x27d4eb2f)
#define TP_HASH_5 UINT32_C(0x165667b1)

/* What the hash is after four more bytes. */
static inline uint32_t tp_hash_word(uint32_t hash, uint32_t word) {
    hash += word * TP_HASH_3;
    return (hash << 17 | hash >> 15) * TP_HASH_4;
}

/* What it is after the first number, which a whole row has in common. */
static inline uint32_t tp_hash_row(uint32_t seed, uint32_t row) { return tp_hash_word(seed + TP_HASH_5 + 8, row); }

static inline uint32_t tp_hash_end(uint32_t hash) {
    hash = (hash ^ hash >> 15) * TP_HASH_2;
    hash = (hash ^ hash >> 13) * TP_HASH_3;
    return hash ^ hash >> 16;
}

static inline uint32_t tp_hash_bucket(const tp_hashing *s, uint32_t row, uint32_t col) {
    return (uint32_t)((uint64_t)tp_hash_end(tp_hash_word(row, col)) * (uint64_t)s->buckets >> 32);
}

/* The bit of a sign. */
static inline uint32_t tp_hash_sign(uint32_t row, uint32_t col) { return tp_hash_end(tp_hash_word(row, col)) & UINT32_C(0x80000000); }

/* Divisions are what counts, and the compiler makes vectors of them. */
static inline tp_status tp_hash_means(int64_t parts, int64_t buckets, int64_t begin, int64_t end, const double *sums, const int32_t *counts,
                                      float *values) {
    for (int64_t i = begin; i < end; i++) {
        double sum = 0, count = 0;
        for (int64_t part = 0; part < parts; part++) {
            sum += sums[part * buckets + i];
            count += counts[part * buckets + i];
        }
        values[i] = count > 0 ? (float)(sum / count) : 0;
    }
    return TP_OK;
}

#endif
