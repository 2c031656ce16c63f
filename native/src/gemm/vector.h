/*
 * The loops of the vector tiers. A tier's file defines its lanes (see lanes512.h for the list) and the sizes of its tiles
 *     ROWS      rows of C that are held in registers, by VECTORS vectors of columns
 *     UNIT_K    int8 elements of a 32-bit unit: 2 (widened to int16), 4 (VNNI)
 *     FLOATS    defined if it has tiles of f32 and f64 too
 * and includes this. Packing works on 256 bits in every tier: it moves units of 32 or 64 bits about.
 */
#include <string.h>

enum {
    VECTORS = 2,
    BLOCK_ROWS = 192 / ROWS * ROWS, /* with its block of k about 200 KB, for the L2 cache */
    I8_BLOCK_UNITS = 1024 / UNIT_K,
    I32_COLUMNS = VECTORS * LANES32
};

/* What is packed: how a unit comes from memory. S8_WIDE: 2 int8 as int16; S8: 4 int8; U8: 4 int8, 128 added. */
typedef enum kind { F32, F64, S8_WIDE, S8, U8 } kind;

INLINE int size_of(kind type) { return type == F32 ? 4 : type == F64 ? 8 : 1; }
INLINE int unit_bytes(kind type) { return type == F64 ? 8 : 4; }
INLINE int unit_k(kind type) { return type == S8_WIDE ? 2 : type == S8 || type == U8 ? 4 : 1; }
INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE void prefetch(uintptr_t p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }

#define UNROLL _Pragma("GCC unroll 16")

/* ---- packing ---- */

INLINE __m256i load_any(const char *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE __m256i load_first(const char *p, int64_t bytes) {
    char x[32] = {0};
    if (bytes > 0) memcpy(x, p, (size_t)bytes);
    return load_any(x);
}

/* 32 bytes of units along k, from n elements of one line; zeros if there are fewer. */
INLINE __m256i units_along(kind type, const char *p, int64_t n) {
    const __m256i flip = _mm256_set1_epi8(-128);
    if (type == S8_WIDE) {
        __m128i x;
        if (n >= 16)
            x = _mm_loadu_si128((const __m128i *)p);
        else
            x = _mm256_castsi256_si128(load_first(p, n));
        return _mm256_cvtepi8_epi16(x);
    }
    const int64_t bytes = n * size_of(type);
    const __m256i x = bytes >= 32 ? load_any(p) : load_first(p, bytes);
    return type == U8 ? _mm256_xor_si256(x, flip) : x;
}

/* 32 bytes of one unit each of neighbouring lines, of which there are n; k elements, `step` bytes apart, are there. */
INLINE __m256i units_across(kind type, const char *p, int64_t step, int64_t k, int64_t n) {
    if (type == F32 || type == F64) {
        const int64_t bytes = n * size_of(type);
        return bytes >= 32 ? load_any(p) : load_first(p, bytes);
    }
    __m128i x[4];
    for (int i = 0; i < unit_k(type); i++) {
        if (i >= k || n <= 0)
            x[i] = _mm_setzero_si128();
        else if (n >= 8)
            x[i] = _mm_loadl_epi64((const __m128i *)(p + i * step));
        else
            x[i] = _mm256_castsi256_si128(load_first(p + i * step, n));
    }
    const __m128i low = _mm_unpacklo_epi8(x[0], x[1]);
    if (type == S8_WIDE) return _mm256_cvtepi8_epi16(low);
    const __m128i high = _mm_unpacklo_epi8(x[2], x[3]);
    const __m256i all = _mm256_setr_m128i(_mm_unpacklo_epi16(low, high), _mm_unpackhi_epi16(low, high));
    return type == U8 ? _mm256_xor_si256(all, _mm256_set1_epi8(-128)) : all;
}

/* x[line] holding units of k becomes x[k] holding units of lines. */
INLINE void transpose(kind type, __m256i x[8]) {
    __m256i y[8];
    if (type == F64) {
        for (int i = 0; i < 4; i += 2) {
            y[i] = _mm256_unpacklo_epi64(x[i], x[i + 1]);
            y[i + 1] = _mm256_unpackhi_epi64(x[i], x[i + 1]);
        }
        for (int i = 0; i < 2; i++) {
            x[i] = _mm256_permute2x128_si256(y[i], y[i + 2], 0x20);
            x[i + 2] = _mm256_permute2x128_si256(y[i], y[i + 2], 0x31);
        }
        return;
    }
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        x[i] = _mm256_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm256_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm256_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm256_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        y[i] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x20);
        y[i + 4] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x31);
    }
    for (int i = 0; i < 8; i++) x[i] = y[i];
}

