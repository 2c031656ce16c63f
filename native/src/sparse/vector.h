/*
 * The loops of both vector tiers, over words: 64 elements of a row and the bits that say which of them are stored. What
 * is left of a row is taken into a block filled up with zeros, which are not stored. A tier defines, for elements of
 * `size` bytes at any address,
 *     mask_64(p, size)             the bit of each of 64 elements that has a bit set
 *     compress_64(p, size, m, to, base, positions)
 *                                  the elements at p chosen by m, in order, and base + position of each as uint16,
 *                                  unless `positions` is null
 *     expand_64(from, size, m, to) 64 elements: in order those of `from` where m is set, else 0
 *     stream_64(from, to)          64 bytes to a boundary of 64, past the caches
 *     clear_64(p)                  64 zero bytes
 * compress may write 64 elements and positions whatever m, and expand may read as many elements.
 */
#include <string.h>

#define WORD 64
#define GROUPS_OF_4 UINT64_C(0x1111111111111111)

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t bits_of(uint64_t m) { return __builtin_popcountll(m); }
INLINE int64_t lowest(uint64_t m) { return __builtin_ctzll(m); }
INLINE int64_t highest(uint64_t m) { return 63 - __builtin_clzll(m); }
INLINE uint64_t low_bits(int64_t n) { return n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1; }

/* Up to eight bytes, and zeros. */
INLINE uint64_t load_word(const uint8_t *p, int64_t n) {
    uint64_t word = 0;
    if (n >= 8)
        memcpy(&word, p, 8);
    else
        memcpy(&word, p, (size_t)n);
    return word;
}

INLINE void store_word(uint8_t *p, uint64_t word, int64_t n) {
    if (n >= 8)
        memcpy(p, &word, 8);
    else
        memcpy(p, &word, (size_t)n);
}

/* 64 elements of which n exist: p, or a copy in `block`. What will be wanted soon is fetched. */
INLINE const char *word_at(const char *p, int64_t n, const int size, char *block) {
    if (n >= WORD) {
        const uintptr_t ahead = (uintptr_t)p + AHEAD;
        for (int i = 0; i < size; i++) _mm_prefetch((const char *)(ahead + 64 * (uintptr_t)i), _MM_HINT_T0);
        return p;
    }
    memset(block, 0, (size_t)(WORD * size));
    memcpy(block, p, (size_t)(n * size));
    return block;
}

/* Adds the bits of n elements to words. */
INLINE void mask_row(const char *p, int64_t n, const int size, uint64_t *words) {
    char block[WORD * 4];
    for (int64_t c = 0; c < n; c += WORD) words[c / WORD] |= mask_64(word_at(p + c * size, n - c, size, block), size);
}

/* ---- groups of four, four bits each ---- */

/* One bit for each group with more than two. */
INLINE uint64_t overfull(uint64_t m) {
    const uint64_t a = m, b = m >> 1, c = m >> 2, d = m >> 3;
    return ((a & b & (c | d)) | (c & d & (a | b))) & GROUPS_OF_4;
}

/* Two elements of each group, of which none is overfull: those of m, and the lowest others. */
INLINE uint64_t fill_groups(uint64_t m) {
    const uint64_t a = m, b = m >> 1, c = m >> 2, d = m >> 3;
    const uint64_t few = ~((a & b) | (c & d) | ((a | b) & (c | d))) & GROUPS_OF_4;
    return m | few | (few & ~(b | c | d)) << 1;
}

/* The nibbles of two elements of each group, and back. */
INLINE uint64_t nibbles_of(uint64_t two) {
    const uint64_t a = two, b = two >> 1, c = two >> 2, d = two >> 3;
    const uint64_t first0 = ~a & b, first1 = ~a & ~b, second0 = d | ~c, second1 = d | c;
    return (first0 & GROUPS_OF_4) | (first1 & GROUPS_OF_4) << 1 | (second0 & GROUPS_OF_4) << 2 |
           (second1 & GROUPS_OF_4) << 3;
}

