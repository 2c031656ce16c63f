#include "coding/block.h"

#include <string.h>

#include "coding/rans.h"
#include "coding/scalar.h"
#include "coding/tables.h"

enum { HEADER = TP_BLOCK_HEADER, STREAM = 5, SHORTEST_RUN = 64, SAMPLE = 1024, SAMPLE_STEP = 8 * SAMPLE };

/* What a stream without others in it will be. */
typedef struct plan {
    tp_coding coding;
    int32_t log_total;
    int64_t sizes[TP_CODINGS]; /* with the stream's five bytes */
    uint16_t frequencies[TP_CODING_ALPHABET];
    uint8_t lengths[256];
} plan;

/* What is in scratch behind that of the coders. */
typedef struct work {
    uint32_t counts[TP_CODING_ALPHABET], some[256];
    int64_t nonzero;
    plan whole, mask, rest, kept, codes; /* of the plane, of its mask, its bytes that are not 0, those between runs, and its codes of 4 bits */
} work;
enum { CODERS = TP_CODING_SCRATCH / 2 };
_Static_assert(sizeof(work) <= TP_CODING_SCRATCH / 2, "scratch");

/* The areas that grow with the block. */
typedef struct areas {
    const tp_coding_kernels *kernels;
    void *coders;
    work *work;
    uint8_t *planes, *rest, *mask, *runs;
} areas;

int32_t tp_planes_of(tp_elements e) { return e == TP_CODE_F32 ? 4 : e == TP_CODE_F16 || e == TP_CODE_BF16 ? 2 : 1; }

/* Of what a plane is counted in: halves of bytes may be twice as many as bytes. */
static int64_t rest_bytes(tp_elements e, int64_t bytes) {
    if (e == TP_CODE_SYMBOLS) return 0;
    return rounded_up(e == TP_CODE_NIBBLES ? 2 * bytes : bytes / tp_planes_of(e));
}
static int64_t mask_bytes(tp_elements e, int64_t bytes) { return e == TP_CODE_SYMBOLS ? 0 : rounded_up(bytes / tp_planes_of(e) / 8 + 1); }

int64_t tp_block_scratch_bytes(tp_elements e, int64_t bytes) {
    return TP_CODING_SCRATCH + rounded_up(bytes) + rest_bytes(e, bytes) + 2 * mask_bytes(e, bytes);
}

static areas areas_of(const tp_coding_kernels *kernels, tp_elements e, int64_t bytes, void *scratch) {
    areas a = {.kernels = kernels, .coders = scratch, .work = (work *)((char *)scratch + CODERS)};
    a.planes = (uint8_t *)scratch + TP_CODING_SCRATCH;
    a.rest = a.planes + rounded_up(bytes);
    a.mask = a.rest + rest_bytes(e, bytes);
    a.runs = a.mask + mask_bytes(e, bytes);
    return a;
}

static tp_part part_of(tp_elements e, int32_t plane) {
    if (e == TP_CODE_SYMBOLS) return TP_PART_SYMBOLS;
    if (tp_planes_of(e) == 1) return TP_PART_BYTES;
    if (plane == 0) return TP_PART_EXPONENTS;
    if (e == TP_CODE_F16) return TP_PART_LOW;
    return plane == 1 ? TP_PART_MANTISSAS : plane == 2 ? TP_PART_MIDDLE : TP_PART_LOW;
}

/* Writing */

/* Words and states are a little more than what frequencies say: what the states begin with, and what they end with unused. */
static int64_t rans_bytes(int64_t n, double bits) { return STREAM + 1 + (int64_t)(bits / 8) + (n < TP_RANS_HALVED ? 96 : 4 + 2 * 96); }

static void no_sizes(int64_t *sizes) {
    for (int c = 0; c < TP_CODINGS; c++) sizes[c] = -1;
}

/* A coding is better than a faster one only if it is smaller by more than this. */
static bool gains(int64_t size, int64_t than) { return size >= 0 && size + than / 128 < than; }