/*
 * Stores of whole registers run over the end of a line of a panel that is no multiple of their width, into lines that are
 * written later; at the end of the panel into space kept free for it.
 */
INLINE int64_t a_panel_bytes(int64_t height, int64_t units, int bytes) { return (height * units * bytes + 32 + 63) / 64 * 64; }

/*
 * A panel of `height` lines, each contiguous in memory, of which `there` exist, at least one; the rest is never used, and a copy
 * of the last. Registers' worths of lines are taken from the last to the first, since they run over into the first.
 */
INLINE void pack_along(kind type, const char *from, int64_t stride, int64_t height, int64_t there, int64_t k, char *to) {
    const int width = 32 / unit_bytes(type), size = size_of(type);
    const int64_t line = height * unit_bytes(type), step = width * unit_k(type);
    for (int64_t g = (height - 1) / width * width; g >= 0; g -= width) {
        const char *row[8];
        char *out = to + g * unit_bytes(type);
        int64_t i = 0;
        __m256i x[8];
        for (int r = 0; r < width; r++) row[r] = from + smaller(g + r, there - 1) * stride;
        for (; i + step <= k; i += step) {
            for (int r = 0; r < width; r++) x[r] = units_along(type, row[r] + i * size, step);
            transpose(type, x);
            for (int u = 0; u < width; u++, out += line) _mm256_storeu_si256((__m256i *)out, x[u]);
        }
        if (i == k) continue;
        for (int r = 0; r < width; r++) x[r] = units_along(type, row[r] + i * size, k - i);
        transpose(type, x);
        for (int u = 0; i < k; u++, i += unit_k(type), out += line) _mm256_storeu_si256((__m256i *)out, x[u]);
    }
}

/*
 * Panels of the same height whose lines lie across the rows of memory, `there` of them up to the end of a row. Rows are far
 * apart, so what a visit to one brings into the cache should be used whole, by many panels, and prefetched, since each is
 * on a page of its own.
 */
enum { TOGETHER = 16, ROWS_AHEAD = 8 };

INLINE void pack_across(kind type, const char *from, int64_t stride, int64_t panels, int64_t height, int64_t there,
                        int64_t k, char *to, int64_t panel_bytes) {
    const int width = 32 / unit_bytes(type), size = size_of(type);
    const bool whole = (panels - 1) * height + (height + width - 1) / width * width <= there;
    for (int64_t i = 0; i < k; i += unit_k(type), to += height * unit_bytes(type)) {
        const char *row = from + i * stride;
        for (int r = 0; r < unit_k(type); r++)
            for (int64_t at = 0; at < panels * height * size; at += 64)
                prefetch((uintptr_t)row + (uintptr_t)((r + ROWS_AHEAD) * stride + at));
        if (whole && i + unit_k(type) <= k) {
            for (int64_t n = 0; n < panels; n++, row += height * size)
                for (int64_t g = 0; g < height; g += width)
                    _mm256_storeu_si256((__m256i *)(to + n * panel_bytes + g * unit_bytes(type)),
                                        units_across(type, row + g * size, stride, unit_k(type), width));
        } else {
            for (int64_t n = 0; n < panels; n++, row += height * size)
                for (int64_t g = 0; g < height; g += width)
                    _mm256_storeu_si256((__m256i *)(to + n * panel_bytes + g * unit_bytes(type)),
                                        units_across(type, row + g * size, stride, k - i, there - n * height - g));
        }
    }
}

/* Rows [begin, end) of op(A) are cut into panels of up to ROWS rows that differ by at most one. */
INLINE int64_t row_panels(int64_t rows) { return (rows + ROWS - 1) / ROWS; }
INLINE int64_t height_of(int64_t rows, int64_t panel) {
    const int64_t panels = row_panels(rows);
    return rows / panels + (panel < rows % panels);
}

