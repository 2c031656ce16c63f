/* Numbers at any address, the steps of both coders, and masks. */
#ifndef TP_CODING_SCALAR_H
#define TP_CODING_SCALAR_H

#include <stdbool.h>
#include <string.h>

#include "coding/checks.h"
#include "coding/kernels.h"

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16; }
static inline void put16(uint8_t *p, uint32_t x) {
    p[0] = (uint8_t)x;
    p[1] = (uint8_t)(x >> 8);
}
static inline void put32(uint8_t *p, uint32_t x) {
    put16(p, x);
    put16(p + 2, x >> 16);
}

static inline uint32_t symbol_at(int32_t width, const void *in, int64_t i) {
    return width == 1 ? ((const uint8_t *)in)[i] : get16((const uint8_t *)in + 2 * i);
}
static inline void put_symbol(int32_t width, void *out, int64_t i, uint32_t s) {
    if (width == 1) ((uint8_t *)out)[i] = (uint8_t)s;
    else put16((uint8_t *)out + 2 * i, s);
}

enum { LANES_ALL = TP_CODING_LANES, STATE_BYTES = 4 * TP_CODING_LANES };
/* Where another part of scratch begins. */
static inline int64_t rounded_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

#define LOWEST_STATE (UINT32_C(1) << 16)

/* frequency | start << 16 of each symbol. */
static inline void rans_ranges(int32_t width, const uint16_t *frequencies, uint32_t *ranges) {
    uint32_t start = 0;
    for (int32_t s = 0; s < tp_alphabet(width); s++) {
        ranges[s] = frequencies[s] | start << 16;
        start += frequencies[s];
    }
}

/* The symbol of each slot, and its range. */
typedef struct rans_slots {
    uint32_t ranges[TP_CODING_ALPHABET];
    uint16_t symbols[(1 << 15) + 2]; /* two more, since four bytes are gathered */
} rans_slots;
_Static_assert(sizeof(rans_slots) <= TP_CODING_SCRATCH / 2, "scratch");

static inline void rans_find_slots(int32_t width, const uint16_t *frequencies, rans_slots *slots) {
    rans_ranges(width, frequencies, slots->ranges);
    uint16_t *next = slots->symbols;
    for (int32_t s = 0; s < tp_alphabet(width); s++)
        for (uint32_t f = frequencies[s]; f > 0; f--) *next++ = (uint16_t)s;
}

/* Encodes symbols n - 1 down to `to`, a multiple of 32. False if they do not fit between out and *end, which moves down. */
static inline bool rans_encode_some(int32_t width, int64_t n, int64_t to, const void *in, int32_t k, const uint32_t *ranges,
                                    uint32_t *states, const uint8_t *out, uint8_t **end, bool *missing) {
    uint8_t *p = *end;
    for (int64_t i = n - 1; i >= to; i--) {
        const uint32_t s = symbol_at(width, in, i);
        const uint32_t range = s < TP_CODING_ALPHABET ? ranges[s] : 0, f = range & 0xffff;
        uint32_t x = states[i % LANES_ALL];
        if (f == 0) {
            *missing = true;
            return false;
        }
        if (x >> (32 - k) >= f) {
            if (p - out < 2) return false;
            p -= 2;
            put16(p, x);
            x >>= 16;
        }
        states[i % LANES_ALL] = (x / f << k) + x % f + (range >> 16);
    }
    *end = p;
    return true;
}

/* The states go before the words, and all to the front. */
static inline int64_t rans_finish(const uint32_t *states, uint8_t *out, int64_t capacity, uint8_t *p) {
    if (p - out < STATE_BYTES) return -1;
    for (int l = LANES_ALL - 1; l >= 0; l--) put32(p -= 4, states[l]);
    const int64_t bytes = out + capacity - p;
    memmove(out, p, (size_t)bytes);
    return bytes;
}