static tp_status make_plan(int32_t width, int64_t n, const uint32_t *counts, plan *p) {
    const int32_t alphabet = tp_alphabet(width);
    int32_t present = 0;
    for (int32_t s = 0; s < alphabet; s++) present += counts[s] > 0;
    no_sizes(p->sizes);
    p->sizes[TP_CODING_STORED] = STREAM + n * width;
    if (present == 1) p->sizes[TP_CODING_CONSTANT] = STREAM + width;
    if (present >= 2) {
        int64_t bits;
        TRY(tp_coding_frequencies(alphabet, counts, 0, p->frequencies, &p->log_total, &bits));
        p->sizes[TP_CODING_RANS] = rans_bytes(n, (double)bits);
        /* Huffman's codes take what the entropy says at least. */
        if (width == 1 && gains((int64_t)(tp_entropy_bits(256, counts) / 8) + 12 + present / 2, p->sizes[TP_CODING_RANS])) {
            TRY(tp_huffman_lengths(counts, p->lengths, &bits));
            p->sizes[TP_CODING_HUFFMAN] = STREAM + (tp_lengths_bits(p->lengths) + 7) / 8 + 12 + bits / 8 + 2;
        }
    }
    p->coding = TP_CODING_STORED;
    for (tp_coding c = TP_CODING_CONSTANT; c <= TP_CODING_HUFFMAN; c++)
        if (gains(p->sizes[c], p->sizes[p->coding])) p->coding = c;
    return TP_OK;
}

static int64_t end_stream(uint8_t *out, tp_coding coding, int64_t body) {
    out[0] = (uint8_t)coding;
    put32(out + 1, (uint32_t)body);
    return STREAM + body;
}

/* Writes a stream by its plan, or stored where that turns out to be smaller; *bytes is -1 if neither fits in capacity. */
static tp_status put_plain(const areas *a, const plan *p, int32_t width, int64_t n, const uint8_t *in, uint8_t *out, int64_t capacity,
                           int64_t *bytes) {
    const int64_t stored = n * width, most = capacity - STREAM < stored ? capacity - STREAM : stored;
    uint8_t *const at = out + STREAM;
    int64_t body = -1;
    *bytes = -1;
    if (most < 0) return TP_OK;
    if (p->coding == TP_CODING_CONSTANT && most >= width) memcpy(at, in, (size_t)(body = width));
    if (p->coding == TP_CODING_RANS && most > 0) {
        const int64_t table = tp_frequencies_write(tp_alphabet(width), p->frequencies, at + 1, most - 1) + 1;
        at[0] = (uint8_t)p->log_total;
        if (table > 0)
            TRY(tp_rans_write(a->kernels, width, n, in, p->log_total, p->frequencies, at + table, most - table, &body, a->coders));
        if (body >= 0) body += table;
    }
    if (p->coding == TP_CODING_HUFFMAN) {
        const int64_t table = tp_lengths_write(p->lengths, at, most);
        if (table >= 0) TRY(a->kernels->huffman_encode(n, in, p->lengths, at + table, most - table, &body));
        if (body >= 0) body += table;
    }
    if (body >= 0) {
        *bytes = end_stream(out, p->coding, body);
    } else if (most == stored) {
        if (stored > 0) memcpy(at, in, (size_t)stored);
        *bytes = end_stream(out, TP_CODING_STORED, stored);
    }
    return TP_OK;
}

static uint8_t *put_number(uint8_t *p, int64_t x) {
    for (; x > 127; x >>= 7) *p++ = (uint8_t)(x | 128);
    *p++ = (uint8_t)x;
    return p;
}

static bool all_zero(const uint8_t *p) {
    uint64_t x[SHORTEST_RUN / 16];
    memcpy(x, p, sizeof x);
    return !(x[0] | x[1] | x[2] | x[3]);
}

