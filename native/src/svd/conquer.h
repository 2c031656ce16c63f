/* Divide and conquer: eigenpairs of a tridiagonal matrix from those of its halves. */

/* Positions of d in ascending order, from two ascending halves. */
static void merge_order(int64_t n, int64_t split, const double *d, int64_t *order) {
    int64_t i = 0, j = split;
    for (int64_t k = 0; k < n; k++) order[k] = j == n || (i < split && d[i] <= d[j]) ? i++ : j++;
}

enum { IN_FIRST, IN_BOTH, IN_SECOND };

tp_status TP_VARIANT(merge_deflate)(int64_t n, int64_t split, double rho, double *d, double *z, int64_t q_stride,
                                    double *q, double *kept_d, double *kept_z, int64_t *order, int64_t *slots,
                                    int64_t *scratch, int64_t *count, int64_t *first, int64_t *second) {
    int64_t *sorted = scratch, *kind = scratch + n, kept = 0, done = n, previous = -1;
    double largest = rho;
    for (int64_t i = 0; i < n; i++) {
        kind[i] = i < split ? IN_FIRST : IN_SECOND;
        largest = larger(largest, fabs(d[i]));
    }
    /* Poles and their squares are divided by what is left. */
    if (!(largest >= 0x1p-460 && largest <= 0x1p460)) return TP_ERR_MAGNITUDE;
    const double tolerance = 8 * U * largest;
    merge_order(n, split, d, sorted);
    for (int64_t k = 0; k < n; k++) {
        const int64_t i = sorted[k];
        if (rho * fabs(z[i]) <= tolerance) {
            order[--done] = i;
            continue;
        }
        if (previous >= 0) {
            const double r = length(z[previous], z[i]), c = z[i] / r, s = z[previous] / r;
            if (fabs((d[i] - d[previous]) * c * s) <= tolerance) {
                /* Rotated so that all of z is with i, and `previous` is an eigenpair of the whole. */
                rotate(n, c, s, q + previous * q_stride, q + i * q_stride);
                const double p = d[previous], o = d[i];
                d[previous] = p * c * c + o * s * s;
                d[i] = p * s * s + o * c * c;
                z[i] = r;
                z[previous] = 0;
                if (kind[i] != kind[previous]) kind[i] = kind[previous] = IN_BOTH;
                order[--done] = previous;
            } else {
                order[kept++] = previous;
            }
        }
        previous = i;
    }
    if (previous >= 0) order[kept++] = previous;
    int64_t base[3] = {0};
    for (int64_t i = 0; i < kept; i++) base[kind[order[i]]]++;
    *count = kept;
    *first = base[IN_FIRST];
    *second = base[IN_FIRST] + base[IN_BOTH];
    base[IN_FIRST] = 0;
    base[IN_BOTH] = *first;
    base[IN_SECOND] = *second;
    for (int64_t i = 0; i < n; i++) {
        kept_d[i] = d[order[i]];
        kept_z[i] = i < kept ? z[order[i]] : 0;
        slots[i] = i < kept ? base[kind[order[i]]]++ : i;
    }
    return TP_OK;
}

/* sum and sum of derivatives of z_j^2 / (d_j - origin - x), j in [from, to). */
static void poles(int64_t from, int64_t to, const double *d, const double *z, double origin, double x, double *sum,
                  double *slope) {
    const vd o = v_set(origin), vx = v_set(x);
    vd s0 = v_zero(), s1 = v_zero(), t0 = v_zero(), t1 = v_zero();
    int64_t j = from;
    for (; j + 2 * LANES <= to; j += 2 * LANES) {
        const vd z0 = v_load(z + j), z1 = v_load(z + j + LANES);
        const vd r0 = v_div(z0, v_sub(v_sub(v_load(d + j), o), vx));
        const vd r1 = v_div(z1, v_sub(v_sub(v_load(d + j + LANES), o), vx));
        s0 = v_fma(z0, r0, s0);
        s1 = v_fma(z1, r1, s1);
        t0 = v_fma(r0, r0, t0);
        t1 = v_fma(r1, r1, t1);
    }
    *sum = v_sum(v_add(s0, s1));
    *slope = v_sum(v_add(t0, t1));
    for (; j < to; j++) {
        const double r = z[j] / (d[j] - origin - x);
        *sum += z[j] * r;
        *slope += r * r;
    }
}