INLINE uint64_t elements_of(uint64_t nibbles) {
    const uint64_t first0 = nibbles, first1 = nibbles >> 1, second0 = nibbles >> 2, second1 = nibbles >> 3;
    const uint64_t a = ~first1 & ~first0, b = (~first1 & first0) | (~second1 & second0);
    const uint64_t c = (first1 & ~first0) | (second1 & ~second0), d = second1 & second0;
    return (a & GROUPS_OF_4) | (b & GROUPS_OF_4) << 1 | (c & GROUPS_OF_4) << 2 | (d & GROUPS_OF_4) << 3;
}

/* One bit for each nibble whose first position is below the second. */
INLINE uint64_t ascending(uint64_t nibbles) {
    const uint64_t first0 = nibbles, first1 = nibbles >> 1, second0 = nibbles >> 2, second1 = nibbles >> 3;
    return ((second1 & ~first1) | (~(second1 ^ first1) & second0 & ~first0)) & GROUPS_OF_4;
}

/* ---- blocks ---- */

/* Columns of blocks that are looked at together: whole blocks, in rows that the second cache holds. */
enum { BLOCK_PANEL = 4096, PANEL_WORDS = BLOCK_PANEL / WORD + 1 };

INLINE int64_t panel_columns(const tp_sparse_plan *p) {
    return (p->block_rows > 16 ? BLOCK_PANEL / 4 : BLOCK_PANEL) / p->block_cols * p->block_cols;
}

/* The lowest bit of each run of `wide` bits, a power of two, that has one; the others are clear. */
INLINE uint64_t fold(uint64_t m, int64_t wide) {
    for (int64_t s = 1; s < wide; s *= 2) m |= m >> s;
    return wide == 64 ? m & 1 : m & ~UINT64_C(0) / low_bits(wide);
}

/* Replaces the bits of a panel's columns by one for each block with an element, at the block's first column. */
static void fold_blocks(const tp_sparse_plan *p, uint64_t *words, int64_t cols) {
    const int64_t wide = p->block_cols;
    uint64_t firsts[PANEL_WORDS] = {0};
    switch (wide) {
#define FOLD(n)                                                                                                       \
    case n:                                                                                                           \
        for (int64_t w = 0; w * WORD < cols; w++) words[w] = fold(words[w], n);                                       \
        return;
    FOLD(1)
    FOLD(2)
    FOLD(4)
    FOLD(8)
    FOLD(16)
    FOLD(32)
    FOLD(64)
#undef FOLD
    }
    for (int64_t c = 0; c < cols; c += wide) {
        const int64_t w = c / WORD, shift = c % WORD;
        const uint64_t bits = words[w] >> shift | (shift ? words[w + 1] << (WORD - shift) : 0);
        firsts[w] |= (uint64_t)((bits & low_bits(wide)) != 0) << shift;
    }
    memcpy(words, firsts, sizeof firsts);
}

/* Which blocks of line `line` are stored, among the panel of `cols` columns from c on. */
INLINE void panel_blocks(const tp_sparse_plan *p, const char *in, int64_t line, int64_t c, int64_t cols, const int size,
                         uint64_t *words) {
    memset(words, 0, PANEL_WORDS * sizeof *words);
    for (int64_t r = line * p->block_rows; r < least((line + 1) * p->block_rows, p->rows); r++)
        mask_row(in + (r * p->stride + c) * size, cols, size, words);
    fold_blocks(p, words, cols);
}

/* Copies rows of so many bytes. */
INLINE void copy_rows(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t rows, int64_t bytes) {
#define COPY(n)                                                                                                       \
    case n:                                                                                                           \
        for (int64_t r = 0; r < rows; r++) memcpy(to + r * to_stride, from + r * from_stride, n);                     \
        break;
    switch (bytes) {
    COPY(4)
    COPY(8)
    COPY(16)
    COPY(32)
    COPY(64)
    default:
        for (int64_t r = 0; r < rows; r++) memcpy(to + r * to_stride, from + r * from_stride, (size_t)bytes);
    }
#undef COPY
}