/* Decodes symbols `from`, a multiple of 32, up to the last, and sees that all has come to its end. */
static inline tp_status rans_decode_rest(int32_t width, const tp_sequence *q, int64_t from, int32_t k, const rans_slots *slots, uint32_t *states,
                                         const uint8_t *p) {
    const uint8_t *const end = q->in + q->bytes;
    for (int64_t i = from; i < q->n; i++) {
        uint32_t x = states[i % LANES_ALL];
        const uint32_t slot = x & ((UINT32_C(1) << k) - 1), s = slots->symbols[slot], range = slots->ranges[s];
        x = (range & 0xffff) * (x >> k) + slot - (range >> 16);
        if (x < LOWEST_STATE) {
            if (end - p < 2) return TP_ERR_FORMAT;
            x = x << 16 | get16(p);
            p += 2;
        }
        states[i % LANES_ALL] = x;
        put_symbol(width, q->out, i, s);
    }
    for (int l = 0; l < LANES_ALL; l++)
        if (states[l] != LOWEST_STATE) return TP_ERR_FORMAT;
    return p == end ? TP_OK : TP_ERR_FORMAT;
}

/* The states to begin with; false if there are none. */
static inline bool rans_begin(const tp_sequence *q, uint32_t *states) {
    if (q->bytes < STATE_BYTES) return false;
    bool right = true;
    for (int l = 0; l < LANES_ALL; l++) {
        states[l] = get32(q->in + 4 * l);
        right &= states[l] >= LOWEST_STATE;
    }
    return right;
}

/* Bits of a code, its first one lowest, and its length << 16. */
static inline void huffman_codes(const uint8_t *lengths, uint32_t *codes) {
    uint32_t next[TP_HUFFMAN_LONGEST + 2] = {0}, count[TP_HUFFMAN_LONGEST + 1] = {0};
    for (int s = 0; s < 256; s++) count[lengths[s]]++;
    count[0] = 0;
    for (int b = 1; b <= TP_HUFFMAN_LONGEST; b++) next[b + 1] = (next[b] + count[b]) << 1;
    for (int s = 0; s < 256; s++) {
        const int length = lengths[s];
        uint32_t reversed = 0;
        if (length)
            for (uint32_t b = 0, code = next[length]++; b < (uint32_t)length; b++) reversed |= (code >> b & 1) << (length - 1 - (int)b);
        codes[s] = reversed | (uint32_t)length << 16;
    }
}

/* Symbol and length << 8 for any next 11 bits. */
static inline void huffman_table(const uint8_t *lengths, uint16_t *table) {
    uint32_t codes[256];
    huffman_codes(lengths, codes);
    for (int s = 0; s < 256; s++)
        if (lengths[s])
            for (uint32_t at = codes[s] & 0xffff; at < 1 << TP_HUFFMAN_LONGEST; at += UINT32_C(1) << lengths[s])
                table[at] = (uint16_t)(s | lengths[s] << 8);
}

static inline tp_status huffman_encode_all(int64_t n, const uint8_t *in, const uint8_t *lengths, uint8_t *out, int64_t capacity,
                                           int64_t *bytes) {
    uint32_t codes[256];
    huffman_codes(lengths, codes);
    int64_t at = 12;
    *bytes = -1;
    for (int stream = 0; stream < 4; stream++) {
        const int64_t begin = at;
        uint64_t waiting = 0;
        uint32_t bits = 0;
        if (capacity < at) return TP_OK;
        for (int64_t i = stream; i < n; i += 4) {
            const uint32_t code = codes[in[i]];
            if (!code) return TP_ERR_MAGNITUDE;
            waiting |= (uint64_t)(code & 0xffff) << bits;
            bits += code >> 16;
            if (bits >= 32) {
                if (capacity - at < 4) return TP_OK;
                put32(out + at, (uint32_t)waiting);
                at += 4;
                waiting >>= 32;
                bits -= 32;
            }
        }
        for (; bits > 0; bits = bits > 8 ? bits - 8 : 0, waiting >>= 8) {
            if (at == capacity) return TP_OK;
            out[at++] = (uint8_t)waiting;
        }
        if (stream < 3) put32(out + 4 * stream, (uint32_t)(at - begin));
    }
    *bytes = at;
    return TP_OK;
}

/* A stream of bits: those that wait, and the bytes behind them. */
typedef struct bit_stream {
    uint64_t waiting;
    uint32_t bits;
    const uint8_t *p, *end;
} bit_stream;