/* The list of runs of zeros, its bytes, and the zeros in it. Each run takes at most 8 bytes of list, and has 64 zeros; so it has an aligned half of that. */
static int64_t list_runs(int64_t n, const uint8_t *in, uint8_t *list, int64_t *zeros) {
    uint8_t *p = list;
    int64_t done = 0;
    *zeros = 0;
    for (int64_t at = 0; at + SHORTEST_RUN / 2 <= n; at += SHORTEST_RUN / 2) {
        if (!all_zero(in + at)) continue;
        int64_t begin = at, end = at + SHORTEST_RUN / 2;
        while (begin > done && !in[begin - 1]) begin--;
        while (n - end >= SHORTEST_RUN / 2 && all_zero(in + end)) end += SHORTEST_RUN / 2;
        at = end - SHORTEST_RUN / 2;
        while (end < n && !in[end]) end++;
        if (end - begin < SHORTEST_RUN) continue;
        p = put_number(put_number(p, begin - done), end - begin);
        *zeros += end - begin;
        done = end;
    }
    return p - list;
}

/* What is between the runs. */
static int64_t keep(int64_t n, const uint8_t *in, const uint8_t *list, int64_t list_bytes, uint8_t *rest) {
    const uint8_t *p = list, *const end = list + list_bytes;
    int64_t at = 0, count = 0;
    while (p < end) {
        int64_t pair[2];
        for (int i = 0; i < 2; i++) {
            int shift = 0;
            for (pair[i] = 0; *p & 128; shift += 7) pair[i] |= (int64_t)(*p++ & 127) << shift;
            pair[i] |= (int64_t)*p++ << shift;
        }
        memcpy(rest + count, in + at, (size_t)pair[0]);
        count += pair[0];
        at += pair[0] + pair[1];
    }
    memcpy(rest + count, in + at, (size_t)(n - at));
    return count + n - at;
}

/* Whether a part of a plane says that to code it would gain next to nothing. */
static tp_status look(const areas *a, int64_t n, const uint8_t *in, tp_plane *report, bool *pointless) {
    uint32_t *const some = a->work->some;
    memset(some, 0, sizeof a->work->some);
    int64_t seen = 0;
    for (int64_t i = 0; i + SAMPLE <= n; i += SAMPLE_STEP, seen += SAMPLE) TRY(a->kernels->coding_histogram(1, SAMPLE, in + i, some));
    const double bits = tp_entropy_bits(256, some);
    *pointless = bits > (double)seen * 8 * 63 / 64;
    if (*pointless) report->sizes[TP_CODING_RANS] = rans_bytes(n, bits / (double)seen * (double)n);
    return TP_OK;
}

/* The codings with other streams in them, where zeros are many enough or codes are of 4 bits. */
static tp_status consider(const areas *a, tp_elements e, int64_t n, const uint8_t *in, tp_plane *report, int64_t *list) {
    work *const w = a->work;
    const int64_t zeros = w->counts[0];
    if (e == TP_CODE_NIBBLES) {
        memset(w->some, 0, sizeof w->some);
        for (int s = 0; s < 256; s++) {
            w->some[s & 15] += w->counts[s];
            w->some[s >> 4] += w->counts[s];
        }
        TRY(make_plan(1, 2 * n, w->some, &w->codes));
        report->sizes[TP_CODING_CODES] = STREAM + w->codes.sizes[w->codes.coding];
    }
    if (zeros <= n / 8 || zeros == n) return TP_OK;
    int64_t count;
    TRY(a->kernels->zeros_cut(n, in, a->mask, a->rest, &count));
    memset(w->some, 0, sizeof w->some);
    TRY(a->kernels->coding_histogram(1, (n + 7) / 8, a->mask, w->some));
    TRY(make_plan(1, (n + 7) / 8, w->some, &w->mask));
    w->nonzero = count;
    w->counts[0] = 0;
    TRY(make_plan(1, count, w->counts, &w->rest));
    report->sizes[TP_CODING_MASKED] = STREAM + w->mask.sizes[w->mask.coding] + w->rest.sizes[w->rest.coding];
    int64_t left_out;
    *list = list_runs(n, in, a->runs, &left_out);
    if (left_out) {
        w->counts[0] = (uint32_t)(zeros - left_out);
        TRY(make_plan(1, n - left_out, w->counts, &w->kept));
        report->sizes[TP_CODING_RUNS] = STREAM + 4 + *list + w->kept.sizes[w->kept.coding];
    }
    return TP_OK;
}

