/*
 * The loops of both vector tiers. A tier's file defines vectors v of LANES u32, and of these what is declared by its use here. What vectors
 * leave at an end of an array the loops of scalar.h do.
 */
#include "coding/kernels.h"
#include "coding/scalar.h"

enum { VECTORS = LANES_ALL / LANES };

/* Most bytes that v_take reads, and v_give writes. */
enum { SPAN = 2 * LANES };

/* Counts of what is in eight places in turn, so that a symbol that follows itself does not wait. */
tp_status TP_VARIANT(coding_histogram)(int32_t width, int64_t n, const void *in, uint32_t *counts) {
    if (width == 2) return tp_coding_histogram__ref(width, n, in, counts);
    uint32_t each[8][256] = {{0}};
    const uint8_t *const p = in;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        uint64_t a, b;
        memcpy(&a, p + i, 8);
        memcpy(&b, p + i + 8, 8);
        for (int j = 0; j < 8; j += 2) {
            each[j][a >> 8 * j & 255]++;
            each[j + 1][b >> 8 * j & 255]++;
            each[j][a >> (8 * j + 8) & 255]++;
            each[j + 1][b >> (8 * j + 8) & 255]++;
        }
    }
    for (; i < n; i++) each[0][p[i]]++;
    for (int s = 0; s < 256; s++)
        for (int j = 0; j < 8; j++) counts[s] += each[j][s];
    return TP_OK;
}

/*
 * Division by f as a product: for x < f 2^(32 - k), x / f = (x + plus) * reciprocal / 2^(32 + s), with s = floor(log2((f - 1) | 1)). The
 * reciprocal is rounded up, which is exact while x times what is added stays below 2^(32 + s); else it is rounded down, and plus is 1. Where f is
 * 1, the quotient is one too small; what is added makes up for that.
 */
typedef struct rans_divisors {
    uint32_t reciprocals[TP_CODING_ALPHABET];
    uint32_t added[TP_CODING_ALPHABET]; /* f | plus << 15 | what is added to x << 16 */
} rans_divisors;

/* Whether any plus is 1. */
static bool find_divisors(int32_t width, int32_t k, const uint16_t *frequencies, rans_divisors *d) {
    uint32_t start = 0;
    bool any = false;
    for (int32_t i = 0; i < tp_alphabet(width); i++) {
        const uint32_t f = frequencies[i];
        uint32_t added = start, reciprocal = 0, plus = 0;
        if (f == 1) {
            added += (UINT32_C(1) << k) - 1;
            reciprocal = UINT32_MAX;
        } else if (f > 1) {
            const int s = 31 - __builtin_clz((f - 1) | 1);
            const uint64_t power = UINT64_C(1) << (32 + s), up = (power + f - 1) / f, largest = ((uint64_t)f << (32 - k)) - 1;
            plus = largest * (up * f - power) >= power;
            reciprocal = (uint32_t)(up - plus);
            any |= plus;
        }
        d->reciprocals[i] = reciprocal;
        d->added[i] = f | plus << 15 | added << 16;
        start += f;
    }
    return any;
}

INLINE uint8_t *encode_groups(int32_t width, int64_t groups, const uint8_t *in, int32_t k, const rans_divisors *d, bool rounded, uint32_t *states,
                              const uint8_t *out, uint8_t *p, int64_t *left, bool *missing) {
    v x[VECTORS];
    for (int j = 0; j < VECTORS; j++) x[j] = v_load(states + j * LANES);
    v none = v_set(0), large = v_set(0);
    const v one = v_set(1), total = v_set(UINT32_C(1) << k), exponent = v_set(127), low15 = v_set(0x7fff), up = v_set((uint32_t)(32 - k));
    v_tables tables;
    v_begin_give(&tables);
    while (groups > 0 && p - out >= VECTORS * SPAN) {
        groups--;
        v added[VECTORS], reciprocals[VECTORS];
        for (int j = VECTORS - 1; j >= 0; j--) {
            v s = v_symbols(width, in + width * (groups * LANES_ALL + j * LANES));
            if (width == 2) {
                large = v_or(large, s);
                s = v_and(s, v_set(TP_CODING_ALPHABET - 1));
            }
            added[j] = v_gather(d->added, s);
            reciprocals[j] = v_gather(d->reciprocals, s);
        }
        for (int j = VECTORS - 1; j >= 0; j--) {
            const v f = v_and(added[j], low15), f1 = v_sub(f, one);
            none = v_or(none, f1);
            const v_mask full = v_above(v_shift_right(x[j], up), f1);
            p = v_give(&tables, x[j], full, p);
            const v y = v_right_some(x[j], full);
            const v s_of_f = v_sub(v_right(v_float_bits(v_or(f1, one)), 23), exponent);
            const v q = v_shift_right(v_high_product(rounded ? v_add(y, v_and(v_right(added[j], 15), one)) : y, reciprocals[j]), s_of_f);
            x[j] = v_add(v_add(y, v_right(added[j], 16)), v_product(q, v_sub(total, f)));
        }
    }
    for (int j = 0; j < VECTORS; j++) v_store(states + j * LANES, x[j]);
    *missing = v_any(v_right(none, 31)) || v_any(v_right(large, 12));
    *left = groups;
    return p;
}

