/*
 * The sparse family against an oracle written from sparse.h alone, one element at a time, and every tier and a CUDA device bit for bit.
 * Every array ends or starts at a page that cannot be touched.
 */
#include <stdlib.h>
#include <string.h>

#include "cuda_arrays.h"
#include "sparse/kernels.h"
#include "support.h"
#include "tensorpress/cuda/sparse.h"

static guarded dense_memory, offset_memory, index_memory, value_memory, out_memory, count_memory;

/* ---- the same calls on the device ---- */

/* Of the array of a case whose size the call does not say; set by those who make one. Zero keeps arrays on the host. */
static size_t placed_indices, placed_values;

static size_t type_bytes(tp_dtype type) { return type == TP_F32 ? 4 : type == TP_F16 || type == TP_BF16 ? 2 : 1; }
static int64_t lines_of(const tp_sparse *s) {
    return s->layout == TP_SPARSE_BSR ? (s->rows + s->block_rows - 1) / s->block_rows : s->rows;
}
static void *placed_dense(const tp_sparse *s, const void *dense, bool written) {
    const size_t size = type_bytes(s->type);
    return placed(dense, s->rows && s->cols && !all_on_host ? (size_t)((s->rows - 1) * s->stride + s->cols) * size : 0, (int)size, written);
}
static const int64_t *placed_offsets(const tp_sparse *s, const int64_t *offsets) {
    return placed(offsets, all_on_host ? 0 : (size_t)(lines_of(s) + 1) * 8, 8, false);
}
static void *placed_units(const void *units, size_t bytes, int alignment, bool written) {
    return bytes ? placed(units, bytes, alignment, written) : (void *)(uintptr_t)units;
}
static int index_alignment(const tp_sparse *s) {
    return s->layout == TP_SPARSE_CSR16 ? 2 : s->layout == TP_SPARSE_CSR32 || s->layout == TP_SPARSE_BSR ? 4 : 1;
}

#define CUDA_CALL(call)                                                                                               \
    do status = call;                                                                                                 \
    while (short_of_memory(status));                                                                                  \
    return end_call(status)

static tp_status cuda_survey(const tp_sparse *s, int64_t begin, int64_t end, const void *in, tp_survey *survey) {
    tp_status status;
    start_call();
    if (s) in = placed_dense(s, in, false);
    survey = placed(survey, sizeof *survey, 8, true);
    CUDA_CALL(tp_cuda_sparse_survey(test_cuda, s, begin, end, in, survey));
}

static tp_status cuda_count(const tp_sparse *s, int64_t begin, int64_t end, const void *in, int64_t *counts) {
    tp_status status;
    start_call();
    if (!all_on_host) {
        in = placed_dense(s, in, false);
        counts = placed(counts, (size_t)(end - begin) * 8, 8, true);
    }
    CUDA_CALL(tp_cuda_sparse_count(test_cuda, s, begin, end, in, counts));
}

static tp_status cuda_count_mask(const tp_sparse *s, int64_t begin, int64_t end, const uint8_t *indices, int64_t *counts) {
    tp_status status;
    start_call();
    if (!all_on_host) {
        indices = placed(indices, (size_t)(s->rows * ((s->cols + 7) / 8)), 1, false);
        counts = placed(counts, (size_t)(end - begin) * 8, 8, true);
    }
    CUDA_CALL(tp_cuda_sparse_count_mask(test_cuda, s, begin, end, indices, counts));
}

static tp_status cuda_pack(const tp_sparse *s, int64_t begin, int64_t end, const void *in, const int64_t *offsets, void *indices,
                           void *values) {
    tp_status status;
    start_call();
    if (!all_on_host) {
        in = placed_dense(s, in, false);
        offsets = placed_offsets(s, offsets);
        indices = placed_units(indices, placed_indices, index_alignment(s), true);
        values = placed_units(values, placed_values, (int)type_bytes(s->type), true);
    }
    CUDA_CALL(tp_cuda_sparse_pack(test_cuda, s, begin, end, in, offsets, indices, values));
}

static tp_status cuda_check(const tp_sparse *s, int64_t begin, int64_t end, int64_t units, const int64_t *offsets, const void *indices,
                            int64_t *bad_line) {
    tp_status status;
    start_call();
    if (!all_on_host) {
        offsets = placed_offsets(s, offsets);
        indices = placed_units(indices, placed_indices, index_alignment(s), false);
        bad_line = placed(bad_line, 8, 8, true);
    }
    CUDA_CALL(tp_cuda_sparse_check(test_cuda, s, begin, end, units, offsets, indices, bad_line));
}

static tp_status cuda_unpack(const tp_sparse *s, int64_t begin, int64_t end, const int64_t *offsets, const void *indices,
                             const void *values, void *out) {
    tp_status status;
    start_call();
    if (!all_on_host) {
        offsets = placed_offsets(s, offsets);
        indices = placed_units(indices, placed_indices, index_alignment(s), false);
        values = placed_units(values, placed_values, (int)type_bytes(s->type), false);
        out = placed_dense(s, out, true);
    }
    CUDA_CALL(tp_cuda_sparse_unpack(test_cuda, s, begin, end, offsets, indices, values, out));
}

#define tp_sparse_survey(...) (on_cuda ? cuda_survey(__VA_ARGS__) : tp_sparse_survey(__VA_ARGS__))
#define tp_sparse_count(...) (on_cuda ? cuda_count(__VA_ARGS__) : tp_sparse_count(__VA_ARGS__))
#define tp_sparse_count_mask(...) (on_cuda ? cuda_count_mask(__VA_ARGS__) : tp_sparse_count_mask(__VA_ARGS__))
#define tp_sparse_pack(...) (on_cuda ? cuda_pack(__VA_ARGS__) : tp_sparse_pack(__VA_ARGS__))
#define tp_sparse_check(...) (on_cuda ? cuda_check(__VA_ARGS__) : tp_sparse_check(__VA_ARGS__))
#define tp_sparse_unpack(...) (on_cuda ? cuda_unpack(__VA_ARGS__) : tp_sparse_unpack(__VA_ARGS__))

/* ---- the oracle ---- */

static const char *const layout_names[] = {"", "csr16", "csr32", "bsr", "bitmask", "nm24"};

/* A dense matrix: bytes that end with the last element. */
typedef struct matrix {
    tp_sparse s;
    int64_t size;
    size_t bytes;
    uint8_t *data;
} matrix;