/* Writes a stream with others in it; *bytes is -1 if it does not fit in capacity. */
static tp_status put_nested(const areas *a, tp_coding coding, int64_t n, const uint8_t *in, int64_t list, uint8_t *out, int64_t capacity,
                            int64_t *bytes) {
    work *const w = a->work;
    int64_t begin = STREAM, count = n;
    const plan *p = &w->rest;
    if (coding == TP_CODING_MASKED) {
        int64_t mask;
        TRY(put_plain(a, &w->mask, 1, (n + 7) / 8, a->mask, out + begin, capacity - begin, &mask));
        *bytes = -1;
        if (mask < 0) return TP_OK;
        begin += mask;
        count = w->nonzero;
    } else if (coding == TP_CODING_RUNS) {
        *bytes = -1;
        if (capacity - begin < 4 + list) return TP_OK;
        put32(out + begin, (uint32_t)list);
        memcpy(out + begin + 4, a->runs, (size_t)list);
        begin += 4 + list;
        count = keep(n, in, a->runs, list, a->rest);
        p = &w->kept;
    } else {
        for (int64_t i = 0; i < n; i++) {
            a->rest[2 * i] = in[i] & 15;
            a->rest[2 * i + 1] = in[i] >> 4;
        }
        count = 2 * n;
        p = &w->codes;
    }
    TRY(put_plain(a, p, 1, count, a->rest, out + begin, capacity - begin, bytes));
    if (*bytes >= 0) *bytes = end_stream(out, coding, begin - STREAM + *bytes);
    return TP_OK;
}

/* Writes a plane, in no more bytes than it stored would have. */
static tp_status put_plane(const areas *a, tp_elements e, int32_t width, int64_t n, const uint8_t *in, uint8_t *out, tp_plane *report) {
    work *const w = a->work;
    const int64_t capacity = STREAM + n * width;
    int64_t list = 0;
    bool pointless = false;
    no_sizes(report->sizes);
    report->in_bytes = n * width;
    if (report->part > TP_PART_EXPONENTS && n >= 8 * SAMPLE_STEP) TRY(look(a, n, in, report, &pointless));
    if (pointless) {
        w->whole.coding = TP_CODING_STORED;
        report->sizes[TP_CODING_STORED] = capacity;
    } else {
        memset(w->counts, 0, (size_t)tp_alphabet(width) * sizeof *w->counts);
        TRY(a->kernels->coding_histogram(width, n, in, w->counts));
        TRY(make_plan(width, n, w->counts, &w->whole));
        memcpy(report->sizes, w->whole.sizes, sizeof report->sizes);
        if (width == 1) TRY(consider(a, e, n, in, report, &list));
    }
    report->coding = w->whole.coding;
    for (tp_coding c = TP_CODING_MASKED; c < TP_CODINGS; c++)
        if (gains(report->sizes[c], report->sizes[report->coding])) report->coding = c;
    report->out_bytes = -1;
    if (report->coding != w->whole.coding) TRY(put_nested(a, report->coding, n, in, list, out, capacity, &report->out_bytes));
    if (report->out_bytes < 0) TRY(put_plain(a, &w->whole, width, n, in, out, capacity, &report->out_bytes));
    report->coding = out[0];
    return TP_OK;
}