/* Rows [begin, end) of op(A), elements [k0, k1) of their sums, panel after panel. */
INLINE void pack_a(kind type, const tp_gemm_spec *s, const void *a, int64_t begin, int64_t end, int64_t k0, int64_t k1,
                   char *to) {
    const int64_t stride = s->a_stride * size_of(type), rows = end - begin, panels = row_panels(rows);
    const int64_t units = (k1 - k0 + unit_k(type) - 1) / unit_k(type);
    const char *from = a;
    if (k0 == k1) return; /* without elements A and B may be null */
    if (s->form != TP_GEMM_ATB) {
        from += begin * stride + k0 * size_of(type);
        for (int64_t p = 0; p < panels; p++) {
            const int64_t height = height_of(rows, p);
            pack_along(type, from, stride, height, height, k1 - k0, to);
            from += height * stride;
            to += a_panel_bytes(height, units, unit_bytes(type));
        }
        return;
    }
    from += k0 * stride + begin * size_of(type);
    for (int64_t p = 0, row = 0; p < panels;) {
        /* The first rows % panels panels are one higher. */
        const int64_t height = height_of(rows, p), bytes = a_panel_bytes(height, units, unit_bytes(type));
        const int64_t last = p < rows % panels ? rows % panels : panels, n = smaller(last - p, TOGETHER);
        pack_across(type, from + row * size_of(type), stride, n, height, s->m - begin - row, k1 - k0, to, bytes);
        p += n;
        row += n * height;
        to += n * bytes;
    }
}

/* Panels of B, each `head` bytes behind the one before it. */
INLINE void pack_b(kind type, const tp_gemm_spec *s, int64_t columns, int64_t head, int64_t first, int64_t last,
                   const void *b, void *packed) {
    const int64_t stride = s->b_stride * size_of(type), units = (s->k + unit_k(type) - 1) / unit_k(type);
    const int64_t panel_bytes = head + columns * units * unit_bytes(type);
    if (s->k == 0) return;
    for (int64_t p = first; p < last;) {
        const int64_t n = s->form == TP_GEMM_ABT ? 1 : smaller(last - p, TOGETHER), there = s->n - p * columns;
        char *to = (char *)packed + p * panel_bytes + head;
        if (s->form == TP_GEMM_ABT)
            pack_along(type, (const char *)b + p * columns * stride, stride, columns, there, s->k, to);
        else
            pack_across(type, (const char *)b + p * columns * size_of(type), stride, n, columns, there, s->k, to, panel_bytes);
        p += n;
    }
}

/* ---- tiles ---- */

/* Where a tile goes. Columns [0, width) exist; the last two are for integers. */
typedef struct place {
    char *c;
    int64_t stride; /* bytes */
    int64_t width;
    bool add;
    uintptr_t ahead; /* prefetched, ahead_step bytes for each unit of k: the next panel, bit by bit */
    int64_t ahead_step;
    int64_t row;                 /* of the tile, in the block */
    const int32_t *start;        /* what the sums of the columns start with */
    const struct ending *ending; /* null if there is nothing to do at the end of the sum */
} place;

/* The part of C that a tile will touch when its sum is done. */
INLINE void prefetch_tile(int height, const place *to, int bytes) {
    UNROLL for (int r = 0; r < height; r++)
        for (int at = 0; at < bytes; at += 64) prefetch((uintptr_t)to->c + (uintptr_t)(r * to->stride + at));
}

typedef void tile(int64_t units, const char *a, const char *b, const place *to);

/*
 * From the template `name`: functions for one vector of columns and for all of a panel, for 1 .. ROWS rows, and name##_tiles,
 * the table of them.
 */
#define ONE_TILE(name, vectors, height)                                                                               \
    static void name##_##vectors##_##height(int64_t units, const char *a, const char *b, const place *to) {           \
        name(vectors, height, units, a, b, to);                                                                       \
    }
#if ROWS == 6
#define ONE_ROW_OF_TILES(name, v)                                                                                     \
    ONE_TILE(name, v, 1) ONE_TILE(name, v, 2) ONE_TILE(name, v, 3) ONE_TILE(name, v, 4) ONE_TILE(name, v, 5)          \
    ONE_TILE(name, v, 6)