static inline uint8_t huffman_step(bit_stream *s, const uint16_t *table) {
    const uint32_t entry = table[s->waiting & ((1 << TP_HUFFMAN_LONGEST) - 1)];
    s->waiting >>= entry >> 8;
    s->bits -= entry >> 8;
    return (uint8_t)entry;
}

/* At least 56 bits, where 8 bytes may be read. */
static inline void refill(bit_stream *s) {
    uint64_t more;
    memcpy(&more, s->p, 8);
    s->waiting |= more << s->bits;
    s->p += (63 - s->bits) >> 3;
    s->bits |= 56;
}

static inline tp_status huffman_decode_all(int64_t n, const uint8_t *lengths, const uint8_t *in, int64_t bytes, uint8_t *out,
                                           uint16_t *table) {
    if (bytes < 12) return TP_ERR_FORMAT;
    huffman_table(lengths, table);
    bit_stream streams[4];
    const uint8_t *p = in + 12, *const end = in + bytes;
    for (int l = 0; l < 4; l++) {
        const int64_t length = l < 3 ? (int64_t)get32(in + 4 * l) : end - p;
        if (length > end - p) return TP_ERR_FORMAT;
        streams[l] = (bit_stream){.p = p, .end = p + length};
        p += length;
    }
    bit_stream a = streams[0], b = streams[1], c = streams[2], d = streams[3];
    int64_t i = 0;
    /* Five symbols of each stream take 55 bits at most. */
    while (n - i >= 20 && a.end - a.p >= 8 && b.end - b.p >= 8 && c.end - c.p >= 8 && d.end - d.p >= 8) {
        refill(&a);
        refill(&b);
        refill(&c);
        refill(&d);
        for (int j = 0; j < 5; j++, i += 4) {
            out[i] = huffman_step(&a, table);
            out[i + 1] = huffman_step(&b, table);
            out[i + 2] = huffman_step(&c, table);
            out[i + 3] = huffman_step(&d, table);
        }
    }
    streams[0] = a;
    streams[1] = b;
    streams[2] = c;
    streams[3] = d;
    for (int l = 0; l < 4; l++) {
        /* Bits above those that wait are of the next byte. */
        streams[l].waiting &= (UINT64_C(1) << streams[l].bits) - 1;
    }
    for (; i < n; i++) {
        bit_stream *const s = &streams[i % 4];
        while (s->bits < TP_HUFFMAN_LONGEST && s->p < s->end) {
            s->waiting |= (uint64_t)*s->p++ << s->bits;
            s->bits += 8;
        }
        const uint32_t length = table[s->waiting & ((1 << TP_HUFFMAN_LONGEST) - 1)] >> 8;
        if (length > s->bits) return TP_ERR_FORMAT;
        out[i] = huffman_step(s, table);
    }
    for (int l = 0; l < 4; l++)
        if (streams[l].p != streams[l].end || streams[l].bits >= 8 || streams[l].waiting) return TP_ERR_FORMAT;
    return TP_OK;
}

/* How many bits of a mask of n are ones; -1 if there are ones behind them. */
static inline int64_t ones_of(int64_t n, const uint8_t *mask) {
    int64_t ones = 0, i = 0;
    const int64_t bytes = (n + 7) / 8;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t x;
        memcpy(&x, mask + i, 8);
        ones += __builtin_popcountll(x);
    }
    for (; i < bytes; i++) ones += __builtin_popcount(mask[i]);
    return n % 8 && mask[n / 8] >> n % 8 ? -1 : ones;
}

/* From byte `from` on, a multiple of 8; `count` are in rest already. Returns how many are then. */
static inline int64_t cut_some(int64_t from, int64_t n, const uint8_t *in, uint8_t *mask, uint8_t *rest, int64_t count) {
    for (int64_t i = from; i < n; i++) {
        if (i % 8 == 0) mask[i / 8] = 0;
        if (in[i]) {
            mask[i / 8] |= (uint8_t)(1 << i % 8);
            rest[count++] = in[i];
        }
    }
    return count;
}

static inline void put_some(int64_t from, int64_t n, const uint8_t *mask, const uint8_t *rest, uint8_t *out) {
    for (int64_t i = from; i < n; i++) out[i] = mask[i / 8] >> i % 8 & 1 ? *rest++ : 0;
}

#endif