/* What a matrix is when stored. A line that does not fit its layout is stored as if distances and groups were wider. */
typedef struct packed {
    int64_t lines, units, unit_bytes, index_bytes; /* index_bytes: of a unit, 0 for masks and nibbles */
    int64_t index_row;                             /* bytes of indices of a row, 0 for units */
    int64_t *counts, *offsets;
    bool *fits;
    uint8_t *indices, *values;
    size_t indices_size, values_size;
} packed;

static int64_t size_of(tp_dtype type) { return type == TP_F32 ? 4 : type == TP_F16 || type == TP_BF16 ? 2 : 1; }

static uint8_t *element(const matrix *m, int64_t r, int64_t c) { return m->data + (r * m->s.stride + c) * m->size; }

static bool is_stored(const matrix *m, int64_t r, int64_t c) {
    if (r >= m->s.rows || c >= m->s.cols) return false;
    int any = 0;
    for (int64_t i = 0; i < m->size; i++) any |= element(m, r, c)[i];
    return any != 0;
}

static bool is_block(const matrix *m, int64_t r0, int64_t c0, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows * cols; i++)
        if (is_stored(m, r0 + i / cols, c0 + i % cols)) return true;
    return false;
}

/* The element, or zero outside of the matrix. */
static void put_value(const matrix *m, packed *p, int64_t at, int64_t r, int64_t c) {
    const bool inside = r < m->s.rows && c < m->s.cols;
    for (int64_t i = 0; i < m->size; i++) p->values[at * m->size + i] = inside ? element(m, r, c)[i] : 0;
}

static void *fresh(size_t bytes) {
    void *p = calloc(bytes + 1, 1);
    if (!p) abort();
    return p;
}

static packed oracle_pack(const matrix *m) {
    packed p = {0};
    const tp_sparse *s = &m->s;
    const bool bsr = s->layout == TP_SPARSE_BSR;
    const int64_t groups = (s->cols + 3) / 4, high = bsr ? s->block_rows : 1, wide = bsr ? s->block_cols : 1;
    p.lines = (s->rows + high - 1) / high;
    p.unit_bytes = high * wide * m->size;
    p.index_bytes = s->layout == TP_SPARSE_CSR16 ? 2 : s->layout == TP_SPARSE_CSR32 || bsr ? 4 : 0;
    p.index_row = s->layout == TP_SPARSE_BITMASK ? (s->cols + 7) / 8 : s->layout == TP_SPARSE_NM24 ? (groups + 1) / 2 : 0;
    p.counts = fresh((size_t)p.lines * 8);
    p.offsets = fresh((size_t)(p.lines + 1) * 8);
    p.fits = fresh((size_t)p.lines);
    for (int64_t l = 0; l < p.lines; l++) {
        for (int64_t c = 0; c < s->cols; c += wide) p.counts[l] += is_block(m, l * high, c, high, wide);
        if (s->layout == TP_SPARSE_NM24) p.counts[l] = groups * 2;
        p.offsets[l + 1] = p.offsets[l] + p.counts[l];
    }
    p.units = p.offsets[p.lines];
    p.indices_size = (size_t)(p.index_row ? p.index_row * s->rows : p.units * p.index_bytes);
    p.values_size = (size_t)(p.units * p.unit_bytes);
    p.indices = fresh(p.indices_size);
    p.values = fresh(p.values_size);
    for (int64_t l = 0; l < p.lines; l++) {
        int64_t at = p.offsets[l], last = 0;
        p.fits[l] = true;
        if (s->layout == TP_SPARSE_NM24) {
            for (int64_t g = 0; g < groups; g++) {
                /* Two positions: those of elements, then the lowest others. */
                int found[6], n = 0;
                for (int pass = 0; pass < 2; pass++)
                    for (int i = 0; i < 4; i++)
                        if (is_stored(m, l, g * 4 + i) == (pass == 0) && (pass == 0 || n < 2)) found[n++] = i;
                if (n > 2) p.fits[l] = false;
                const int low = found[0] < found[1] ? found[0] : found[1], high_one = found[0] + found[1] - low;
                put_value(m, &p, at++, l, g * 4 + low);
                put_value(m, &p, at++, l, g * 4 + high_one);
                p.indices[l * p.index_row + g / 2] |= (uint8_t)((low + 4 * high_one) * (g % 2 ? 16 : 1));
            }
            continue;
        }
        for (int64_t c = 0; c < s->cols; c += wide) {
            if (!is_block(m, l * high, c, high, wide)) continue;
            if (s->layout == TP_SPARSE_CSR16) {
                const uint16_t distance = (uint16_t)(c - last);
                memcpy(p.indices + 2 * at, &distance, 2);
                if (c - last >= 65536) p.fits[l] = false;
            } else if (s->layout == TP_SPARSE_BITMASK) {
                p.indices[l * p.index_row + c / 8] |= (uint8_t)(1u << c % 8);
            } else {
                const uint32_t column = (uint32_t)(c / wide);
                memcpy(p.indices + 4 * at, &column, 4);
            }
            for (int64_t i = 0; i < high * wide; i++) {
                const bool edge = c + i % wide >= s->cols; /* not the next row's */
                put_value(m, &p, at * high * wide + i, edge ? s->rows : l * high + i / wide, c + i % wide);
            }
            last = c;
            at++;
        }
    }
    return p;
}

static void packed_free(packed *p) {
    free(p->counts);
    free(p->offsets);
    free(p->fits);
    free(p->indices);
    free(p->values);
}

static tp_survey oracle_survey(const matrix *m, int64_t begin, int64_t end) {
    tp_survey s = {0};
    for (int64_t r = begin; r < end; r++) {
        int64_t last = 0;
        for (int64_t c = 0; c < m->s.cols; c++) {
            if (!is_stored(m, r, c)) continue;
            s.entries++;
            s.widest = c - last > s.widest ? c - last : s.widest;
            last = c;
        }
        for (int64_t c = 0; c < m->s.cols; c += 4)
            s.overfull += is_stored(m, r, c) + is_stored(m, r, c + 1) + is_stored(m, r, c + 2) + is_stored(m, r, c + 3) > 2;
    }
    for (int64_t r = begin; r < end; r += 4)
        for (int64_t c = 0; c < m->s.cols; c += 4) s.blocks4x4 += is_block(m, r, c, 4, 4);
    for (int64_t r = begin; r < end; r += 8)
        for (int64_t c = 0; c < m->s.cols; c += 8) s.blocks8x8 += is_block(m, r, c, 8, 8);
    return s;
}

