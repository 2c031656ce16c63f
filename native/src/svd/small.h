/* Many small decompositions. */

enum { SIDE = TP_PANEL_ROWS };

/* Rows of x [n, cols] become orthogonal and descend in norm; j [n, n] is rotated along. */
static bool small_jacobi(int64_t n, int64_t cols, double tolerance, int sweeps, double *x, double *j, double *norms) {
    const double negligible = 0x1p-930;
    for (int sweep = 0;; sweep++) {
        bool more = false;
        for (int64_t p = 0; p < n; p++) norms[p] = dot(cols, x + p * SIDE, x + p * SIDE);
        for (int64_t p = 0; p < n; p++) {
            for (int64_t r = p + 1; r < n; r++) {
                double c, s, change, *xp = x + p * SIDE, *xr = x + r * SIDE;
                if (norms[p] <= negligible || norms[r] <= negligible) continue;
                const double product = dot(cols, xp, xr);
                if (!tp_rotation(norms[p], norms[r], product, tolerance, negligible, &c, &s, &change)) continue;
                if (sweep == sweeps) return false;
                more = true;
                rotate(cols, c, s, xp, xr);
                rotate(n, c, s, j + p * SIDE, j + r * SIDE);
                norms[p] -= change;
                norms[r] += change;
                /* The difference of a large and a small change may be all wrong. */
                if (!(norms[r] > 0x1p-20 * norms[p])) norms[r] = dot(cols, xr, xr);
            }
        }
        if (!more) break;
    }
    for (int64_t p = 0; p < n; p++) {
        int64_t largest = p;
        for (int64_t r = p + 1; r < n; r++) largest = norms[r] > norms[largest] ? r : largest;
        const double t = norms[p];
        norms[p] = norms[largest];
        norms[largest] = t;
        if (largest == p) continue;
        swap_rows(cols, x + p * SIDE, x + largest * SIDE);
        swap_rows(n, j + p * SIDE, j + largest * SIDE);
    }
    for (int64_t p = 0; p < n; p++) {
        if (norms[p] <= negligible) {
            norms[p] = 0;
        } else {
            norms[p] = sqrt(norms[p]);
            scale(cols, 1 / norms[p], x + p * SIDE);
        }
    }
    return true;
}

/* Rows from `known` on become unit vectors orthogonal to all before. */
static void complete(int64_t known, int64_t n, int64_t cols, double *x) {
    for (int64_t p = known; p < n; p++) {
        double *row = x + p * SIDE, most = -1;
        int64_t best = 0;
        for (int64_t c = 0; c < cols; c++) {
            double rest = 1;
            for (int64_t r = 0; r < p; r++) rest -= x[r * SIDE + c] * x[r * SIDE + c];
            if (rest > most) {
                most = rest;
                best = c;
            }
        }
        memset(row, 0, (size_t)cols * sizeof *row);
        row[best] = 1;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t r = 0; r < p; r++) axpy(cols, -dot(cols, x + r * SIDE, row), x + r * SIDE, row);
        scale(cols, 1 / sqrt(dot(cols, row, row)), row);
    }
}

tp_status TP_VARIANT(svd_small)(const tp_small *spec, int64_t begin, int64_t end, const void *in, void *u, void *s,
                                void *vt) {
    const int64_t rows = spec->rows, cols = spec->cols, n = min64(rows, cols), m = rows + cols - n;
    const bool tall = rows >= cols;
    const tp_dtype type = spec->type;
    double x[SIDE * SIDE], j[SIDE * SIDE], norms[SIDE];
    for (int64_t item = begin; item < end; item++) {
        const void *a = element(type, in, item * spec->in_step);
        double largest = 0, odd = 0;
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = 0; c < cols; c++) {
                const double v = at(type, a, r * spec->in_stride + c);
                x[tall ? c * SIDE + r : r * SIDE + c] = v;
                largest = larger(largest, fabs(v));
                odd += v - v;
            }
        }
        if (!(odd == 0)) return TP_ERR_NONFINITE;
        const int64_t e = tp_binary_exponent(largest);
        const double down = tp_power_of_two(-e), up = tp_power_of_two(e);
        for (int64_t r = 0; r < n; r++) {
            for (int64_t c = 0; c < m; c++) x[r * SIDE + c] *= down;
            for (int64_t c = 0; c < n; c++) j[r * SIDE + c] = r == c;
        }
        const double tolerance = type == TP_F32 ? 1e-9 : 4 * U * sqrt((double)m);
        if (!small_jacobi(n, m, tolerance, spec->sweeps, x, j, norms)) return TP_ERR_CONVERGENCE;
        int64_t rank = 0;
        while (rank < n && norms[rank] > 0) rank++;
        complete(rank, n, m, x);
        double *left = tall ? x : j, *right = tall ? j : x;
        for (int64_t r = 0; r < n; r++) {
            int64_t peak = 0;
            for (int64_t c = 1; c < rows; c++) peak = fabs(left[r * SIDE + c]) > fabs(left[r * SIDE + peak]) ? c : peak;
            const double sign = left[r * SIDE + peak] < 0 ? -1 : 1;
            for (int64_t c = 0; c < rows; c++) put(type, u, (item * rows + c) * n + r, sign * left[r * SIDE + c]);
            for (int64_t c = 0; c < cols; c++) put(type, vt, (item * n + r) * cols + c, sign * right[r * SIDE + c]);
            put(type, s, item * n + r, norms[r] * up);
        }
    }
    return TP_OK;
}