tp_status tp_block_write(const tp_coding_kernels *kernels, tp_elements e, int64_t bytes, const void *in, const void *base, uint8_t *out, void *scratch,
                         tp_coded *coded) {
    const areas a = areas_of(kernels, e, bytes, scratch);
    const int32_t planes = tp_planes_of(e), width = e == TP_CODE_SYMBOLS ? 2 : 1;
    const int64_t n = bytes / planes / width;
    const uint8_t *from = in;
    if (planes > 1) TRY(kernels->planes_split(e, n, in, base, a.planes));
    else if (base) TRY(kernels->xor(bytes, in, base, a.planes));
    if (planes > 1 || base) from = a.planes;
    memset(coded, 0, sizeof *coded);
    coded->planes = planes;
    int64_t at = HEADER;
    for (int32_t p = 0; p < planes; p++) {
        tp_plane *const report = &coded->plane[p];
        report->part = part_of(e, p);
        TRY(put_plane(&a, e, width, n, from + p * n, out + at, report));
        at += report->out_bytes;
    }
    const uint8_t header[HEADER] = {'T', 'C', 1, (uint8_t)e, [12] = base != NULL};
    memcpy(out, header, HEADER);
    put32(out + 4, (uint32_t)bytes);
    put32(out + 8, (uint32_t)at);
    coded->bytes = at;
    return TP_OK;
}

/* Reading */

/* The stream at *p, which moves behind it. */
typedef struct stream {
    uint8_t coding;
    const uint8_t *body;
    int64_t bytes;
} stream;

static bool next_stream(const uint8_t **p, const uint8_t *end, stream *s) {
    if (end - *p < STREAM) return false;
    *s = (stream){.coding = **p, .body = *p + STREAM, .bytes = get32(*p + 1)};
    if (s->bytes > end - s->body) return false;
    *p = s->body + s->bytes;
    return true;
}

/* The n symbols of a stream without others in it: where they are stored, or decoded to `to`. */
static tp_status get_plain(const areas *a, const stream *s, int32_t width, int64_t n, uint8_t *to, const uint8_t **found) {
    work *const w = a->work;
    *found = to;
    switch (s->coding) {
        case TP_CODING_STORED:
            *found = s->body;
            return s->bytes == n * width ? TP_OK : TP_ERR_FORMAT;
        case TP_CODING_CONSTANT:
            if (s->bytes != width) return TP_ERR_FORMAT;
            if (width == 1) memset(to, s->body[0], (size_t)n);
            else
                for (int64_t i = 0; i < n; i++) memcpy(to + 2 * i, s->body, 2);
            return TP_OK;
        case TP_CODING_RANS: {
            if (s->bytes < 1 || s->body[0] < 11 || s->body[0] > 15) return TP_ERR_FORMAT;
            const int64_t table = tp_frequencies_read(tp_alphabet(width), s->body[0], s->body + 1, s->bytes - 1, w->whole.frequencies) + 1;
            if (table < 1) return TP_ERR_FORMAT;
            return tp_rans_read(a->kernels, width, n, s->body[0], w->whole.frequencies, s->body + table, s->bytes - table, to, a->coders);
        }
        case TP_CODING_HUFFMAN: {
            if (width != 1) return TP_ERR_FORMAT;
            const int64_t table = tp_lengths_read(s->body, s->bytes, w->whole.lengths);
            if (table < 0) return TP_ERR_FORMAT;
            return a->kernels->huffman_decode(n, w->whole.lengths, s->body + table, s->bytes - table, to, a->coders);
        }
        default: return TP_ERR_FORMAT;
    }
}

/* The next number of a list; false if there is none. */
static bool take_number(const uint8_t **p, const uint8_t *end, uint32_t *x) {
    *x = 0;
    for (int shift = 0; shift < 28 && *p < end; shift += 7) {
        const uint8_t byte = *(*p)++;
        *x |= (uint32_t)(byte & 127) << shift;
        if (!(byte & 128)) return true;
    }
    return false;
}

/* The next pair of a list of runs, of `left` symbols in all; false if there is none. */
static bool take_run(const uint8_t **p, const uint8_t *end, int64_t left, uint32_t *kept, uint32_t *zeros) {
    return take_number(p, end, kept) && take_number(p, end, zeros) && *zeros > 0 && (int64_t)*kept + *zeros <= left;
}

static tp_status get_masked(const areas *a, const uint8_t *p, const uint8_t *end, int64_t n, uint8_t *to) {
    stream s;
    const uint8_t *mask, *rest;
    if (!next_stream(&p, end, &s)) return TP_ERR_FORMAT;
    TRY(get_plain(a, &s, 1, (n + 7) / 8, a->mask, &mask));
    const int64_t count = ones_of(n, mask);
    if (count < 0 || !next_stream(&p, end, &s) || p != end) return TP_ERR_FORMAT;
    TRY(get_plain(a, &s, 1, count, a->rest, &rest));
    return a->kernels->zeros_put(n, mask, rest, count, to);
}

