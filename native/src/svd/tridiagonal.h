/* Symmetric matrices to tridiagonal form, and the QL iteration. */

/* y = A x for the symmetric A [n, n] of which the lower triangle is given. Four rows at a time, so that y is touched rarely. */
static void symmetric_times_vector(int64_t n, int64_t stride, const double *a, const double *x, double *y) {
    enum { ROWS = 4 };
    int64_t i = 0;
    for (int64_t j = 0; j < n; j++) y[j] = 0;
    for (; i + ROWS <= n; i += ROWS) {
        const double *r0 = a + i * stride, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
        const vd x0 = v_set(x[i]), x1 = v_set(x[i + 1]), x2 = v_set(x[i + 2]), x3 = v_set(x[i + 3]);
        vd s0 = v_zero(), s1 = v_zero(), s2 = v_zero(), s3 = v_zero();
        int64_t j = 0;
        for (; j + LANES <= i; j += LANES) {
            const vd a0 = v_load(r0 + j), a1 = v_load(r1 + j), a2 = v_load(r2 + j), a3 = v_load(r3 + j);
            const vd xj = v_load(x + j);
            vd yj = v_fma(a0, x0, v_load(y + j)), more = v_mul(a1, x1);
            yj = v_fma(a2, x2, yj);
            more = v_fma(a3, x3, more);
            v_store(y + j, v_add(yj, more));
            s0 = v_fma(a0, xj, s0);
            s1 = v_fma(a1, xj, s1);
            s2 = v_fma(a2, xj, s2);
            s3 = v_fma(a3, xj, s3);
        }
        /* Up to the diagonal; row i + k has i + k - j elements left. */
        for (; j < i + ROWS - 1; j += LANES) {
            const int64_t left = i - j, width = min64(LANES, left + ROWS - 1);
            const vd xj = v_load_some(x + j, width);
            const vd a0 = v_load_some(r0 + j, left), a1 = v_load_some(r1 + j, left + 1);
            const vd a2 = v_load_some(r2 + j, left + 2), a3 = v_load_some(r3 + j, left + 3);
            const vd yj = v_fma(a2, x2, v_fma(a0, x0, v_load_some(y + j, width)));
            v_store_some(y + j, width, v_add(yj, v_fma(a3, x3, v_mul(a1, x1))));
            s0 = v_fma(a0, xj, s0);
            s1 = v_fma(a1, xj, s1);
            s2 = v_fma(a2, xj, s2);
            s3 = v_fma(a3, xj, s3);
        }
        const double sums[ROWS] = {v_sum(s0), v_sum(s1), v_sum(s2), v_sum(s3)};
        for (int64_t k = 0; k < ROWS; k++) y[i + k] += sums[k] + r0[k * stride + i + k] * x[i + k];
    }
    for (; i < n; i++) {
        const double *row = a + i * stride;
        y[i] += dot(i + 1, row, x);
        axpy(i, x[i], row, y);
    }
}

tp_status TP_VARIANT(tridiagonal_panel)(int64_t n, int64_t a_stride, int64_t last, int64_t count, double *a, double *d,
                                        double *e, int64_t q_stride, double *q, double *tau, double *vw, double *wv,
                                        double *scratch) {
    double *y = scratch;
    for (int64_t s = 0; s < count; s++) {
        const int64_t i = last - 1 - s;
        double *row = a + i * a_stride, *x = q + i * q_stride;
        /* The reflections of this panel have not reached A yet. */
        for (int64_t p = 0; p < s; p++) {
            const double *v = vw + p * n, *w = wv + p * n;
            axpy(i + 1, -v[i], w, row);
            axpy(i + 1, -w[i], v, row);
        }
        d[i] = row[i];
        memcpy(x, row, (size_t)i * sizeof *x);
        memset(x + i, 0, (size_t)(n - i) * sizeof *x);
        tau[i] = reflection(i, i - 1, x, &e[i - 1]);
        symmetric_times_vector(i, a_stride, a, x, y);
        for (int64_t p = 0; p < s; p++) {
            const double *v = vw + p * n, *w = wv + p * n;
            const double vx = dot(i, v, x), wx = dot(i, w, x);
            axpy(i, -vx, w, y);
            axpy(i, -wx, v, y);
        }
        scale(i, tau[i], y);
        axpy(i, -0.5 * tau[i] * dot(i, y, x), x, y);
        memcpy(vw + s * n, x, (size_t)i * sizeof *x);
        memcpy(wv + s * n, y, (size_t)i * sizeof *x);
        memcpy(vw + (count + s) * n, y, (size_t)i * sizeof *x);
        memcpy(wv + (count + s) * n, x, (size_t)i * sizeof *x);
    }
    return TP_OK;
}

static double length(double x, double y) {
    const double a = fabs(x), b = fabs(y), most = a > b ? a : b;
    if (most == 0 || (most > 0x1p-400 && most < 0x1p400)) return sqrt(x * x + y * y);
    const double p = x / most, r = y / most;
    return most * sqrt(p * p + r * r);
}

/* Divides a tridiagonal matrix by the power of two that brings its largest element to [1, 2), and returns that power: what
   compares with u, or squares, needs a norm of about 1. */
static double take_magnitude(int64_t n, double *d, double *e) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = larger(largest, larger(fabs(d[i]), i + 1 < n ? fabs(e[i]) : 0));
    const int64_t exponent = tp_binary_exponent(largest);
    scale(n, tp_power_of_two(-exponent), d);
    if (n > 1) scale(n - 1, tp_power_of_two(-exponent), e);
    return tp_power_of_two(exponent);
}

tp_status TP_VARIANT(tridiagonal_ql)(int64_t n, double *d, double *e, int64_t cols, int64_t z_stride, double *z) {
    const double magnitude = take_magnitude(n, d, e);
    double norm = 0;
    for (int64_t i = 0; i < n; i++)
        norm = larger(norm, larger(fabs(d[i]), i + 1 < n ? fabs(e[i]) : 0));
    const double small = U * norm;
    for (int64_t l = 0; l < n; l++) {
        for (int iteration = 0;; iteration++) {
            int64_t m = l;
            while (m + 1 < n && fabs(e[m]) > small) m++;
            if (m == l) break;
            if (iteration == 50) return TP_ERR_CONVERGENCE;
            double g = (d[l + 1] - d[l]) / (2 * e[l]);
            g = d[m] - d[l] + e[l] / (g + copysign(length(g, 1), g));
            double s = 1, c = 1, p = 0;
            int64_t i = m - 1;
            for (; i >= l; i--) {
                const double f = s * e[i], b = c * e[i], r = length(f, g);
                if (i + 1 < m) e[i + 1] = r;
                if (r == 0) {
                    d[i + 1] -= p;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                const double t = (d[i] - g) * s + 2 * c * b;
                p = s * t;
                d[i + 1] = g + p;
                g = c * t - b;
                rotate(cols, c, s, z + i * z_stride, z + (i + 1) * z_stride);
            }
            if (i >= l) continue;
            d[l] -= p;
            e[l] = g;
        }
    }
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t least = i;
        for (int64_t j = i + 1; j < n; j++) least = d[j] < d[least] ? j : least;
        if (least == i) continue;
        const double t = d[i];
        d[i] = d[least];
        d[least] = t;
        swap_rows(cols, z + i * z_stride, z + least * z_stride);
    }
    scale(n, magnitude, d);
    return TP_OK;
}