#define TILE_NAMES(name, v) {NULL, name##_##v##_1, name##_##v##_2, name##_##v##_3, name##_##v##_4, name##_##v##_5, name##_##v##_6}
#else
#define ONE_ROW_OF_TILES(name, v)                                                                                     \
    ONE_TILE(name, v, 1) ONE_TILE(name, v, 2) ONE_TILE(name, v, 3) ONE_TILE(name, v, 4) ONE_TILE(name, v, 5)          \
    ONE_TILE(name, v, 6) ONE_TILE(name, v, 7) ONE_TILE(name, v, 8) ONE_TILE(name, v, 9) ONE_TILE(name, v, 10)         \
    ONE_TILE(name, v, 11) ONE_TILE(name, v, 12) ONE_TILE(name, v, 13) ONE_TILE(name, v, 14)
#define TILE_NAMES(name, v)                                                                                           \
    {NULL, name##_##v##_1, name##_##v##_2, name##_##v##_3, name##_##v##_4, name##_##v##_5, name##_##v##_6,            \
     name##_##v##_7, name##_##v##_8, name##_##v##_9, name##_##v##_10, name##_##v##_11, name##_##v##_12,               \
     name##_##v##_13, name##_##v##_14}
#endif
#define ALL_TILES(name)                                                                                               \
    ONE_ROW_OF_TILES(name, 1)                                                                                         \
    ONE_ROW_OF_TILES(name, 2)                                                                                         \
    static tile *const name##_tiles[VECTORS][ROWS + 1] = {TILE_NAMES(name, 1), TILE_NAMES(name, 2)};

/* The loop over tiles: all panels of B for one packed block of A, `units` deep; panel_at finds and prepares panels. */
typedef struct sweep {
    int64_t rows, units, last, n, columns, panel_bytes;
    int unit_bytes, c_bytes, lanes; /* c_bytes: of an element of C */
    const char *a, *b;       /* b: panel 0, at the units of this block */
    place to;                /* c: first row of the block, column 0 */
} sweep;

INLINE void sweep_panel(const sweep *s, tile *const tiles[VECTORS][ROWS + 1], int64_t panel, const int32_t *start,
                        const struct ending *ending) {
    const char *a = s->a, *b = s->b + panel * s->panel_bytes;
    const int64_t panels = row_panels(s->rows), least = s->rows / panels, more = s->rows % panels;
    place to = s->to;
    to.c += panel * s->columns * s->c_bytes;
    to.width = smaller(s->columns, s->n - panel * s->columns);
    to.ahead = (uintptr_t)b + (uintptr_t)(panel + 1 < s->last ? s->panel_bytes : 0);
    to.ahead_step = (s->columns * s->unit_bytes + panels - 1) / panels;
    to.start = start;
    to.ending = ending;
    tile *const *const by_height = tiles[to.width > s->lanes];
    for (int64_t p = 0; p < panels; p++) {
        const int64_t height = least + (p < more);
        by_height[height](s->units, a, b, &to);
        a += a_panel_bytes(height, s->units, s->unit_bytes);
        to.c += height * to.stride;
        to.row += height;
        to.ahead += (uintptr_t)(s->units * to.ahead_step);
    }
}

/* Rows of the blocks of A that this many rows are cut into. */
INLINE int64_t rows_of_block(int64_t rows) {
    const int64_t blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    return ((rows + blocks - 1) / blocks + ROWS - 1) / ROWS * ROWS;
}

/* ---- int8 ---- */

/* What an integer sum takes at its end: with zero points sum - row_a[i] sums[j] - row_b[i] zero[j]; and scales. */
typedef struct ending {
    bool zeros, scaled;
    const int32_t *sums, *row_a, *row_b;
    const float *a_scale;
    int a_scale_step;
    int32_t zero[I32_COLUMNS];
    float scale[I32_COLUMNS];
} ending;

INLINE void finish_as(bool zeros, bool scaled, int height, const int32_t *sum, const place *to) {
    const ending *e = to->ending;
    for (int j = 0; j < to->width; j += LANES32) {
        const int64_t n = to->width - j;
        const vi sums = zeros ? vi_load(e->sums + j) : vi_zero(), zero = zeros ? vi_load(e->zero + j) : vi_zero();
        const vf b_scale = scaled ? vf_load(e->scale + j) : vf_set(0);
        for (int r = 0; r < height; r++) {
            int32_t *out = (int32_t *)(to->c + r * to->stride) + j;
            vi x = vi_load(sum + r * I32_COLUMNS + j);
            if (to->add) x = vi_add(x, n >= LANES32 ? vi_load(out) : vi_load_first(out, n));
            if (zeros) {
                const vi a = vi_mul(vi_set(e->row_a[to->row + r]), sums), b = vi_mul(vi_set(e->row_b[to->row + r]), zero);
                x = vi_sub(x, vi_add(a, b));
            }
            if (scaled) {
                const vf y = vf_mul(vf_mul(vf_of_vi(x), vf_set(e->a_scale[(to->row + r) * e->a_scale_step])), b_scale);
                if (n >= LANES32)
                    vf_store((float *)out, y);
                else
                    vf_store_first((float *)out, y, n);
            } else if (n >= LANES32) {
                vi_store(out, x);
            } else {
                vi_store_first(out, x, n);
            }
        }
    }
}

/* Of tiles that the edge of C cuts off, or that have an ending. */
static void finish(int height, const int32_t *sum, const place *to) {
    const ending *e = to->ending;
    if (!e)
        finish_as(false, false, height, sum, to);
    else if (!e->zeros)
        finish_as(false, true, height, sum, to);
    else if (!e->scaled)
        finish_as(true, false, height, sum, to);
    else
        finish_as(true, true, height, sum, to);
}

INLINE void i8(int vectors, int height, int64_t units, const char *a, const char *b, const place *to) {
    vi acc[ROWS][VECTORS];
    uintptr_t ahead = to->ahead;
    const int64_t ahead_step = to->ahead_step;
    prefetch_tile(height, to, vectors * LANES32 * 4);
    UNROLL for (int r = 0; r < height; r++)
        UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = vi_load(to->start + v * LANES32);
    for (int64_t u = 0; u < units; u++) {
        vi y[VECTORS];
        prefetch(ahead);
        ahead += (uintptr_t)ahead_step;
        UNROLL for (int v = 0; v < vectors; v++) y[v] = vi_load((const int32_t *)b + v * LANES32);
        UNROLL for (int r = 0; r < height; r++) {
            const vi x = vi_set(((const int32_t *)a)[r]);
            UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = vi_dot(acc[r][v], x, y[v]);
        }
        a += height * 4;
        b += I32_COLUMNS * 4;
    }
    if (!to->ending && to->width == vectors * LANES32) {
        UNROLL for (int r = 0; r < height; r++) {
            int32_t *c = (int32_t *)(to->c + r * to->stride);
            UNROLL for (int v = 0; v < vectors; v++) {
                vi x = acc[r][v];
                if (to->add) x = vi_add(vi_load(c + v * LANES32), x);
                vi_store(c + v * LANES32, x);
            }
        }
        return;
    }
    int32_t sum[ROWS * I32_COLUMNS] __attribute__((aligned(64)));
    UNROLL for (int r = 0; r < height; r++)
        UNROLL for (int v = 0; v < vectors; v++) vi_store(sum + r * I32_COLUMNS + v * LANES32, acc[r][v]);
    finish(height, sum, to);
}
ALL_TILES(i8)

static const kind I8_A = UNIT_K == 2 ? S8_WIDE : U8, I8_B = UNIT_K == 2 ? S8_WIDE : S8;
/* What is added to each element of A. */
enum { I8_SHIFT = UNIT_K == 2 ? 0 : 128 };

INLINE void i8_tiling(tp_gemm_tiling *t) {
    *t = (tp_gemm_tiling){.rows = ROWS, .columns = I32_COLUMNS, .unit_bytes = 4, .unit_k = UNIT_K,
                          .block_rows = BLOCK_ROWS, .block_units = I8_BLOCK_UNITS};
}

/* The sum of n bytes: of them plus 128, which vpsadbw adds, less what that is too much. */
INLINE uint32_t sum_along(const int8_t *p, int64_t n) {
    const __m256i flip = _mm256_set1_epi8(-128);
    __m256i sums = _mm256_setzero_si256();
    uint64_t part[4];
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(_mm256_xor_si256(load_any((const char *)p + i), flip), _mm256_setzero_si256()));
    _mm256_storeu_si256((__m256i *)part, sums);
    uint32_t sum = (uint32_t)(part[0] + part[1] + part[2] + part[3]) - 128 * (uint32_t)i;
    for (; i < n; i++) sum += (uint32_t)p[i];
    return sum;
}

