/*
 * The prune kernels for vector tiers. A tier's file defines 16 lanes of keys (vk), masks of them (vm), the few operations
 * that are used here, INLINE and TP_VARIANT, and then includes this file. What is not keys needs no more than AVX2.
 */
#include <math.h>

/* Distance of software prefetches: the hardware's stop at page boundaries. */
enum { AHEAD_BYTES = 2048, AHEAD_ROWS = 16 };

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Addresses past the end are harmless: a prefetch reads nothing that the program could notice. */
INLINE void prefetch_at(const void *p, int64_t bytes) {
    _mm_prefetch((const char *)((uintptr_t)p + (uintptr_t)bytes), _MM_HINT_T0);
}
INLINE void prefetch(const void *p) { prefetch_at(p, AHEAD_BYTES); }
/* To L2, for what lies so many bytes apart that few sets of L1 share it. */
INLINE void prefetch_far(const void *p, int64_t bytes) {
    _mm_prefetch((const char *)((uintptr_t)p + (uintptr_t)bytes), _MM_HINT_T1);
}

INLINE const char *at(const void *p, bool half, int64_t i) { return (const char *)p + (half ? 2 : 4) * i; }

/* Elements as they are in memory, moved to the top of their lanes. */
INLINE vk bits_at(bool half, const char *p) { return half ? vk_load_half(p) : vk_load(p); }

INLINE vk key_of(bool half, bool signs, vk bits) {
    if (!signs) return vk_left(bits, 1);
    const vk sign = vk_set(0x80000000);
    bits = vk_clear(bits, vk_equal(bits, sign));
    vk flip = vk_signs(bits);
    if (half) flip = vk_and(flip, vk_set(0xffff0000));
    return vk_xor(bits, vk_or(flip, sign));
}

/* The first n elements; other lanes have the lowest key there is. */
INLINE vk part_bits_at(bool half, const char *p, int64_t n) {
    return n <= 0 ? vk_set(0) : n >= 16 ? bits_at(half, p) : half ? vk_load_half_part(p, n) : vk_load_part(p, n);
}
INLINE vk part_key_of(bool half, bool signs, vk bits, int64_t n) {
    return vk_clear(key_of(half, signs, bits), vm_not(vm_first(n > 0 ? n : 0)));
}

/* Calls f with the kind of the scores as constants, so that a loop is compiled once per kind. */
#define FOR_KIND(s, f, ...)                                                                                           \
    do {                                                                                                              \
        if ((s)->type == TP_F32 && (s)->order == TP_ORDER_MAGNITUDE)                                                  \
            f(false, false, __VA_ARGS__);                                                                             \
        else if ((s)->type == TP_F32)                                                                                 \
            f(false, true, __VA_ARGS__);                                                                              \
        else if ((s)->order == TP_ORDER_MAGNITUDE)                                                                    \
            f(true, false, __VA_ARGS__);                                                                              \
        else                                                                                                          \
            f(true, true, __VA_ARGS__);                                                                               \
    } while (0)

/* NaN shows in the largest magnitude. */
INLINE vk larger_magnitude(vk most, vk bits) { return vk_max(most, vk_left(bits, 1)); }
INLINE tp_status nan_status(const tp_scores *s, vk most) {
    return vm_any(vk_at_least(most, vk_set(tp_infinity_key(s->type) + 1))) ? TP_ERR_NONFINITE : TP_OK;
}

/* Rows without gaps between them are one. */
INLINE tp_scores in_one_row(const tp_scores *s, int64_t *begin, int64_t *end, const void **in) {
    tp_scores one = *s;
    *in = at(*in, s->type != TP_F32, *begin * s->stride);
    one.rows = *end - *begin;
    if (s->stride == s->cols) {
        one.stride = one.cols = one.rows * s->cols;
        one.rows = 1;
    }
    *begin = 0;
    *end = one.rows;
    return one;
}

/* ---- histograms ---- */

/*
 * Counters in turns: an element's counter is that of its digit and of its position modulo TURNS, so that a run of equal
 * digits does not wait for one counter to come back from memory. They are narrow, to stay in the first cache. The places
 * that wait are few: the more they are, the more of them share the lower address bits of counters that were just written,
 * and processors take such loads to depend on those stores.
 */
enum { TURNS = 8, BATCH = 128, ROUNDS_MOST = BATCH / TURNS + 9 };

typedef struct tally {
    uint16_t table[TP_PRUNE_COUNTS * TURNS] __attribute__((aligned(64)));
    uint32_t places[BATCH + 80] __attribute__((aligned(64))); /* TURNS * digit of elements that are not counted yet */
    int64_t held;
    int64_t rounds; /* the largest value that a counter can have */
    int64_t *counts;
} tally;

/* Where the counters of a digit are. */
INLINE vk places_of(vk keys, int32_t digit) {
    const uint32_t mask = digit == 2 ? 0x3ff : 0x7ff;
    const vk places = digit == 2 ? vk_left(keys, 3) : vk_right(keys, tp_digit_shift(digit) - 3);
    return vk_and(places, vk_set(mask * TURNS));
}

static void tally_flush(tally *t) {
    for (int64_t d = 0; d < TP_PRUNE_COUNTS; d++) {
        uint64_t words[2];
        memcpy(words, t->table + d * TURNS, sizeof words);
        if (!(words[0] | words[1])) continue;
        for (int i = 0; i < TURNS; i++) t->counts[d] += t->table[d * TURNS + i];
    }
    memset(t->table, 0, sizeof t->table);
    t->rounds = 0;
}

static void tally_count(tally *t) {
    int64_t i = 0;
    for (; i + TURNS <= t->held; i += TURNS) {
#pragma GCC unroll 8
        for (int k = 0; k < TURNS; k++) t->table[t->places[i + k] + (uint32_t)k]++;
    }
    for (int64_t k = 0; i + k < t->held; k++) t->table[t->places[i + k] + k]++;
    t->rounds += t->held / TURNS + 1;
    t->held = 0;
    if (t->rounds > UINT16_MAX - ROUNDS_MOST) tally_flush(t);
}