/* The first of lines [begin, end) that is not well formed, or -1. */
static int64_t oracle_check(const tp_sparse *s, int64_t begin, int64_t end, int64_t lines, int64_t units,
                            const int64_t *offsets, const uint8_t *indices) {
    for (int64_t l = begin; l < end; l++) {
        if (s->layout == TP_SPARSE_NM24) {
            const int64_t groups = (s->cols + 3) / 4, row = (groups + 1) / 2;
            for (int64_t g = 0; g < row * 2; g++) {
                const int nibble = g % 2 ? indices[l * row + g / 2] / 16 : indices[l * row + g / 2] % 16;
                const int first = nibble % 4, second = nibble / 4;
                if (g >= groups) {
                    if (nibble) return l;
                } else if (s->cols - g * 4 == 1) {
                    if (first != 0 || second != 1) return l;
                } else if (second <= first || g * 4 + second >= s->cols) {
                    return l;
                }
            }
            continue;
        }
        const int64_t a = offsets[l], b = offsets[l + 1];
        if ((l == 0 && a != 0) || a < 0 || b < a || b > units || (l == lines - 1 && b != units)) return l;
        if (s->layout == TP_SPARSE_BITMASK) {
            const int64_t row = (s->cols + 7) / 8;
            int64_t bits = 0;
            for (int64_t c = 0; c < row * 8; c++) {
                const int set = indices[l * row + c / 8] / (1 << c % 8) % 2;
                if (set && c >= s->cols) return l;
                bits += set;
            }
            if (bits != b - a) return l;
            continue;
        }
        int64_t last = -1;
        for (int64_t i = a; i < b; i++) {
            uint32_t wide;
            uint16_t distance;
            int64_t column;
            if (s->layout == TP_SPARSE_CSR16) {
                memcpy(&distance, indices + 2 * i, 2);
                if (i > a && distance == 0) return l;
                column = (i > a ? last : 0) + distance;
            } else {
                memcpy(&wide, indices + 4 * i, 4);
                column = wide;
            }
            if (column <= last) return l;
            if (column * (s->layout == TP_SPARSE_BSR ? s->block_cols : 1) >= s->cols) return l;
            last = column;
        }
    }
    return -1;
}

/* ---- random matrices ---- */

static const int64_t sizes[] = {0,  1,  2,  3,  4,  5,  7,  8,  9,  15, 16, 17,  31,  32,  33,  47,  48,
                                49, 63, 64, 65, 79, 80, 95, 96, 97, 127, 128, 129, 191, 192, 193, 255, 257};

static int64_t random_size(void) { return sizes[random_below(sizeof sizes / sizeof *sizes)]; }

/* Bits of which at least one is set, among them -0, NaN with payloads, and a single bit. */
static void random_value(uint8_t *p, int64_t size) {
    uint32_t bits = (uint32_t)random_bits();
    switch (random_below(6)) {
    case 0: bits = 1u << (size * 8 - 1); break;
    case 1: bits = 1u << random_below(size * 8); break;
    case 2: bits |= size == 4 ? 0x7f800000 : 0x7f80; break;
    }
    if (size < 4) bits &= (1u << size * 8) - 1;
    if (bits == 0) bits = 1;
    memcpy(p, &bits, (size_t)size);
}

enum { DENSITIES = 7 };
static const double densities[DENSITIES] = {0, 0.003, 0.05, 0.2, 0.5, 0.9, 1};

/* Fills rows and the gaps between them; what is in the gaps is never stored. */
static void fill(matrix *m, bool at_end, int offset) {
    const tp_sparse *s = &m->s;
    m->size = size_of(s->type);
    m->bytes = s->rows && s->cols ? (size_t)(((s->rows - 1) * s->stride + s->cols) * m->size) : 0;
    m->data = guarded_input(&dense_memory, m->bytes, at_end, offset);
    const double density = densities[random_below(DENSITIES)];
    const int64_t tile = random_below(4) ? 1 : (int64_t)1 << random_below(7);
    const uint64_t salt = random_bits();
    const bool at_most_two = s->layout == TP_SPARSE_NM24 && random_below(8);
    for (int64_t r = 0; r < s->rows; r++) {
        for (int64_t c = 0; c < s->cols; c++) {
            /* Tiles that are empty or full, so that there are empty blocks. */
            uint64_t h = salt ^ ((uint64_t)(r / tile) << 32 | (uint64_t)(c / tile));
            h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
            h = (h ^ h >> 27) * 0x94d049bb133111ebu;
            const bool full = (double)((h ^ h >> 31) >> 11) * 0x1p-53 < density;
            memset(element(m, r, c), 0, (size_t)m->size);
            if (full) random_value(element(m, r, c), m->size);
        }
        for (int64_t g = 0; at_most_two && g * 4 < s->cols; g++) {
            int n = 0;
            const int64_t first = random_below(4);
            for (int i = 0; i < 4; i++) {
                const int64_t c = g * 4 + (first + i) % 4;
                if (c >= s->cols || !is_stored(m, r, c)) continue;
                if (++n > 2) memset(element(m, r, c), 0, (size_t)m->size);
            }
        }
    }
}

static matrix random_matrix(int layout) {
    static const tp_dtype types[] = {TP_F32, TP_F16, TP_BF16, TP_I8, TP_U8};
    static const int64_t blocks[] = {1, 2, 3, 4, 5, 8, 12, 16, 31, 32, 63, 64};
    matrix m = {0};
    tp_sparse *s = &m.s;
    s->layout = layout;
    s->type = types[random_below(5)];
    const bool far = random_below(8) == 0;
    do {
        s->rows = far ? 1 + random_below(3) : random_size();
        s->cols = far ? 65500 + random_below(80) + random_below(2) * 65536 : random_size();
        if (random_below(20) == 0) s->rows = 1 + random_below(9), s->cols = 1000 + random_below(8000);
    } while (s->rows * s->cols > 400000);
    s->stride = s->cols + (random_below(2) ? random_below(40) : 0);
    if (layout == TP_SPARSE_BSR) {
        switch (random_below(3)) {
        case 0: s->block_rows = s->block_cols = 4 << random_below(2); break;
        default: s->block_rows = blocks[random_below(12)], s->block_cols = blocks[random_below(12)]; break;
        }
        if (far && s->block_rows > 8) s->block_rows = 8;
    }
    fill(&m, random_below(2), (int)random_below(4));
    if (far && random_below(2)) {
        /* One or two elements to a row, 65535 or 65536 apart. */
        for (int64_t r = 0; r < s->rows; r++) {
            memset(element(&m, r, 0), 0, (size_t)(s->cols * m.size));
            int64_t c = random_below(2) ? random_below(3) : 65534 + random_below(4);
            while (c < s->cols) {
                random_value(element(&m, r, c), m.size);
                c += 65534 + random_below(3);
            }
        }
    }
    return m;
}

