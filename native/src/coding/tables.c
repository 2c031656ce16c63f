#include "coding/tables.h"

#include <string.h>

#include "coding/checks.h"

enum { LONGEST_RUN_BITS = 12 };

/* To write, or with out null to count only. */
typedef struct bit_writer {
    uint8_t *out;
    int64_t capacity, bits;
} bit_writer;

static void put_bits(bit_writer *w, int n, uint32_t x) {
    for (int b = 0; b < n && w->out; b++) {
        const int64_t at = w->bits + b;
        if (at / 8 >= w->capacity) break;
        if (at % 8 == 0) w->out[at / 8] = 0;
        w->out[at / 8] |= (uint8_t)((x >> b & 1) << at % 8);
    }
    w->bits += n;
}

static int top_bit(uint32_t x) { return 31 - __builtin_clz(x); }

static void put_absent(bit_writer *w, int32_t *run) {
    while (*run > 0) {
        const int b = top_bit((uint32_t)*run);
        put_bits(w, 4, 0);
        put_bits(w, 4, (uint32_t)b);
        put_bits(w, b, (uint32_t)*run);
        *run = 0;
    }
}

static void put_frequencies(bit_writer *w, int32_t alphabet, const uint16_t *frequencies) {
    int32_t run = 0;
    for (int32_t s = 0; s < alphabet; s++) {
        if (!frequencies[s]) {
            run++;
            continue;
        }
        put_absent(w, &run);
        const int c = top_bit(frequencies[s]) + 1;
        put_bits(w, 4, (uint32_t)c);
        put_bits(w, c - 1, frequencies[s]);
    }
}

static void put_lengths(bit_writer *w, const uint8_t *lengths) {
    int32_t run = 0;
    for (int s = 0; s < 256; s++) {
        if (!lengths[s]) {
            run++;
            continue;
        }
        put_absent(w, &run);
        put_bits(w, 4, lengths[s]);
    }
}

static int64_t written(const bit_writer *w) {
    const int64_t bytes = (w->bits + 7) / 8;
    return bytes <= w->capacity ? bytes : -1;
}

int64_t tp_frequencies_bits(int32_t alphabet, const uint16_t *frequencies) {
    bit_writer w = {0};
    put_frequencies(&w, alphabet, frequencies);
    return w.bits;
}

int64_t tp_lengths_bits(const uint8_t *lengths) {
    bit_writer w = {0};
    put_lengths(&w, lengths);
    return w.bits;
}

int64_t tp_frequencies_write(int32_t alphabet, const uint16_t *frequencies, uint8_t *out, int64_t capacity) {
    bit_writer w = {.out = out, .capacity = capacity};
    put_frequencies(&w, alphabet, frequencies);
    return written(&w);
}

int64_t tp_lengths_write(const uint8_t *lengths, uint8_t *out, int64_t capacity) {
    bit_writer w = {.out = out, .capacity = capacity};
    put_lengths(&w, lengths);
    return written(&w);
}

/* Bits behind the end are 0, and show in `at`. */
typedef struct bit_reader {
    const uint8_t *in;
    int64_t bits, at;
} bit_reader;

static uint32_t take_bits(bit_reader *r, int n) {
    uint32_t x = 0;
    for (int b = 0; b < n; b++, r->at++)
        if (r->at < r->bits) x |= (uint32_t)(r->in[r->at / 8] >> r->at % 8 & 1) << b;
    return x;
}

/* Bytes, once all is there; -1 if that is too much, or bits behind it are not 0. */
static int64_t taken(bit_reader *r) {
    if (r->at > r->bits) return -1;
    const int64_t bytes = (r->at + 7) / 8;
    return take_bits(r, (int)(8 * bytes - r->at)) ? -1 : bytes;
}

/* The next number c that is not 0, and its symbol; 0 if there is none. */
static uint32_t next_class(bit_reader *r, int32_t alphabet, int32_t *s) {
    while (*s < alphabet) {
        const uint32_t c = take_bits(r, 4);
        if (c) return c;
        const int b = (int)take_bits(r, 4);
        if (b > LONGEST_RUN_BITS) return 0;
        *s += (int32_t)(UINT32_C(1) << b | take_bits(r, b));
    }
    return 0;
}