INLINE void first_digits(bool half, bool signs, const tp_scores *s, const char *in, tally *t, vk *most) {
    vk m = *most;
    for (int64_t r = 0; r < s->rows; r++) {
        const char *row = at(in, half, r * s->stride);
        for (int64_t i = 0; i < s->cols;) {
            const int64_t n = smaller(s->cols - i, BATCH - t->held), whole = n / 16 * 16;
            uint32_t *to = t->places + t->held;
            int64_t k = 0;
            for (; k < whole; k += 16) {
                const char *p = at(row, half, i + k);
                const vk bits = bits_at(half, p);
                prefetch(p);
                m = larger_magnitude(m, bits);
                vk_store(to + k, places_of(key_of(half, signs, bits), 0));
            }
            if (k < n) {
                const vk bits = part_bits_at(half, at(row, half, i + k), n - k);
                m = larger_magnitude(m, bits);
                vk_store(to + k, places_of(key_of(half, signs, bits), 0));
            }
            i += n;
            t->held += n;
            if (t->held == BATCH) tally_count(t);
        }
    }
    *most = m;
}

INLINE vm prefix_matches(vk key, vk prefix, vk mask) { return vk_equal(vk_and(key, mask), prefix); }

INLINE void later_digits(bool half, bool signs, const tp_scores *s, const char *in, int32_t digit, uint32_t prefix,
                         tally *t) {
    const uint32_t higher = UINT32_MAX << tp_digit_shift(digit - 1);
    const vk wanted = vk_set(prefix & higher), mask = vk_set(higher);
    for (int64_t r = 0; r < s->rows; r++) {
        const char *row = at(in, half, r * s->stride);
        int64_t i = 0;
        for (; i + 64 <= s->cols; i += 64) {
            vk key[4];
            vm hit[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                const char *p = at(row, half, i + 16 * k);
                if (!half || k % 2 == 0) prefetch(p);
                key[k] = key_of(half, signs, bits_at(half, p));
                hit[k] = prefix_matches(key[k], wanted, mask);
            }
            if (!vm_any(vm_or(vm_or(hit[0], hit[1]), vm_or(hit[2], hit[3])))) continue;
            int64_t held = t->held;
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                held += vk_keep(t->places + held, digit == 1 ? places_of(key[k], 1) : places_of(key[k], 2), hit[k]);
            t->held = held;
            if (held >= BATCH) tally_count(t);
        }
        for (; i < s->cols; i += 16) {
            const vk key = key_of(half, signs, part_bits_at(half, at(row, half, i), s->cols - i));
            const vm hit = vm_and(prefix_matches(key, wanted, mask), vm_first(s->cols - i));
            t->held += vk_keep(t->places + t->held, digit == 1 ? places_of(key, 1) : places_of(key, 2), hit);
            if (t->held >= BATCH) tally_count(t);
        }
    }
}

tp_status TP_VARIANT(prune_histogram)(const tp_scores *spec, int64_t begin, int64_t end, const void *in, int32_t digit,
                                      uint32_t prefix, int64_t *counts) {
    tally t;
    memset(t.table, 0, sizeof t.table);
    t.held = t.rounds = 0;
    t.counts = counts;
    vk most = vk_set(0);
    const tp_scores s = in_one_row(spec, &begin, &end, &in);
    if (digit == 0)
        FOR_KIND(&s, first_digits, &s, in, &t, &most);
    else
        FOR_KIND(&s, later_digits, &s, in, digit, prefix, &t);
    tally_count(&t);
    tally_flush(&t);
    return nan_status(&s, most);
}

/* ---- single keys ---- */

INLINE int64_t lanes_sum(vk x) {
    uint32_t lanes[16];
    int64_t sum = 0;
    vk_store(lanes, x);
    for (int i = 0; i < 16; i++) sum += lanes[i];
    return sum;
}

/* Elements with this key or a larger one, and with this key, among n. */
INLINE void count_run(bool half, bool signs, const char *p, int64_t n, vk key, int64_t *at_least, int64_t *equal) {
    while (n > 0) {
        const int64_t stop = smaller(n, INT64_C(1) << 30); /* before a counter overflows */
        vk ge[2] = {vk_set(0), vk_set(0)}, eq[2] = {vk_set(0), vk_set(0)};
        int64_t i = 0;
        for (; i + 32 <= stop; i += 32) {
#pragma GCC unroll 2
            for (int k = 0; k < 2; k++) {
                const char *from = at(p, half, i + 16 * k);
                const vk x = key_of(half, signs, bits_at(half, from));
                prefetch(from);
                ge[k] = vk_up(ge[k], vk_at_least(x, key));
                eq[k] = vk_up(eq[k], vk_equal(x, key));
            }
        }
        for (; i < stop; i += 16) {
            const vm valid = vm_first(stop - i);
            const vk x = key_of(half, signs, part_bits_at(half, at(p, half, i), stop - i));
            ge[0] = vk_up(ge[0], vm_and(vk_at_least(x, key), valid));
            eq[0] = vk_up(eq[0], vm_and(vk_equal(x, key), valid));
        }
        *at_least += lanes_sum(ge[0]) + lanes_sum(ge[1]);
        *equal += lanes_sum(eq[0]) + lanes_sum(eq[1]);
        p = at(p, half, stop);
        n -= stop;
    }
}

INLINE void count_rows(bool half, bool signs, const tp_scores *s, const char *in, uint32_t key, int64_t *at_least,
                       int64_t *equal) {
    for (int64_t r = 0; r < s->rows; r++)
        count_run(half, signs, at(in, half, r * s->stride), s->cols, vk_set(key), at_least, equal);
}

tp_status TP_VARIANT(prune_count)(const tp_scores *spec, int64_t begin, int64_t end, const void *in, uint32_t key,
                                  int64_t *larger, int64_t *equal) {
    int64_t at_least = 0, same = 0;
    const tp_scores s = in_one_row(spec, &begin, &end, &in);
    FOR_KIND(&s, count_rows, &s, in, key, &at_least, &same);
    *larger = at_least - same;
    *equal = same;
    return TP_OK;
}

INLINE void find_row(bool half, bool signs, const char *p, int64_t n, uint32_t key, int64_t *skip, int64_t *col) {
    const vk wanted = vk_set(key);
    for (int64_t i = 0; i < n; i += 16) {
        const vk x = key_of(half, signs, part_bits_at(half, at(p, half, i), n - i));
        uint32_t bits = vm_bits(vm_and(vk_equal(x, wanted), vm_first(n - i)));
        const int64_t found = __builtin_popcount(bits);
        if (found <= *skip) {
            *skip -= found;
            continue;
        }
        for (; *skip > 0; --*skip) bits &= bits - 1;
        *col = i + __builtin_ctz(bits);
        return;
    }
}