/* ---- survey ---- */

/* The larger of `widest` and the largest distance between bits of m. */
INLINE int64_t widest_between(uint64_t m, int64_t widest) {
    if (widest >= 63 || (m & (m - 1)) == 0) return widest;
    /* Bits that follow another one within `widest`: usually all but the lowest. */
    uint64_t near = widest ? m << 1 : 0;
    for (int64_t reach = 1; reach < widest;) {
        const int64_t step = least(reach, widest - reach);
        near |= near << step;
        reach += step;
    }
    if ((m & (m - 1) & ~near) == 0) return widest;
    for (uint64_t rest = m & (m - 1); rest; rest &= rest - 1) {
        const int64_t distance = lowest(rest) - highest(m & low_bits(lowest(rest)));
        if (distance > widest) widest = distance;
    }
    return widest;
}

enum { SURVEY_PANEL = 4096 };

INLINE void survey_rows(const tp_sparse_plan *p, int64_t begin, int64_t end, const char *in, tp_survey *survey,
                        const int size) {
    tp_survey s = {0};
    for (int64_t row = begin; row < end; row += 8) {
        const int64_t rows = least(8, end - row);
        int64_t last[8] = {0};
        for (int64_t from = 0; from < p->cols; from += SURVEY_PANEL) {
            const int64_t cols = least(SURVEY_PANEL, p->cols - from), words = tp_divide_up(cols, WORD);
            uint64_t any[2][SURVEY_PANEL / WORD] = {{0}}; /* of rows 0 to 3 and 4 to 7 */
            for (int64_t r = 0; r < rows; r++) {
                const char *x = in + ((row + r) * p->stride + from) * size;
                char block[WORD * 4];
                for (int64_t w = 0; w < words; w++) {
                    const uint64_t m = mask_64(word_at(x + w * WORD * size, cols - w * WORD, size, block), size);
                    if (!m) continue;
                    const int64_t col = from + w * WORD, distance = col + lowest(m) - last[r];
                    any[r / 4][w] |= m;
                    s.entries += bits_of(m);
                    s.overfull += bits_of(overfull(m));
                    if (distance > s.widest) s.widest = distance;
                    s.widest = widest_between(m, s.widest);
                    last[r] = col + highest(m);
                }
            }
            for (int64_t w = 0; w < words; w++) {
                s.blocks4x4 += bits_of(fold(any[0][w], 4)) + bits_of(fold(any[1][w], 4));
                s.blocks8x8 += bits_of(fold(any[0][w] | any[1][w], 8));
            }
        }
    }
    *survey = s;
}

tp_status TP_VARIANT(sparse_survey)(const tp_sparse_plan *p, int64_t begin, int64_t end, const void *in,
                                    tp_survey *survey) {
    switch (p->size) {
    case 4: survey_rows(p, begin, end, in, survey, 4); break;
    case 2: survey_rows(p, begin, end, in, survey, 2); break;
    default: survey_rows(p, begin, end, in, survey, 1); break;
    }
    return TP_OK;
}

/* ---- count ---- */

/* Rows of CSR16 longer than the widest distance, and of NM24, have to be looked at; the others are only counted. */
INLINE tp_status count_rows(const tp_sparse_plan *p, int64_t begin, int64_t end, const char *in, int64_t *counts,
                            const int size) {
    const bool far = p->layout == TP_SPARSE_CSR16 && p->cols > TP_SPARSE_GAP + 1, groups = p->layout == TP_SPARSE_NM24;
    for (int64_t row = begin; row < end; row++) {
        const char *x = in + row * p->stride * size;
        int64_t count = 0, last = 0;
        uint64_t full = 0;
        char block[WORD * 4];
        for (int64_t c = 0; c < p->cols; c += WORD) {
            const uint64_t m = mask_64(word_at(x + c * size, p->cols - c, size, block), size);
            count += bits_of(m);
            if (groups) full |= overfull(m);
            if (far && m) {
                if (c + lowest(m) - last > TP_SPARSE_GAP) return TP_ERR_LAYOUT;
                last = c + highest(m);
            }
        }
        if (full) return TP_ERR_LAYOUT;
        counts[row - begin] = groups ? p->groups * 2 : count;
    }
    return TP_OK;
}