INLINE tp_status encode_width(int32_t width, int64_t n, const void *in, int32_t k, const uint16_t *frequencies, uint8_t *out, int64_t capacity,
                              int64_t *bytes, void *scratch) {
    uint32_t states[LANES_ALL], *const ranges = (uint32_t *)((char *)scratch + sizeof(rans_divisors));
    rans_divisors *const d = scratch;
    uint8_t *end = out + capacity;
    bool missing = false;
    for (int l = 0; l < LANES_ALL; l++) states[l] = LOWEST_STATE;
    rans_ranges(width, frequencies, ranges);
    const bool rounded = find_divisors(width, k, frequencies, d);
    int64_t left = n / LANES_ALL;
    *bytes = -1;
    if (!rans_encode_some(width, n, left * LANES_ALL, in, k, ranges, states, out, &end, &missing)) return missing ? TP_ERR_MAGNITUDE : TP_OK;
    if (rounded) end = encode_groups(width, left, in, k, d, true, states, out, end, &left, &missing);
    else end = encode_groups(width, left, in, k, d, false, states, out, end, &left, &missing);
    if (!missing && rans_encode_some(width, left * LANES_ALL, 0, in, k, ranges, states, out, &end, &missing))
        *bytes = rans_finish(states, out, capacity, end);
    return missing ? TP_ERR_MAGNITUDE : TP_OK;
}

tp_status TP_VARIANT(rans_encode)(int32_t width, int64_t n, const void *in, int32_t log_total, const uint16_t *frequencies, uint8_t *out,
                                  int64_t capacity, int64_t *bytes, void *scratch) {
    return width == 1 ? encode_width(1, n, in, log_total, frequencies, out, capacity, bytes, scratch)
                      : encode_width(2, n, in, log_total, frequencies, out, capacity, bytes, scratch);
}

/* Of bytes and k up to 12, all that is to know of a slot in 32 bits: symbol | slot - start << 8 | frequency << 20. */
enum { NARROW = 12 };

static void find_entries(const rans_slots *slots, int32_t k, uint32_t *entries) {
    for (uint32_t slot = 0; slot < UINT32_C(1) << k; slot++) {
        const uint32_t s = slots->symbols[slot], range = slots->ranges[s];
        entries[slot] = s | (slot - (range >> 16)) << 8 | (range & 0xffff) << 20;
    }
}

/* Where the decoding of a sequence is. */
typedef struct progress {
    uint32_t states[LANES_ALL];
    const uint8_t *p;
    int64_t groups;
} progress;

/* How symbols are decoded. */
typedef struct decoder {
    int32_t k;
    const rans_slots *slots;
    const uint32_t *entries;
    v_tables tables;
} decoder;

/* Looks up the slot of each lane; what decode_step goes on with. */
INLINE v decode_look(bool narrow, const decoder *d, v x) {
    const v slot = v_and(x, v_set((UINT32_C(1) << d->k) - 1));
    return narrow ? v_gather(d->entries, slot) : v_and(v_gather16(d->slots->symbols, slot), v_set(0xffff));
}

/* One symbol of each lane of x. */
INLINE v decode_step(bool narrow, const decoder *d, v found, v *x, const uint8_t **p) {
    const v above = v_shift_right(*x, v_set((uint32_t)d->k));
    if (narrow) {
        *x = v_add(v_product(v_right(found, 20), above), v_and(v_right(found, 8), v_set(0xfff)));
    } else {
        const v range = v_gather(d->slots->ranges, found), slot = v_and(*x, v_set((UINT32_C(1) << d->k) - 1));
        *x = v_sub(v_add(v_product(v_and(range, v_set(0xffff)), above), slot), v_right(range, 16));
    }
    *p = v_take(&d->tables, x, *p);
    return narrow ? v_and(found, v_set(0xff)) : found;
}