tp_status TP_VARIANT(prune_find)(const tp_scores *s, int64_t begin, int64_t end, const void *in, uint32_t key,
                                 int64_t skip, int64_t *row, int64_t *col) {
    *row = *col = -1;
    for (int64_t r = begin; r < end && *col < 0; r++) {
        const char *p = at(in, s->type != TP_F32, r * s->stride);
        FOR_KIND(s, find_row, p, s->cols, key, &skip, col);
        if (*col >= 0) *row = r;
    }
    return TP_OK;
}

/* ---- masks ---- */

INLINE void store_bits(uint8_t *to, uint64_t bits, int64_t n_bits) { memcpy(to, &bits, (size_t)((n_bits + 7) / 8)); }

/* 64 bits of a row's mask, or what is left of the row: n elements. */
INLINE uint64_t mask64(bool half, bool signs, const char *p, int64_t n, vk threshold) {
    vm keep[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        const int64_t left = n - 16 * k;
        const vk bits = n >= 64 ? bits_at(half, at(p, half, 16 * k)) : part_bits_at(half, at(p, half, 16 * k), left);
        keep[k] = vk_at_least(key_of(half, signs, bits), threshold);
        if (n < 64) keep[k] = vm_and(keep[k], vm_first(left > 0 ? left : 0));
    }
    return vm_join(keep[0], keep[1], keep[2], keep[3]);
}

/* All elements of a row with this key or a larger one. */
INLINE void mask_row(bool half, bool signs, const char *p, int64_t n, uint32_t threshold, uint8_t *mask) {
    const vk t = vk_set(threshold);
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const char *from = at(p, half, i);
        for (int k = 0; k < (half ? 128 : 256); k += 64) prefetch(from + k);
        store_bits(mask + i / 8, mask64(half, signs, from, 64, t), 64);
    }
    if (i < n) store_bits(mask + i / 8, mask64(half, signs, at(p, half, i), n - i, t), n - i);
}

INLINE void mask_rows(bool half, bool signs, const tp_scores *s, int64_t begin, int64_t end, const void *in,
                      uint32_t threshold, uint8_t *mask) {
    for (int64_t r = begin; r < end; r++)
        mask_row(half, signs, at(in, half, r * s->stride), s->cols, threshold, mask + r * tp_mask_stride(s->cols));
}

tp_status TP_VARIANT(prune_mask)(const tp_scores *s, int64_t begin, int64_t end, const void *in, uint32_t key,
                                 int64_t tie_row, int64_t tie_col, uint8_t *mask) {
    /* Rows above the one where ties end, and below it. */
    const int64_t above = tie_row < begin ? begin : smaller(tie_row, end);
    const int64_t below = above < end && above == tie_row ? above + 1 : above;
    const int64_t stride = tp_mask_stride(s->cols);
    FOR_KIND(s, mask_rows, s, begin, above, in, key, mask);
    if (above < below) tp_prune_mask__ref(s, above, below, in, key, tie_row, tie_col, mask);
    if (key == UINT32_MAX)
        memset(mask + below * stride, 0, (size_t)((end - below) * stride));
    else
        FOR_KIND(s, mask_rows, s, below, end, in, key + 1, mask);
    return TP_OK;
}

/* ---- lines ---- */

INLINE int64_t count_at_least(const uint32_t *keys, int64_t n, uint32_t key) {
    const vk t = vk_set(key);
    vk up[4] = {vk_set(0), vk_set(0), vk_set(0), vk_set(0)};
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) up[k] = vk_up(up[k], vk_at_least(vk_load(keys + i + 16 * k), t));
    }
    for (; i < n; i += 16) up[0] = vk_up(up[0], vk_at_least(vk_load(keys + i), t));
    return lanes_sum(vk_add(vk_add(up[0], up[1]), vk_add(up[2], up[3])));
}

/* What a line keeps: all elements with a larger key, and the first `ties` of those with this one. */
typedef struct cut {
    uint32_t key;
    int64_t ties;
} cut;

/* Bits that are set in any key of a set, and those that are clear in any: where both are, keys differ. */
typedef struct spread { vk set, clear; } spread;

INLINE void widen(spread *d, vk keys) {
    d->set = vk_or(d->set, keys);
    d->clear = vk_or(d->clear, vk_xor(keys, vk_set(UINT32_MAX)));
}
INLINE void widen_part(spread *d, vk keys, vm part) {
    d->set = vk_or(d->set, vk_clear(keys, vm_not(part)));
    d->clear = vk_or(d->clear, vk_clear(vk_xor(keys, vk_set(UINT32_MAX)), vm_not(part)));
}
INLINE uint32_t lanes_or(vk x) {
    uint32_t lanes[16], all = 0;
    vk_store(lanes, x);
    for (int i = 0; i < 16; i++) all |= lanes[i];
    return all;
}

/*
 * The cut for the k largest of n keys, 1 <= k < n; keys behind the last, up to a multiple of 16, are 0. Bit by bit from
 * the first in which keys differ, a bit is set in the key that is sought if k keys reach as far; once half of the keys are
 * out of the question, the others go to `left`, which has room for 16 more.
 */
static cut select_key(const uint32_t *keys, int64_t n, int64_t k, uint32_t set, uint32_t clear, uint32_t *left) {
    int64_t reach = n, above = 0; /* keys of at least the one that is sought so far, and those above what is in question */
    int64_t gone = 0;             /* those of `above` that are no longer in the list */
    uint32_t low = set & ~clear;
    while (set & clear) {
        /* All bits that are in question now have this one as their highest. */
        int bit = 31 - __builtin_clz(set & clear);
        low = set & ~clear & ~(UINT32_MAX >> (31 - bit));
        for (;; bit--) {
            const uint32_t middle = low | UINT32_C(1) << bit;
            const int64_t count = count_at_least(keys, n, middle) + gone;
            if (count < k) {
                above = count;
            } else {
                low = middle;
                reach = count;
            }
            if (reach == k) return (cut){low, INT64_MAX};
            if (bit == 0) return (cut){low, k - above};
            if ((reach - above) * 2 <= n) break;
        }
        const vk start = vk_set(low), range = vk_set(UINT32_MAX << bit);
        spread d = {vk_set(0), vk_set(0)};
        int64_t kept = 0;
        for (int64_t i = 0; i < n; i += 16) {
            const vk x = vk_load(keys + i);
            const vm in = vk_equal(vk_and(x, range), start);
            widen_part(&d, x, in);
            kept += vk_keep(left + kept, x, in);
        }
        vk_store(left + kept, vk_set(0));
        keys = left;
        n = kept;
        gone = above;
        set = lanes_or(d.set);
        clear = lanes_or(d.clear);
        low = set & ~clear;
    }
    return (cut){low, k - above};
}