/* ---- one case ---- */

/* An array to be written; of no bytes it may be null. */
static void *taken(const guarded *g, size_t bytes) {
    return bytes || random_below(2) ? guarded_take(g, bytes, random_below(2)) : NULL;
}

/* An array to be read. */
static void *given(const guarded *g, const void *from, size_t bytes) {
    void *p = taken(g, bytes);
    if (p) memcpy(p, from, bytes);
    return p;
}

static bool filled(const uint8_t *p, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        if (p[i] != GUARD_FILL) return false;
    return true;
}

static bool same_bytes(const void *a, const void *b, size_t bytes) { return bytes == 0 || !memcmp(a, b, bytes); }

/* Cuts [0, lines) at up to three places that are multiples of `step`, or nowhere; returns the number of ranges. */
static bool cut_nowhere;
static int cut(int64_t lines, int64_t step, int64_t *bounds) {
    int n = 0;
    bounds[0] = 0;
    for (int i = 0; i < 3 && !cut_nowhere && random_below(2); i++) {
        const int64_t at = random_below(lines / step + 1) * step;
        if (at >= bounds[n]) bounds[++n] = at;
    }
    bounds[++n] = lines;
    return n;
}

static void describe(char *text, size_t size, const tp_sparse *s, int tier) {
    snprintf(text, size, "%s %s type %d, %lld x %lld, stride %lld, blocks %lld x %lld", tier_name(tier),
             layout_names[s->layout], s->type, (long long)s->rows, (long long)s->cols, (long long)s->stride,
             (long long)s->block_rows, (long long)s->block_cols);
}

static void try_count(const matrix *m, const packed *want, int tier) {
    char text[200];
    int64_t bounds[5];
    describe(text, sizeof text, &m->s, tier);
    const int n = cut(want->lines, 1, bounds);
    for (int i = 0; i < n; i++) {
        const int64_t a = bounds[i], b = bounds[i + 1];
        bool fits = true;
        for (int64_t l = a; l < b; l++) fits &= want->fits[l];
        int64_t *counts = taken(&count_memory, (size_t)(b - a) * 8);
        const tp_status status = tp_sparse_count(&m->s, a, b, m->data, counts), expected = fits ? TP_OK : TP_ERR_LAYOUT;
        CHECK(status == expected, "%s: count is %s", text, tp_status_name(status));
        CHECK(!fits || same_bytes(counts, want->counts + a, (size_t)(b - a) * 8), "%s: counts", text);
        if (m->s.layout != TP_SPARSE_BITMASK) continue;
        const uint8_t *mask = given(&index_memory, want->indices, want->indices_size);
        for (int64_t l = a; l < b; l++) counts[l - a] = -1;
        CHECK(tp_sparse_count_mask(&m->s, a, b, mask, counts) == TP_OK, "%s: count_mask", text);
        CHECK(same_bytes(counts, want->counts + a, (size_t)(b - a) * 8), "%s: counts of the mask", text);
    }
}

static void try_pack(const matrix *m, const packed *want, int tier) {
    char text[200];
    int64_t bounds[5];
    describe(text, sizeof text, &m->s, tier);
    const bool none = m->s.layout == TP_SPARSE_NM24 && random_below(2);
    const int64_t *offsets = none ? NULL : given(&offset_memory, want->offsets, (size_t)(want->lines + 1) * 8);
    const int n = cut(want->lines, 1, bounds);
    for (int i = 0; i < n; i++) {
        const int64_t a = bounds[i], b = bounds[i + 1];
        bool fits = true;
        for (int64_t l = a; l < b; l++) fits &= want->fits[l];
        uint8_t *indices = taken(&index_memory, want->indices_size);
        uint8_t *values = taken(&value_memory, want->values_size);
        const tp_status status = tp_sparse_pack(&m->s, a, b, m->data, offsets, indices, values);
        CHECK(status == (fits ? TP_OK : TP_ERR_LAYOUT), "%s: pack is %s", text, tp_status_name(status));
        const int64_t *o = want->offsets, scale = want->index_row ? want->index_row : want->index_bytes;
        const size_t from = (size_t)((want->index_row ? a : o[a]) * scale), to = (size_t)((want->index_row ? b : o[b]) * scale);
        const size_t first = (size_t)(o[a] * want->unit_bytes), last = (size_t)(o[b] * want->unit_bytes);
        CHECK(filled(indices, 0, from) && filled(indices, to, want->indices_size), "%s: wrote indices of other lines", text);
        CHECK(filled(values, 0, first) && filled(values, last, want->values_size), "%s: wrote values of other lines", text);
        CHECK(!fits || to == from || !memcmp(indices + from, want->indices + from, to - from), "%s: indices", text);
        CHECK(!fits || last == first || !memcmp(values + first, want->values + first, last - first), "%s: values", text);
    }
}

static void try_unpack(const matrix *m, const packed *stored, int tier) {
    char text[200];
    int64_t bounds[5], bad;
    describe(text, sizeof text, &m->s, tier);
    const bool none = m->s.layout == TP_SPARSE_NM24 && random_below(2);
    const int64_t *offsets = none ? NULL : given(&offset_memory, stored->offsets, (size_t)(stored->lines + 1) * 8);
    const uint8_t *indices = given(&index_memory, stored->indices, stored->indices_size);
    const uint8_t *values = given(&value_memory, stored->values, stored->values_size);
    const int64_t high = m->s.layout == TP_SPARSE_BSR ? m->s.block_rows : 1, row = m->s.cols * m->size;
    const int n = cut(stored->lines, 1, bounds);
    for (int i = 0; i < n; i++) {
        const int64_t a = bounds[i], b = bounds[i + 1], units = stored->units;
        const tp_status status = tp_sparse_check(&m->s, a, b, units, offsets, indices, &bad);
        CHECK(status == TP_OK && bad == -1, "%s: check is %s at line %lld", text, tp_status_name(status), (long long)bad);
        uint8_t *out = taken(&out_memory, m->bytes);
        CHECK(tp_sparse_unpack(&m->s, a, b, offsets, indices, values, out) == TP_OK, "%s: unpack", text);
        bool same = true, kept = true;
        for (int64_t r = 0; r < m->s.rows && row; r++) {
            const size_t at = (size_t)(r * m->s.stride * m->size), end = at + (size_t)row;
            const size_t next = r + 1 < m->s.rows ? at + (size_t)(m->s.stride * m->size) : end;
            if (r >= a * high && r < b * high)
                same &= !memcmp(out + at, m->data + at, (size_t)row);
            else
                kept &= filled(out, at, end);
            kept &= filled(out, end, next);
        }
        CHECK(same, "%s: not restored", text);
        CHECK(kept, "%s: wrote outside of its rows", text);
    }
}

