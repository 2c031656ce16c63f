/*
 * The spmm family against sums over the dense matrices, in f64 or int64, one element at a time, and cuts into ranges,
 * columns and segments against one call, bit for bit. The layouts are packed here. Every buffer ends or starts at a page
 * that cannot be touched. Products run on a CUDA device too.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "on_cuda.h"
#include "spmm/kernels.h"
#include "support.h"
#include "tensorpress/cuda/spmm.h"

typedef struct matrix {
    tp_product p;
    int64_t lines, units, line_rows;
    /* Dense, [rows, cols]: values, and whether the layout stores them. */
    float *dense;
    char *stored;
    /* Packed, in guarded memory. */
    int64_t *offsets;
    void *indices, *values, *b;
} matrix;

typedef struct shape {
    int32_t layout;
    int64_t block_rows, block_cols;
} shape;

static const shape shapes[] = {
    {TP_SPARSE_CSR16, 0, 0}, {TP_SPARSE_CSR32, 0, 0}, {TP_SPARSE_NM24, 0, 0}, {TP_SPARSE_BSR, 4, 4},
    {TP_SPARSE_BSR, 8, 8},   {TP_SPARSE_BSR, 1, 1},   {TP_SPARSE_BSR, 3, 5},  {TP_SPARSE_BSR, 16, 1},
    {TP_SPARSE_BSR, 2, 7},   {TP_SPARSE_BSR, 1, 16},  {TP_SPARSE_BSR, 13, 3}, {TP_SPARSE_BSR, 64, 64},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, FILL = GUARD_FILL };

static guarded offset_memory, index_memory, value_memory, b_memory, out_memory[2], partial_memory;

static size_t size_of(const matrix *m) { return m->p.a.type == TP_F32 ? 4 : 1; }

/* Memory that ends or starts at a guard page, aligned to its elements and no more. */
static void *place(const guarded *g, int64_t bytes, size_t alignment) {
    const bool at_end = random_below(2);
    const int offset = at_end ? 0 : (int)(random_below(16) * (int64_t)alignment);
    char *p = guarded_input(g, (size_t)bytes, at_end, offset);
    if ((uintptr_t)p % alignment) abort();
    return p;
}

static float random_value(tp_dtype type) {
    if (type == TP_I8) return (float)(random_below(8) ? random_below(256) - 128 : -128);
    return (float)((2 * random_unit() - 1) * ldexp(1, (int)random_below(8) - 4));
}

static float random_entry(tp_dtype type) {
    const float x = random_value(type);
    return x != 0 ? x : 1;
}

static void put(tp_dtype type, void *p, int64_t i, float x) {
    if (type == TP_F32)
        ((float *)p)[i] = x;
    else
        ((int8_t *)p)[i] = (int8_t)x;
}

static float get(tp_dtype type, const void *p, int64_t i) {
    return type == TP_F32 ? ((const float *)p)[i] : (float)((const int8_t *)p)[i];
}

/* ---- packing ---- */

static void mark_block(matrix *m, int64_t line, int64_t block) {
    const tp_sparse *a = &m->p.a;
    for (int64_t r = line * a->block_rows; r < (line + 1) * a->block_rows && r < a->rows; r++)
        for (int64_t c = block * a->block_cols; c < (block + 1) * a->block_cols && c < a->cols; c++)
            m->stored[r * a->cols + c] = 1;
}

static bool block_used(const matrix *m, int64_t line, int64_t block) {
    const tp_sparse *a = &m->p.a;
    for (int64_t r = line * a->block_rows; r < (line + 1) * a->block_rows && r < a->rows; r++)
        for (int64_t c = block * a->block_cols; c < (block + 1) * a->block_cols && c < a->cols; c++)
            if (m->dense[r * a->cols + c] != 0) return true;
    return false;
}

static void pack_bsr(matrix *m) {
    const tp_sparse *a = &m->p.a;
    const int64_t blocks = (a->cols + a->block_cols - 1) / a->block_cols, size = a->block_rows * a->block_cols;
    m->lines = (a->rows + a->block_rows - 1) / a->block_rows;
    m->line_rows = a->block_rows;
    for (int64_t l = 0; l < m->lines; l++)
        for (int64_t k = 0; k < blocks; k++) m->units += block_used(m, l, k);
    m->offsets = place(&offset_memory, 8 * (m->lines + 1), 8);
    m->indices = place(&index_memory, 4 * m->units, 4);
    m->values = place(&value_memory, m->units * size * (int64_t)size_of(m), size_of(m));
    int64_t u = 0;
    for (int64_t l = 0; l < m->lines; l++) {
        m->offsets[l] = u;
        for (int64_t k = 0; k < blocks; k++) {
            if (!block_used(m, l, k)) continue;
            mark_block(m, l, k);
            for (int64_t i = 0; i < size; i++) {
                const int64_t r = l * a->block_rows + i / a->block_cols, c = k * a->block_cols + i % a->block_cols;
                put(a->type, m->values, u * size + i, r < a->rows && c < a->cols ? m->dense[r * a->cols + c] : 0);
            }
            ((uint32_t *)m->indices)[u++] = (uint32_t)k;
        }
    }
    m->offsets[m->lines] = u;
}