/*
 * Groups of 32 symbols, as long as there are words for another one for sure; of one sequence, or of two at once: each waits for itself most of
 * the time. All slots are looked up before anything is done with them, since the processor does not look so far ahead.
 */
INLINE void decode_groups(int32_t width, bool narrow, bool both, const decoder *d, const tp_sequence *one, progress *first, const tp_sequence *two,
                          progress *second) {
    v x[VECTORS], y[VECTORS], s[VECTORS], t[VECTORS];
    const uint8_t *p = first->p, *q = both ? second->p : NULL;
    const uint8_t *const p_end = one->in + one->bytes, *const q_end = both ? two->in + two->bytes : NULL;
    for (int j = 0; j < VECTORS; j++) {
        x[j] = v_load(first->states + j * LANES);
        if (both) y[j] = v_load(second->states + j * LANES);
    }
    int64_t g = first->groups;
    const int64_t shift = both ? second->groups - g : 0, groups = one->n / LANES_ALL;
    const int64_t last = both && two->n / LANES_ALL - shift < groups ? two->n / LANES_ALL - shift : groups;
    for (; g < last && p_end - p >= VECTORS * SPAN && (!both || q_end - q >= VECTORS * SPAN); g++) {
        for (int j = 0; j < VECTORS; j++) s[j] = decode_look(narrow, d, x[j]);
        for (int j = 0; j < VECTORS && both; j++) t[j] = decode_look(narrow, d, y[j]);
        for (int j = 0; j < VECTORS; j++) s[j] = decode_step(narrow, d, s[j], &x[j], &p);
        v_put_symbols(width, (uint8_t *)one->out + g * LANES_ALL * width, s);
        if (both) {
            for (int j = 0; j < VECTORS; j++) t[j] = decode_step(narrow, d, t[j], &y[j], &q);
            v_put_symbols(width, (uint8_t *)two->out + (g + shift) * LANES_ALL * width, t);
        }
    }
    for (int j = 0; j < VECTORS; j++) {
        v_store(first->states + j * LANES, x[j]);
        if (both) v_store(second->states + j * LANES, y[j]);
    }
    first->groups = g;
    first->p = p;
    if (both) {
        second->groups = g + shift;
        second->p = q;
    }
}

INLINE tp_status decode_width(int32_t width, bool narrow, const decoder *d, const tp_sequence *one, const tp_sequence *two) {
    progress first = {.p = one->in + STATE_BYTES}, second;
    if (!rans_begin(one, first.states)) return TP_ERR_FORMAT;
    if (two) {
        second.p = two->in + STATE_BYTES;
        second.groups = 0;
        if (!rans_begin(two, second.states)) return TP_ERR_FORMAT;
        decode_groups(width, narrow, true, d, one, &first, two, &second);
        decode_groups(width, narrow, false, d, two, &second, NULL, NULL);
        TRY(rans_decode_rest(width, two, second.groups * LANES_ALL, d->k, d->slots, second.states, second.p));
    }
    decode_groups(width, narrow, false, d, one, &first, NULL, NULL);
    return rans_decode_rest(width, one, first.groups * LANES_ALL, d->k, d->slots, first.states, first.p);
}

tp_status TP_VARIANT(rans_decode)(int32_t width, int32_t log_total, const uint16_t *frequencies, const tp_sequence *one, const tp_sequence *two,
                                  void *scratch) {
    rans_slots *const slots = scratch;
    uint32_t *const entries = (uint32_t *)((char *)scratch + rounded_up(sizeof(rans_slots)));
    decoder d = {.k = log_total, .slots = slots, .entries = entries};
    v_begin_take(&d.tables);
    rans_find_slots(width, frequencies, slots);
    if (width == 2) return decode_width(2, false, &d, one, two);
    if (log_total > NARROW) return decode_width(1, false, &d, one, two);
    find_entries(slots, log_total, entries);
    return decode_width(1, true, &d, one, two);
}

tp_status TP_VARIANT(huffman_encode)(int64_t n, const uint8_t *in, const uint8_t *lengths, uint8_t *out, int64_t capacity, int64_t *bytes) {
    return huffman_encode_all(n, in, lengths, out, capacity, bytes);
}

tp_status TP_VARIANT(huffman_decode)(int64_t n, const uint8_t *lengths, const uint8_t *in, int64_t bytes, uint8_t *out, void *scratch) {
    return huffman_decode_all(n, lengths, in, bytes, out, scratch);
}