/* What is emulated takes long: of the larger matrices a device gets few. */
static int last_tier;

/* Random bytes in offsets and indices: found, or harmless. */
static void try_mutations(const matrix *m, const packed *good) {
    char text[200];
    const size_t offset_size = m->s.layout == TP_SPARSE_NM24 ? 0 : (size_t)(good->lines + 1) * 8;
    if (good->lines == 0 || offset_size + good->indices_size == 0) return;
    for (int round = 0; round < 6; round++) {
        int64_t *offsets = given(&offset_memory, good->offsets, (size_t)(good->lines + 1) * 8);
        uint8_t *indices = given(&index_memory, good->indices, good->indices_size);
        for (int64_t k = 1 + random_below(2); k > 0; k--) {
            uint8_t *at = (uint8_t *)offsets + random_below((int64_t)offset_size + 1);
            if (good->indices_size && (offset_size == 0 || random_below(2)))
                at = indices + random_below((int64_t)good->indices_size);
            else if (offset_size == 0 || at == (uint8_t *)offsets + offset_size)
                continue;
            *at ^= (uint8_t)(random_below(2) ? UINT64_C(1) << random_below(8) : random_bits());
        }
        const uint8_t *values = given(&value_memory, good->values, good->values_size);
        int64_t bounds[5];
        const int n = cut(good->lines, 1, bounds);
        bool valid = true;
        const int last = round < 2 ? last_tier : test_tiers - 1;
        for (int tier = 0; tier <= last; tier++) {
            use_tier(tier);
            describe(text, sizeof text, &m->s, tier);
            for (int i = 0; i < n; i++) {
                int64_t bad;
                const int64_t a = bounds[i], b = bounds[i + 1];
                const tp_status status = tp_sparse_check(&m->s, a, b, good->units, offsets, indices, &bad);
                const int64_t want = oracle_check(&m->s, a, b, good->lines, good->units, offsets, indices);
                CHECK(status == (want < 0 ? TP_OK : TP_ERR_FORMAT) && bad == want, "%s: %s at line %lld, not %lld", text,
                      tp_status_name(status), (long long)bad, (long long)want);
                valid &= status == TP_OK;
            }
        }
        for (int tier = 0; tier <= last && valid; tier++) {
            use_tier(tier);
            describe(text, sizeof text, &m->s, tier);
            uint8_t *out = taken(&out_memory, m->bytes);
            CHECK(tp_sparse_unpack(&m->s, 0, good->lines, offsets, indices, values, out) == TP_OK, "%s: unpack", text);
            bool kept = true;
            for (int64_t r = 0; r + 1 < m->s.rows && m->s.cols; r++)
                kept &= filled(out, (size_t)((r * m->s.stride + m->s.cols) * m->size), (size_t)((r + 1) * m->s.stride * m->size));
            CHECK(kept, "%s: wrote between rows", text);
        }
    }
}

static void try_survey(const matrix *m, int tier) {
    char text[200];
    int64_t bounds[5];
    describe(text, sizeof text, &m->s, tier);
    tp_sparse s = m->s;
    s.layout = -1; /* not used, as the blocks are not */
    const int n = cut(s.rows, 8, bounds);
    for (int i = 0; i < n; i++) {
        tp_survey got;
        const tp_survey want = oracle_survey(m, bounds[i], bounds[i + 1]);
        CHECK(tp_sparse_survey(&s, bounds[i], bounds[i + 1], m->data, &got) == TP_OK, "%s: survey", text);
        CHECK(!memcmp(&got, &want, sizeof got), "%s: survey of rows %lld to %lld: %lld %lld %lld %lld %lld", text,
              (long long)bounds[i], (long long)bounds[i + 1], (long long)got.entries, (long long)got.widest,
              (long long)got.overfull, (long long)got.blocks4x4, (long long)got.blocks8x8);
    }
}

static void check_bytes(const matrix *m, const packed *p) {
    int64_t offsets, indices, values;
    CHECK(tp_sparse_bytes(&m->s, p->units, &offsets, &indices, &values) == TP_OK, "bytes");
    CHECK(offsets == (m->s.layout == TP_SPARSE_NM24 ? 0 : (p->lines + 1) * 8) && indices == (int64_t)p->indices_size &&
          values == (int64_t)p->values_size, "%s: sizes of %lld x %lld", layout_names[m->s.layout],
          (long long)m->s.rows, (long long)m->s.cols);
}

/* Returns whether the matrix fits its layout. */
static bool try_matrix(const matrix *m) {
    last_tier = m->s.rows * m->s.cols < 30000 || random_below(12) == 0 ? test_tiers : test_tiers - 1;
    packed p = oracle_pack(m);
    bool fits = true;
    for (int64_t l = 0; l < p.lines; l++) fits &= p.fits[l];
    check_bytes(m, &p);
    placed_indices = p.indices_size;
    placed_values = p.values_size;
    for (int tier = 0; tier <= last_tier; tier++) {
        use_tier(tier);
        try_survey(m, tier);
        try_count(m, &p, tier);
        try_pack(m, &p, tier);
        if (fits) try_unpack(m, &p, tier);
    }
    if (fits) try_mutations(m, &p);
    placed_indices = placed_values = 0;
    packed_free(&p);
    return fits;
}

static void random_cases(void) {
    const int count = 1500;
    int unfit = 0;
    for (int i = 0; i < count; i++) {
        const matrix m = random_matrix(TP_SPARSE_CSR16 + i % 5);
        unfit += !try_matrix(&m);
    }
    printf("%d random cases, %d of which do not fit their layout\n", count, unfit);
}

/* More than the caches hold, which takes other ways. */
static void large_cases(void) {
    static const tp_dtype types[] = {TP_F32, TP_BF16, TP_I8};
    cut_nowhere = true;
    for (int i = 0; i < 15; i++) {
        matrix m = {.s = {.layout = TP_SPARSE_CSR16 + i % 5, .type = types[i / 5]}};
        m.s.cols = 900 + random_below(300);
        m.s.rows = (1200 << 10) / (m.s.cols * size_of(m.s.type));
        m.s.stride = m.s.cols + random_below(3);
        if (m.s.layout == TP_SPARSE_BSR) m.s.block_rows = m.s.block_cols = 4;
        fill(&m, random_below(2), (int)random_below(4));
        try_matrix(&m);
    }
    cut_nowhere = false;
}

/* ---- by name ---- */