static void pack_csr(matrix *m) {
    const tp_sparse *a = &m->p.a;
    for (int64_t i = 0; i < a->rows * a->cols; i++) m->units += m->stored[i] = m->dense[i] != 0;
    const int64_t index_size = a->layout == TP_SPARSE_CSR16 ? 2 : 4;
    m->offsets = place(&offset_memory, 8 * (m->lines + 1), 8);
    m->indices = place(&index_memory, index_size * m->units, (size_t)index_size);
    m->values = place(&value_memory, m->units * (int64_t)size_of(m), size_of(m));
    int64_t u = 0;
    for (int64_t r = 0; r < a->rows; r++) {
        m->offsets[r] = u;
        for (int64_t c = 0, before = 0; c < a->cols; c++) {
            if (!m->stored[r * a->cols + c]) continue;
            put(a->type, m->values, u, m->dense[r * a->cols + c]);
            if (index_size == 2) {
                if (c - before > 65535) abort();
                ((uint16_t *)m->indices)[u] = (uint16_t)(c - before);
            } else {
                ((uint32_t *)m->indices)[u] = (uint32_t)c;
            }
            before = c;
            u++;
        }
    }
    m->offsets[a->rows] = u;
}

static void pack_nm24(matrix *m) {
    const tp_sparse *a = &m->p.a;
    const int64_t groups = (a->cols + 3) / 4, row_bytes = (groups + 1) / 2;
    m->units = a->rows * groups * 2;
    m->indices = place(&index_memory, a->rows * row_bytes, 1);
    m->values = place(&value_memory, m->units * (int64_t)size_of(m), size_of(m));
    memset(m->indices, 0, (size_t)(a->rows * row_bytes));
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t g = 0; g < groups; g++) {
            bool taken[4] = {false};
            int count = 0;
            for (int k = 0; k < 4 && 4 * g + k < a->cols; k++) count += taken[k] = m->dense[r * a->cols + 4 * g + k] != 0;
            if (count > 2) abort();
            for (int k = 0; count < 2; k++) {
                count += !taken[k];
                taken[k] = true;
            }
            int nibble = 0, i = 0;
            for (int k = 0; k < 4; k++) {
                if (!taken[k]) continue;
                const bool inside = 4 * g + k < a->cols;
                if (inside) m->stored[r * a->cols + 4 * g + k] = 1;
                put(a->type, m->values, (r * groups + g) * 2 + i, inside ? m->dense[r * a->cols + 4 * g + k] : 0);
                nibble |= k << 2 * i++;
            }
            ((uint8_t *)m->indices)[r * row_bytes + g / 2] |= (uint8_t)(nibble << g % 2 * 4);
        }
    }
}

static matrix new_matrix(shape s, tp_dtype type, int64_t rows, int64_t cols) {
    matrix m = {.p = {.a = {.rows = rows, .cols = cols, .stride = cols, .block_rows = s.block_rows,
                            .block_cols = s.block_cols, .type = type, .layout = s.layout}},
                .lines = rows, .line_rows = 1};
    m.dense = calloc((size_t)(rows * cols) + 1, sizeof *m.dense);
    m.stored = calloc((size_t)(rows * cols) + 1, 1);
    return m;
}

static void free_matrix(matrix *m) {
    free(m->dense);
    free(m->stored);
}

/* Entries with this density; a third of the lines are empty, unless it is 1. */
static void fill(matrix *m, double density) {
    const tp_sparse *a = &m->p.a;
    for (int64_t r = 0; r < a->rows; r++) {
        if (density < 1 && random_below(3) == 0) continue;
        for (int64_t c = 0; c < a->cols; c++) {
            float *at = m->dense + r * a->cols + c;
            if (random_unit() < density) *at = random_entry(a->type);
            int in_group = 0;
            for (int64_t k = c / 4 * 4; k <= c; k++) in_group += m->dense[r * a->cols + k] != 0;
            if (a->layout == TP_SPARSE_NM24 && in_group > 2) *at = 0;
        }
    }
}

static void pack(matrix *m) {
    if (m->p.a.layout == TP_SPARSE_BSR)
        pack_bsr(m);
    else if (m->p.a.layout == TP_SPARSE_NM24)
        pack_nm24(m);
    else
        pack_csr(m);
}

/* B of `rows` rows with strides above n at times; its gaps hold what no sum may touch. */
static void make_b_apart(matrix *m, int64_t rows, int64_t n, int64_t apart) {
    m->p.n = n;
    m->p.b_stride = n + apart;
    m->p.out_stride = n + (random_below(2) ? random_below(20) : 0);
    const tp_dtype type = m->p.a.type;
    const int64_t size = rows && n ? (rows - 1) * m->p.b_stride + n : 0;
    m->b = place(&b_memory, size * (int64_t)size_of(m), size_of(m));
    for (int64_t i = 0; i < size; i++) put(type, m->b, i, m->p.b_stride && i % m->p.b_stride < n ? random_value(type) : type == TP_F32 ? NAN : 77);
}

static void make_b(matrix *m, int64_t rows, int64_t n) {
    make_b_apart(m, rows, n, random_below(2) ? random_below(20) : 0);
}

static int64_t out_bytes(const matrix *m, int64_t rows) {
    return rows && m->p.n ? 4 * ((rows - 1) * m->p.out_stride + m->p.n) : 0;
}

/* ---- checks ---- */