INLINE tp_status count_blocks(const tp_sparse_plan *p, int64_t begin, int64_t end, const char *in, int64_t *counts,
                              const int size) {
    const int64_t panel = panel_columns(p);
    uint64_t words[PANEL_WORDS];
    for (int64_t line = begin; line < end; line++) {
        int64_t count = 0;
        for (int64_t c = 0; c < p->cols; c += panel) {
            const int64_t cols = least(panel, p->cols - c);
            panel_blocks(p, in, line, c, cols, size, words);
            for (int64_t w = 0; w * WORD < cols; w++) count += bits_of(words[w]);
        }
        counts[line - begin] = count;
    }
    return TP_OK;
}

tp_status TP_VARIANT(sparse_count)(const tp_sparse_plan *p, int64_t begin, int64_t end, const void *in,
                                   int64_t *counts) {
#define COUNT(size)                                                                                                   \
    (p->layout == TP_SPARSE_BSR ? count_blocks(p, begin, end, in, counts, size)                                       \
                                : count_rows(p, begin, end, in, counts, size))
    switch (p->size) {
    case 4: return COUNT(4);
    case 2: return COUNT(2);
    default: return COUNT(1);
    }
#undef COUNT
}

/* Bits of the row's mask that belong to columns. */
INLINE uint64_t mask_word(const tp_sparse_plan *p, const uint8_t *mask, int64_t c) {
    return load_word(mask + c / 8, p->index_row - c / 8) & low_bits(p->cols - c);
}

tp_status TP_VARIANT(sparse_count_mask)(const tp_sparse_plan *p, int64_t begin, int64_t end, const uint8_t *indices,
                                        int64_t *counts) {
    for (int64_t row = begin; row < end; row++) {
        int64_t count = 0;
        for (int64_t c = 0; c < p->cols; c += WORD) count += bits_of(mask_word(p, indices + row * p->index_row, c));
        counts[row - begin] = count;
    }
    return TP_OK;
}

/* ---- pack ---- */

/*
 * Columns of a row whose positions are held together before indices are made of them. Storing values and indices in turns
 * would be slow where both lie at the same place in their pages, as large arrays often do.
 */
enum { POSITION_PANEL = 4096 };