static tp_sparse small_spec(int layout) {
    tp_sparse s = {.rows = 9, .cols = 13, .stride = 14, .type = TP_F32, .layout = layout};
    if (layout == TP_SPARSE_BSR) s.block_rows = s.block_cols = 4;
    return s;
}

static void check_sparse_survey(void) {
    tp_sparse s = small_spec(0);
    float in[9 * 14] = {0};
    tp_survey got;
    in[1 * 14 + 7] = -0.0f;
    in[13] = 1; /* between rows */
    CHECK(tp_sparse_survey(&s, 0, 9, in, &got) == TP_OK && got.entries == 1 && got.widest == 7 && got.overfull == 0 &&
          got.blocks4x4 == 1 && got.blocks8x8 == 1, "-0 is stored");
    CHECK(tp_sparse_survey(&s, 0, 7, in, &got) == TP_ERR_RANGE, "end within eight rows");
    CHECK(tp_sparse_survey(&s, 4, 9, in, &got) == TP_ERR_RANGE, "begin within eight rows");
    CHECK(tp_sparse_survey(&s, 8, 9, in, &got) == TP_OK, "the last rows");
    CHECK(tp_sparse_survey(&s, 0, 16, in, &got) == TP_ERR_RANGE, "beyond the rows");
    CHECK(tp_sparse_survey(&s, 0, 9, NULL, &got) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_sparse_survey(&s, 0, 9, in, NULL) == TP_ERR_ARGUMENT, "null result");
    CHECK(tp_sparse_survey(NULL, 0, 9, in, &got) == TP_ERR_ARGUMENT, "null spec");
    s.type = TP_I4;
    CHECK(tp_sparse_survey(&s, 0, 9, in, &got) == TP_ERR_TYPE, "type");
    s = small_spec(0);
    s.cols = 0;
    CHECK(tp_sparse_survey(&s, 0, 9, NULL, &got) == TP_OK && got.entries == 0 && got.blocks8x8 == 0, "no columns");
}

static void expect(tp_status expected, const char *what, const tp_sparse *s) {
    float in[9 * 14] = {0};
    int64_t counts[9];
    const tp_status status = tp_sparse_count(s, 0, 1, in, counts);
    CHECK(status == expected, "%s: %s, expected %s", what, tp_status_name(status), tp_status_name(expected));
}

