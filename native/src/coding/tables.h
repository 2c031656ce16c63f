/* Tables of frequencies and lengths: found from counts, written and read. The same for all tiers. */
#ifndef TP_CODING_TABLES_H
#define TP_CODING_TABLES_H

#include <stdbool.h>

#include "tensorpress/coding.h"

/* Bits that these frequencies would take in a block. */
int64_t tp_frequencies_bits(int32_t alphabet, const uint16_t *frequencies);
int64_t tp_lengths_bits(const uint8_t *lengths);

/* Bytes that they take, or -1 if more than capacity. */
int64_t tp_frequencies_write(int32_t alphabet, const uint16_t *frequencies, uint8_t *out, int64_t capacity);
int64_t tp_lengths_write(const uint8_t *lengths, uint8_t *out, int64_t capacity);

/* Bytes that they took, or -1 if they are none. What is read is as the coders ask for it. */
int64_t tp_frequencies_read(int32_t alphabet, int32_t log_total, const uint8_t *in, int64_t bytes, uint16_t *frequencies);
int64_t tp_lengths_read(const uint8_t *in, int64_t bytes, uint8_t *lengths);

/* Bits of these symbols: sum over counts of -count log2(p), with p their share. The same on every machine. */
double tp_entropy_bits(int32_t alphabet, const uint32_t *counts);

#endif