/* Keys of n elements, followed by zeros up to a multiple of 16. */
INLINE void read_keys(bool half, bool signs, const char *p, int64_t n, uint32_t *keys, vk *most, spread *d) {
    vk m = *most;
    spread all = *d;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const char *from = at(p, half, i);
        const vk bits = bits_at(half, from), key = key_of(half, signs, bits);
        prefetch(from);
        m = larger_magnitude(m, bits);
        widen(&all, key);
        vk_store(keys + i, key);
    }
    if (i < n) {
        const vk bits = part_bits_at(half, at(p, half, i), n - i), key = part_key_of(half, signs, bits, n - i);
        m = larger_magnitude(m, bits);
        widen_part(&all, key, vm_first(n - i));
        vk_store(keys + i, key);
    }
    *most = m;
    *d = all;
}

/* The lowest n of the bits that are set. */
INLINE uint64_t first_bits(uint64_t bits, int64_t n) {
    uint64_t kept = 0;
    for (; n > 0; n--, bits &= bits - 1) kept |= bits & -bits;
    return kept;
}

/* Keys are followed by zeros, which may be kept as ties of a key of 0: bits behind the last are cleared. */
static void mask_keys(const uint32_t *keys, int64_t n, cut c, uint8_t *mask) {
    const vk t = vk_set(c.key);
    for (int64_t i = 0; i < n; i += 64) {
        vk x[4];
        vm reach[4], equal[4];
        for (int k = 0; k < 4; k++) {
            x[k] = i + 16 * k < n ? vk_load(keys + i + 16 * k) : vk_set(0);
            reach[k] = vk_at_least(x[k], t);
        }
        uint64_t kept = vm_join(reach[0], reach[1], reach[2], reach[3]);
        if (n - i < 64) kept &= (UINT64_C(1) << (n - i)) - 1;
        if (c.ties != INT64_MAX) {
            for (int k = 0; k < 4; k++) equal[k] = vk_equal(x[k], t);
            const uint64_t tied = vm_join(equal[0], equal[1], equal[2], equal[3]) & kept;
            const int64_t found = __builtin_popcountll(tied);
            if (found > c.ties) kept ^= tied ^ first_bits(tied, c.ties);
            c.ties -= smaller(found, c.ties);
        }
        store_bits(mask + i / 8, kept, smaller(64, n - i));
    }
}

INLINE void lines_of_rows(bool half, bool signs, const tp_scores *s, int64_t begin, int64_t end, const void *in,
                          int64_t k, uint8_t *mask, uint32_t *keys, vk *most) {
    uint32_t *left = keys + tp_prune_line_stride(s->cols);
    for (int64_t r = begin; r < end; r++) {
        spread d = {vk_set(0), vk_set(0)};
        read_keys(half, signs, at(in, half, r * s->stride), s->cols, keys, most, &d);
        const cut c = select_key(keys, s->cols, k, lanes_or(d.set), lanes_or(d.clear), left);
        mask_keys(keys, s->cols, c, mask + r * tp_mask_stride(s->cols));
    }
}

/* Vectors of a panel's row. */
enum { ACROSS = TP_PRUNE_PANEL / 16 };

/* The columns of a panel from column c on, one after the other in `keys`. */
INLINE void transpose_panel(bool half, bool signs, const tp_scores *s, int64_t c, int64_t width, const void *in,
                            uint32_t *keys, vk *most, spread d[ACROSS]) {
    const int64_t stride = tp_prune_line_stride(s->rows);
    for (int v = 0; v < ACROSS; v++) d[v] = (spread){vk_set(0), vk_set(0)};
    for (int64_t r = 0; r < s->rows; r += 16) {
        for (int64_t v = 0; 16 * v < width; v++) {
            vk x[16], m = *most;
            spread all = d[v];
            for (int i = 0; i < 16; i++) {
                x[i] = vk_set(0);
                if (r + i >= s->rows) continue;
                const char *p = at(in, half, (r + i) * s->stride + c + 16 * v);
                /* Each row is in a page of its own, which no hardware foresees. */
                prefetch_far(p, AHEAD_ROWS * s->stride * (half ? 2 : 4));
                const vk bits = part_bits_at(half, p, width - 16 * v);
                x[i] = key_of(half, signs, bits);
                m = larger_magnitude(m, bits);
                widen(&all, x[i]);
            }
            *most = m;
            d[v] = all;
            vk_transpose(x, keys + 16 * v * stride + r, stride);
        }
    }
}

/* The columns of the mask from column c on. */
INLINE void mask_panel(bool half, bool signs, const tp_scores *s, int64_t c, int64_t width, const void *in,
                       const uint32_t *thresholds, const uint32_t *ties, uint8_t *mask) {
    const int64_t stride = tp_mask_stride(s->cols);
    const vk zero = vk_set(0);
    vk t[ACROSS], left[ACROSS];
    for (int v = 0; v < ACROSS; v++) {
        t[v] = vk_load(thresholds + 16 * v);
        left[v] = vk_load(ties + 16 * v);
    }
    for (int64_t r = 0; r < s->rows; r++) {
        uint64_t kept = 0;
        for (int v = 0; v < ACROSS; v++) {
            const int64_t valid = width - 16 * v;
            const char *p = at(in, half, r * s->stride + c + 16 * v);
            prefetch_far(p, AHEAD_ROWS * s->stride * (half ? 2 : 4));
            const vk x = key_of(half, signs, part_bits_at(half, p, valid));
            const vm equal = vk_equal(x, t[v]);
            const vm keep = vm_and(vk_at_least(x, t[v]), vm_not(vm_and(equal, vk_equal(left[v], zero))));
            left[v] = vk_down(left[v], vm_and(equal, keep));
            kept |= (uint64_t)vm_bits(keep) << 16 * v;
        }
        if (width < 64) kept &= (UINT64_C(1) << width) - 1;
        store_bits(mask + r * stride + c / 8, kept, width);
    }
}

