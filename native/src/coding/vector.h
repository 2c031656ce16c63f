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
static void count_any(int64_t n, const uint8_t *p, uint32_t *counts) {
    uint32_t each[8][256] = {{0}};
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
}

/* Of bytes that are nearly all within a narrow band, as exponents are, vectors count those of the band, four symbols at a time. */
enum { TRIED = 4096, BAND = 16, TILE = 255 * 4 * LANES };

/* The narrowest band, of 4 to BAND symbols, that leaves out one byte in 512 at most; 0 if there is none. */
static int find_band(const uint32_t *counts, int *first) {
    for (int width = 4; width <= BAND; width += 4) {
        uint32_t sum = 0, most = 0;
        for (int s = 0; s < 256; s++) {
            sum += counts[s];
            if (s >= width) sum -= counts[s - width];
            if (s >= width - 1 && sum > most) {
                most = sum;
                *first = s - width + 1;
            }
        }
        if (most >= TRIED - TRIED / 512) return width;
    }
    return 0;
}

/* Counts bytes of the band, of a tile at most; how many they are. */
INLINE int64_t count_band(int64_t n, const uint8_t *p, int first, int width, uint32_t *counts) {
    int64_t all = 0;
    for (int s = first; s < first + width; s += 4) {
        v symbol[4], sum[4];
        for (int j = 0; j < 4; j++) {
            symbol[j] = v_set((uint32_t)(s + j) * 0x01010101);
            sum[j] = v_set(0);
        }
        for (int64_t i = 0; i < n; i += 4 * LANES) {
            const v x = v_load_bytes(p + i);
            for (int j = 0; j < 4; j++) sum[j] = v_count_bytes(sum[j], x, symbol[j]);
        }
        for (int j = 0; j < 4; j++) {
            const uint32_t count = v_sum_bytes(sum[j]);
            counts[s + j] += count;
            all += count;
        }
    }
    return all;
}

tp_status TP_VARIANT(coding_histogram)(int32_t width, int64_t n, const void *in, uint32_t *counts) {
    if (width == 2) return tp_coding_histogram__ref(width, n, in, counts);
    const uint8_t *p = in;
    if (n >= 4 * TRIED) {
        uint32_t tried[256] = {0};
        int first = 0;
        count_any(TRIED, p, tried);
        const int band = find_band(tried, &first);
        for (int s = 0; s < 256; s++) counts[s] += tried[s];
        p += TRIED;
        n -= TRIED;
        for (int64_t others = 0; band && n >= TILE && others <= TILE / 128; p += TILE, n -= TILE) {
            others = TILE - count_band(TILE, p, first, band, counts);
            for (int64_t i = 0; others && i < TILE; i += 4 * LANES) {
                if (v_in_band(v_load_bytes(p + i), first, band)) continue;
                for (int j = 0; j < 4 * LANES; j++)
                    if ((uint32_t)(p[i + j] - first) >= (uint32_t)band) counts[p[i + j]]++;
            }
        }
    }
    count_any(n, p, counts);
    return TP_OK;
}

/* What is to know of a symbol: floor(2^32 / frequency), or of a frequency of 1 one less, and its range in the upper half. */
static void find_divisors(int32_t width, const uint32_t *ranges, uint64_t *divisors) {
    for (int32_t s = 0; s < tp_alphabet(width); s++) {
        const uint32_t f = ranges[s] & 0xffff;
        divisors[s] = (uint64_t)ranges[s] << 32 | (f > 1 ? (UINT64_C(1) << 32) / f : UINT32_MAX);
    }
}

/*
 * Divisors of groups that come next, of each vector those of even lanes, then of odd ones. Gathers would take more of the ports that all else waits
 * for than loads and stores of one at a time do, long before vectors of them are read.
 */
enum { AHEAD = 8 };

/* Volatile, or the compiler makes vectors here. */
INLINE void look_ahead(int32_t width, const uint8_t *in, const uint64_t *divisors, volatile uint64_t *ahead, uint32_t *large) {
#pragma GCC unroll 32
    for (int i = 0; i < LANES_ALL; i++) {
        uint32_t s = symbol_at(width, in, i);
        if (width == 2) {
            *large |= s;
            s &= TP_CODING_ALPHABET - 1;
        }
        ahead[i / LANES * LANES + i % 2 * (LANES / 2) + i % LANES / 2] = divisors[s];
    }
}

/*
 * The quotient of a state and the frequency f is estimated by the reciprocal, which makes it at most 1 too small; the remainder tells, which
 * is then f or more, and below 2^16.
 */
INLINE uint8_t *encode_groups(int32_t width, int64_t groups, const uint8_t *in, int32_t k, const uint64_t *divisors, uint32_t *states, const uint8_t *out,
                              uint8_t *p, int64_t *left, bool *missing) {
    v x[VECTORS];
    _Alignas(64) uint64_t ahead[AHEAD][LANES_ALL];
    uint32_t large = 0;
    for (int j = 0; j < VECTORS; j++) x[j] = v_load(states + j * LANES);
    v none = v_set(UINT32_MAX);
    const v total = v_set(UINT32_C(1) << k), low16 = v_set(0xffff), bits = v_set((uint32_t)k), up = v_set((uint32_t)(32 - k));
    v_tables tables;
    v_begin_give(&tables);
    for (int64_t g = groups - 1; g >= 0 && g >= groups - AHEAD; g--) look_ahead(width, in + g * LANES_ALL * width, divisors, ahead[g % AHEAD], &large);
    while (groups > 0 && p - out >= VECTORS * SPAN) {
        uint64_t *const now = ahead[--groups % AHEAD];
        for (int j = VECTORS - 1; j >= 0; j--) {
            const v even = v_load_bytes(now + j * LANES), odd = v_load_bytes(now + j * LANES + LANES / 2);
            const v range = v_upper(even, odd), f = v_and(range, low16);
            none = v_least(none, f);
            const v_mask fits = v_above(f, v_shift_right(x[j], up));
            p = v_give(&tables, x[j], fits, p);
            const v y = v_right_unless(x[j], fits), q = v_quotient(y, even, odd), rest = v_and(v_sub(y, v_low_product(q, f)), low16);
            x[j] = v_add(v_add(v_shift_left(q, bits), v_right(range, 16)), v_add_unless(rest, v_above(f, rest), v_sub(total, f)));
        }
        if (groups >= AHEAD) look_ahead(width, in + (groups - AHEAD) * LANES_ALL * width, divisors, now, &large);
    }
    for (int j = 0; j < VECTORS; j++) v_store(states + j * LANES, x[j]);
    *missing = v_none(none) || large >= TP_CODING_ALPHABET;
    *left = groups;
    return p;
}

INLINE tp_status encode_width(int32_t width, int64_t n, const void *in, int32_t k, const uint16_t *frequencies, uint8_t *out, int64_t capacity,
                              int64_t *bytes, void *scratch) {
    uint64_t *const divisors = scratch;
    uint32_t states[LANES_ALL], *const ranges = (uint32_t *)(divisors + TP_CODING_ALPHABET);
    uint8_t *end = out + capacity;
    bool missing = false;
    for (int l = 0; l < LANES_ALL; l++) states[l] = LOWEST_STATE;
    rans_ranges(width, frequencies, ranges);
    find_divisors(width, ranges, divisors);
    int64_t left = n / LANES_ALL;
    *bytes = -1;
    if (!rans_encode_some(width, n, left * LANES_ALL, in, k, ranges, states, out, &end, &missing)) return missing ? TP_ERR_MAGNITUDE : TP_OK;
    end = encode_groups(width, left, in, k, divisors, states, out, end, &left, &missing);
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