/* Sums are those of the dense matrices, and the gaps between rows are as they were. */
static void check_out(const matrix *m, bool transposed, const void *out, const char *what) {
    const tp_sparse *a = &m->p.a;
    const int64_t rows = transposed ? a->cols : a->rows, length = transposed ? a->rows : a->cols, n = m->p.n;
    double *sums = calloc((size_t)n + 1, sizeof *sums), *sizes = calloc((size_t)n + 1, sizeof *sizes);
    int64_t *integers = calloc((size_t)n + 1, sizeof *integers);
    for (int64_t r = 0; r < rows; r++) {
        int64_t products = 0;
        for (int64_t j = 0; j < n; j++) sums[j] = sizes[j] = 0, integers[j] = 0;
        for (int64_t k = 0; k < length; k++) {
            const int64_t at = transposed ? k * a->cols + r : r * a->cols + k;
            if (!m->stored[at]) continue;
            products++;
            for (int64_t j = 0; j < n; j++) {
                const float x = m->dense[at], y = get(a->type, m->b, k * m->p.b_stride + j);
                sums[j] += (double)x * y;
                sizes[j] += fabs((double)x * y);
                if (a->type == TP_I8) integers[j] += (int64_t)x * (int64_t)y;
            }
        }
        const double pu = (double)products * 0x1p-24;
        for (int64_t j = 0; j < n; j++) {
            if (a->type == TP_F32) {
                const float x = ((const float *)out)[r * m->p.out_stride + j];
                const double bound = pu / (1 - pu) * sizes[j];
                if (isnan(sums[j]))
                    CHECK(isnan(x), "%s: %g for NaN at %lld, %lld", what, (double)x, (long long)r, (long long)j);
                else
                    CHECK(fabs(x - sums[j]) <= bound * (1 + 1e-6), "%s: layout %d %lldx%lld, n %lld: %g for %g at %lld, %lld",
                          what, a->layout, (long long)a->block_rows, (long long)a->block_cols, (long long)n, (double)x,
                          sums[j], (long long)r, (long long)j);
            } else {
                const int32_t x = ((const int32_t *)out)[r * m->p.out_stride + j];
                CHECK((uint32_t)x == (uint32_t)integers[j], "%s: layout %d %lldx%lld, n %lld: %d for %lld at %lld, %lld", what,
                      a->layout, (long long)a->block_rows, (long long)a->block_cols, (long long)n, x,
                      (long long)integers[j], (long long)r, (long long)j);
            }
        }
        const unsigned char *gap = (const unsigned char *)out + 4 * (r * m->p.out_stride + n);
        for (int64_t i = 0; n && r + 1 < rows && i < 4 * (m->p.out_stride - n); i++)
            CHECK(gap[i] == FILL, "%s: gap behind row %lld", what, (long long)r);
    }
    free(sums);
    free(sizes);
    free(integers);
}

/* ---- on the device ---- */

/* Lists are shorter there, since the emulated one is slow. Slabs of B are a matter of the processor. */

static long with_pieces;

static void open_timed(int64_t budget) {
    open_cuda(budget);
    CHECK(tp_cuda_timing(test_cuda, 1) == TP_OK, "timing");
}

/* Lines [begin, end) of the product, or what rows [begin, end) of A add to columns [first, last) of the transposed one.
   Each array is on the host or on the device; or all are on the host, and the device has hardly any memory. */
static tp_status on_cuda_multiply(const matrix *m, bool transposed, int64_t begin, int64_t end, int64_t first, int64_t last, void *out) {
    const bool short_of_memory = random_below(8) == 0;
    const uint64_t where = short_of_memory ? 0 : random_bits();
    const tp_sparse *a = &m->p.a;
    const int64_t groups = (a->cols + 3) / 4, b_rows = transposed ? a->rows : a->cols;
    const int64_t block = a->layout == TP_SPARSE_BSR ? a->block_rows * a->block_cols : 1;
    const int index_size = a->layout == TP_SPARSE_CSR16 ? 2 : a->layout == TP_SPARSE_NM24 ? 1 : 4, size = (int)size_of(m);
    const int64_t index_bytes = a->layout == TP_SPARSE_NM24 ? a->rows * ((groups + 1) / 2) : m->units * index_size;
    const int64_t b_bytes = b_rows && m->p.n ? ((b_rows - 1) * m->p.b_stride + m->p.n) * size : 0;
    const int64_t bytes = out_bytes(m, transposed ? a->cols : a->rows);
    void *memory[5] = {NULL};
    const int64_t *offsets = where & 1 ? on_device(&memory[0], m->offsets, (size_t)(8 * (m->lines + 1)), 8) : m->offsets;
    const void *indices = where & 2 ? on_device(&memory[1], m->indices, (size_t)index_bytes, index_size) : m->indices;
    const void *values = where & 4 ? on_device(&memory[2], m->values, (size_t)(m->units * block * size), size) : m->values;
    const void *b = where & 8 ? on_device(&memory[3], m->b, (size_t)b_bytes, size) : m->b;
    void *to = where & 16 ? on_device(&memory[4], out, (size_t)bytes, 4) : out;
    int64_t budget = 2048;
    if (short_of_memory) open_timed(budget);
    tp_status status;
    while (true) {
        status = transposed ? tp_cuda_spmm_transposed(test_cuda, &m->p, begin, end, first, last, offsets, indices, values, b, to)
                            : tp_cuda_spmm(test_cuda, &m->p, begin, end, offsets, indices, values, b, to);
        if (status != TP_ERR_MEMORY || !short_of_memory) break;
        open_timed(budget += budget / 4);
    }
    if (status != TP_OK) printf("%s\n", tp_cuda_message(test_cuda));
    tp_cuda_times times;
    CHECK(tp_cuda_last(test_cuda, &times) == TP_OK, "times");
    with_pieces += times.pieces > 1;
    if (to != out) CHECK(tp_cuda_copy(test_cuda, out, to, bytes) == TP_OK, "copy");
    for (int i = 0; i < 5; i++) CHECK(tp_cuda_free(test_cuda, memory[i]) == TP_OK, "free");
    if (short_of_memory) open_timed(0);
    return status;
}

static tp_status multiply(const matrix *m, int64_t begin, int64_t end, void *out) {
    return on_cuda ? on_cuda_multiply(m, false, begin, end, 0, m->p.n, out)
                   : tp_spmm(&m->p, begin, end, m->offsets, m->indices, m->values, m->b, out);
}

