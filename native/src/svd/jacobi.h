/* One-sided Jacobi. */

/* Of the rows of the block that begins with row `first`; 0 for negligible ones. */
static void inverse_norms(const tp_jacobi *spec, int64_t first, int64_t g_stride, const double *g, double *inverse) {
    for (int64_t i = 0; i < min64(spec->block, spec->n - first); i++) {
        const double square = g[(first + i) * (g_stride + 1)];
        inverse[i] = square > spec->negligible ? 1 / sqrt(square) : 0;
    }
}

tp_status TP_VARIANT(gram_blocks)(const tp_jacobi *spec, int64_t g_stride, const double *g, int64_t begin, int64_t end,
                                  double *cosines) {
    const int64_t b = spec->block, blocks = (spec->n + b - 1) / b;
    for (int64_t i = begin; i < end; i++) {
        double p_inverse[TP_PANEL_ROWS], r_inverse[TP_PANEL_ROWS];
        inverse_norms(spec, i * b, g_stride, g, p_inverse);
        for (int64_t j = 0; j <= i; j++) {
            double most[TP_PANEL_ROWS] = {0};
            inverse_norms(spec, j * b, g_stride, g, r_inverse);
            for (int64_t p = i * b; p < min64(spec->n, (i + 1) * b); p++) {
                const double *row = g + p * g_stride + j * b, inverse = p_inverse[p - i * b];
                const int64_t count = min64(p - j * b, b);
                for (int64_t r = 0; r < count; r++) {
                    const double x = fabs(row[r]) * r_inverse[r] * inverse;
                    most[r] = x > most[r] ? x : most[r];
                }
            }
            for (int64_t r = 1; r < b; r++) most[0] = larger(most[0], most[r]);
            cosines[i * blocks + j] = most[0];
        }
    }
    return TP_OK;
}

enum { PAIR = 2 * TP_PANEL_ROWS, GRAM_ROWS = LANES == 8 ? 4 : 2, GRAM_COLS = 4, GRAM_CHUNK = 32 * LANES };

/* G[i .. i + rows) [j .. j + cols) += the products of these rows, over n elements. */
INLINE void gram_tile(int rows, int cols, int64_t n, double *const *x, double *const *y, double *g) {
    vd sums[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < cols; c++) sums[r][c] = v_zero();
    int64_t k = 0;
    for (; k + LANES <= n; k += LANES) {
        vd row[4];
#pragma GCC unroll 4
        for (int c = 0; c < cols; c++) row[c] = v_load(y[c] + k);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const vd a = v_load(x[r] + k);
#pragma GCC unroll 4
            for (int c = 0; c < cols; c++) sums[r][c] = v_fma(a, row[c], sums[r][c]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int c = 0; c < cols; c++) {
            double sum = v_sum(sums[r][c]);
            for (int64_t i = k; i < n; i++) sum += x[r][i] * y[c][i];
            g[r * PAIR + c] += sum;
        }
    }
}

/* The Gram matrix of n rows, both triangles. */
static void gram_of_rows(int64_t n, int64_t cols, double *const *rows, double *g) {
    for (int64_t i = 0; i < n; i++) memset(g + i * PAIR, 0, (size_t)n * sizeof *g);
    double *x[PAIR];
    for (int64_t k = 0; k < cols; k += GRAM_CHUNK) {
        const int64_t width = min64(GRAM_CHUNK, cols - k);
        for (int64_t i = 0; i < n; i++) x[i] = rows[i] + k;
        int64_t i = 0;
        for (; i + GRAM_ROWS <= n; i += GRAM_ROWS) {
            int64_t j = 0;
            for (; j + GRAM_COLS <= n && j < i + GRAM_ROWS; j += GRAM_COLS)
                gram_tile(GRAM_ROWS, GRAM_COLS, width, x + i, x + j, g + i * PAIR + j);
            for (; j < i + GRAM_ROWS; j++) gram_tile(GRAM_ROWS, 1, width, x + i, x + j, g + i * PAIR + j);
        }
        for (; i < n; i++)
            for (int64_t j = 0; j <= i; j++) gram_tile(1, 1, width, x + i, x + j, g + i * PAIR + j);
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) g[j * PAIR + i] = g[i * PAIR + j];
}