INLINE void lines_of_columns(bool half, bool signs, const tp_scores *s, int64_t begin, int64_t end, const void *in,
                             int64_t k, uint8_t *mask, uint32_t *keys, vk *most) {
    const int64_t stride = tp_prune_line_stride(s->rows);
    uint32_t *left = keys + TP_PRUNE_PANEL * stride;
    for (int64_t c = begin; c < end; c += TP_PRUNE_PANEL) {
        const int64_t width = smaller(TP_PRUNE_PANEL, end - c);
        uint32_t set[TP_PRUNE_PANEL], clear[TP_PRUNE_PANEL], thresholds[TP_PRUNE_PANEL] = {0}, ties[TP_PRUNE_PANEL] = {0};
        spread d[ACROSS];
        transpose_panel(half, signs, s, c, width, in, keys, most, d);
        for (int v = 0; v < ACROSS; v++) {
            vk_store(set + 16 * v, d[v].set);
            vk_store(clear + 16 * v, d[v].clear);
        }
        for (int64_t i = 0; i < width; i++) {
            const cut one = select_key(keys + i * stride, s->rows, k, set[i], clear[i], left);
            thresholds[i] = one.key;
            ties[i] = (uint32_t)smaller(one.ties, UINT32_MAX);
        }
        mask_panel(half, signs, s, c, width, in, thresholds, ties, mask);
    }
}

INLINE void magnitudes(bool half, bool signs, const char *p, int64_t n, vk *most) {
    (void)signs;
    vk m = *most;
    for (int64_t i = 0; i < n; i += 16) {
        prefetch(at(p, half, i));
        m = larger_magnitude(m, part_bits_at(half, at(p, half, i), n - i));
    }
    *most = m;
}

/* Lines of which all is kept, or nothing: but NaN is an error all the same. */
static tp_status uniform_lines(const tp_scores *s, int32_t axis, int64_t begin, int64_t end, const void *in, bool all,
                               uint8_t *mask) {
    const int64_t stride = tp_mask_stride(s->cols);
    const int64_t c0 = axis == 1 ? 0 : begin, c1 = axis == 1 ? s->cols : end;
    vk most = vk_set(0);
    for (int64_t r = axis == 1 ? begin : 0; r < (axis == 1 ? end : s->rows); r++) {
        const char *p = at(in, s->type != TP_F32, r * s->stride + c0);
        FOR_KIND(s, magnitudes, p, c1 - c0, &most);
        memset(mask + r * stride + c0 / 8, all ? 0xff : 0, (size_t)(tp_mask_stride(c1) - c0 / 8));
        if (all && c1 % 8) mask[r * stride + c1 / 8] = (uint8_t)((1 << c1 % 8) - 1);
    }
    return nan_status(s, most);
}

tp_status TP_VARIANT(prune_lines)(const tp_scores *s, int32_t axis, int64_t begin, int64_t end, const void *in,
                                  int64_t k, uint8_t *mask, void *scratch) {
    const int64_t length = axis == 1 ? s->cols : s->rows;
    vk most = vk_set(0);
    if (k == 0 || k >= length) return uniform_lines(s, axis, begin, end, in, k > 0, mask);
    /* Counts of a line have 32 bits here. */
    if (length >= UINT32_MAX) return tp_prune_lines__ref(s, axis, begin, end, in, k, mask, scratch);
    if (axis == 1)
        FOR_KIND(s, lines_of_rows, s, begin, end, in, k, mask, scratch, &most);
    else
        FOR_KIND(s, lines_of_columns, s, begin, end, in, k, mask, scratch, &most);
    return nan_status(s, most);
}

/* ---- n of m ---- */

/* One of the two goes first. */
INLINE void meet(const vk *x, vk *before, int i, int j) {
    const vm first = vk_at_least(x[i], x[j]);
    before[i] = vk_down(before[i], first);
    before[j] = vk_up(before[j], first);
}

/*
 * Of each lane of x[0] .. x[m - 1] the n largest. `before` counts those that go before each: as long as two have not met,
 * the second of them goes first.
 */
static void rank_lanes(const vk *x, int m, int n, vm *keep) {
    vk before[16];
    for (int i = 0; i < m; i++) before[i] = vk_set((uint32_t)(m - 1 - i));
    for (int i = 0; i < m; i++)
        for (int j = i + 1; j < m; j++) meet(x, before, i, j);
    for (int i = 0; i < m; i++) keep[i] = vm_not(vk_at_least(before[i], vk_set((uint32_t)n)));
}

/* The same for a constant m of 8 or less: all is unrolled and stays in registers. */
INLINE void rank_few_lanes(const vk *x, int m, int n, vm *keep) {
    vk before[8];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) before[i] = vk_set((uint32_t)(m - 1 - i));
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) {
#pragma GCC unroll 8
        for (int j = i + 1; j < m; j++) meet(x, before, i, j);
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) keep[i] = vm_not(vk_at_least(before[i], vk_set((uint32_t)n)));
}

/* Groups within columns: rows r .. r + m, all columns. fixed: m as a constant, or 0. */
INLINE void nm_columns(bool half, bool signs, const tp_scores *s, int64_t begin, int64_t end, const void *in, int n,
                       int size, int fixed, uint8_t *mask, vk *most) {
    const int64_t stride = tp_mask_stride(s->cols);
    vk b = *most;
    for (int64_t g = begin; g < end; g++) {
        const int64_t r = g * size;
        const int m = fixed ? fixed : (int)smaller(size, s->rows - r);
        for (int64_t c = 0; c < s->cols; c += 16) {
            const int64_t width = smaller(16, s->cols - c);
            vk x[16];
            vm keep[16];
#pragma GCC unroll 8
            for (int i = 0; i < m; i++) {
                const char *p = at(in, half, (r + i) * s->stride + c);
                const vk bits = part_bits_at(half, p, width);
                prefetch(p);
                b = larger_magnitude(b, bits);
                x[i] = key_of(half, signs, bits);
            }
            if (fixed)
                rank_few_lanes(x, fixed, n, keep);
            else
                rank_lanes(x, m, n, keep);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++) {
                uint8_t *to = mask + (r + i) * stride + c / 8;
                if (width == 16)
                    store_bits(to, vm_bits(keep[i]), 16);
                else
                    store_bits(to, vm_bits(vm_and(keep[i], vm_first(width))), width);
            }
        }
    }
    *most = b;
}