/* One call, then the same in ranges from the last to the first. A single column is also fetched in the other way. */
static void check_product(const matrix *m) {
    const int64_t bytes = out_bytes(m, m->p.a.rows);
    void *out = place(&out_memory[0], bytes, 4), *cut = place(&out_memory[1], bytes, 4);
    memset(out, FILL, (size_t)bytes);
    memset(cut, FILL, (size_t)bytes);
    CHECK(multiply(m, 0, m->lines, out) == TP_OK, "status");
    check_out(m, false, out, "product");
    for (int64_t end = m->lines; end > 0;) {
        const int64_t begin = end - 1 - random_below(end);
        CHECK(multiply(m, begin, end, cut) == TP_OK, "status");
        end = begin;
    }
    CHECK(!memcmp(out, cut, (size_t)bytes), "cut into ranges: layout %d, n %lld", m->p.a.layout, (long long)m->p.n);
    if (m->p.n != 1 || on_cuda) return;
    atomic_store(&tp_gathers_state, !tp_use_gathers());
    memset(cut, FILL, (size_t)bytes);
    CHECK(multiply(m, 0, m->lines, cut) == TP_OK, "status");
    CHECK(!memcmp(out, cut, (size_t)bytes), "gathers: layout %d", m->p.a.layout);
    atomic_store(&tp_gathers_state, TP_GATHERS_UNDECIDED);
}

static tp_status multiply_transposed(const matrix *m, int64_t begin, int64_t end, int64_t first, int64_t last, void *out) {
    return on_cuda ? on_cuda_multiply(m, true, begin, end, first, last, out)
                   : tp_spmm_transposed(&m->p, begin, end, first, last, m->offsets, m->indices, m->values, m->b, out);
}

static void *zeros(const matrix *m, const guarded *g) {
    char *out = place(g, out_bytes(m, m->p.a.cols), 4);
    memset(out, FILL, (size_t)out_bytes(m, m->p.a.cols));
    for (int64_t r = 0; r < m->p.a.cols && m->p.n; r++) memset(out + 4 * r * m->p.out_stride, 0, (size_t)m->p.n * 4);
    return out;
}

/* One call, then the same in ranges of columns, each in ranges of rows. */
static void check_transposed_product(const matrix *m) {
    void *out = zeros(m, &out_memory[0]), *cut = zeros(m, &out_memory[1]);
    CHECK(multiply_transposed(m, 0, m->lines, 0, m->p.n, out) == TP_OK, "status");
    check_out(m, true, out, "transposed");
    for (int64_t last = m->p.n; last > 0;) {
        const int64_t first = last - 1 - random_below(last);
        for (int64_t begin = 0; begin < m->lines;) {
            const int64_t end = begin + 1 + random_below(m->lines - begin);
            CHECK(multiply_transposed(m, begin, end, first, last, cut) == TP_OK, "status");
            begin = end;
        }
        last = first;
    }
    CHECK(!memcmp(out, cut, (size_t)out_bytes(m, m->p.a.cols)), "cut: layout %d, n %lld", m->p.a.layout, (long long)m->p.n);
}

static const int64_t widths[] = {0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 100, 127, 128, 129, 191, 255, 256, 300};
enum { WIDTHS = sizeof widths / sizeof *widths };
static const double densities[] = {0, 0.02, 0.1, 0.5, 1};

static void random_case(shape s, tp_dtype type, int64_t n, bool transposed) {
    const int64_t rows = random_below(12) ? 1 + random_below(40) : 0, cols = random_below(12) ? 1 + random_below(200) : 0;
    matrix m = new_matrix(s, type, rows, cols);
    fill(&m, densities[random_below(5)]);
    pack(&m);
    make_b(&m, transposed ? rows : cols, n);
    if (transposed)
        check_transposed_product(&m);
    else
        check_product(&m);
    free_matrix(&m);
}

static void check_spmm(void) {
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        for (int s = 0; s < SHAPES; s++)
            for (int w = 0; w < WIDTHS; w++)
                for (int k = on_cuda ? 5 : 0; k < 6; k++) random_case(shapes[s], (k + w * on_cuda) % 2 ? TP_I8 : TP_F32, widths[w], false);
        if (on_cuda) break;
        /* Enough columns and lines for slabs of B, whose rows are close to each other, or far apart and copied. */
        for (int s = 0; s < SHAPES; s++) {
            for (int k = 0; k < 3; k++) {
                const bool apart = k > 0;
                matrix m = new_matrix(shapes[s], k == 2 ? TP_I8 : TP_F32, 120, (apart ? 1500 : 2300) + random_below(9));
                fill(&m, 0.5);
                pack(&m);
                make_b_apart(&m, m.p.a.cols, apart ? 130 + random_below(200) : 100 + random_below(130), apart ? 500 : 0);
                check_product(&m);
                free_matrix(&m);
            }
        }
    }
}

static void check_spmm_transposed(void) {
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        for (int s = 0; s < 2; s++)
            for (int w = 0; w < WIDTHS; w++)
                for (int k = 0; k < (on_cuda ? 2 : 12); k++) random_case(shapes[s], k % 2 ? TP_I8 : TP_F32, widths[w], true);
        /* More rows than a device sorts at once. */
        for (int s = 0; s < 2; s++) {
            matrix m = new_matrix(shapes[s], s ? TP_I8 : TP_F32, 70000, 5);
            fill(&m, 0.1);
            pack(&m);
            make_b(&m, 70000, 3);
            check_transposed_product(&m);
            free_matrix(&m);
        }
    }
}

/* The columns of a line's stored units, as the layout counts them. */
static int64_t column_of_unit(const matrix *m, int64_t line, int64_t unit) {
    const int64_t cols = m->p.a.cols;
    for (int64_t c = 0; c < cols; c++)
        if (m->stored[line * cols + c] && unit-- == 0) return c;
    return -1;
}