static tp_status get_runs(const areas *a, const uint8_t *p, const uint8_t *end, int64_t n, uint8_t *to) {
    if (end - p < 4) return TP_ERR_FORMAT;
    const int64_t bytes = get32(p);
    const uint8_t *list = p + 4, *rest;
    if (bytes > end - list) return TP_ERR_FORMAT;
    const uint8_t *const list_end = p = list + bytes;
    uint32_t kept, run;
    int64_t left = n, count = n;
    for (; list < list_end; left -= kept + run, count -= run)
        if (!take_run(&list, list_end, left, &kept, &run)) return TP_ERR_FORMAT;
    stream s;
    if (!next_stream(&p, end, &s) || p != end) return TP_ERR_FORMAT;
    TRY(get_plain(a, &s, 1, count, a->rest, &rest));
    left = n;
    for (list = list_end - bytes; take_run(&list, list_end, left, &kept, &run); left -= kept + run) {
        memcpy(to, rest, kept);
        memset(to + kept, 0, run);
        rest += kept;
        to += kept + run;
    }
    memcpy(to, rest, (size_t)left);
    return TP_OK;
}

static tp_status get_codes(const areas *a, const uint8_t *p, const uint8_t *end, int64_t n, uint8_t *to) {
    stream s;
    const uint8_t *codes;
    if (!next_stream(&p, end, &s) || p != end) return TP_ERR_FORMAT;
    TRY(get_plain(a, &s, 1, 2 * n, a->rest, &codes));
    unsigned all = 0;
    for (int64_t i = 0; i < n; i++) {
        all |= codes[2 * i] | codes[2 * i + 1];
        to[i] = (uint8_t)(codes[2 * i] | codes[2 * i + 1] << 4);
    }
    return all < 16 ? TP_OK : TP_ERR_FORMAT;
}

/* The n symbols of a plane: where they are stored, or decoded to `to`. */
static tp_status get_plane(const areas *a, tp_elements e, const stream *s, int32_t width, int64_t n, uint8_t *to, const uint8_t **found) {
    *found = to;
    if (s->coding == TP_CODING_MASKED && width == 1) return get_masked(a, s->body, s->body + s->bytes, n, to);
    if (s->coding == TP_CODING_RUNS && width == 1) return get_runs(a, s->body, s->body + s->bytes, n, to);
    if (s->coding == TP_CODING_CODES && e == TP_CODE_NIBBLES) return get_codes(a, s->body, s->body + s->bytes, n, to);
    return get_plain(a, s, width, n, to, found);
}

tp_status tp_block_read(const tp_coding_kernels *kernels, const tp_block *header, const uint8_t *block, int64_t block_bytes,
                        const void *base, void *out, void *scratch) {
    const tp_elements e = header->elements;
    const int64_t bytes = header->bytes;
    const areas a = areas_of(kernels, e, bytes, scratch);
    const int32_t planes = tp_planes_of(e), width = e == TP_CODE_SYMBOLS ? 2 : 1;
    const int64_t n = bytes / planes / width;
    const uint8_t *p = block + HEADER, *const end = block + block_bytes, *found[TP_BLOCK_PLANES];
    for (int32_t i = 0; i < planes; i++) {
        stream s;
        if (!next_stream(&p, end, &s)) return TP_ERR_FORMAT;
        TRY(get_plane(&a, e, &s, width, n, planes == 1 ? out : a.planes + i * n, &found[i]));
    }
    if (p != end) return TP_ERR_FORMAT;
    if (bytes == 0) return TP_OK;
    if (planes > 1) return kernels->planes_merge(e, n, found, base, out);
    if (base) return kernels->xor(bytes, found[0], base, out);
    if (found[0] != out) memcpy(out, found[0], (size_t)bytes);
    return TP_OK;
}