static void column_sums(const tp_gemm_spec *s, int64_t j, int64_t columns, const int8_t *b, int32_t *sums) {
    uint32_t sum[I32_COLUMNS] = {0};
    if (s->form == TP_GEMM_ABT && s->k) {
        for (int64_t i = 0; i < columns; i++) sum[i] = sum_along(b + (j + i) * s->b_stride, s->k);
    } else {
        for (int64_t k = 0; k < s->k; k++) {
            const int8_t *line = b + k * s->b_stride + j;
            for (int64_t i = 0; i < columns; i++) sum[i] += (uint32_t)line[i];
        }
    }
    memcpy(sums, sum, sizeof sum);
}

INLINE void pack_i8(const tp_gemm_spec *s, int64_t first, int64_t last, const void *b, void *packed) {
    tp_gemm_tiling t;
    i8_tiling(&t);
    const int64_t panel_bytes = tp_gemm_panel_bytes(s, &t);
    pack_b(I8_B, s, I32_COLUMNS, I32_COLUMNS * 4, first, last, b, packed);
    for (int64_t p = first; p < last; p++)
        column_sums(s, p * I32_COLUMNS, smaller(I32_COLUMNS, s->n - p * I32_COLUMNS), b,
                    (int32_t *)((char *)packed + p * panel_bytes));
}

