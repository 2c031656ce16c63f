/* Gaussian numbers. */

enum { WORDS = 64 }; /* blocks of the generator that are computed side by side */

/* Blocks first .. first + WORDS - 1 of the generator as 4 * WORDS numbers. */
static void gaussian_blocks(uint64_t seed, uint64_t stream, uint64_t first, double *out) {
    uint32_t w0[WORDS], w1[WORDS], w2[WORDS], w3[WORDS];
    for (int i = 0; i < WORDS; i++) tp_philox(seed, stream, first + (uint64_t)i, w0 + i, w1 + i, w2 + i, w3 + i);
    for (int half = 0; half < 2; half++) {
        const uint32_t *a = half ? w2 : w0, *b = half ? w3 : w1;
        double x[WORDS], y[WORDS];
        for (int i = 0; i < WORDS; i++) tp_box_muller(a[i], b[i], x + i, y + i);
        for (int i = 0; i < WORDS; i++) {
            out[4 * i + 2 * half] = x[i];
            out[4 * i + 2 * half + 1] = y[i];
        }
    }
}

tp_status TP_VARIANT(gaussian)(uint64_t seed, uint64_t stream, int64_t begin, int64_t end, tp_dtype type, void *out) {
    double numbers[4 * WORDS];
    for (int64_t i = begin; i < end;) {
        const int64_t first = i / 4 * 4, stop = first + min64(4 * WORDS, end - first);
        gaussian_blocks(seed, stream, (uint64_t)first / 4, numbers);
        for (; i < stop; i++) put(type, out, i - begin, numbers[i - first]);
    }
    return TP_OK;
}