int64_t tp_frequencies_read(int32_t alphabet, int32_t log_total, const uint8_t *in, int64_t bytes, uint16_t *frequencies) {
    bit_reader r = {.in = in, .bits = 8 * bytes};
    memset(frequencies, 0, (size_t)alphabet * sizeof *frequencies);
    const uint32_t total = UINT32_C(1) << log_total;
    int32_t s = 0;
    for (uint32_t sum = 0; sum < total; s++) {
        const uint32_t c = next_class(&r, alphabet, &s);
        if (!c) return -1;
        const uint32_t f = UINT32_C(1) << (c - 1) | take_bits(&r, (int)c - 1);
        if (f >= total || f > total - sum) return -1;
        frequencies[s] = (uint16_t)f;
        sum += f;
    }
    return taken(&r);
}

int64_t tp_lengths_read(const uint8_t *in, int64_t bytes, uint8_t *lengths) {
    bit_reader r = {.in = in, .bits = 8 * bytes};
    memset(lengths, 0, 256);
    int32_t s = 0;
    for (uint32_t sum = 0; sum < 1 << TP_HUFFMAN_LONGEST; s++) {
        const uint32_t c = next_class(&r, 256, &s);
        if (!c || c > TP_HUFFMAN_LONGEST) return -1;
        lengths[s] = (uint8_t)c;
        sum += UINT32_C(1) << (TP_HUFFMAN_LONGEST - c);
        if (sum > 1 << TP_HUFFMAN_LONGEST) return -1;
    }
    return taken(&r);
}

/* Of x > 0, to 1e-9, by nothing but operations that are rounded alike everywhere: what is chosen by it must not differ between machines. */
static double log2_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1023) << 52;
    memcpy(&x, &bits, 8);
    if (x > 1.4142135623730951) {
        x /= 2;
        exponent++;
    }
    const double z = (x - 1) / (x + 1), z2 = z * z;
    const double series = 1 + z2 * (1.0 / 3 + z2 * (1.0 / 5 + z2 * (1.0 / 7 + z2 * (1.0 / 9 + z2 * (1.0 / 11)))));
    return exponent + 2.8853900817779268 * z * series;
}

double tp_entropy_bits(int32_t alphabet, const uint32_t *counts) {
    double all = 0, bits = 0;
    for (int32_t s = 0; s < alphabet; s++) {
        if (!counts[s]) continue;
        all += counts[s];
        bits -= counts[s] * log2_of(counts[s]);
    }
    return all > 0 ? bits + all * log2_of(all) : 0;
}

static double cost_of(int32_t alphabet, const uint32_t *counts, int32_t log_total, const uint16_t *frequencies) {
    double bits = 0;
    for (int32_t s = 0; s < alphabet; s++)
        if (counts[s]) bits += counts[s] * (log_total - log2_of(frequencies[s]));
    return bits + (double)tp_frequencies_bits(alphabet, frequencies);
}

/* count * scale / 2^32, rounded, and at least 1. */
static uint64_t scaled(uint32_t count, uint64_t scale) {
    const uint64_t f = (count * scale + (UINT64_C(1) << 31)) >> 32;
    return f ? f : 1;
}

static uint64_t sum_scaled(int32_t alphabet, const uint32_t *counts, uint64_t scale) {
    uint64_t sum = 0;
    for (int32_t s = 0; s < alphabet; s++) sum += counts[s] ? scaled(counts[s], scale) : 0;
    return sum;
}

/* Rounded shares, at a scale for which they sum to 2^k; those that the next larger scale would raise make up what is missing. */
static void normalize(int32_t alphabet, const uint32_t *counts, uint64_t all, int32_t log_total, uint16_t *frequencies) {
    const uint64_t total = UINT64_C(1) << log_total;
    /* With the first one sums are at most 2^k, since each is then 1; with the second one they are more. */
    uint64_t low = 0, high = ((total + TP_CODING_ALPHABET) << 32) / all + 1, scale = (total << 32) / all;
    while (high - low > 1) {
        const uint64_t sum = sum_scaled(alphabet, counts, scale);
        if (sum <= total) low = scale;
        else high = scale;
        /* Sums are nearly proportional to scales; what that does not find, halving does. */
        const int64_t next = (int64_t)scale + ((int64_t)total - (int64_t)sum) * (int64_t)((UINT64_C(1) << 32) / all);
        const bool near = next > (int64_t)low && next < (int64_t)high && (uint64_t)next != scale && high - low > 64;
        scale = near ? (uint64_t)next : low + (high - low) / 2;
    }
    uint64_t missing = total - sum_scaled(alphabet, counts, low);
    for (int32_t s = 0; s < alphabet; s++) {
        uint64_t f = counts[s] ? scaled(counts[s], low) : 0;
        if (f) {
            const uint64_t more = scaled(counts[s], high) - f, added = more < missing ? more : missing;
            f += added;
            missing -= added;
        }
        frequencies[s] = (uint16_t)f;
    }
}