/* Lines of several segments: one call against segments added up. */
static void heavy_case(shape s, tp_dtype type, int64_t n, int64_t blocks, double density, bool lowest) {
    const int64_t block_rows = s.block_rows ? s.block_rows : 1, block_cols = s.block_cols ? s.block_cols : 1;
    const int64_t cols = blocks * block_cols;
    matrix m = new_matrix(s, type, 3 * block_rows, cols);
    for (int64_t c = 0; c < cols; c++) {
        if (random_unit() < density) m.dense[block_rows * cols + c] = lowest ? -128 : random_entry(type);
        if (random_unit() < 0.01) m.dense[c] = random_entry(type);
    }
    pack(&m);
    make_b(&m, cols, n);
    if (lowest)
        for (int64_t i = 0; i < (cols - 1) * m.p.b_stride + n; i++) put(type, m.b, i, -128);
    check_product(&m);
    if (on_cuda) { /* it has no function for a segment */
        free_matrix(&m);
        return;
    }

    const int64_t bytes = out_bytes(&m, m.p.a.rows), partial = block_rows * n;
    char *out = place(&out_memory[0], bytes, 4), *cut = place(&out_memory[1], bytes, 4);
    memset(out, FILL, (size_t)bytes);
    memset(cut, FILL, (size_t)bytes);
    CHECK(multiply(&m, 0, m.lines, out) == TP_OK, "status");
    for (int64_t line = 0; line < m.lines; line++) {
        const int64_t units = m.offsets[line + 1] - m.offsets[line];
        const int64_t segments = (units + TP_SPMM_SEGMENT - 1) / TP_SPMM_SEGMENT;
        char *partials = place(&partial_memory, 4 * segments * partial, 4);
        for (int64_t segment = segments; segment-- > 0;) {
            int64_t column = -1;
            CHECK(tp_spmm_column(&m.p, line, segment, m.offsets, m.indices, &column) == TP_OK, "status");
            const bool any = s.layout == TP_SPARSE_CSR16 && segment;
            const int64_t expected = any ? column_of_unit(&m, line, segment * TP_SPMM_SEGMENT - 1) : 0;
            CHECK(column == expected, "column %lld, not %lld", (long long)column, (long long)expected);
            CHECK(tp_spmm_segment(&m.p, line, segment, column, m.offsets, m.indices, m.values, m.b,
                                  partials + 4 * segment * partial) == TP_OK, "status");
        }
        CHECK(tp_spmm_segment(&m.p, line, segments, 0, m.offsets, m.indices, m.values, m.b, partials) == TP_ERR_RANGE,
              "a segment too many");
        CHECK(tp_spmm_add(&m.p, line, segments, partials, cut) == TP_OK, "status");
    }
    CHECK(!memcmp(out, cut, (size_t)bytes), "segments: layout %d, n %lld", s.layout, (long long)n);
    free_matrix(&m);
}

static void check_spmm_segment(void) {
    static const shape heavy[] = {{TP_SPARSE_CSR16, 0, 0}, {TP_SPARSE_CSR32, 0, 0}, {TP_SPARSE_BSR, 1, 1}, {TP_SPARSE_BSR, 3, 2},
                                  {TP_SPARSE_BSR, 4, 1}};
    static const int64_t n[] = {1, 3, 17, 33, 70, 130};
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        for (int s = 0; s < 5; s++) {
            for (int w = 0; w < (on_cuda ? 3 : 6); w++) {
                const tp_dtype type = random_below(2) ? TP_F32 : TP_I8;
                heavy_case(heavy[s], type, n[w], (on_cuda && w ? 20000 : 36000) + random_below(2000), s == 3 ? 0.9 : 0.95, false);
            }
        }
        for (int s = 0; s < 3; s++) { /* to a segment's edge, and beyond int32 */
            heavy_case(heavy[s], TP_F32, 5, 2 * TP_SPMM_SEGMENT, 1, false);
            heavy_case(heavy[s], TP_F32, 1, TP_SPMM_SEGMENT, 1, false);
            heavy_case(heavy[s], TP_I8, 18, on_cuda ? 2 * TP_SPMM_SEGMENT + 5 : 140000, 1, true);
            heavy_case(heavy[s], TP_I8, 1, 140000, 1, true);
        }
        for (int k = 0; k < 4; k++) /* blocks with sums of their own for n = 1 */
            heavy_case(shapes[3 + k / 2], k % 2 ? TP_I8 : TP_F32, k ? 1 : 3, 2 * TP_SPMM_SEGMENT + 5, 0.5, false);
        /* A heavy line among light ones, in slabs. */
        for (int s = 0; s < (on_cuda ? 2 : 4); s++) {
            const int64_t rows = on_cuda ? 11 : 64;
            matrix m = new_matrix(shapes[s % 2], TP_F32, rows, 20000);
            for (int64_t i = 0; i < rows * 20000; i++)
                if (i / 20000 == 9 || random_unit() < 0.4) m.dense[i] = random_entry(TP_F32);
            pack(&m);
            make_b_apart(&m, 20000, on_cuda ? 65 : 129, s < 2 ? 512 - 129 : 0);
            check_product(&m);
            free_matrix(&m);
        }
    }
}

static void check_spmm_column(void) {
    /* Columns beyond 65535, and distances of 65535. */
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        for (int w = 0; w < WIDTHS; w += 4) {
            for (int k = 0; k < 2; k++) {
                matrix m = new_matrix(shapes[0], k ? TP_I8 : TP_F32, 2, 200000);
                for (int64_t c = 0; c < 200000; c += 65535) m.dense[c] = random_entry(m.p.a.type);
                for (int64_t c = 5; c < 200000; c += random_below(9) ? 1 + random_below(9) : 20000) m.dense[200000 + c] = random_entry(m.p.a.type);
                pack(&m);
                make_b(&m, 200000, widths[w] < 20 ? widths[w] : 20);
                check_product(&m);
                free_matrix(&m);
            }
        }
    }
}