/* The compiler makes vectors of these. */
INLINE void split_16(bool bf16, int64_t n, const uint8_t *in, const uint8_t *base, uint8_t *restrict a, uint8_t *restrict b) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t x, y;
        memcpy(&x, in + 2 * i, 2);
        if (base) {
            memcpy(&y, base + 2 * i, 2);
            x ^= y;
        }
        a[i] = (uint8_t)(bf16 ? x >> 7 : x >> 8);
        b[i] = (uint8_t)(bf16 ? (x & 127) | (x >> 8 & 128) : x);
    }
}

INLINE void split_32(int64_t n, const uint8_t *in, const uint8_t *base, uint8_t *restrict a, uint8_t *restrict b, uint8_t *restrict c,
                     uint8_t *restrict d) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t x, y;
        memcpy(&x, in + 4 * i, 4);
        if (base) {
            memcpy(&y, base + 4 * i, 4);
            x ^= y;
        }
        a[i] = (uint8_t)(x >> 23);
        b[i] = (uint8_t)((x >> 16 & 127) | (x >> 24 & 128));
        c[i] = (uint8_t)(x >> 8);
        d[i] = (uint8_t)x;
    }
}

tp_status TP_VARIANT(planes_split)(tp_elements e, int64_t n, const void *in, const void *base, uint8_t *planes) {
    if (e == TP_CODE_F32) {
        if (base) split_32(n, in, base, planes, planes + n, planes + 2 * n, planes + 3 * n);
        else split_32(n, in, NULL, planes, planes + n, planes + 2 * n, planes + 3 * n);
    } else if (e == TP_CODE_BF16) {
        if (base) split_16(true, n, in, base, planes, planes + n);
        else split_16(true, n, in, NULL, planes, planes + n);
    } else {
        if (base) split_16(false, n, in, base, planes, planes + n);
        else split_16(false, n, in, NULL, planes, planes + n);
    }
    return TP_OK;
}

INLINE void merge_16(bool bf16, int64_t n, const uint8_t *a, const uint8_t *b, const uint8_t *base, uint8_t *restrict out) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t x = (uint16_t)(bf16 ? (b[i] & 128) << 8 | a[i] << 7 | (b[i] & 127) : a[i] << 8 | b[i]), y;
        if (base) {
            memcpy(&y, base + 2 * i, 2);
            x ^= y;
        }
        memcpy(out + 2 * i, &x, 2);
    }
}

INLINE void merge_32(int64_t n, const uint8_t *const *p, const uint8_t *base, uint8_t *restrict out) {
    const uint8_t *const a = p[0], *const b = p[1], *const c = p[2], *const d = p[3];
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)(b[i] & 128) << 24 | (uint32_t)a[i] << 23 | (uint32_t)(b[i] & 127) << 16 | (uint32_t)c[i] << 8 | d[i], y;
        if (base) {
            memcpy(&y, base + 4 * i, 4);
            x ^= y;
        }
        memcpy(out + 4 * i, &x, 4);
    }
}

tp_status TP_VARIANT(planes_merge)(tp_elements e, int64_t n, const uint8_t *const *p, const void *base, void *out) {
    if (e == TP_CODE_F32) {
        if (base) merge_32(n, p, base, out);
        else merge_32(n, p, NULL, out);
    } else if (e == TP_CODE_BF16) {
        if (base) merge_16(true, n, p[0], p[1], base, out);
        else merge_16(true, n, p[0], p[1], NULL, out);
    } else {
        if (base) merge_16(false, n, p[0], p[1], base, out);
        else merge_16(false, n, p[0], p[1], NULL, out);
    }
    return TP_OK;
}

tp_status TP_VARIANT(xor)(int64_t n, const uint8_t *a, const uint8_t *b, uint8_t *out) {
    for (int64_t i = 0; i < n; i++) out[i] = a[i] ^ b[i];
    return TP_OK;
}

tp_status TP_VARIANT(zeros_cut)(int64_t n, const uint8_t *in, uint8_t *mask, uint8_t *rest, int64_t *count) {
    int64_t at = 0, i = 0;
    v_tables tables;
    v_begin_cut(&tables);
    for (; i + LANES <= n && at + LANES <= n; i += LANES) at += v_cut(&tables, in + i, mask + i / 8, rest + at);
    *count = cut_some(i, n, in, mask, rest, at);
    return TP_OK;
}

tp_status TP_VARIANT(zeros_put)(int64_t n, const uint8_t *mask, const uint8_t *rest, int64_t count, uint8_t *out) {
    int64_t at = 0, i = 0;
    v_tables tables;
    v_begin_put(&tables);
    for (; i + LANES <= n && at + LANES <= count; i += LANES) at += v_put(&tables, mask + i / 8, rest + at, out + i);
    put_some(i, n, mask, rest + at, out);
    return TP_OK;
}