/* What goes with the rows of a block: their zero points, unless they have one in common, and the factors of B's. */
INLINE void row_factors(const tp_gemm_spec *s, const tp_gemm_affine *f, int64_t begin, int64_t rows, const int8_t *a,
                        int32_t *row_a, int32_t *row_b) {
    uint32_t sums[BLOCK_ROWS] = {0};
    if (f->b_zero && s->form == TP_GEMM_ATB) {
        for (int64_t k = 0; k < s->k; k++)
            for (int64_t i = 0; i < rows; i++) sums[i] += (uint32_t)a[k * s->a_stride + begin + i];
    } else if (f->b_zero && s->k) {
        for (int64_t i = 0; i < rows; i++) sums[i] = sum_along(a + (begin + i) * s->a_stride, s->k);
    }
    for (int64_t i = 0; i < rows; i++) {
        const int32_t zero = f->a_zero ? f->a_zero[(begin + i) * f->a_zero_step] : 0;
        row_a[i] = f->a_zero_step ? zero : 0;
        row_b[i] = (int32_t)(sums[i] - (uint32_t)s->k * (uint32_t)zero);
    }
}

INLINE void column_values(const tp_gemm_affine *f, int64_t j, int64_t columns, ending *e) {
    for (int64_t i = 0; i < columns; i++) {
        e->zero[i] = f->b_zero ? f->b_zero[(j + i) * f->b_zero_step] : 0;
        e->scale[i] = f->b_scale ? f->b_scale[(j + i) * f->b_scale_step] : 1;
    }
}