INLINE tp_status pack_rows(const tp_sparse_plan *p, int64_t begin, int64_t end, const char *in, const int64_t *offsets,
                           void *indices, char *values, const int layout, const int size) {
    /* Stores may pass the units of a word only where this range writes later. */
    const int64_t limit = offsets[end], panel = layout == TP_SPARSE_BITMASK ? p->cols : POSITION_PANEL;
    const bool far = layout == TP_SPARSE_CSR16 && p->cols > TP_SPARSE_GAP + 1;
    uint16_t positions[1 + POSITION_PANEL + WORD]; /* the first is that of the unit before */
    for (int64_t row = begin; row < end; row++) {
        const char *x = in + row * p->stride * size;
        uint8_t *mask = (uint8_t *)indices + row * p->index_row;
        int64_t at = offsets[row], last = 0;
        char block[WORD * 4];
        positions[0] = 0;
        for (int64_t start = 0; start < p->cols; start += panel) {
            const int64_t first = at, stop = least(start + panel, p->cols);
            for (int64_t c = start; c < stop; c += WORD) {
                const char *from = word_at(x + c * size, p->cols - c, size, block);
                const uint64_t m = mask_64(from, size);
                if (layout == TP_SPARSE_BITMASK) store_word(mask + c / 8, m, p->index_row - c / 8);
                if (!m) continue;
                if (far) {
                    if (c + lowest(m) - last > TP_SPARSE_GAP) return TP_ERR_LAYOUT;
                    last = c + highest(m);
                }
                const int64_t units = bits_of(m);
                uint16_t *to = layout == TP_SPARSE_BITMASK ? NULL : positions + 1 + at - first;
                if (limit - at >= WORD) {
                    compress_64(from, size, m, values + at * size, (uint16_t)(c - start), to);
                } else {
                    char part[WORD * 4];
                    compress_64(from, size, m, part, (uint16_t)(c - start), to);
                    memcpy(values + at * size, part, (size_t)(units * size));
                }
                at += units;
            }
            if (layout == TP_SPARSE_CSR32) {
                uint32_t *columns = (uint32_t *)indices + first;
                for (int64_t i = 0; i < at - first; i++) columns[i] = (uint32_t)start + positions[i + 1];
            }
            if (layout == TP_SPARSE_CSR16) {
                uint16_t *distances = (uint16_t *)indices + first;
                for (int64_t i = 0; i < at - first; i++) distances[i] = (uint16_t)(positions[i + 1] - positions[i]);
                /* From the first column of the next panel, modulo 65536 as the distances are. */
                positions[0] = (uint16_t)(positions[at - first] - panel);
            }
        }
    }
    return TP_OK;
}

INLINE tp_status pack_groups(const tp_sparse_plan *p, int64_t begin, int64_t end, const char *in, uint8_t *indices,
                             char *values, const int size) {
    const int64_t limit = end * p->groups * 2;
    for (int64_t row = begin; row < end; row++) {
        const char *x = in + row * p->stride * size;
        char block[WORD * 4], part[WORD * 4];
        for (int64_t c = 0; c < p->cols; c += WORD) {
            const char *from = word_at(x + c * size, p->cols - c, size, block);
            const uint64_t m = mask_64(from, size);
            if (overfull(m)) return TP_ERR_LAYOUT;
            const int64_t groups = least(WORD / 4, p->groups - c / 4), at = (row * p->groups + c / 4) * 2;
            const uint64_t two = fill_groups(m);
            store_word(indices + row * p->index_row + c / 8, nibbles_of(two) & low_bits(groups * 4), (groups + 1) / 2);
            if (limit - at >= WORD) {
                compress_64(from, size, two, values + at * size, 0, NULL);
            } else {
                compress_64(from, size, two, part, 0, NULL);
                memcpy(values + at * size, part, (size_t)(groups * 2 * size));
            }
        }
    }
    return TP_OK;
}

INLINE tp_status pack_blocks(const tp_sparse_plan *p, int64_t begin, int64_t end, const char *in,
                             const int64_t *offsets, uint32_t *indices, char *values, const int size) {
    const int64_t panel = panel_columns(p), high = p->block_rows, bytes = p->block_cols * size, area = high * bytes;
    uint64_t words[PANEL_WORDS];
    for (int64_t line = begin; line < end; line++) {
        const int64_t rows = least(high, p->rows - line * high);
        int64_t at = offsets[line];
        for (int64_t from = 0; from < p->cols; from += panel) {
            const int64_t cols = least(panel, p->cols - from);
            panel_blocks(p, in, line, from, cols, size, words);
            for (int64_t w = 0; w * WORD < cols; w++) {
                for (uint64_t m = words[w]; m; m &= m - 1, at++) {
                    const int64_t c = from + w * WORD + lowest(m), inside = least(bytes, (p->cols - c) * size);
                    char *to = values + at * area;
                    indices[at] = (uint32_t)(c / p->block_cols);
                    if (rows < high || inside < bytes) memset(to, 0, (size_t)area);
                    copy_rows(to, bytes, in + (line * high * p->stride + c) * size, p->stride * size, rows, inside);
                }
            }
        }
    }
    return TP_OK;
}

