/* Products of matrices. */

/* tile [MR, NR] = A^T B of packed panels A [k, MR] and B [k, NR]. */
INLINE void tile_product(int64_t k, const double *restrict a, const double *restrict b, double *restrict tile) {
    vd sum[MR][NV];
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) sum[r][v] = v_zero();
    for (int64_t p = 0; p < k; p++, a += MR, b += NR) {
        vd row[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) row[v] = v_load(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < MR; r++) {
            const vd x = v_set(a[r]);
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) sum[r][v] = v_fma(x, row[v], sum[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) v_store(tile + r * NR + v * LANES, sum[r][v]);
}

/* Packs `count` lines of k elements into panels of `width` lines, [k, width] each, the last one filled up with zeros. Element p of
   line i is in[i * line + p * step]. */
INLINE void pack_typed(tp_dtype type, int64_t width, int64_t count, int64_t k, const void *in, int64_t line,
                       int64_t step, double *out) {
    for (int64_t i = 0; i < count; i += width, out += k * width) {
        const int64_t n = min64(width, count - i);
        if (n < width) memset(out, 0, (size_t)(k * width) * sizeof *out);
        const void *from = element(type, in, i * line);
        if (line == 1 && n == width) {
            for (int64_t p = 0; p < k; p++)
                for (int64_t j = 0; j < width; j++) out[p * width + j] = at(type, from, p * step + j);
        } else {
            /* Some elements of each line at a time, so that what is written stays in the first cache. */
            for (int64_t p0 = 0; p0 < k; p0 += 32)
                for (int64_t j = 0; j < n; j++)
                    for (int64_t p = p0; p < min64(p0 + 32, k); p++) out[p * width + j] = at(type, from, j * line + p * step);
        }
    }
}

INLINE void pack(tp_dtype type, int64_t width, int64_t count, int64_t k, const void *in, int64_t line, int64_t step,
                 double *out) {
    if (type == TP_F64)
        pack_typed(TP_F64, width, count, k, in, line, step, out);
    else
        pack_typed(TP_F32, width, count, k, in, line, step, out);
}

/* C = alpha tile + beta C. No fused operations, so that a tile's position does not matter. */
INLINE void store_tile(int64_t rows, int64_t cols, double alpha, double beta, const double *tile, int64_t stride,
                       double *c) {
    for (int64_t r = 0; r < rows; r++, c += stride, tile += NR) {
        if (beta == 0)
            for (int64_t j = 0; j < cols; j++) c[j] = alpha * tile[j];
        else if (beta == 1)
            for (int64_t j = 0; j < cols; j++) c[j] += alpha * tile[j];
        else
            for (int64_t j = 0; j < cols; j++) c[j] = beta * c[j] + alpha * tile[j];
    }
}

tp_status TP_VARIANT(multiply)(const tp_multiplication *s, int64_t begin, int64_t end, const void *a, const void *b,
                               double *c, double *scratch) {
    double *packed_a = scratch, *packed_b = scratch + TP_BLOCK_ROWS * TP_BLOCK_K;
    double tile[TP_TILE_ROWS * TP_TILE_COLS] __attribute__((aligned(64)));
    const int64_t a_line = s->a_transposed ? 1 : s->a_stride, a_step = s->a_transposed ? s->a_stride : 1;
    const int64_t b_line = s->b_transposed ? s->b_stride : 1, b_step = s->b_transposed ? 1 : s->b_stride;
    if (s->k == 0) {
        for (int64_t i = begin; i < end; i++)
            for (int64_t j = 0; j < s->n; j++) c[i * s->c_stride + j] = s->beta == 0 ? 0 : s->beta * c[i * s->c_stride + j];
        return TP_OK;
    }
    /* A lower triangle needs no column beyond the last row. */
    const int64_t columns = s->lower ? min64(s->n, end) : s->n;
    for (int64_t j0 = 0; j0 < columns; j0 += TP_BLOCK_COLS) {
        const int64_t width = min64(TP_BLOCK_COLS, columns - j0);
        for (int64_t p0 = 0; p0 < s->k; p0 += TP_BLOCK_K) {
            const int64_t k = min64(TP_BLOCK_K, s->k - p0);
            const double beta = p0 == 0 ? s->beta : 1;
            pack(s->b_type, NR, width, k, element(s->b_type, b, j0 * b_line + p0 * b_step), b_line, b_step, packed_b);
            for (int64_t i0 = begin; i0 < end; i0 += TP_BLOCK_ROWS) {
                const int64_t height = min64(TP_BLOCK_ROWS, end - i0);
                if (s->lower && j0 >= i0 + height) continue;
                pack(s->a_type, MR, height, k, element(s->a_type, a, i0 * a_line + p0 * a_step), a_line, a_step,
                     packed_a);
                for (int64_t j = 0; j < width; j += NR) {
                    for (int64_t i = 0; i < height; i += MR) {
                        if (s->lower && j0 + j >= i0 + i + MR) continue;
                        tile_product(k, packed_a + i * k, packed_b + j * k, tile);
                        double *to = c + (i0 + i) * s->c_stride + j0 + j;
                        if (height - i >= MR && width - j >= NR)
                            store_tile(MR, NR, s->alpha, beta, tile, s->c_stride, to);
                        else
                            store_tile(min64(MR, height - i), min64(NR, width - j), s->alpha, beta, tile, s->c_stride, to);
                    }
                }
            }
        }
    }
    return TP_OK;
}