INLINE void gemm_i8(const tp_gemm_spec *s, const tp_gemm_affine *f, int64_t begin, int64_t end, int64_t first,
                    int64_t last, const void *a, const void *packed, void *c, void *scratch) {
    tp_gemm_tiling t;
    i8_tiling(&t);
    const int64_t step = rows_of_block(end - begin), k_step = I8_BLOCK_UNITS * UNIT_K;
    const int64_t panel_bytes = tp_gemm_panel_bytes(s, &t);
    const char *panels = packed;
    int32_t *row_a = scratch, *row_b = row_a + smaller(step, end - begin);
    char *packed_a = (char *)(((uintptr_t)(row_b + smaller(step, end - begin)) + 63) & ~(uintptr_t)63);
    /* What all rows have in common comes off before the sum: one zero point, and the shift. */
    const bool zero_rows = f->a_zero && f->a_zero_step, zeros = zero_rows || f->b_zero, endings = zeros || f->scaled;
    const float one = 1;
    const uint32_t common = (uint32_t)I8_SHIFT + (f->a_zero && !zero_rows ? (uint32_t)f->a_zero[0] : 0);
    for (int64_t i = begin; i < end; i += step) {
        const int64_t rows = smaller(step, end - i);
        if (zeros) row_factors(s, f, i, rows, a, row_a, row_b);
        ending e = {.zeros = zeros, .scaled = f->scaled, .row_a = row_a, .row_b = row_b,
                    .a_scale = f->a_scale ? f->a_scale + i * f->a_scale_step : &one,
                    .a_scale_step = f->a_scale ? f->a_scale_step : 0};
        for (int64_t k = 0; k == 0 || k < s->k; k += k_step) {
            const int64_t depth = smaller(k_step, s->k - k);
            const sweep w = {.rows = rows, .units = (depth + UNIT_K - 1) / UNIT_K, .last = last, .n = s->n,
                             .columns = I32_COLUMNS, .panel_bytes = panel_bytes, .unit_bytes = 4, .c_bytes = 4,
                             .lanes = LANES32, .a = packed_a,
                             .b = panels + I32_COLUMNS * 4 + k / UNIT_K * I32_COLUMNS * 4,
                             .to = {.c = (char *)c + i * s->c_stride * 4, .stride = s->c_stride * 4,
                                    .add = s->accumulate || k > 0}};
            const bool at_end = k + k_step >= s->k;
            pack_a(I8_A, s, a, i, i + rows, k, k + depth, packed_a);
            for (int64_t p = first; p < last; p++) {
                int32_t start[I32_COLUMNS] = {0};
                e.sums = (const int32_t *)(panels + p * panel_bytes);
                if (k == 0 && common)
                    for (int j = 0; j < I32_COLUMNS; j++) start[j] = (int32_t)(0 - common * (uint32_t)e.sums[j]);
                if (at_end && endings) column_values(f, p * I32_COLUMNS, smaller(I32_COLUMNS, s->n - p * I32_COLUMNS), &e);
                sweep_panel(&w, i8_tiles, p, start, at_end && endings ? &e : NULL);
            }
        }
    }
}

/* ---- floats ---- */

#ifdef FLOATS
/*
 * The template of a float type: vectors V with operations P##_..., elements T. Tiles that are cut off by the edge of C are
 * seldom, and stored by a function that is shared by all heights.
 */
#define FLOAT_TILE(name, V, P, T, LANES)                                                                              \
    static void name##_edge(int height, const T *sum, const place *to) {                                              \
        for (int r = 0; r < height; r++) {                                                                            \
            T *c = (T *)(to->c + r * to->stride);                                                                     \
            for (int64_t j = 0; j < to->width; j += LANES) {                                                          \
                V x = P##_load(sum + r * VECTORS * LANES + j);                                                        \
                if (to->add) x = P##_add(P##_load_first(c + j, to->width - j), x);                                    \
                P##_store_first(c + j, x, to->width - j);                                                             \
            }                                                                                                         \
        }                                                                                                             \
    }                                                                                                                 \
    INLINE void name(int vectors, int height, int64_t units, const char *pa, const char *pb, const place *to) {       \
        const T *a = (const T *)pa, *b = (const T *)pb;                                                               \
        V acc[ROWS][VECTORS];                                                                                         \
        uintptr_t ahead = to->ahead;                                                                                  \
        const int64_t ahead_step = to->ahead_step;                                                                    \
        prefetch_tile(height, to, vectors * LANES * (int)sizeof(T));                                                  \
        UNROLL for (int r = 0; r < height; r++)                                                                       \
            UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = P##_zero();                                          \
        for (int64_t u = 0; u < units; u++) {                                                                         \
            V y[VECTORS];                                                                                             \
            prefetch(ahead);                                                                                          \
            ahead += (uintptr_t)ahead_step;                                                                           \
            UNROLL for (int v = 0; v < vectors; v++) y[v] = P##_load(b + v * LANES);                                  \
            UNROLL for (int r = 0; r < height; r++) {                                                                 \
                const V x = P##_set(a[r]);                                                                            \
                UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = P##_fma(x, y[v], acc[r][v]);                     \
            }                                                                                                         \
            a += height;                                                                                              \
            b += VECTORS * LANES;                                                                                     \
        }                                                                                                             \
        if (to->width == vectors * LANES) {                                                                           \
            UNROLL for (int r = 0; r < height; r++) {                                                                 \
                T *c = (T *)(to->c + r * to->stride);                                                                 \
                UNROLL for (int v = 0; v < vectors; v++) {                                                            \
                    V x = acc[r][v];                                                                                  \
                    if (to->add) x = P##_add(P##_load(c + v * LANES), x);                                             \
                    P##_store(c + v * LANES, x);                                                                      \
                }                                                                                                     \
            }                                                                                                         \
            return;                                                                                                   \
        }                                                                                                             \
        T sum[ROWS * VECTORS * LANES] __attribute__((aligned(64)));                                                   \
        UNROLL for (int r = 0; r < height; r++)                                                                       \
            UNROLL for (int v = 0; v < vectors; v++) P##_store(sum + (r * VECTORS + v) * LANES, acc[r][v]);           \
        name##_edge(height, sum, to);                                                                                 \
    }