INLINE tp_status pack(const tp_sparse_plan *p, int64_t begin, int64_t end, const void *in, const int64_t *offsets,
                      void *indices, void *values, const int size) {
    switch (p->layout) {
    case TP_SPARSE_CSR16: return pack_rows(p, begin, end, in, offsets, indices, values, TP_SPARSE_CSR16, size);
    case TP_SPARSE_CSR32: return pack_rows(p, begin, end, in, offsets, indices, values, TP_SPARSE_CSR32, size);
    case TP_SPARSE_BITMASK: return pack_rows(p, begin, end, in, offsets, indices, values, TP_SPARSE_BITMASK, size);
    case TP_SPARSE_NM24: return pack_groups(p, begin, end, in, indices, values, size);
    default: return pack_blocks(p, begin, end, in, offsets, indices, values, size);
    }
}

tp_status TP_VARIANT(sparse_pack)(const tp_sparse_plan *p, int64_t begin, int64_t end, const void *in,
                                  const int64_t *offsets, void *indices, void *values) {
    switch (p->size) {
    case 4: return pack(p, begin, end, in, offsets, indices, values, 4);
    case 2: return pack(p, begin, end, in, offsets, indices, values, 2);
    default: return pack(p, begin, end, in, offsets, indices, values, 1);
    }
}

/* ---- check ---- */

/* Columns that ascend are all inside if the last is. */
static bool columns_valid(const uint32_t *columns, int64_t units, int64_t limit) {
    uint32_t fall = 0;
    for (int64_t i = 1; i < units; i++) fall |= columns[i] <= columns[i - 1];
    return units == 0 || (!fall && columns[units - 1] < limit);
}

static bool distances_valid(const uint16_t *distances, int64_t units, int64_t limit) {
    uint64_t sum = 0;
    uint16_t same = 0;
    for (int64_t i = 0; i < units; i++) sum += distances[i];
    for (int64_t i = 1; i < units; i++) same |= distances[i] == 0;
    return units == 0 || (!same && sum < (uint64_t)limit);
}

static bool mask_valid(const tp_sparse_plan *p, const uint8_t *mask, int64_t units) {
    for (int64_t c = 0; c < p->cols; c += WORD) {
        const uint64_t word = mask_word(p, mask, c);
        if (word != load_word(mask + c / 8, p->index_row - c / 8)) return false;
        units -= bits_of(word);
    }
    return units == 0;
}

static bool nibbles_valid(const tp_sparse_plan *p, const uint8_t *nibbles) {
    const int64_t rest = p->cols % 4;
    for (int64_t c = 0; c < p->cols; c += WORD) {
        const uint64_t word = load_word(nibbles + c / 8, p->index_row - c / 8);
        const int64_t groups = least(WORD / 4, p->groups - c / 4);
        if (~ascending(word) & GROUPS_OF_4 & low_bits(groups * 4)) return false;
        if (word & ~low_bits(groups * 4)) return false;
        /* Of the last group the second column is inside, or the filler at position 1. */
        const int64_t second = (int64_t)(word >> (groups * 4 - 2) & 3);
        if (c + WORD >= p->cols && rest && second > (rest == 3 ? 2 : 1)) return false;
    }
    return true;
}