/* Groups of two or four along a row lie within a vector: each lane meets the others of its group. */
INLINE vm nm_within(vk x, int n, int m) {
    /* A lane goes before one further on that is equal, so it must be larger than one further back. */
    if (m == 2) return n == 2 ? vk_equal(x, x) : vk_at_least(x, vk_add(vk_swap2(x), vk_every4(0, 1, 0, 1)));
    if (n == 4) return vk_equal(x, x);
    const vm a = vk_at_least(x, vk_add(vk_turn4_1(x), vk_every4(0, 0, 0, 1)));
    const vm b = vk_at_least(x, vk_add(vk_turn4_2(x), vk_every4(0, 0, 1, 1)));
    const vm c = vk_at_least(x, vk_add(vk_turn4_3(x), vk_every4(0, 1, 1, 1)));
    if (n == 1) return vm_and(vm_and(a, b), c);
    if (n == 3) return vm_or(vm_or(a, b), c);
    return vm_or(vm_and(a, b), vm_and(c, vm_or(a, b)));
}

INLINE void nm_rows_within(bool half, bool signs, const tp_scores *s, int64_t begin, int64_t end, const void *in, int n,
                           int m, uint8_t *mask, vk *most) {
    const int64_t stride = tp_mask_stride(s->cols);
    vk b = *most;
    for (int64_t r = begin; r < end; r++) {
        const char *row = at(in, half, r * s->stride);
        int64_t c = 0;
        for (; c + 64 <= s->cols; c += 64) {
            vm keep[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                const char *p = at(row, half, c + 16 * k);
                const vk bits = bits_at(half, p);
                prefetch(p);
                b = larger_magnitude(b, bits);
                keep[k] = nm_within(key_of(half, signs, bits), n, m);
            }
            store_bits(mask + r * stride + c / 8, vm_join(keep[0], keep[1], keep[2], keep[3]), 64);
        }
        for (; c < s->cols; c += 16) {
            const int64_t width = smaller(16, s->cols - c);
            const vk bits = part_bits_at(half, at(row, half, c), width);
            b = larger_magnitude(b, bits);
            const vm keep = nm_within(part_key_of(half, signs, bits, width), n, m);
            store_bits(mask + r * stride + c / 8, vm_bits(vm_and(keep, vm_first(width))), width);
        }
    }
    *most = b;
}

/* Bit i of each lane is set where keep[i] is. */
INLINE vk gather_bits(const vm *keep, int m) {
    vk bits = vk_set(0);
    for (int i = 0; i < m; i++) bits = vk_or(bits, vk_clear(vk_set(UINT32_C(1) << i), vm_not(keep[i])));
    return bits;
}

/* Groups of eight or sixteen: a lane has one group of a vector or two, a vector being one row of a square of 16 x 16. */
static void nm_square(const uint32_t keys[256], int n, int m, uint8_t bytes[32]) {
    uint32_t lanes[256], words[16];
    vk x[16], bits;
    vm keep[16];
    for (int i = 0; i < 16; i++) x[i] = vk_load(keys + 16 * i);
    vk_transpose(x, lanes, 16);
    for (int i = 0; i < 16; i++) x[i] = vk_load(lanes + 16 * i);
    if (m == 8) {
        rank_few_lanes(x, 8, n, keep);
        rank_few_lanes(x + 8, 8, n, keep + 8);
    } else {
        rank_lanes(x, 16, n, keep);
    }
    bits = gather_bits(keep, 16);
    vk_store(words, bits);
    for (int i = 0; i < 16; i++) {
        const uint16_t word = (uint16_t)words[i];
        memcpy(bytes + 2 * i, &word, sizeof word);
    }
}

/* Groups of any size: sixteen of them go side by side. */
static void nm_any(const uint32_t keys[256], int n, int m, uint8_t bytes[40]) {
    uint32_t lanes[16][16], groups[16];
    vk x[16];
    vm keep[16];
    for (int g = 0; g < 16; g++)
        for (int i = 0; i < 16; i++) lanes[i][g] = keys[g * m + (i < m ? i : 0)];
    for (int i = 0; i < 16; i++) x[i] = vk_load(lanes[i]);
    rank_lanes(x, m, n, keep);
    vk_store(groups, gather_bits(keep, m));
    uint64_t word = 0;
    int filled = 0, stored = 0;
    for (int g = 0; g < 16; g++) {
        word |= (uint64_t)groups[g] << filled;
        filled += m;
        if (filled < 32 && g < 15) continue;
        memcpy(bytes + stored, &word, sizeof word);
        stored += 4;
        word >>= 32;
        filled -= 32;
    }
}

INLINE void nm_rows(bool half, bool signs, const tp_scores *s, int64_t begin, int64_t end, const void *in, int n, int m,
                    uint8_t *mask, vk *most) {
    const int64_t stride = tp_mask_stride(s->cols), step = m == 8 ? 256 : 16 * m;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < s->cols; c += step) {
            const int64_t width = smaller(step, s->cols - c);
            uint32_t keys[256];
            uint8_t bytes[40];
            spread ignored = {vk_set(0), vk_set(0)};
            if (width < step) memset(keys, 0, sizeof keys);
            read_keys(half, signs, at(in, half, r * s->stride + c), width, keys, most, &ignored);
            if (m == 8)
                nm_square(keys, n, 8, bytes);
            else if (m == 16)
                nm_square(keys, n, 16, bytes);
            else
                nm_any(keys, n, m, bytes);
            if (width % 8) bytes[width / 8] = (uint8_t)(bytes[width / 8] & ((1 << width % 8) - 1));
            memcpy(mask + r * stride + c / 8, bytes, (size_t)tp_mask_stride(width));
        }
    }
}