tp_status tp_coding_frequencies(int32_t alphabet, const uint32_t *counts, int32_t log_total, uint16_t *frequencies, int32_t *chosen,
                                int64_t *bits) {
    if ((alphabet != 256 && alphabet != TP_CODING_ALPHABET) || !counts || !frequencies || !chosen || !bits) return TP_ERR_ARGUMENT;
    if (log_total && (log_total < 11 || log_total > 15)) return TP_ERR_ARGUMENT;
    uint64_t all = 0;
    uint32_t present = 0;
    for (int32_t s = 0; s < alphabet; s++) {
        all += counts[s];
        present += counts[s] > 0;
    }
    if (present < 2 || all >= UINT64_C(1) << 28 || (log_total && present > UINT32_C(1) << log_total)) return TP_ERR_ARGUMENT;
    const double entropy = tp_entropy_bits(alphabet, counts);
    double least = 0;
    int32_t last = 0; /* whose frequencies are there */
    *chosen = 0;
    for (int32_t k = log_total ? log_total : 11; k <= (log_total ? log_total : 15); k++) {
        if (present > UINT32_C(1) << k) continue;
        const double most = alphabet == 256 && k > 12 ? least * 127 / 128 : least;
        /* Symbols take no less than their entropy, and the table grows with k. */
        if (*chosen && entropy + (double)tp_frequencies_bits(alphabet, frequencies) >= most) break;
        normalize(alphabet, counts, all, last = k, frequencies);
        const double cost = cost_of(alphabet, counts, k, frequencies);
        if (*chosen && cost >= most) continue;
        least = cost;
        *chosen = k;
    }
    if (last != *chosen) normalize(alphabet, counts, all, *chosen, frequencies);
    *bits = (int64_t)least + 1;
    return TP_OK;
}

tp_status tp_huffman_lengths(const uint32_t *counts, uint8_t *lengths, int64_t *bits) {
    if (!counts || !lengths || !bits) return TP_ERR_ARGUMENT;
    uint8_t order[256];
    uint32_t leaves[256], items[2][512];
    uint8_t packages[TP_HUFFMAN_LONGEST][512]; /* of each level, in ascending order: whether an item is a package of two of the level below */
    uint64_t all = 0;
    int n = 0;
    for (int s = 0; s < 256; s++) {
        all += counts[s];
        lengths[s] = 0;
        if (!counts[s]) continue;
        int at = n++;
        for (; at > 0 && leaves[at - 1] > counts[s]; at--) {
            leaves[at] = leaves[at - 1];
            order[at] = order[at - 1];
        }
        leaves[at] = counts[s];
        order[at] = (uint8_t)s;
    }
    if (n < 2 || all >= UINT64_C(1) << 28) return TP_ERR_ARGUMENT;
    int below = 0;
    for (int level = 0; level < TP_HUFFMAN_LONGEST; level++) {
        const uint32_t *const from = items[level % 2];
        uint32_t *const to = items[(level + 1) % 2];
        int leaf = 0, package = 0, count = 0;
        while (leaf < n || package < below / 2) {
            const uint32_t both = package < below / 2 ? from[2 * package] + from[2 * package + 1] : UINT32_MAX;
            const bool taken_leaf = leaf < n && leaves[leaf] <= both;
            to[count] = taken_leaf ? leaves[leaf] : both;
            packages[level][count++] = !taken_leaf;
            if (taken_leaf) leaf++;
            else package++;
        }
        below = count;
    }
    /* The first 2 n - 2 items of the last level: each leaf among them is one bit more of its symbol. */
    int chosen = 2 * n - 2;
    for (int level = TP_HUFFMAN_LONGEST - 1; level >= 0; level--) {
        int leaf = 0, package = 0;
        for (int i = 0; i < chosen; i++) {
            if (packages[level][i]) package++;
            else lengths[order[leaf++]]++;
        }
        chosen = 2 * package;
    }
    *bits = 0;
    for (int s = 0; s < 256; s++) *bits += (int64_t)counts[s] * lengths[s];
    return TP_OK;
}