FLOAT_TILE(f32, vf, vf, float, LANES32)
FLOAT_TILE(f64, vd, vd, double, LANES64)
ALL_TILES(f32)
ALL_TILES(f64)

INLINE void gemm_float(kind type, tile *const tiles[VECTORS][ROWS + 1], int lanes, const tp_gemm_spec *s, int64_t begin,
                       int64_t end, int64_t first, int64_t last, const void *a, const void *packed, void *c,
                       void *scratch) {
    const int64_t step = rows_of_block(end - begin), columns = VECTORS * lanes;
    const int size = size_of(type);
    for (int64_t i = begin; i < end; i += step) {
        const int64_t rows = smaller(step, end - i);
        for (int64_t k = 0; k == 0 || k < s->k; k += TP_GEMM_BLOCK) {
            const int64_t depth = smaller(TP_GEMM_BLOCK, s->k - k);
            const sweep w = {.rows = rows, .units = depth, .last = last, .n = s->n, .columns = columns,
                             .panel_bytes = columns * s->k * size, .unit_bytes = size, .c_bytes = size, .lanes = lanes,
                             .a = scratch,
                             .b = (const char *)packed + k * columns * size,
                             .to = {.c = (char *)c + i * s->c_stride * size, .stride = s->c_stride * size,
                                    .add = s->accumulate || k > 0}};
            pack_a(type, s, a, i, i + rows, k, k + depth, scratch);
            for (int64_t p = first; p < last; p++) sweep_panel(&w, tiles, p, NULL, NULL);
        }
    }
}

tp_status TP_VARIANT(gemm)(const tp_gemm_spec *s, int64_t begin, int64_t end, int64_t first, int64_t last,
                           const void *a, const void *packed, void *c, void *scratch) {
    if (s->type == TP_F32)
        gemm_float(F32, f32_tiles, LANES32, s, begin, end, first, last, a, packed, c, scratch);
    else
        gemm_float(F64, f64_tiles, LANES64, s, begin, end, first, last, a, packed, c, scratch);
    return TP_OK;
}
#endif

tp_status TP_VARIANT(gemm_tiling)(tp_dtype type, tp_gemm_tiling *t) {
    i8_tiling(t);
#ifdef FLOATS
    if (type == TP_I8) return TP_OK;
    *t = (tp_gemm_tiling){.rows = ROWS, .columns = type == TP_F32 ? VECTORS * LANES32 : VECTORS * LANES64,
                          .unit_bytes = tp_gemm_size_of(type), .unit_k = 1, .block_rows = BLOCK_ROWS,
                          .block_units = TP_GEMM_BLOCK};
#else
    (void)type;
#endif
    return TP_OK;
}

tp_status TP_VARIANT(gemm_pack)(const tp_gemm_spec *s, int64_t first, int64_t last, const void *b, void *packed) {
#ifdef FLOATS
    if (s->type == TP_F32) {
        pack_b(F32, s, VECTORS * LANES32, 0, first, last, b, packed);
        return TP_OK;
    }
    if (s->type == TP_F64) {
        pack_b(F64, s, VECTORS * LANES64, 0, first, last, b, packed);
        return TP_OK;
    }
#endif
    pack_i8(s, first, last, b, packed);
    return TP_OK;
}

tp_status TP_VARIANT(gemm_int8)(const tp_gemm_spec *s, const tp_gemm_affine *f, int64_t begin, int64_t end,
                                int64_t first, int64_t last, const void *a, const void *packed, void *c, void *scratch) {
    gemm_i8(s, f, begin, end, first, last, a, packed, c, scratch);
    return TP_OK;
}