/* Rotates K so that K G K^T has no pair above the tolerance, as far as `sweeps` go. Returns whether anything was rotated. */
static bool diagonalize(int64_t n, double tolerance, double negligible, int sweeps, double *g, double *k) {
    for (int64_t i = 0; i < n; i++) {
        memset(k + i * PAIR, 0, (size_t)n * sizeof *k);
        k[i * PAIR + i] = 1;
    }
    bool any = false;
    for (int sweep = 0; sweep < sweeps; sweep++) {
        bool more = false;
        for (int64_t p = 0; p < n; p++) {
            for (int64_t r = p + 1; r < n; r++) {
                double c, s, change, *gp = g + p * PAIR, *gr = g + r * PAIR;
                if (!tp_rotation(gp[p], gr[r], gp[r], tolerance, negligible, &c, &s, &change)) continue;
                const double new_p = gp[p] - change, new_r = gr[r] + change;
                more = true;
                rotate(n, c, s, gp, gr);
                for (int64_t i = 0; i < n; i++) {
                    g[i * PAIR + p] = gp[i];
                    g[i * PAIR + r] = gr[i];
                }
                gp[p] = new_p;
                gr[r] = new_r;
                gp[r] = gr[p] = 0;
                rotate(n, c, s, k + p * PAIR, k + r * PAIR);
            }
        }
        if (!more) break;
        any = true;
    }
    return any;
}

/* rows = K rows, a strip of columns at a time. `packed_k` holds panels of MR rows of K. */
static void rotate_rows(int64_t n, int64_t cols, double *const *rows, const double *packed_k, double *strip) {
    double tile[TP_TILE_ROWS * TP_TILE_COLS] __attribute__((aligned(64)));
    for (int64_t j = 0; j < cols; j += NR) {
        const int64_t width = min64(NR, cols - j);
        for (int64_t i = 0; i < n; i++) {
            if (width == NR) {
                for (int v = 0; v < NV; v++) v_store(strip + i * NR + v * LANES, v_load(rows[i] + j + v * LANES));
            } else {
                memset(strip + i * NR, 0, NR * sizeof *strip);
                memcpy(strip + i * NR, rows[i] + j, (size_t)width * sizeof *strip);
            }
        }
        for (int64_t i = 0; i < n; i += MR) {
            tile_product(n, packed_k + i * n, strip, tile);
            for (int64_t r = 0; r < min64(MR, n - i); r++) {
                if (width == NR)
                    for (int v = 0; v < NV; v++) v_store(rows[i + r] + j + v * LANES, v_load(tile + r * NR + v * LANES));
                else
                    memcpy(rows[i + r] + j, tile + r * NR, (size_t)width * sizeof *tile);
            }
        }
    }
}

/* Of the largest element, as binary_exponent. */
static int64_t exponent_of_rows(int64_t n, int64_t cols, double *const *rows) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < cols; j++) largest = larger(largest, fabs(rows[i][j]));
    return tp_binary_exponent(largest);
}

static void scale_rows(int64_t n, int64_t cols, double factor, double *const *rows) {
    for (int64_t i = 0; i < n; i++) scale(cols, factor, rows[i]);
}

tp_status TP_VARIANT(jacobi_pairs)(const tp_jacobi *spec, const int32_t *pairs, int64_t begin, int64_t end, double *w,
                                   double *z, double *scratch, int64_t *rotated) {
    enum { SWEEPS = 3 };
    double *g = scratch, *k = g + PAIR * PAIR, *packed = k + PAIR * PAIR, *strip = packed + PAIR * PAIR;
    *rotated = 0;
    for (int64_t at = begin; at < end; at++) {
        double *w_rows[PAIR], *z_rows[PAIR];
        int64_t n = 0;
        for (int side = 0; side < 2; side++) {
            const int64_t block = pairs[2 * at + side];
            if (side && block == pairs[2 * at]) break;
            for (int64_t i = block * spec->block; i < min64(spec->n, (block + 1) * spec->block); i++, n++) {
                w_rows[n] = w + i * spec->w_stride;
                z_rows[n] = spec->z_cols ? z + i * spec->z_stride : NULL;
            }
        }
        gram_of_rows(n, spec->w_cols, w_rows, g);
        double most = 0, negligible = spec->negligible;
        for (int64_t i = 0; i < n; i++) most = larger(most, g[i * (PAIR + 1)]);
        int64_t e = 0;
        if (!(most >= 0x1p-200 && most <= 0x1p800)) {
            /* Squares leave the range where f64 is accurate: the same with rows of norm about 1. */
            e = exponent_of_rows(n, spec->w_cols, w_rows);
            scale_rows(n, spec->w_cols, tp_power_of_two(-e), w_rows);
            gram_of_rows(n, spec->w_cols, w_rows, g);
            negligible = negligible * tp_power_of_two(-e) * tp_power_of_two(-e);
        }
        const bool any = diagonalize(n, spec->tolerance, larger(negligible, 0x1p-960), SWEEPS, g, k);
        if (any) {
            ++*rotated;
            pack(TP_F64, MR, n, n, k, PAIR, 1, packed);
            rotate_rows(n, spec->w_cols, w_rows, packed, strip);
            rotate_rows(n, spec->z_cols, z_rows, packed, strip);
        }
        if (e) scale_rows(n, spec->w_cols, tp_power_of_two(e), w_rows);
    }
    return TP_OK;
}