static tp_status secular_root(int64_t n, int64_t k, double rho, const double *d, const double *z, double *lambda,
                              double *delta) {
    const double inverse = 1 / rho;
    const bool last = k == n - 1;
    double sum = 0, slope = 0, more = 0, more_slope = 0, origin = d[k], low, high, x;
    if (last) {
        double squares = 0;
        for (int64_t j = 0; j < n; j++) squares += z[j] * z[j];
        low = 0;
        high = rho * squares * (1 + 4 * (double)n * U);
        x = n == 1 ? rho * squares : 0.5 * high;
    } else {
        /* The nearer pole is the origin, so that the distance to it is accurate. */
        const double gap = d[k + 1] - d[k];
        poles(0, k + 1, d, z, origin, 0.5 * gap, &sum, &slope);
        poles(k + 1, n, d, z, origin, 0.5 * gap, &more, &more_slope);
        low = 0;
        high = 0.5 * gap;
        x = high;
        if (inverse + sum + more < 0) {
            origin = d[k + 1];
            low = -high;
            high = 0;
            x = low;
        }
    }
    const int64_t left = last ? (n > 1 ? n - 2 : 0) : k, right = last ? n - 1 : k + 1;
    double width = high - low;
    int step = 0;
    for (; n > 1; step++) {
        if (step == 200) return TP_ERR_CONVERGENCE;
        if (step > 0 || last) { /* the first x is the middle, where both sums are known already */
            poles(0, left + 1, d, z, origin, x, &sum, &slope);
            poles(left + 1, n, d, z, origin, x, &more, &more_slope);
        }
        const double f = inverse + sum + more;
        if (fabs(f) <= U * (8 + 0.125 * (double)n) * (inverse + fabs(sum) + fabs(more))) break;
        if (f < 0)
            low = x;
        else
            high = x;
        if (high - low <= 2 * U * larger(fabs(low), fabs(high))) break;
        /* Both sums as a constant and one pole each, of equal value and slope at x; the root of that is a quadratic's. */
        const double p = d[left] - origin - x, r = d[right] - origin - x;
        double c = f - p * slope - r * more_slope;
        if (last && c < 0) c = -c;
        const double a = (p + r) * f - p * r * (slope + more_slope), b = p * r * f;
        const double root = sqrt(fabs(a * a - 4 * b * c));
        double eta;
        if (last)
            eta = a >= 0 ? (a + root) / (2 * c) : 2 * b / (a - root);
        else
            eta = a <= 0 ? (a - root) / (2 * c) : 2 * b / (a + root);
        double next = x + eta;
        if (f * eta >= 0) next = x - f / (slope + more_slope);
        /* Bisection where the model leads out of the bracket, or shrinks it too slowly. In magnitude if one end is zero: the
           root may be far smaller than the gap. */
        if (!(next > low && next < high) || (step % 2 && high - low > 0.5 * width && step > 6)) {
            if (low == 0)
                next = high * 0x1p-8;
            else if (high == 0)
                next = low * 0x1p-8;
            else
                next = 0.5 * (low + high);
        }
        if (step % 2) width = high - low;
        if (next == x) break;
        x = next;
    }
    for (int64_t j = 0; j < n; j++) delta[j] = d[j] - origin - x;
    *lambda = origin + x;
    return TP_OK;
}

tp_status TP_VARIANT(merge_roots)(int64_t count, double rho, const double *d, const double *z, int64_t begin,
                                  int64_t end, double *lambda, double *delta) {
    for (int64_t k = begin; k < end; k++) {
        const tp_status status = secular_root(count, k, rho, d, z, lambda + k, delta + k * count);
        if (status) return status;
    }
    return TP_OK;
}

tp_status TP_VARIANT(merge_weights)(int64_t count, const double *d, const double *z, const double *delta, int64_t begin,
                                    int64_t end, double *weights) {
    for (int64_t j = begin; j < end; j++) weights[j] = delta[j * count + j];
    for (int64_t i = 0; i < count; i++) {
        const double *row = delta + i * count;
        const int64_t stop = i < begin ? begin : i > end ? end : i;
        for (int64_t j = begin; j < stop; j++) weights[j] *= row[j] / (d[j] - d[i]);
        for (int64_t j = i >= begin && i < end ? i + 1 : stop; j < end; j++) weights[j] *= row[j] / (d[j] - d[i]);
    }
    for (int64_t j = begin; j < end; j++) weights[j] = copysign(sqrt(fabs(weights[j])), z[j]);
    return TP_OK;
}

tp_status TP_VARIANT(merge_vectors)(int64_t count, const double *weights, const double *delta, const int64_t *slots,
                                    int64_t begin, int64_t end, double *s) {
    for (int64_t i = begin; i < end; i++) {
        const double *from = delta + i * count;
        double *row = s + i * count, sum = 0;
        for (int64_t j = 0; j < count; j++) {
            const double x = weights[j] / from[j];
            row[slots[j]] = x;
            sum += x * x;
        }
        scale(count, 1 / sqrt(sum), row);
    }
    return TP_OK;
}

/* One part of divide and conquer, by one thread: arrays for merges of up to n. */
typedef struct parts {
    double *product, *delta, *s, *rows, *z, *kept_d, *kept_z, *lambda, *weights;
    int64_t *order, *slots, *sorted;
} parts;

