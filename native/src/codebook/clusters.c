/* Clusters of numbers that were counted. Without vectors, so that all tiers, and CUDA's host code, do the same. */
#include "codebook/clusters.h"

#include <string.h>

#include "codebook/checks.h"
#include "codebook/scalar.h"

static inline float of_order(uint32_t order) { return tp_float(order >> 31 ? order & 0x7fffffffu : ~order); }

/* Cells in order: their means, and of all before them the sums of weights and of values. */
typedef struct sorted {
    int64_t n;
    double *mean, *weight, *value;
} sorted;

/* Takes the cells that are used, and leaves them empty. */
static void collect(const tp_cells *c, sorted *all) {
    double weight = 0, value = 0;
    int64_t n = 0;
    for (int64_t word = 0; word < CELLS / 64; word++) {
        for (uint64_t bits = c->used[word]; bits; bits &= bits - 1) {
            const int64_t at = word * 64 + __builtin_ctzll(bits);
            const uint32_t order = (c->base + (uint32_t)at) << c->shift;
            const double first = (double)of_order(order), step = c->shift ? (double)of_order(order + 1) - first : 0;
            const double w = (double)c->of[at].weight, sum = w * first + (double)c->of[at].low * step;
            all->mean[n] = sum / w;
            all->weight[n] = weight;
            all->value[n] = value;
            weight += w;
            value += sum;
            c->of[at] = (tp_cell){0, 0};
            n++;
        }
        c->used[word] = 0;
    }
    all->weight[n] = weight;
    all->value[n] = value;
    all->n = n;
}

/* Sums over the first ranges, values less their mean; the last one is all. */
typedef struct ranges {
    int64_t n;
    int32_t *first; /* the cell with which a range begins */
    double *weight, *value, *square;
} ranges;

/* What cells [i, i + 1) are worth: the root of weight and width. Where they are few, each is a range of its own. */
static double measure(const sorted *all, int64_t i) {
    const int64_t before = i > 0 ? i - 1 : i, after = i + 1 < all->n ? i + 1 : i;
    return sqrt((all->weight[i + 1] - all->weight[i]) * (all->mean[after] - all->mean[before]));
}

static void cut(const sorted *all, ranges *r) {
    const double mean = all->value[all->n] / all->weight[all->n];
    double whole = 0, sum = 0, weight = 0, value = 0, square = 0;
    for (int64_t i = 0; i < all->n; i++) whole += measure(all, i);
    int64_t n = 0;
    for (int64_t i = 0; i < all->n; i++) {
        if (all->n <= MOST_RANGES || i == 0 || (sum * MOST_RANGES >= whole * (double)n && n < MOST_RANGES)) {
            r->first[n] = (int32_t)i;
            r->weight[n] = weight;
            r->value[n] = value;
            r->square[n] = square;
            n++;
        }
        const double w = all->weight[i + 1] - all->weight[i], x = all->mean[i] - mean;
        sum += measure(all, i);
        weight += w;
        value += w * x;
        square += w * x * x;
    }
    r->first[n] = (int32_t)all->n;
    r->weight[n] = weight;
    r->value[n] = value;
    r->square[n] = square;
    r->n = n;
}

static inline double cost(const ranges *r, int64_t begin, int64_t end) {
    const double value = r->value[end] - r->value[begin];
    return r->square[end] - r->square[begin] - value * value / (r->weight[end] - r->weight[begin]);
}

/* The least costs of the ranges before `low` to `high` in one cluster more, whose best beginning grows with its end. */
static void one_more(const ranges *r, const double *before, double *now, uint16_t *begins, int64_t low, int64_t high, int64_t from, int64_t to) {
    if (low > high) return;
    const int64_t middle = (low + high) / 2;
    double best = INFINITY;
    int64_t at = from;
    for (int64_t i = from; i <= tp_codebook_least(to, middle - 1); i++) {
        const double c = before[i] + cost(r, i, middle);
        if (c < best) {
            best = c;
            at = i;
        }
    }
    now[middle] = best;
    begins[middle] = (uint16_t)at;
    one_more(r, before, now, begins, low, middle - 1, from, at);
    one_more(r, before, now, begins, middle + 1, high, at, to);
}