tp_status TP_VARIANT(sparse_check)(const tp_sparse_plan *p, int64_t begin, int64_t end, int64_t units,
                                   const int64_t *offsets, const void *indices, int64_t *bad_line) {
    for (int64_t line = begin; line < end; line++) {
        bool valid;
        if (p->layout == TP_SPARSE_NM24) {
            valid = nibbles_valid(p, (const uint8_t *)indices + line * p->index_row);
        } else {
            const int64_t from = offsets[line], to = offsets[line + 1];
            valid = from >= 0 && from <= to && to <= units && (line > 0 || from == 0) &&
                    (line < p->lines - 1 || to == units);
            /* Indices are looked at only where the offsets say that there are any. */
            if (valid && p->layout == TP_SPARSE_BITMASK)
                valid = mask_valid(p, (const uint8_t *)indices + line * p->index_row, to - from);
            else if (valid && from < to && p->layout == TP_SPARSE_CSR16)
                valid = distances_valid((const uint16_t *)indices + from, to - from, p->cols);
            else if (valid && from < to)
                valid = columns_valid((const uint32_t *)indices + from, to - from,
                                      p->layout == TP_SPARSE_BSR ? tp_divide_up(p->cols, p->block_cols) : p->cols);
        }
        if (!valid) {
            *bad_line = line;
            return TP_ERR_FORMAT;
        }
    }
    return TP_OK;
}

/* ---- unpack ---- */

/*
 * Rows are put together piece by piece, and the pieces moved to where they belong: past the caches if there is more than
 * fits there, since no line need then be read before it is written. A piece may be cleared on the way, for the next one,
 * up to a multiple of 64 bytes.
 */
enum { PIECE_BYTES = 4096, BLOCK_PIECE_BYTES = 16384, STREAM_BYTES = 1 << 20 };

INLINE bool streams(const tp_sparse_plan *p, int64_t lines) {
    return lines * (p->block_rows ? p->block_rows : 1) >= STREAM_BYTES / (p->cols * p->size) + 1;
}

INLINE void move_piece(char *to, char *piece, int64_t bytes, bool stream, const bool clear) {
    int64_t i = 0;
    if (stream) {
        i = least((int64_t)(-(uintptr_t)to % 64), bytes);
        memcpy(to, piece, (size_t)i);
        for (; i + 64 <= bytes; i += 64) stream_64(piece + i, to + i);
    }
    memcpy(to + i, piece + i, (size_t)(bytes - i));
    for (i = 0; clear && i < bytes; i += 64) clear_64(piece + i);
}

INLINE void unpack_rows(const tp_sparse_plan *p, int64_t begin, int64_t end, const int64_t *offsets,
                        const void *indices, const char *values, char *out, const int layout, const int size) {
    const bool stream = streams(p, end - begin);
    const int64_t panel = PIECE_BYTES / size, cols = p->cols;
    _Alignas(64) char piece[PIECE_BYTES] = {0};
    for (int64_t row = begin; row < end; row++) {
        const int64_t last = offsets[row + 1];
        int64_t i = offsets[row], col = 0;
#define NEXT()                                                                                                        \
    (i == last                   ? cols                                                                               \
     : layout == TP_SPARSE_CSR32 ? (int64_t)((const uint32_t *)indices)[i]                                            \
                                 : col + ((const uint16_t *)indices)[i])
        col = NEXT();
        for (int64_t c = 0; c < cols; c += panel) {
            const int64_t n = least(panel, cols - c);
            while (col < c + n) {
                memcpy(piece + (col - c) * size, values + i * size, (size_t)size);
                i++;
                col = NEXT();
            }
            move_piece(out + (row * p->stride + c) * size, piece, n * size, stream, true);
        }
#undef NEXT
    }
}

/* 64 elements to a piece; units from `at` on, of which those below `limit` may be read. */
INLINE void expand_word(const char *values, int64_t at, int64_t limit, const int size, uint64_t m, char *to) {
    char part[WORD * 4];
    const char *from = values + at * size;
    if (limit - at < WORD) {
        if (m) memcpy(part, from, (size_t)((limit - at) * size));
        from = part;
    }
    expand_64(from, size, m, to);
}