#define EXPECT(expected, ...)                                                                                         \
    do {                                                                                                              \
        tp_sparse s = small_spec(TP_SPARSE_CSR16);                                                                    \
        __VA_ARGS__;                                                                                                  \
        expect(expected, #__VA_ARGS__, &s);                                                                           \
    } while (0)

static void check_sparse_count(void) {
    EXPECT(TP_OK, (void)s);
    EXPECT(TP_ERR_TYPE, s.type = 0);
    EXPECT(TP_ERR_TYPE, s.type = TP_I4);
    EXPECT(TP_ERR_TYPE, s.type = 8);
    EXPECT(TP_ERR_ARGUMENT, s.layout = 0);
    EXPECT(TP_ERR_ARGUMENT, s.layout = 6);
    EXPECT(TP_ERR_SHAPE, s.rows = -1);
    EXPECT(TP_ERR_SHAPE, s.cols = -1);
    EXPECT(TP_ERR_SHAPE, s.stride = 12);
    EXPECT(TP_ERR_SHAPE, s.cols = s.stride = INT64_C(1) << 32);
    EXPECT(TP_ERR_SHAPE, s.rows = INT64_MAX);
    EXPECT(TP_ERR_SHAPE, s.stride = INT64_MAX);
    EXPECT(TP_ERR_SHAPE, s.stride = INT64_C(1) << 57, s.rows = 8);
    EXPECT(TP_OK, s.stride = (INT64_C(1) << 57) - 1, s.rows = 8);
    EXPECT(TP_ERR_SHAPE, s.block_rows = 1);
    EXPECT(TP_ERR_SHAPE, s.block_cols = 1);
    EXPECT(TP_ERR_SHAPE, s.layout = TP_SPARSE_BSR);
    EXPECT(TP_ERR_SHAPE, s.layout = TP_SPARSE_BSR, s.block_rows = 65, s.block_cols = 4);
    EXPECT(TP_ERR_SHAPE, s.layout = TP_SPARSE_BSR, s.block_rows = 4, s.block_cols = 65);
    EXPECT(TP_ERR_SHAPE, s.layout = TP_SPARSE_BSR, s.block_rows = 4, s.block_cols = 0);
    EXPECT(TP_OK, s.layout = TP_SPARSE_BSR, s.block_rows = 4, s.block_cols = 64);

    const tp_sparse s = small_spec(TP_SPARSE_BSR);
    float in[9 * 14] = {0};
    int64_t counts[9];
    CHECK(tp_sparse_count(&s, 0, 3, in, counts) == TP_OK, "rows of blocks");
    CHECK(tp_sparse_count(&s, 0, 4, in, counts) == TP_ERR_RANGE, "beyond the rows of blocks");
    CHECK(tp_sparse_count(&s, 2, 1, in, counts) == TP_ERR_RANGE, "begin above end");
    CHECK(tp_sparse_count(&s, -1, 1, in, counts) == TP_ERR_RANGE, "begin below 0");
    CHECK(tp_sparse_count(&s, 0, 3, NULL, counts) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_sparse_count(&s, 0, 3, in, NULL) == TP_ERR_ARGUMENT, "null counts");
    CHECK(tp_sparse_count(NULL, 0, 3, in, counts) == TP_ERR_ARGUMENT, "null spec");
    CHECK(tp_sparse_count(&s, 1, 1, NULL, NULL) == TP_OK, "nothing");
}

static void check_sparse_count_mask(void) {
    tp_sparse s = small_spec(TP_SPARSE_BITMASK);
    uint8_t mask[18] = {0};
    int64_t counts[9];
    mask[3] = 0xff;
    CHECK(tp_sparse_count_mask(&s, 0, 9, mask, counts) == TP_OK && counts[1] == 5, "bits of columns only");
    CHECK(tp_sparse_count_mask(&s, 0, 10, mask, counts) == TP_ERR_RANGE, "range");
    CHECK(tp_sparse_count_mask(&s, 0, 9, NULL, counts) == TP_ERR_ARGUMENT, "null mask");
    CHECK(tp_sparse_count_mask(&s, 0, 9, mask, NULL) == TP_ERR_ARGUMENT, "null counts");
    s.layout = TP_SPARSE_CSR32;
    CHECK(tp_sparse_count_mask(&s, 0, 9, mask, counts) == TP_ERR_ARGUMENT, "layout");
}

static void check_sparse_pack(void) {
    tp_sparse s = small_spec(TP_SPARSE_CSR32);
    float in[9 * 14] = {0}, values[9 * 14];
    uint32_t indices[9 * 14];
    int64_t offsets[10] = {0}, a, b, c;
    CHECK(tp_sparse_pack(&s, 0, 9, in, offsets, NULL, NULL) == TP_OK, "no units");
    CHECK(tp_sparse_pack(&s, 0, 9, in, NULL, indices, values) == TP_ERR_ARGUMENT, "null offsets");
    CHECK(tp_sparse_pack(&s, 0, 9, NULL, offsets, indices, values) == TP_ERR_ARGUMENT, "null input");
    CHECK(tp_sparse_pack(NULL, 0, 9, in, offsets, indices, values) == TP_ERR_ARGUMENT, "null spec");
    CHECK(tp_sparse_pack(&s, 0, 10, in, offsets, indices, values) == TP_ERR_RANGE, "range");
    in[3] = 1;
    for (int i = 1; i < 10; i++) offsets[i] = 1;
    CHECK(tp_sparse_pack(&s, 0, 9, in, offsets, NULL, values) == TP_ERR_ARGUMENT, "null indices");
    CHECK(tp_sparse_pack(&s, 0, 9, in, offsets, indices, NULL) == TP_ERR_ARGUMENT, "null values");
    CHECK(tp_sparse_pack(&s, 1, 9, in, offsets, NULL, NULL) == TP_OK, "no units in the range");
    s.layout = TP_SPARSE_NM24;
    in[4] = in[5] = in[6] = 1;
    CHECK(tp_sparse_pack(&s, 0, 9, in, NULL, indices, values) == TP_ERR_LAYOUT, "three in a group");
    CHECK(tp_sparse_pack(&s, 0, 9, in, NULL, NULL, values) == TP_ERR_ARGUMENT, "null nibbles");

    s = small_spec(TP_SPARSE_CSR32);
    CHECK(tp_sparse_bytes(&s, -1, &a, &b, &c) == TP_ERR_SHAPE, "negative units");
    CHECK(tp_sparse_bytes(&s, INT64_C(1) << 60, &a, &b, &c) == TP_OK && b == INT64_C(1) << 62, "2^62 bytes");
    CHECK(tp_sparse_bytes(&s, (INT64_C(1) << 60) + 1, &a, &b, &c) == TP_ERR_SHAPE, "more");
    CHECK(tp_sparse_bytes(&s, 1, NULL, &b, &c) == TP_ERR_ARGUMENT, "null result");
    s = small_spec(TP_SPARSE_BSR);
    CHECK(tp_sparse_bytes(&s, INT64_C(1) << 57, &a, &b, &c) == TP_ERR_SHAPE, "many blocks");
    s = (tp_sparse){.rows = INT64_MAX, .type = TP_I8, .layout = TP_SPARSE_CSR16};
    CHECK(tp_sparse_bytes(&s, 0, &a, &b, &c) == TP_ERR_SHAPE, "many rows without columns");
    s = (tp_sparse){.rows = INT64_C(1) << 59, .cols = 1, .stride = 1, .type = TP_F32, .layout = TP_SPARSE_NM24};
    CHECK(tp_sparse_bytes(&s, -1, &a, &b, &c) == TP_OK && c == INT64_C(1) << 62 && a == 0, "2:4 has no units");
    s.rows++;
    CHECK(tp_sparse_bytes(&s, -1, &a, &b, &c) == TP_ERR_SHAPE, "fillers beyond 2^62 bytes");
}

static void bad(const tp_sparse *s, int64_t units, const int64_t *offsets, const void *indices, int64_t line,
                const char *what) {
    for (int tier = 0; tier <= test_tiers; tier++) {
        int64_t got;
        use_tier(tier);
        const tp_status status = tp_sparse_check(s, 0, s->layout == TP_SPARSE_BSR ? 2 : s->rows, units, offsets, indices, &got);
        CHECK(status == (line < 0 ? TP_OK : TP_ERR_FORMAT) && got == line, "%s: %s: %s, line %lld", tier_name(tier),
              what, tp_status_name(status), (long long)got);
    }
}

static void check_sparse_check(void) {
    tp_sparse s = {.rows = 3, .cols = 9, .stride = 9, .type = TP_I8, .layout = TP_SPARSE_CSR32};
    const int64_t good[] = {0, 2, 2, 5};
    bad(&s, 5, good, (const uint32_t[]){0, 8, 1, 2, 7}, -1, "well formed");
    bad(&s, 5, (const int64_t[]){1, 2, 2, 5}, (const uint32_t[]){0, 8, 1, 2, 7}, 0, "does not start at 0");
    bad(&s, 5, (const int64_t[]){-1, 2, 2, 5}, (const uint32_t[]){0, 8, 1, 2, 7}, 0, "below 0");
    bad(&s, 5, (const int64_t[]){0, 3, 2, 5}, (const uint32_t[]){0, 2, 8, 2, 7}, 1, "falls");
    bad(&s, 5, (const int64_t[]){0, 2, 9, 5}, (const uint32_t[]){0, 8, 1, 2, 7}, 1, "beyond the units");
    bad(&s, 5, (const int64_t[]){0, 2, 2, 4}, (const uint32_t[]){0, 8, 1, 2, 7}, 2, "ends early");
    bad(&s, 4, good, (const uint32_t[]){0, 8, 1, 2}, 2, "ends late");
    bad(&s, 5, good, (const uint32_t[]){0, 9, 1, 2, 7}, 0, "column outside");
    bad(&s, 5, good, (const uint32_t[]){0, 8, 1, 2, UINT32_MAX}, 2, "column far outside");
    bad(&s, 5, good, (const uint32_t[]){0, 8, 1, 1, 7}, 2, "column twice");
    bad(&s, 5, good, (const uint32_t[]){8, 0, 1, 2, 7}, 0, "columns fall");
    s.layout = TP_SPARSE_CSR16;
    bad(&s, 5, good, (const uint16_t[]){0, 8, 1, 1, 6}, -1, "well formed");
    bad(&s, 5, good, (const uint16_t[]){0, 9, 1, 1, 5}, 0, "distance too wide");
    bad(&s, 5, good, (const uint16_t[]){9, 1, 1, 1, 5}, 0, "first distance too wide");
    bad(&s, 5, good, (const uint16_t[]){0, 8, 1, 0, 5}, 2, "distance 0");
    bad(&s, 5, good, (const uint16_t[]){0, 8, 1, 65535, 1}, 2, "distance that wraps around");
    s.layout = TP_SPARSE_BSR;
    s.block_rows = 2;
    s.block_cols = 4;
    bad(&s, 3, (const int64_t[]){0, 1, 3}, (const uint32_t[]){2, 0, 1}, -1, "well formed");
    bad(&s, 3, (const int64_t[]){0, 1, 3}, (const uint32_t[]){3, 0, 1}, 0, "block outside");
    bad(&s, 3, (const int64_t[]){0, 1, 3}, (const uint32_t[]){2, 1, 0}, 1, "blocks fall");
    s.block_rows = s.block_cols = 0;
    s.layout = TP_SPARSE_BITMASK;
    bad(&s, 5, good, (const uint8_t[]){0x41, 0, 0, 0, 0x81, 1}, -1, "well formed");
    bad(&s, 5, good, (const uint8_t[]){0x41, 0, 0, 0, 0x81, 2}, 2, "bit beyond the columns");
    bad(&s, 5, good, (const uint8_t[]){0x41, 1, 0, 0, 0x81, 1}, 0, "a bit too many");
    bad(&s, 5, good, (const uint8_t[]){0x41, 0, 0, 0, 0x80, 1}, 2, "a bit too few");
    s.layout = TP_SPARSE_NM24;
    bad(&s, 0, NULL, (const uint8_t[]){0xe4, 4, 0x98, 4, 0xdc, 4}, -1, "well formed");
    bad(&s, 0, NULL, (const uint8_t[]){0xe4, 4, 0x91, 4, 0xdc, 4}, 1, "positions fall");
    bad(&s, 0, NULL, (const uint8_t[]){0xe4, 4, 0x58, 4, 0xdc, 4}, 1, "position twice");
    bad(&s, 0, NULL, (const uint8_t[]){0xe4, 4, 0x98, 4, 0xdc, 8}, 2, "a filler that is not the lowest position");
    bad(&s, 0, NULL, (const uint8_t[]){0xe4, 0x44, 0x98, 4, 0xdc, 4}, 0, "the unused nibble");
    s.cols = 7;
    bad(&s, 0, NULL, (const uint8_t[]){0xe4, 0xe4, 0xe4}, 0, "column outside");
    bad(&s, 0, NULL, (const uint8_t[]){0x9e, 0x84, 0x44}, -1, "well formed");

    int64_t line, offsets[] = {1};
    s = (tp_sparse){.type = TP_F32, .layout = TP_SPARSE_CSR32};
    CHECK(tp_sparse_check(&s, 0, 0, 0, offsets, NULL, &line) == TP_ERR_FORMAT && line == 0, "no lines, offset 1");
    offsets[0] = 0;
    CHECK(tp_sparse_check(&s, 0, 0, 0, offsets, NULL, &line) == TP_OK && line == -1, "no lines");
    CHECK(tp_sparse_check(&s, 0, 0, 1, offsets, NULL, &line) == TP_ERR_FORMAT && line == 0, "no lines, one unit");
    CHECK(tp_sparse_check(&s, 0, 0, -1, offsets, NULL, &line) == TP_ERR_SHAPE, "negative units");
    CHECK(tp_sparse_check(&s, 0, 0, 0, NULL, NULL, &line) == TP_ERR_ARGUMENT, "null offsets");
    CHECK(tp_sparse_check(&s, 0, 0, 0, offsets, NULL, NULL) == TP_ERR_ARGUMENT, "null result");
    CHECK(tp_sparse_check(&s, 0, 1, 0, offsets, NULL, &line) == TP_ERR_RANGE, "range");
    s = small_spec(TP_SPARSE_CSR32);
    CHECK(tp_sparse_check(&s, 0, 9, 1, good, NULL, &line) == TP_ERR_ARGUMENT, "null indices");
}

static void check_sparse_unpack(void) {
    tp_sparse s = small_spec(TP_SPARSE_CSR32);
    float out[9 * 14], values[1] = {1};
    uint32_t indices[1] = {2};
    int64_t offsets[10] = {0};
    CHECK(tp_sparse_unpack(&s, 0, 9, offsets, NULL, NULL, out) == TP_OK, "no units");
    CHECK(tp_sparse_unpack(&s, 0, 9, NULL, NULL, NULL, out) == TP_ERR_ARGUMENT, "null offsets");
    CHECK(tp_sparse_unpack(&s, 0, 9, offsets, NULL, NULL, NULL) == TP_ERR_ARGUMENT, "null output");
    CHECK(tp_sparse_unpack(NULL, 0, 9, offsets, NULL, NULL, out) == TP_ERR_ARGUMENT, "null spec");
    CHECK(tp_sparse_unpack(&s, 3, 10, offsets, NULL, NULL, out) == TP_ERR_RANGE, "range");
    offsets[9] = 1;
    CHECK(tp_sparse_unpack(&s, 0, 9, offsets, NULL, values, out) == TP_ERR_ARGUMENT, "null indices");
    CHECK(tp_sparse_unpack(&s, 0, 9, offsets, indices, NULL, out) == TP_ERR_ARGUMENT, "null values");
    CHECK(tp_sparse_unpack(&s, 0, 8, offsets, NULL, NULL, out) == TP_OK, "no units in the range");
    CHECK(tp_sparse_unpack(&s, 4, 4, NULL, NULL, NULL, NULL) == TP_OK, "nothing");
}

/* Every kernel of the list has a check above and a variant of its own in every tier of this build. */
static void check_list(void) {
#define VARIANTS(name, params)                                                                                        \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++)                                                                 \
        CHECK(tp_sparse_tables[tier].name && (tier == 0 || tp_sparse_tables[tier].name != tp_sparse_tables[0].name),  \
              "%s of tier %s", #name, tp_tier_name(tier));                                                            \
    printf("%-18s", #name);                                                                                           \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++) printf(" %s%s", tp_tier_name(tier), tier < test_tiers ? "" : "(skipped)"); \
    printf(" cuda\n");                                                                                                \
    for (int tier = 0; tier <= test_tiers; tier++) {                                                                   \
        use_tier(tier);                                                                                               \
        all_on_host = true;                                                                                           \
        check_##name();                                                                                               \
        all_on_host = false;                                                                                          \
    }
    TP_SPARSE_KERNELS(VARIANTS)
}

int main(void) {
    test_start("test_sparse");
    const size_t large = 4u << 20;
    dense_memory = guarded_new(large);
    offset_memory = guarded_new(large);
    index_memory = guarded_new(2 * large);
    value_memory = guarded_new(8 * large);
    out_memory = guarded_new(large);
    count_memory = guarded_new(large);
    while (test_round()) {
        check_list();
        random_cases();
        large_cases();
    }
    check_calls();
    return test_end();
}