/* Adding many partials of a line of blocks at the lower edge; none is an empty line. */
static void check_spmm_add(void) {
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        for (int w = 1; w < WIDTHS; w++) {
            for (int k = 0; k < 8; k++) {
                const int64_t n = widths[w], segments = random_below(5);
                const tp_dtype type = k % 2 ? TP_I8 : TP_F32;
                matrix m = new_matrix(shapes[3], type, 7, 4);
                m.p.n = n;
                m.p.b_stride = n;
                m.p.out_stride = n + random_below(5);
                const int64_t line = random_below(2), rows = line ? 3 : 4, bytes = out_bytes(&m, 7);
                uint32_t *partials = place(&partial_memory, 4 * segments * 4 * n, 4), *out = place(&out_memory[0], bytes, 4);
                memset(out, FILL, (size_t)bytes);
                for (int64_t i = 0; i < segments * 4 * n; i++) {
                    partials[i] = (uint32_t)random_bits();
                    if (type == TP_F32) ((float *)partials)[i] = random_value(TP_F32);
                }
                CHECK(tp_spmm_add(&m.p, line, segments, partials, out) == TP_OK, "status");
                for (int64_t i = 0; i < bytes / 4; i++) {
                    const int64_t r = i / m.p.out_stride, j = i % m.p.out_stride;
                    uint32_t expected = FILL * 0x1010101u, sum = 0;
                    float f = 0;
                    if (r >= 4 * line && r < 4 * line + rows && j < n) {
                        for (int64_t s = 0; s < segments; s++) {
                            const int64_t at = (s * 4 + r - 4 * line) * n + j;
                            sum += partials[at];
                            f += ((float *)partials)[at];
                        }
                        expected = sum;
                        if (type == TP_F32) memcpy(&expected, &f, 4);
                    }
                    CHECK(out[i] == expected, "added: %u, not %u", out[i], expected);
                }
                free_matrix(&m);
            }
        }
    }
}

/* NaN and infinity in B reach only the rows that store an element for them. */
static void check_nonfinite(void) {
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        for (int s = 0; s < SHAPES; s++) {
            for (int w = 1; w < WIDTHS; w++) {
                matrix m = new_matrix(shapes[s], TP_F32, 1 + random_below(40), 1 + random_below(90));
                fill(&m, 0.05);
                pack(&m);
                make_b(&m, m.p.a.cols, widths[w]);
                for (int k = 0; k < 3; k++) ((float *)m.b)[random_below(m.p.a.cols) * m.p.b_stride + random_below(m.p.n)] = k ? NAN : INFINITY;
                const int64_t bytes = out_bytes(&m, m.p.a.rows);
                void *out = place(&out_memory[0], bytes, 4);
                memset(out, FILL, (size_t)bytes);
                CHECK(multiply(&m, 0, m.lines, out) == TP_OK, "status");
                for (int64_t r = 0; r < m.p.a.rows; r++) {
                    for (int64_t j = 0; j < m.p.n; j++) {
                        bool finite = true;
                        for (int64_t c = 0; c < m.p.a.cols; c++)
                            finite &= !m.stored[r * m.p.a.cols + c] || isfinite(((float *)m.b)[c * m.p.b_stride + j]);
                        const float x = ((float *)out)[r * m.p.out_stride + j];
                        CHECK(!isfinite(x) == !finite, "layout %d, n %lld: %g", shapes[s].layout, (long long)m.p.n, (double)x);
                    }
                }
                free_matrix(&m);
            }
        }
    }
}