INLINE void unpack_words(const tp_sparse_plan *p, int64_t begin, int64_t end, const int64_t *offsets,
                         const uint8_t *indices, const char *values, char *out, const int layout, const int size) {
    const bool stream = streams(p, end - begin);
    const int64_t limit = layout == TP_SPARSE_NM24 ? end * p->groups * 2 : offsets[end], panel = PIECE_BYTES / size;
    _Alignas(64) char piece[PIECE_BYTES];
    for (int64_t row = begin; row < end; row++) {
        const uint8_t *mask = indices + row * p->index_row;
        int64_t at = layout == TP_SPARSE_NM24 ? row * p->groups * 2 : offsets[row];
        for (int64_t start = 0; start < p->cols; start += panel) {
            const int64_t stop = least(start + panel, p->cols);
            for (int64_t c = start; c < stop; c += WORD) {
                uint64_t m = load_word(mask + c / 8, p->index_row - c / 8);
                if (layout == TP_SPARSE_NM24) m = elements_of(m);
                expand_word(values, at, limit, size, m, piece + (c - start) * size);
                at += layout == TP_SPARSE_NM24 ? WORD / 2 : bits_of(m);
            }
            move_piece(out + (row * p->stride + start) * size, piece, (stop - start) * size, stream, false);
        }
    }
}

INLINE void unpack_blocks(const tp_sparse_plan *p, int64_t begin, int64_t end, const int64_t *offsets,
                          const uint32_t *indices, const char *values, char *out, const int size) {
    const bool stream = streams(p, end - begin);
    const int64_t high = p->block_rows, wide = p->block_cols, bytes = wide * size, area = high * bytes;
    const int64_t panel = BLOCK_PIECE_BYTES / area * wide, piece_row = tp_divide_up(panel * size, 64) * 64;
    _Alignas(64) char piece[BLOCK_PIECE_BYTES + 64 * 64] = {0};
    for (int64_t line = begin; line < end; line++) {
        const int64_t rows = least(high, p->rows - line * high), last = offsets[line + 1];
        char *to = out + line * high * p->stride * size;
        int64_t i = offsets[line];
        for (int64_t c = 0; c < p->cols; c += panel) {
            const int64_t cols = least(panel, p->cols - c);
            for (; i < last && indices[i] * wide < c + cols; i++) {
                const int64_t col = indices[i] * wide;
                copy_rows(piece + (col - c) * size, piece_row, values + i * area, bytes, rows,
                          least(bytes, (p->cols - col) * size));
            }
            for (int64_t r = 0; r < rows; r++)
                move_piece(to + (r * p->stride + c) * size, piece + r * piece_row, cols * size, stream, true);
        }
    }
}

INLINE void unpack(const tp_sparse_plan *p, int64_t begin, int64_t end, const int64_t *offsets, const void *indices,
                   const void *values, void *out, const int size) {
    switch (p->layout) {
    case TP_SPARSE_CSR16: unpack_rows(p, begin, end, offsets, indices, values, out, TP_SPARSE_CSR16, size); break;
    case TP_SPARSE_CSR32: unpack_rows(p, begin, end, offsets, indices, values, out, TP_SPARSE_CSR32, size); break;
    case TP_SPARSE_BITMASK: unpack_words(p, begin, end, offsets, indices, values, out, TP_SPARSE_BITMASK, size); break;
    case TP_SPARSE_NM24: unpack_words(p, begin, end, offsets, indices, values, out, TP_SPARSE_NM24, size); break;
    default: unpack_blocks(p, begin, end, offsets, indices, values, out, size); break;
    }
}

tp_status TP_VARIANT(sparse_unpack)(const tp_sparse_plan *p, int64_t begin, int64_t end, const int64_t *offsets,
                                    const void *indices, const void *values, void *out) {
    switch (p->size) {
    case 4: unpack(p, begin, end, offsets, indices, values, out, 4); break;
    case 2: unpack(p, begin, end, offsets, indices, values, out, 2); break;
    default: unpack(p, begin, end, offsets, indices, values, out, 1); break;
    }
    _mm_sfence();
    return TP_OK;
}