/* Merges the eigenpairs of two halves; `coupling` is what was torn between them. */
static tp_status merge(int64_t n, int64_t split, double coupling, double *d, int64_t stride, double *q, const parts *p) {
    const double rho = 2 * fabs(coupling), half = sqrt(0.5);
    int64_t count = 0, first = 0, second = 0;
    /* The norm of the whole is about 1: far less couples nothing. */
    if (rho > 0x1p-400) {
        for (int64_t i = 0; i < n; i++)
            p->z[i] = i < split ? half * q[i * stride + split - 1] : copysign(half, coupling) * q[i * stride + split];
        const tp_status status = TP_VARIANT(merge_deflate)(n, split, rho, d, p->z, stride, q, p->kept_d, p->kept_z, p->order,
                                                           p->slots, p->sorted, &count, &first, &second);
        if (status) return status;
    } else {
        for (int64_t i = 0; i < n; i++) {
            p->order[i] = p->slots[i] = i;
            p->kept_d[i] = d[i];
        }
    }
    const tp_status status = TP_VARIANT(merge_roots)(count, rho, p->kept_d, p->kept_z, 0, count, p->lambda, p->delta);
    if (status) return status;
    TP_VARIANT(merge_weights)(count, p->kept_d, p->kept_z, p->delta, 0, count, p->weights);
    TP_VARIANT(merge_vectors)(count, p->weights, p->delta, p->slots, 0, count, p->s);
    for (int64_t i = 0; i < n; i++) memcpy(p->rows + p->slots[i] * n, q + p->order[i] * stride, (size_t)n * sizeof *q);
    /* Rows by slot, those that are zero in one half not multiplied there; delta is not needed any more. */
    tp_multiplication left = {.m = count, .n = split, .k = second, .a_stride = count, .b_stride = n, .c_stride = n,
                              .a_type = TP_F64, .b_type = TP_F64, .alpha = 1};
    TP_VARIANT(multiply)(&left, 0, count, p->s, p->rows, p->delta, p->product);
    left.n = n - split;
    left.k = count - first;
    TP_VARIANT(multiply)(&left, 0, count, p->s + first, p->rows + first * n + split, p->delta + split, p->product);
    /* The finished pairs are sorted by insertion, then among the roots. */
    for (int64_t i = count; i < n; i++) {
        int64_t k = i;
        for (; k > count && p->kept_d[p->sorted[k - 1]] > p->kept_d[i]; k--) p->sorted[k] = p->sorted[k - 1];
        p->sorted[k] = i;
    }
    for (int64_t i = 0, root = 0, done = count; i < n; i++) {
        const bool is_root = done == n || (root < count && p->lambda[root] <= p->kept_d[p->sorted[done]]);
        const int64_t from = is_root ? root++ : p->sorted[done++];
        d[i] = is_root ? p->lambda[from] : p->kept_d[from];
        memcpy(q + i * stride, (is_root ? p->delta : p->rows) + from * n, (size_t)n * sizeof *q);
    }
    return TP_OK;
}

static tp_status conquer(int64_t n, double *d, double *e, int64_t stride, double *q, const parts *p) {
    enum { LEAF = 32 };
    for (int64_t i = 0; i < n; i++) memset(q + i * stride, 0, (size_t)n * sizeof *q);
    if (n <= LEAF) {
        for (int64_t i = 0; i < n; i++) q[i * stride + i] = 1;
        return TP_VARIANT(tridiagonal_ql)(n, d, e, n, stride, q);
    }
    const int64_t split = n / 2;
    const double coupling = e[split - 1];
    d[split - 1] -= fabs(coupling);
    d[split] -= fabs(coupling);
    tp_status status = conquer(split, d, e, stride, q, p);
    if (!status) status = conquer(n - split, d + split, e + split, stride, q + split * stride + split, p);
    return status ? status : merge(n, split, coupling, d, stride, q, p);
}

tp_status TP_VARIANT(tridiagonal_conquer)(int64_t n, double *d, double *e, int64_t z_stride, double *z, double *scratch,
                                          int64_t product) {
    parts p = {.product = scratch, .delta = scratch + product};
    p.s = p.delta + n * n;
    p.rows = p.s + n * n;
    p.z = p.rows + n * n;
    p.kept_d = p.z + n;
    p.kept_z = p.kept_d + n;
    p.lambda = p.kept_z + n;
    p.weights = p.lambda + n;
    p.order = (int64_t *)(p.weights + n);
    p.slots = p.order + n;
    p.sorted = p.slots + n;
    const double magnitude = take_magnitude(n, d, e);
    const tp_status status = conquer(n, d, e, z_stride, z, &p);
    scale(n, magnitude, d);
    return status;
}