/* bounds[c] becomes the cell with which cluster c begins; there are as many clusters as can be, up to k, and one end more. */
static int64_t divide(const ranges *r, int64_t k, double *before, double *now, uint16_t *begins, int32_t *bounds) {
    const int64_t clusters = tp_codebook_least(k, r->n), line = MOST_RANGES + 1;
    for (int64_t e = 1; e <= r->n; e++) before[e] = cost(r, 0, e);
    for (int64_t c = 1; c < clusters; c++) {
        one_more(r, before, now, begins + c * line, c + 1, r->n, c, r->n - 1);
        double *const other = before;
        before = now;
        now = other;
    }
    int64_t end = r->n;
    bounds[clusters] = r->first[end];
    for (int64_t c = clusters - 1; c > 0; c--) {
        end = begins[c * line + end];
        bounds[c] = r->first[end];
    }
    bounds[0] = 0;
    return clusters;
}

/* The first cell from `low` on whose mean is larger. */
static int64_t first_above(const sorted *all, double x, int64_t low) {
    int64_t high = all->n;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (all->mean[middle] > x) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* Lloyd's steps: what lies between two means goes to the nearer one. A cluster that loses all keeps its mean. */
static void descend(const sorted *all, int64_t clusters, int32_t iterations, int32_t *bounds, double *means) {
    for (int64_t c = 0; c < clusters; c++)
        means[c] = (all->value[bounds[c + 1]] - all->value[bounds[c]]) / (all->weight[bounds[c + 1]] - all->weight[bounds[c]]);
    for (int32_t step = 0; step < iterations; step++) {
        bool moved = false;
        for (int64_t c = 1; c < clusters; c++) {
            const int32_t bound = (int32_t)first_above(all, means[c - 1] + (means[c] - means[c - 1]) / 2, bounds[c - 1]);
            moved |= bound != bounds[c];
            bounds[c] = bound;
        }
        if (!moved) return;
        for (int64_t c = 0; c < clusters; c++)
            if (bounds[c] < bounds[c + 1])
                means[c] = (all->value[bounds[c + 1]] - all->value[bounds[c]]) / (all->weight[bounds[c + 1]] - all->weight[bounds[c]]);
    }
}

int64_t tp_clusters_scratch(const tp_codebook *s) {
    const int64_t cells = tp_codebook_least(tp_codebook_points(s), CELLS) + 1;
    return (3 * cells + 6 * (MOST_RANGES + 8)) * 8 + tp_codebook_entries(s) * (MOST_RANGES + 1) * 2 + 10 * 64;
}

void tp_cluster(const tp_codebook *s, int32_t iterations, const tp_cells *counts, void *scratch, float *table) {
    const int64_t entries = tp_codebook_entries(s), k = entries - s->zero, most = tp_codebook_least(tp_codebook_points(s), CELLS) + 1;
    char *at = scratch;
    sorted all = {0, tp_take(&at, most * 8), tp_take(&at, most * 8), tp_take(&at, most * 8)};
    ranges r = {0, tp_take(&at, (MOST_RANGES + 8) * 4), tp_take(&at, (MOST_RANGES + 8) * 8), tp_take(&at, (MOST_RANGES + 8) * 8),
                tp_take(&at, (MOST_RANGES + 8) * 8)};
    double *const before = tp_take(&at, (MOST_RANGES + 8) * 8), *const now = tp_take(&at, (MOST_RANGES + 8) * 8);
    uint16_t *const begins = tp_take(&at, entries * (MOST_RANGES + 1) * 2);
    int32_t bounds[257];
    double means[256];
    collect(counts, &all);
    int64_t clusters = 0;
    if (all.n > 0) {
        cut(&all, &r);
        clusters = divide(&r, k, before, now, begins, bounds);
        descend(&all, clusters, iterations, bounds, means);
    }
    if (s->zero) *table++ = 0;
    for (int64_t c = 0; c < k; c++) table[c] = clusters == 0 ? 0 : (float)means[tp_codebook_least(c, clusters - 1)];
}