static void check_arguments(void) {
    const int64_t offsets[4] = {0, 1, 2, 3};
    const uint32_t indices[3] = {0, 1, 2};
    const float values[12] = {1, 2, 3}, b[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    float out[12] = {0}, partial[4];
    int64_t column;
    const tp_product good = {.a = {.rows = 3, .cols = 3, .type = TP_F32, .layout = TP_SPARSE_CSR32}, .n = 2, .b_stride = 2,
                             .out_stride = 2};
    tp_product p = good;
#define STATUS(expected, begin, end)                                                                                  \
    do {                                                                                                              \
        const tp_status status_ = tp_spmm(&p, begin, end, offsets, indices, values, b, out);                          \
        CHECK(status_ == (expected), "%s, not %s", tp_status_name(status_), #expected);                               \
        p = good;                                                                                                     \
    } while (0)
#define TRANSPOSED(expected, begin, end, first, last)                                                                 \
    do {                                                                                                              \
        const tp_status status_ = tp_spmm_transposed(&p, begin, end, first, last, offsets, indices, values, b, out);  \
        CHECK(status_ == (expected), "%s, not %s", tp_status_name(status_), #expected);                               \
        p = good;                                                                                                     \
    } while (0)
    STATUS(TP_OK, 0, 3);
    TRANSPOSED(TP_OK, 0, 3, 0, 2);
    p.a.layout = TP_SPARSE_BITMASK; STATUS(TP_ERR_ARGUMENT, 0, 3);
    p.a.layout = 0; STATUS(TP_ERR_ARGUMENT, 0, 3);
    p.a.layout = 6; STATUS(TP_ERR_ARGUMENT, 0, 3);
    p.a.type = TP_F16; STATUS(TP_ERR_TYPE, 0, 3);
    p.a.type = TP_U8; STATUS(TP_ERR_TYPE, 0, 3);
    p.a.rows = -1; STATUS(TP_ERR_SHAPE, 0, 0);
    p.a.cols = -1; STATUS(TP_ERR_SHAPE, 0, 0);
    p.a.cols = INT64_C(1) << 32; STATUS(TP_ERR_SHAPE, 0, 3);
    p.a.block_rows = 1; STATUS(TP_ERR_SHAPE, 0, 3);
    p.a.block_cols = 1; STATUS(TP_ERR_SHAPE, 0, 3);
    p.a.layout = TP_SPARSE_BSR; STATUS(TP_ERR_SHAPE, 0, 3);
    p.a.layout = TP_SPARSE_BSR; p.a.block_rows = 65; p.a.block_cols = 1; STATUS(TP_ERR_SHAPE, 0, 1);
    p.a.layout = TP_SPARSE_BSR; p.a.block_rows = 1; p.a.block_cols = 65; STATUS(TP_ERR_SHAPE, 0, 1);
    p.n = -1; STATUS(TP_ERR_SHAPE, 0, 3);
    p.b_stride = 1; STATUS(TP_ERR_SHAPE, 0, 3);
    p.out_stride = 1; STATUS(TP_ERR_SHAPE, 0, 3);
    p.b_stride = INT64_C(1) << 60; STATUS(TP_ERR_SHAPE, 0, 3);
    p.out_stride = INT64_C(1) << 60; STATUS(TP_ERR_SHAPE, 0, 3);
    p.a.rows = INT64_C(1) << 60; STATUS(TP_ERR_SHAPE, 0, 3);
    STATUS(TP_ERR_RANGE, -1, 3);
    STATUS(TP_ERR_RANGE, 0, 4);
    STATUS(TP_ERR_RANGE, 2, 1);
    p.a.layout = TP_SPARSE_BSR; p.a.block_rows = 2; p.a.block_cols = 1; STATUS(TP_ERR_RANGE, 0, 3);
    TRANSPOSED(TP_ERR_RANGE, 0, 4, 0, 2);
    TRANSPOSED(TP_ERR_RANGE, 0, 3, 0, 3);
    TRANSPOSED(TP_ERR_RANGE, 0, 3, -1, 2);
    TRANSPOSED(TP_ERR_RANGE, 0, 3, 2, 1);
    p.a.layout = TP_SPARSE_NM24; TRANSPOSED(TP_ERR_ARGUMENT, 0, 3, 0, 2);
    p.a.layout = TP_SPARSE_BSR; p.a.block_rows = p.a.block_cols = 1; TRANSPOSED(TP_ERR_ARGUMENT, 0, 3, 0, 2);
    CHECK(tp_spmm(NULL, 0, 0, offsets, indices, values, b, out) == TP_ERR_ARGUMENT, "null spec");
    CHECK(tp_spmm_transposed(NULL, 0, 0, 0, 0, offsets, indices, values, b, out) == TP_ERR_ARGUMENT, "null spec");
    const void *pointers[5] = {offsets, indices, values, b, out};
    for (int i = 0; i < 5; i++) {
        const void *q[5];
        memcpy(q, pointers, sizeof q);
        q[i] = NULL;
        CHECK(tp_spmm(&p, 0, 3, q[0], q[1], q[2], q[3], (void *)q[4]) == TP_ERR_ARGUMENT, "null pointer %d", i);
        CHECK(tp_spmm_transposed(&p, 0, 3, 0, 2, q[0], q[1], q[2], q[3], (void *)q[4]) == TP_ERR_ARGUMENT, "null pointer %d", i);
        CHECK(tp_spmm_segment(&p, 0, 0, 0, q[0], q[1], q[2], q[3], (void *)q[4]) == TP_ERR_ARGUMENT, "null pointer %d", i);
    }
    CHECK(tp_spmm(&p, 1, 1, NULL, NULL, NULL, NULL, NULL) == TP_OK, "nothing to do");
    CHECK(tp_spmm_transposed(&p, 1, 1, 0, 2, NULL, NULL, NULL, NULL, NULL) == TP_OK, "nothing to do");
    /* The same on the device. */
    for (int i = 0; i < 5; i++) {
        const void *q[5];
        memcpy(q, pointers, sizeof q);
        q[i] = NULL;
        CHECK(tp_cuda_spmm(test_cuda, &p, 0, 3, q[0], q[1], q[2], q[3], (void *)q[4]) == TP_ERR_ARGUMENT, "null pointer %d", i);
        CHECK(tp_cuda_spmm_transposed(test_cuda, &p, 0, 3, 0, 2, q[0], q[1], q[2], q[3], (void *)q[4]) == TP_ERR_ARGUMENT, "null pointer %d", i);
    }
    CHECK(tp_cuda_spmm(NULL, &p, 0, 3, offsets, indices, values, b, out) == TP_ERR_ARGUMENT, "no device");
    CHECK(tp_cuda_spmm_transposed(NULL, &p, 0, 3, 0, 2, offsets, indices, values, b, out) == TP_ERR_ARGUMENT, "no device");
    CHECK(tp_cuda_spmm(test_cuda, NULL, 0, 3, offsets, indices, values, b, out) == TP_ERR_ARGUMENT, "null spec");
    CHECK(tp_cuda_spmm_transposed(test_cuda, NULL, 0, 3, 0, 2, offsets, indices, values, b, out) == TP_ERR_ARGUMENT, "null spec");
    CHECK(tp_cuda_spmm(test_cuda, &p, 0, 4, offsets, indices, values, b, out) == TP_ERR_RANGE, "lines");
    CHECK(tp_cuda_spmm_transposed(test_cuda, &p, 0, 4, 0, 2, offsets, indices, values, b, out) == TP_ERR_RANGE, "rows");
    CHECK(tp_cuda_spmm_transposed(test_cuda, &p, 0, 3, 0, 3, offsets, indices, values, b, out) == TP_ERR_RANGE, "columns");
    CHECK(tp_cuda_spmm(test_cuda, &p, 1, 1, NULL, NULL, NULL, NULL, NULL) == TP_OK, "nothing to do");
    CHECK(tp_cuda_spmm_transposed(test_cuda, &p, 1, 1, 0, 2, NULL, NULL, NULL, NULL, NULL) == TP_OK, "nothing to do");
    p.a.type = TP_F16;
    CHECK(tp_cuda_spmm(test_cuda, &p, 0, 3, offsets, indices, values, b, out) == TP_ERR_TYPE, "type");
    CHECK(tp_cuda_spmm_transposed(test_cuda, &p, 0, 3, 0, 2, offsets, indices, values, b, out) == TP_ERR_TYPE, "type");
    p = good;
    p.a.layout = TP_SPARSE_NM24;
    CHECK(tp_cuda_spmm_transposed(test_cuda, &p, 0, 3, 0, 2, offsets, indices, values, b, out) == TP_ERR_ARGUMENT, "layout");
    p = good;
    p.n = 0;
    CHECK(tp_spmm(&p, 0, 3, NULL, NULL, NULL, NULL, NULL) == TP_OK, "no columns");
    p = good;
    const int64_t empty[4] = {0};
    out[0] = 5;
    CHECK(tp_spmm(&p, 0, 3, empty, NULL, NULL, NULL, out) == TP_OK && out[0] == 0, "empty lines");
    out[0] = 5;
    CHECK(tp_cuda_spmm(test_cuda, &p, 0, 3, empty, NULL, NULL, NULL, out) == TP_OK && out[0] == 0, "empty lines");

    CHECK(tp_spmm_segment(&p, 0, 1, 0, offsets, indices, values, b, partial) == TP_ERR_RANGE, "segment");
    CHECK(tp_spmm_segment(&p, 0, -1, 0, offsets, indices, values, b, partial) == TP_ERR_RANGE, "segment");
    CHECK(tp_spmm_segment(&p, 3, 0, 0, offsets, indices, values, b, partial) == TP_ERR_RANGE, "line");
    CHECK(tp_spmm_segment(&p, 0, 0, 0, empty, indices, values, b, partial) == TP_ERR_RANGE, "empty line");
    CHECK(tp_spmm_segment(&p, 0, 0, 99, offsets, indices, values, b, partial) == TP_OK, "the column does not matter");
    CHECK(tp_spmm_column(&p, 0, 0, offsets, indices, NULL) == TP_ERR_ARGUMENT, "null column");
    CHECK(tp_spmm_column(&p, 0, 0, NULL, indices, &column) == TP_ERR_ARGUMENT, "null offsets");
    CHECK(tp_spmm_column(&p, 0, 0, offsets, NULL, &column) == TP_ERR_ARGUMENT, "null indices");
    CHECK(tp_spmm_column(&p, 0, 1, offsets, indices, &column) == TP_ERR_RANGE, "segment");
    CHECK(tp_spmm_add(&p, 3, 0, partial, out) == TP_ERR_RANGE, "line");
    CHECK(tp_spmm_add(&p, 0, -1, partial, out) == TP_ERR_RANGE, "segments");
    CHECK(tp_spmm_add(&p, 0, INT64_C(1) << 60, partial, out) == TP_ERR_SHAPE, "segments");
    CHECK(tp_spmm_add(&p, 0, 1, NULL, out) == TP_ERR_ARGUMENT, "null partials");
    CHECK(tp_spmm_add(&p, 0, 1, partial, NULL) == TP_ERR_ARGUMENT, "null out");
    p.a.layout = TP_SPARSE_CSR16;
    CHECK(tp_spmm_segment(&p, 0, 0, 3, offsets, indices, values, b, partial) == TP_ERR_RANGE, "column");
    CHECK(tp_spmm_segment(&p, 0, 0, -1, offsets, indices, values, b, partial) == TP_ERR_RANGE, "column");
    p.a.layout = TP_SPARSE_NM24;
    CHECK(tp_spmm_segment(&p, 0, 0, 0, offsets, indices, values, b, partial) == TP_ERR_ARGUMENT, "no segments");
    CHECK(tp_spmm_column(&p, 0, 0, offsets, indices, &column) == TP_ERR_ARGUMENT, "no segments");
    CHECK(tp_spmm_add(&p, 0, 1, partial, out) == TP_ERR_ARGUMENT, "no segments");
}

/* Every kernel of the list has a check above and a variant of its own in every tier of this build. */
static void check_list(void) {
#define VARIANTS(name, params)                                                                                        \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++)                                                                 \
        CHECK(tp_spmm_tables[tier].name && (tier == 0 || tp_spmm_tables[tier].name != tp_spmm_tables[0].name),        \
              "%s of tier %s", #name, tp_tier_name(tier));                                                            \
    printf("%-16s", #name);                                                                                           \
    for (int tier = 0; tier < TP_TIERS_BUILT; tier++) printf(" %s%s", tp_tier_name(tier), tier < test_tiers ? "" : "(skipped)"); \
    printf("\n");                                                                                                     \
    check_##name();
    TP_SPMM_KERNELS(VARIANTS)
}

int main(void) {
    test_start("test_spmm");
    printf("test_spmm: gathers %s\n", tp_use_gathers() ? "are fast" : "are slow");
    offset_memory = guarded_new(1u << 20);
    index_memory = guarded_new(4u << 20);
    value_memory = guarded_new(16u << 20);
    b_memory = guarded_new(64u << 20);
    for (int i = 0; i < 2; i++) out_memory[i] = guarded_new(4u << 20);
    partial_memory = guarded_new(1u << 20);
    open_timed(0);
    while (test_round()) {
        check_arguments();
        check_nonfinite();
        check_list();
    }
    CHECK(with_pieces > 0, "no product went through the device in pieces");
    tp_cuda_close(test_cuda);
    return test_end();
}