tp_status TP_VARIANT(prune_nm)(const tp_scores *s, int32_t axis, int64_t begin, int64_t end, const void *in, int32_t n,
                               int32_t m, uint8_t *mask) {
    vk most = vk_set(0);
    if (axis == 1 && m == 4 && n == 2) {
        FOR_KIND(s, nm_rows_within, s, begin, end, in, 2, 4, mask, &most);
    } else if (axis == 1 && (m == 2 || m == 4)) {
        FOR_KIND(s, nm_rows_within, s, begin, end, in, n, m, mask, &most);
    } else if (axis == 1) {
        FOR_KIND(s, nm_rows, s, begin, end, in, n, m, mask, &most);
    } else {
        /* All groups but the last are whole. */
        const int64_t whole = m == 4 || m == 8 ? smaller(end, s->rows / m) : begin, rest = whole > begin ? whole : begin;
        if (m == 4) FOR_KIND(s, nm_columns, s, begin, whole, in, n, 4, 4, mask, &most);
        if (m == 8) FOR_KIND(s, nm_columns, s, begin, whole, in, n, 8, 8, mask, &most);
        FOR_KIND(s, nm_columns, s, rest, end, in, n, m, 0, mask, &most);
    }
    return nan_status(s, most);
}

/* ---- blocks ---- */

/* Four elements from any address. */
INLINE __m128 floats4(tp_dtype type, const char *p) {
    if (type == TP_F32) return _mm_loadu_ps((const float *)p);
    const __m128i x = _mm_loadl_epi64((const __m128i *)p);
    return type == TP_F16 ? tp_f32x4_of_f16(x) : tp_f32x4_of_bf16(x);
}

INLINE __m256d add_score(__m256d sum, __m128 x, bool squares) {
    const __m256d d = _mm256_cvtps_pd(x);
    return _mm256_add_pd(sum, squares ? _mm256_mul_pd(d, d) : d);
}

/* Adds a row of each of 16 blocks, one block to a lane, so that the elements of each are added one after the other. */
INLINE void add_rows(tp_dtype type, bool squares, const char *const p[16], int64_t width, double sums[16]) {
    const int64_t size = tp_size_of(type), stop = width * size;
    __m256d sum[4];
    for (int k = 0; k < 4; k++) sum[k] = _mm256_loadu_pd(sums + 4 * k);
    int64_t i = 0;
    for (; i + 4 * size <= stop; i += 4 * size) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            __m128 a = floats4(type, p[4 * k] + i), b = floats4(type, p[4 * k + 1] + i);
            __m128 c = floats4(type, p[4 * k + 2] + i), d = floats4(type, p[4 * k + 3] + i);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            sum[k] = add_score(sum[k], a, squares);
            sum[k] = add_score(sum[k], b, squares);
            sum[k] = add_score(sum[k], c, squares);
            sum[k] = add_score(sum[k], d, squares);
        }
    }
    for (; i < stop; i += size) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            const __m128 x = _mm_setr_ps(tp_load(type, p[4 * k] + i, 0), tp_load(type, p[4 * k + 1] + i, 0),
                                         tp_load(type, p[4 * k + 2] + i, 0), tp_load(type, p[4 * k + 3] + i, 0));
            sum[k] = add_score(sum[k], x, squares);
        }
    }
    for (int k = 0; k < 4; k++) _mm256_storeu_pd(sums + 4 * k, sum[k]);
}

/* Blocks of one size: the first at p, the others each `step` bytes further on. Scores go `to_step` apart. */
typedef struct blocks {
    int64_t height, width, count, step, to_step;
} blocks;

/* Returns whether a score is NaN. Rows go by in their order in memory, for as many blocks as there are sums for. */
INLINE bool score_blocks(tp_dtype type, bool squares, const tp_scores *s, const blocks *b, const char *p, float *to) {
    enum { SUMS = 256 };
    bool nan = false;
    for (int64_t first = 0; first < b->count; first += SUMS) {
        const int64_t n = smaller(SUMS, b->count - first);
        const char *start = p + first * b->step;
        double sums[SUMS] = {0};
        for (int64_t r = 0; r < b->height; r++, start += s->stride * tp_size_of(type)) {
            for (int64_t k = 0; k < n; k += 16) {
                const char *rows[16];
                for (int64_t i = 0; i < 16; i++) rows[i] = start + smaller(k + i, n - 1) * b->step;
                add_rows(type, squares, rows, b->width, sums + k);
            }
        }
        for (int64_t k = 0; k < n; k++) {
            const double sum = squares ? sqrt(sums[k]) : sums[k];
            nan |= sum != sum;
            to[(first + k) * b->to_step] = (float)sum;
        }
    }
    return nan;
}

static bool score(const tp_scores *s, const blocks *b, const void *p, float *to) {
    const bool squares = s->order == TP_ORDER_MAGNITUDE;
#define SCORE(type) (squares ? score_blocks(type, true, s, b, p, to) : score_blocks(type, false, s, b, p, to))
    return s->type == TP_F32 ? SCORE(TP_F32) : s->type == TP_F16 ? SCORE(TP_F16) : SCORE(TP_BF16);
}

tp_status TP_VARIANT(prune_blocks)(const tp_scores *s, int64_t block_rows, int64_t block_cols, int64_t begin,
                                   int64_t end, const void *in, float *scores) {
    const int64_t size = tp_size_of(s->type), across = tp_groups(s->cols, block_cols), whole = s->cols / block_cols;
    const int64_t tall = smaller(end, s->rows / block_rows); /* rows of blocks that have all their rows */
    bool nan = false;
    /* Few blocks side by side: those below each other go together. So do the narrow ones at the right edge. */
    const int64_t apart = whole < 16 ? 0 : whole;
    for (int64_t row = begin; row < end; row++) {
        const blocks b = {smaller(block_rows, s->rows - row * block_rows), block_cols, apart, block_cols * size, 1};
        nan |= score(s, &b, (const char *)in + row * block_rows * s->stride * size, scores + row * across);
    }
    for (int64_t a = apart; a < across; a++) {
        const int64_t col = a * block_cols, width = smaller(block_cols, s->cols - col);
        const char *p = (const char *)in + col * size;
        if (begin < tall) {
            const blocks b = {block_rows, width, tall - begin, block_rows * s->stride * size, across};
            nan |= score(s, &b, p + begin * block_rows * s->stride * size, scores + begin * across + a);
        }
        if (tall < end) {
            const int64_t row = (begin < tall ? tall : begin) * block_rows;
            const blocks b = {s->rows - row, width, 1, 0, 1};
            nan |= score(s, &b, p + row * s->stride * size, scores + row / block_rows * across + a);
        }
    }
    return nan ? TP_ERR_NONFINITE : TP_OK;
}

