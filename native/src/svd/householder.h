/* Triangular factors and Householder reflections. */

tp_status TP_VARIANT(cholesky)(int64_t n, int64_t stride, double *g) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = larger(largest, g[i * stride + i]);
    const double limit = (double)n * U * largest;
    for (int64_t i = 0; i < n; i++) {
        double *row = g + i * stride;
        for (int64_t j = 0; j < i; j++) row[j] = (row[j] - dot(j, row, g + j * stride)) / g[j * stride + j];
        const double pivot = row[i] - dot(i, row, row);
        if (!(pivot > limit)) return TP_ERR_INDEFINITE;
        row[i] = sqrt(pivot);
    }
    return TP_OK;
}

tp_status TP_VARIANT(triangular_solve)(int64_t n, int64_t l_stride, const double *l, int32_t transposed,
                                       int64_t x_stride, int64_t begin, int64_t end, double *x) {
    for (int64_t i = begin; i < end; i++) {
        double *row = x + i * x_stride;
        if (transposed) { /* X L = B: from the last column */
            for (int64_t j = n - 1; j >= 0; j--) {
                row[j] /= l[j * l_stride + j];
                axpy(j, -row[j], l + j * l_stride, row);
            }
        } else {
            for (int64_t j = 0; j < n; j++)
                row[j] = (row[j] - dot(j, row, l + j * l_stride)) / l[j * l_stride + j];
        }
    }
    return TP_OK;
}

/* ---- Householder reflections ---- */

/*
 * The reflection that maps x to beta times its element `pivot`: x becomes v with v[pivot] = 1. Returns tau. A row whose sum of
 * squares leaves the range where f64 is accurate is scaled by a power of two first.
 */
static double reflection(int64_t n, int64_t pivot, double *x, double *beta) {
    double alpha = x[pivot];
    x[pivot] = 0;
    double rest = dot(n, x, x), tau = 0;
    int64_t e = 0;
    if (!(alpha * alpha + rest >= 0x1p-900 && alpha * alpha + rest <= 0x1p1000)) {
        double largest = fabs(alpha);
        for (int64_t i = 0; i < n; i++) largest = larger(largest, fabs(x[i]));
        e = tp_binary_exponent(largest);
        const double down = tp_power_of_two(-e);
        alpha *= down;
        scale(n, down, x);
        rest = dot(n, x, x);
    }
    *beta = alpha;
    if (rest > 0) {
        *beta = -copysign(sqrt(alpha * alpha + rest), alpha);
        tau = (*beta - alpha) / *beta;
        scale(n, 1 / (alpha - *beta), x);
    }
    *beta *= tp_power_of_two(e);
    x[pivot] = 1;
    return tau;
}

/* Column i of T, from the earlier ones and the products v_j . v_i in t[j, i]. */
static void factor_column(int64_t count, int64_t i, double tau, double *t) {
    for (int64_t j = 0; j < i; j++) {
        double sum = 0;
        for (int64_t p = j; p < i; p++) sum += t[j * count + p] * t[p * count + i];
        t[j * count + i] = -tau * sum;
    }
    t[i * count + i] = tau;
    for (int64_t j = i + 1; j < count; j++) t[j * count + i] = 0;
}

tp_status TP_VARIANT(reflect_panel)(int64_t cols, int64_t a_stride, int64_t first, int64_t count, double *a,
                                    int64_t v_stride, double *v, double *t) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t c = first + i, n = cols - c;
        double *row = a + (first + i) * a_stride, *x = v + i * v_stride;
        memset(x, 0, (size_t)c * sizeof *x);
        memcpy(x + c, row + c, (size_t)n * sizeof *x);
        double beta;
        const double tau = reflection(n, 0, x + c, &beta);
        memset(row + c, 0, (size_t)n * sizeof *row);
        row[c] = beta;
        for (int64_t r = i + 1; r < count; r++) {
            double *other = a + (first + r) * a_stride + c;
            axpy(n, -tau * dot(n, other, x + c), x + c, other);
        }
        for (int64_t j = 0; j < i; j++) t[j * count + i] = dot(n, v + j * v_stride + c, x + c);
        factor_column(count, i, tau, t);
    }
    return TP_OK;
}

tp_status TP_VARIANT(reflect_factor)(int64_t count, int64_t n, int64_t v_stride, const double *v, const double *tau,
                                     double *t) {
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < i; j++) t[j * count + i] = dot(n, v + j * v_stride, v + i * v_stride);
        factor_column(count, i, tau[i], t);
    }
    return TP_OK;
}