/* Bits [from, to) set. */
INLINE void set_run(uint8_t *mask, int64_t from, int64_t to) {
    for (; from < to && from % 8; from++) tp_set_bit(mask, from);
    if (to - from >= 8) memset(mask + from / 8, 0xff, (size_t)((to - from) / 8));
    for (from += (to - from) / 8 * 8; from < to; from++) tp_set_bit(mask, from);
}

tp_status TP_VARIANT(prune_expand)(const tp_scores *s, int64_t block_rows, int64_t block_cols, int64_t begin,
                                   int64_t end, const uint8_t *block_mask, uint8_t *mask) {
    const int64_t across = tp_groups(s->cols, block_cols), stride = tp_mask_stride(s->cols);
    for (int64_t b = begin; b < end; b++) {
        const uint8_t *blocks = block_mask + b * tp_mask_stride(across);
        const int64_t row = b * block_rows, stop = smaller(row + block_rows, s->rows);
        uint8_t *first = mask + row * stride;
        memset(first, 0, (size_t)stride);
        for (int64_t a = 0; a < across; a++)
            if (tp_bit(blocks, a)) set_run(first, a * block_cols, smaller((a + 1) * block_cols, s->cols));
        for (int64_t r = row + 1; r < stop; r++) memcpy(mask + r * stride, first, (size_t)stride);
    }
    return TP_OK;
}

/* ---- what follows from a mask ---- */

INLINE void apply_row(bool half, const char *p, const uint8_t *mask, int64_t n, char *to) {
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) {
        uint64_t bits;
        memcpy(&bits, mask + i / 8, sizeof bits);
        for (int k = 0; k < (half ? 2 : 4); k++) {
            const char *from = at(p, half, i) + 64 * k;
            prefetch(from);
            if (half)
                copy_halves(to + 2 * i + 64 * k, from, bits >> 32 * k);
            else
                copy_words(to + 4 * i + 64 * k, from, bits >> 16 * k);
        }
    }
    const int64_t size = half ? 2 : 4;
    for (; i < n; i++) {
        if (tp_bit(mask, i))
            memmove(to + i * size, p + i * size, (size_t)size);
        else
            memset(to + i * size, 0, (size_t)size);
    }
}

tp_status TP_VARIANT(prune_apply)(const tp_scores *s, int64_t begin, int64_t end, const void *in, const uint8_t *mask,
                                  void *out) {
    const bool half = s->type != TP_F32;
    for (int64_t r = begin; r < end; r++) {
        const char *p = at(in, half, r * s->stride);
        const uint8_t *bits = mask + r * tp_mask_stride(s->cols);
        char *to = (char *)out + r * s->cols * tp_size_of(s->type);
        if (half)
            apply_row(true, p, bits, s->cols, to);
        else
            apply_row(false, p, bits, s->cols, to);
    }
    return TP_OK;
}

/* ---- error ---- */

typedef struct totals { __m256d error[4], square[4], max[4]; } totals;

INLINE void add_error(tp_dtype type, totals *t, const char *p, const char *q) {
    const __m256d sign = _mm256_set1_pd(-0.0);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        const int64_t offset = 4 * k * tp_size_of(type);
        const __m256d x = _mm256_cvtps_pd(floats4(type, p + offset)), y = _mm256_cvtps_pd(floats4(type, q + offset));
        const __m256d d = _mm256_sub_pd(x, y);
        t->error[k] = _mm256_add_pd(t->error[k], _mm256_mul_pd(d, d));
        t->square[k] = _mm256_add_pd(t->square[k], _mm256_mul_pd(x, x));
        t->max[k] = _mm256_max_pd(_mm256_andnot_pd(sign, d), t->max[k]); /* as it was where d is NaN */
    }
}

INLINE tp_error error_of_row(tp_dtype type, const char *p, const char *q, int64_t n) {
    const __m256d zero = _mm256_setzero_pd();
    const int64_t size = tp_size_of(type);
    totals t = {{zero, zero, zero, zero}, {zero, zero, zero, zero}, {zero, zero, zero, zero}};
    for (; n >= 16; n -= 16, p += 16 * size, q += 16 * size) {
        prefetch(p);
        prefetch(q);
        add_error(type, &t, p, q);
    }
    if (n) {
        char x[64] = {0}, y[64] = {0};
        memcpy(x, p, (size_t)(n * size));
        memcpy(y, q, (size_t)(n * size));
        add_error(type, &t, x, y);
    }
    double error[16], square[16], max[16];
    for (int k = 0; k < 4; k++) {
        _mm256_storeu_pd(error + 4 * k, t.error[k]);
        _mm256_storeu_pd(square + 4 * k, t.square[k]);
        _mm256_storeu_pd(max + 4 * k, t.max[k]);
    }
    for (int apart = 8; apart; apart /= 2) {
        for (int lane = 0; lane < apart; lane++) {
            error[lane] += error[lane + apart];
            square[lane] += square[lane + apart];
            max[lane] = max[lane] > max[lane + apart] ? max[lane] : max[lane + apart];
        }
    }
    return tp_error_of(error[0], square[0], max[0]);
}

tp_status TP_VARIANT(prune_error)(const tp_scores *s, int64_t begin, int64_t end, const void *in, const void *out,
                                  tp_error *errors) {
    const int64_t size = tp_size_of(s->type);
    for (int64_t r = begin; r < end; r++) {
        const char *p = (const char *)in + r * s->stride * size, *q = (const char *)out + r * s->cols * size;
        errors[r - begin] = s->type == TP_F32   ? error_of_row(TP_F32, p, q, s->cols)
                            : s->type == TP_F16 ? error_of_row(TP_F16, p, q, s->cols)
                                                : error_of_row(TP_BF16, p, q, s->cols);
    }
    return TP_OK;
}
