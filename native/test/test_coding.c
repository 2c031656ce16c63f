/*
 * The coding family against coders written from coding.h alone, on every tier: the same bytes out of each, and back, rANS on a CUDA device
 * too. Every array ends or starts at a page that cannot be touched. Streams and blocks that are damaged or cut have the same status on each tier,
 * and touch nothing.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "on_cuda.h"
#include "support.h"
#include "tensorpress/cuda/coding.h"

enum { MOST = 70000, ROOM = 4 * MOST + 4096 };

static guarded in_memory, base_memory, coded_memory, out_memory, mask_memory;
static char *scratch;

static uint32_t symbol(int width, const uint8_t *p, int64_t i) { return width == 1 ? p[i] : (uint32_t)(p[2 * i] | p[2 * i + 1] << 8); }

/* ---- the same call on the device: some arrays that are alike, with gaps between them ---- */

enum { GAP = 0x5a };

static tp_status cuda_decode(int32_t width, int64_t n, int32_t k, const uint16_t *f, const uint8_t *in, int64_t bytes, void *out) {
    const int64_t count = 1 + random_below(3), alphabet = width == 1 ? 256 : TP_CODING_ALPHABET;
    const int64_t in_step = bytes + random_below(3), out_step = n + random_below(3), in_bytes = (count - 1) * in_step + bytes;
    const size_t out_bytes = (size_t)(((count - 1) * out_step + n) * width);
    tp_rans_array arrays[3];
    uint16_t *const frequencies = malloc((size_t)(count * alphabet) * 2);
    uint8_t *const all_in = malloc((size_t)in_bytes + 1), *const all_out = malloc(out_bytes + 1);
    memset(all_in, GAP, (size_t)in_bytes);
    memset(all_out, GAP, out_bytes);
    for (int64_t a = 0; a < count; a++) {
        arrays[a] = (tp_rans_array){.symbols = n, .in = a * in_step, .bytes = bytes, .out = a * out_step, .log_total = k};
        memcpy(frequencies + a * alphabet, f, (size_t)alphabet * 2);
        memcpy(all_in + a * in_step, in, (size_t)bytes);
    }
    void *memory[2] = {NULL, NULL};
    const bool there = random_below(2);
    const uint8_t *const from = there ? on_device(&memory[0], all_in, (size_t)in_bytes, 1) : all_in;
    uint8_t *const to = there ? on_device(&memory[1], all_out, out_bytes, width) : all_out;
    const tp_status status = tp_cuda_rans_decode_all(test_cuda, width, count, arrays, frequencies, from, in_bytes, to, (int64_t)out_bytes / width);
    if (there) {
        CHECK(tp_cuda_copy(test_cuda, all_out, to, (int64_t)out_bytes) == TP_OK, "copy");
        for (int i = 0; i < 2; i++) CHECK(tp_cuda_free(test_cuda, memory[i]) == TP_OK, "free");
    }
    CHECK(status == TP_OK || status == TP_ERR_FORMAT, "%s: %s", tp_status_name(status), tp_cuda_message(test_cuda));
    memcpy(out, all_out, (size_t)(n * width));
    for (int64_t a = 1; a < count; a++) {
        CHECK(status || !memcmp(all_out + a * out_step * width, out, (size_t)(n * width)), "array %lld of %lld", (long long)a, (long long)count);
        for (int64_t i = ((a - 1) * out_step + n) * width; i < a * out_step * width; i++) CHECK(all_out[i] == GAP, "writes between arrays");
    }
    free(frequencies);
    free(all_in);
    free(all_out);
    return status;
}

/* From here on this name means the tier at hand. */
#define tp_rans_decode(width, n, k, f, in, bytes, out, scratch)                                                       \
    (on_cuda ? cuda_decode(width, n, k, f, in, bytes, out) : tp_rans_decode(width, n, k, f, in, bytes, out, scratch))

/* Symbols of one of several kinds of distribution. */
static void fill(int width, int64_t n, uint8_t *p) {
    const int64_t most = width == 1 ? 256 : TP_CODING_ALPHABET, kind = random_below(6), alphabet = 2 + random_below(most - 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t s = 0;
        if (kind == 0) s = random_below(alphabet);
        if (kind == 1) s = random_below(1 + random_below(alphabet));
        if (kind == 2) s = random_below(10) ? 0 : random_below(alphabet);
        if (kind == 3) s = (int64_t)(random_unit() * random_unit() * random_unit() * (double)alphabet);
        if (kind == 4) s = random_below(500) ? most - 1 : random_below(most);
        if (kind == 5) s = i / 100 % 2 ? 0 : random_below(alphabet);
        p[width * i] = (uint8_t)s;
        if (width == 2) p[2 * i + 1] = (uint8_t)(s >> 8);
    }
}

static int64_t present(int alphabet, const uint32_t *counts) {
    int64_t n = 0;
    for (int s = 0; s < alphabet; s++) n += counts[s] > 0;
    return n;
}

/* Whether all tiers say of these bytes what the first one says. */
static void same_on_tiers(int width, int64_t n, int k, const uint16_t *f, const uint8_t *lengths, const uint8_t *bytes, int64_t size) {
    uint8_t *first = malloc((size_t)(n * width) + 1);
    tp_status said = TP_OK;
    const bool on_device_too = f && random_below(4) == 0;
    for (int tier = 0; tier < test_tiers + on_device_too; tier++) {
        use_tier(tier);
        uint8_t *in = guarded_take(&coded_memory, (size_t)size, true), *out = guarded_take(&out_memory, (size_t)(n * width), true);
        memcpy(in, bytes, (size_t)size);
        memset(out, 0, (size_t)(n * width));
        const tp_status status = f ? tp_rans_decode(width, n, k, f, in, size, out, scratch) : tp_huffman_decode(n, lengths, in, size, out, scratch);
        if (tier == 0) {
            said = status;
            memcpy(first, out, (size_t)(n * width));
        }
        CHECK(status == said && (status == TP_OK || status == TP_ERR_FORMAT), "tier %d: %d, not %d", tier, status, said);
        CHECK(status || !memcmp(first, out, (size_t)(n * width)), "tier %d decodes something else", tier);
    }
    free(first);
}

static void damage(int width, int64_t n, int k, const uint16_t *f, const uint8_t *lengths, const uint8_t *right, int64_t size) {
    uint8_t *wrong = malloc((size_t)size + 8);
    for (int round = 0; round < 12; round++) {
        memcpy(wrong, right, (size_t)size);
        memset(wrong + size, 0, 8);
        int64_t length = size;
        if (round % 3 == 0) length = random_below(size + 1);
        else if (round % 3 == 1) length = size + random_below(8);
        for (int64_t flips = round % 2 ? 1 + random_below(3) : 0; flips > 0 && size > 0; flips--)
            wrong[random_below(round % 4 == 1 && size > 140 ? 140 : size)] ^= (uint8_t)(1 << random_below(8));
        same_on_tiers(width, n, k, f, lengths, wrong, length);
    }
    free(wrong);
}

/* Bytes of a narrow band with few others, which may become more on the way: a tier may count them in another way. */
static void check_bands(void) {
    const int64_t n = 16000 + random_below(MOST - 16000), turn = random_below(2 * n);
    const int width = 1 + (int)random_below(18), first = random_below(3) ? (int)random_below(257 - width) : random_below(2) ? 0 : 256 - width;
    const int64_t rare = random_below(2) ? 3000 : 300;
    uint8_t *in = guarded_take(&in_memory, (size_t)n, random_below(2));
    uint32_t counts[256], wanted[256] = {0};
    for (int64_t i = 0; i < n; i++) {
        const bool other = i < turn ? random_below(rare) == 0 : random_below(2);
        wanted[in[i] = (uint8_t)(other ? random_below(256) : first + random_below(width))]++;
    }
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        for (int s = 0; s < 256; s++) counts[s] = (uint32_t)s;
        CHECK(tp_coding_histogram(1, n, in, counts) == TP_OK, "tier %d", tier);
        for (uint32_t s = 0; s < 256; s++) CHECK(counts[s] == wanted[s] + s, "tier %d counts %u of %u, not %u", tier, counts[s] - s, s, wanted[s]);
    }
}

static void check_rans(int width, int64_t n) {
    const int alphabet = width == 1 ? 256 : TP_CODING_ALPHABET;
    const bool at_end = random_below(2);
    uint8_t *in = guarded_take(&in_memory, (size_t)(n * width), at_end);
    fill(width, n, in);
    static uint32_t counts[TP_CODING_ALPHABET], wanted_counts[TP_CODING_ALPHABET];
    memset(wanted_counts, 0, sizeof counts);
    for (int64_t i = 0; i < n; i++) wanted_counts[symbol(width, in, i)]++;
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        memset(counts, 0, sizeof counts);
        CHECK(tp_coding_histogram(width, n, in, counts) == TP_OK && !memcmp(counts, wanted_counts, sizeof counts), "tier %d: counts", tier);
    }
    for (int64_t s = 0; present(alphabet, counts) < 2; s++) counts[s]++;
    uint16_t f[TP_CODING_ALPHABET];
    int32_t k;
    int64_t bits;
    const int32_t asked = random_below(2) ? 0 : (int32_t)(11 + random_below(5));
    const tp_status status = tp_coding_frequencies(alphabet, counts, asked, f, &k, &bits);
    if (asked && present(alphabet, counts) > 1 << asked) {
        CHECK(status == TP_ERR_ARGUMENT, "too many symbols");
        return;
    }
    CHECK(status == TP_OK && (!asked || k == asked) && k >= 11 && k <= 15, "status %d", status);
    uint32_t sum = 0;
    double entropy = 0, cost = 0, all = 0;
    for (int s = 0; s < alphabet; s++) all += counts[s];
    for (int s = 0; s < alphabet; s++) {
        sum += f[s];
        CHECK((f[s] > 0) == (counts[s] > 0) && f[s] < 1 << k, "frequency %d of %u", f[s], counts[s]);
        if (counts[s]) cost += counts[s] * (k - log2(f[s]));
        if (counts[s]) entropy -= counts[s] * log2(counts[s] / all);
    }
    CHECK(sum == 1u << k, "frequencies sum to %u", sum);
    CHECK(cost <= (double)bits && (double)bits <= cost + 2 + 40. * (double)present(alphabet, counts), "%g bits, not %lld", cost, (long long)bits);
    if (!asked) CHECK(cost < entropy * 1.01 + 12. * (double)present(alphabet, counts) + 8, "%g bits for %g", cost, entropy);

    uint8_t *first = malloc(ROOM);
    int64_t bytes = 0;
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        int64_t size;
        uint8_t *out = guarded_take(&coded_memory, (size_t)(2 * n + 200), true);
        CHECK(tp_rans_encode(width, n, in, k, f, out, 2 * n + 200, &size, scratch) == TP_OK && size >= 128, "tier %d", tier);
        if (tier == 0) memcpy(first, out, (size_t)(bytes = size));
        CHECK(size == bytes && !memcmp(first, out, (size_t)bytes), "tier %d has other bytes, %lld and not %lld of %lld symbols", tier,
              (long long)size, (long long)bytes, (long long)n);
        CHECK((double)(8 * size) < cost + 8 * 128 * (n < TP_RANS_HALVED ? 1 : 2) + 96, "%lld bytes for %g bits", (long long)size, cost);
        for (int64_t less = 0; less < 2; less++) {
            out = guarded_take(&coded_memory, (size_t)(bytes - less), true);
            CHECK(tp_rans_encode(width, n, in, k, f, out, bytes - less, &size, scratch) == TP_OK && size == (less ? -1 : bytes),
                  "tier %d: %lld of %lld bytes", tier, (long long)size, (long long)(bytes - less));
        }
        CHECK(!memcmp(first, guarded_take(&coded_memory, 0, true), 0), "none");
    }
    for (int tier = 0; tier <= test_tiers; tier++) {
        use_tier(tier);
        uint8_t *coded = guarded_take(&coded_memory, (size_t)bytes, at_end), *again = guarded_take(&out_memory, (size_t)(n * width), at_end);
        memcpy(coded, first, (size_t)bytes);
        CHECK(tp_rans_decode(width, n, k, f, coded, bytes, again, scratch) == TP_OK && !memcmp(again, in, (size_t)(n * width)),
              "tier %d does not decode %lld symbols", tier, (long long)n);
    }
    /* As the header says it. */
    const int64_t first_symbols = n < TP_RANS_HALVED ? n : n / 64 * 32;
    const uint8_t *p = n < TP_RANS_HALVED ? first : first + 4;
    if (p > first) CHECK(symbol(2, first, 0) + symbol(2, first, 1) * 65536 + 4 + 128 < bytes, "the first sequence");
    for (int64_t begin = 0, end = first_symbols;; begin = end, end = n) {
        uint32_t x[32];
        for (int l = 0; l < 32; l++, p += 4) memcpy(&x[l], p, 4);
        for (int64_t i = begin; i < end; i++) {
            uint32_t *const state = &x[(i - begin) % 32], slot = *state % (1u << k);
            uint32_t s = 0, start = 0;
            while (start + f[s] <= slot) start += f[s++];
            CHECK(s == symbol(width, in, i), "symbol %lld is %u", (long long)i, s);
            *state = f[s] * (*state >> k) + slot - start;
            if (*state < 65536) {
                *state = *state * 65536 + symbol(2, p, 0);
                p += 2;
            }
        }
        for (int l = 0; l < 32; l++) CHECK(x[l] == 65536, "state %d ends as %u", l, x[l]);
        if (end == n) break;
        CHECK(p == first + 4 + symbol(2, first, 0) + symbol(2, first, 1) * 65536, "the first sequence ends elsewhere");
    }
    CHECK(p == first + bytes, "%lld bytes are left", (long long)(first + bytes - p));
    damage(width, n, k, f, NULL, first, bytes);
    free(first);
}

/* Bits of a Huffman code without limit: the sum of all that is merged. *deep: whether it may be longer than there may be. */
static int64_t huffman_bits(const uint32_t *counts, bool *deep) {
    int64_t weights[256], bits = 0;
    int depths[256], n = 0;
    for (int s = 0; s < 256; s++)
        if (counts[s]) {
            weights[n] = counts[s];
            depths[n++] = 0;
        }
    while (n > 1) {
        for (int pick = 0; pick < 2; pick++)
            for (int i = pick + 1; i < n; i++)
                if (weights[i] < weights[pick] || (weights[i] == weights[pick] && depths[i] < depths[pick])) {
                    const int64_t w = weights[i];
                    const int d = depths[i];
                    weights[i] = weights[pick];
                    depths[i] = depths[pick];
                    weights[pick] = w;
                    depths[pick] = d;
                }
        weights[0] += weights[1];
        depths[0] = 1 + (depths[0] > depths[1] ? depths[0] : depths[1]);
        bits += weights[0];
        weights[1] = weights[--n];
        depths[1] = depths[n];
    }
    *deep = depths[0] > TP_HUFFMAN_LONGEST;
    return bits;
}

static void check_huffman(int64_t n) {
    const bool at_end = random_below(2);
    uint8_t *in = guarded_take(&in_memory, (size_t)n, at_end), lengths[256];
    fill(1, n, in);
    uint32_t counts[256] = {0};
    for (int64_t i = 0; i < n; i++) counts[in[i]]++;
    for (int s = 0; present(256, counts) < 2; s++) counts[s]++;
    int64_t bits, sum = 0, kraft = 0;
    bool deep;
    CHECK(tp_huffman_lengths(counts, lengths, &bits) == TP_OK, "lengths");
    for (int s = 0; s < 256; s++) {
        CHECK((lengths[s] > 0) == (counts[s] > 0) && lengths[s] <= 11, "length %d of %u", lengths[s], counts[s]);
        sum += (int64_t)lengths[s] * counts[s];
        if (lengths[s]) kraft += 2048 >> lengths[s];
    }
    const int64_t least = huffman_bits(counts, &deep);
    CHECK(kraft == 2048 && sum == bits, "%lld of 2048", (long long)kraft);
    CHECK(deep ? bits >= least && (double)bits < (double)least * 1.03 + 64 : bits == least, "%lld bits, and not %lld", (long long)bits, (long long)least);
    uint8_t *first = malloc(ROOM);
    int64_t bytes = 0;
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        int64_t size;
        uint8_t *out = guarded_take(&coded_memory, (size_t)(2 * n + 20), true);
        CHECK(tp_huffman_encode(n, in, lengths, out, 2 * n + 20, &size) == TP_OK && size >= 12 && size <= bits / 8 + 16 + 1, "tier %d", tier);
        if (tier == 0) memcpy(first, out, (size_t)(bytes = size));
        CHECK(size == bytes && !memcmp(first, out, (size_t)bytes), "tier %d has other bytes", tier);
        for (int64_t less = 0; less < 2; less++) {
            out = guarded_take(&coded_memory, (size_t)(bytes - less), true);
            CHECK(tp_huffman_encode(n, in, lengths, out, bytes - less, &size) == TP_OK && size == (less ? -1 : bytes), "tier %d", tier);
        }
        uint8_t *coded = guarded_take(&coded_memory, (size_t)bytes, at_end), *again = guarded_take(&out_memory, (size_t)n, at_end);
        memcpy(coded, first, (size_t)bytes);
        CHECK(tp_huffman_decode(n, lengths, coded, bytes, again, scratch) == TP_OK && !memcmp(again, in, (size_t)n), "tier %d does not decode", tier);
    }
    /* As the header says it, a bit at a time. */
    uint32_t code = 0, codes[256];
    for (int length = 1; length <= 11; length++, code <<= 1)
        for (int s = 0; s < 256; s++)
            if (lengths[s] == length) codes[s] = code++;
    int64_t at[4], begin = 12;
    for (int stream = 0; stream < 4; stream++) {
        at[stream] = 8 * begin;
        begin += symbol(2, first, 2 * stream) | symbol(2, first, 2 * stream + 1) << 16;
    }
    for (int64_t i = 0; i < n; i++)
        for (int b = lengths[in[i]] - 1; b >= 0; b--, at[i % 4]++)
            CHECK((first[at[i % 4] / 8] >> at[i % 4] % 8 & 1) == (codes[in[i]] >> b & 1), "bit of symbol %lld", (long long)i);
    damage(1, n, 0, NULL, lengths, first, bytes);
    free(first);
}

static void check_planes(tp_elements e, int64_t n) {
    const int size = e == TP_CODE_F32 ? 4 : 2, planes = e == TP_CODE_F32 ? 4 : 2;
    const bool at_end = random_below(2), delta = random_below(2);
    uint8_t *in = guarded_input(&in_memory, (size_t)(n * size), at_end, (int)random_below(4));
    uint8_t *base = delta ? guarded_input(&base_memory, (size_t)(n * size), at_end, (int)random_below(4)) : NULL;
    for (int64_t i = 0; i < n * size; i++) {
        in[i] = (uint8_t)random_bits();
        if (delta) base[i] = (uint8_t)random_bits();
    }
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        uint8_t *out = guarded_take(&out_memory, (size_t)(n * size), at_end);
        CHECK(tp_planes_split(e, n, in, base, out) == TP_OK, "split");
        for (int64_t i = 0; i < n; i++) {
            uint64_t x = 0;
            for (int b = 0; b < size; b++) x |= (uint64_t)(in[i * size + b] ^ (delta ? base[i * size + b] : 0)) << 8 * b;
            const uint64_t f16[] = {x >> 8, x % 256}, bf16[] = {x >> 7 & 255, (x & 127) | (x >> 8 & 128)};
            const uint64_t f32[] = {x >> 23 & 255, (x >> 16 & 127) | (x >> 24 & 128), x >> 8 & 255, x & 255};
            const uint64_t *want = e == TP_CODE_F16 ? f16 : e == TP_CODE_BF16 ? bf16 : f32;
            for (int p = 0; p < planes; p++) CHECK(out[p * n + i] == want[p], "tier %d, element %lld, plane %d", tier, (long long)i, p);
        }
        const uint8_t *each[4] = {out, out + n, out + 2 * n, out + 3 * n};
        uint8_t *again = guarded_input(&coded_memory, (size_t)(n * size), at_end, (int)random_below(4));
        CHECK(tp_planes_merge(e, n, each, base, again) == TP_OK && !memcmp(again, in, (size_t)(n * size)), "tier %d does not merge", tier);
    }
}

static void check_zeros(int64_t n) {
    const bool at_end = random_below(2);
    uint8_t *in = guarded_take(&in_memory, (size_t)n, at_end);
    const int64_t share = random_below(11);
    int64_t nonzero = 0;
    for (int64_t i = 0; i < n; i++) {
        in[i] = random_below(10) < share ? 0 : (uint8_t)random_bits();
        nonzero += in[i] > 0;
    }
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        uint8_t *mask = guarded_take(&mask_memory, (size_t)(n + 7) / 8, at_end), *rest = guarded_take(&coded_memory, (size_t)n, at_end);
        int64_t count, at = 0;
        CHECK(tp_zeros_cut(n, in, mask, rest, &count) == TP_OK && count == nonzero, "tier %d: %lld", tier, (long long)count);
        for (int64_t i = 0; i < (n + 7) / 8 * 8; i++) {
            const bool is = i < n && in[i];
            CHECK((mask[i / 8] >> i % 8 & 1) == is && (!is || rest[at++] == in[i]), "tier %d, byte %lld", tier, (long long)i);
        }
        uint8_t *exactly = guarded_take(&base_memory, (size_t)count, at_end), *out = guarded_take(&out_memory, (size_t)n, at_end);
        memcpy(exactly, rest, (size_t)count);
        CHECK(tp_zeros_put(n, mask, exactly, count, out) == TP_OK && !memcmp(out, in, (size_t)n), "tier %d does not put back", tier);
        if (count < n) CHECK(tp_zeros_put(n, mask, rest, count + 1, out) == TP_ERR_FORMAT, "tier %d: count", tier);
        if (n % 8) {
            mask[n / 8] |= 128;
            CHECK(tp_zeros_put(n, mask, rest, count < n ? count + 1 : count, out) == TP_ERR_FORMAT, "tier %d: behind the end", tier);
        }
    }
}

static void check_block(tp_elements e, int64_t bytes) {
    const int width = e == TP_CODE_SYMBOLS ? 2 : 1;
    const bool at_end = random_below(2), delta = random_below(3) == 0;
    uint8_t *in = guarded_input(&in_memory, (size_t)bytes, at_end, (int)random_below(4));
    uint8_t *base = delta ? guarded_input(&base_memory, (size_t)bytes, at_end, (int)random_below(4)) : NULL;
    fill(width, bytes / width, in);
    if ((e == TP_CODE_F32 || e == TP_CODE_BF16) && random_below(2))
        for (int64_t i = 0; i < bytes / 4; i++) {
            const float x = (float)(random_unit() - random_unit()) * 0.05f;
            memcpy(in + 4 * i, &x, 4);
        }
    if (e == TP_CODE_NIBBLES)
        for (int64_t i = 0; i < bytes; i++) in[i] &= (uint8_t)(random_below(2) ? 0x33 : 0x17);
    if (delta && random_below(2)) fill(width, bytes / width, base);
    else if (delta)
        for (int64_t i = 0; i < bytes; i++) base[i] = in[i] ^ (uint8_t)(i % width == 0 && random_below(8) == 0);
    int64_t needed, size = 0;
    CHECK(tp_block_scratch(e, bytes, &needed) == TP_OK && needed <= ROOM + TP_CODING_SCRATCH, "%lld bytes of scratch", (long long)needed);
    uint8_t *first = malloc((size_t)bytes + TP_BLOCK_SLACK);
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        tp_coded coded;
        tp_block header;
        uint8_t *out = guarded_take(&coded_memory, (size_t)bytes + TP_BLOCK_SLACK, true);
        CHECK(tp_block_encode(e, bytes, in, base, out, bytes + TP_BLOCK_SLACK, scratch, &coded) == TP_OK, "tier %d", tier);
        if (tier == 0) memcpy(first, out, (size_t)(size = coded.bytes));
        CHECK(coded.bytes == size && !memcmp(first, out, (size_t)size), "tier %d has other bytes", tier);
        int64_t sum = TP_BLOCK_HEADER, plain = 0;
        for (int p = 0; p < coded.planes; p++) {
            sum += coded.plane[p].out_bytes;
            plain += coded.plane[p].in_bytes;
            const int64_t size_said = coded.plane[p].sizes[coded.plane[p].coding], off = size_said - coded.plane[p].out_bytes;
            CHECK(coded.plane[p].out_bytes <= coded.plane[p].in_bytes + 5, "larger than stored");
            CHECK(off > -64 && off < 64 + 64, "coding %d: %lld bytes, and not %lld", coded.plane[p].coding, (long long)coded.plane[p].out_bytes,
                  (long long)size_said);
        }
        CHECK(sum == size && plain == bytes, "planes have %lld bytes of %lld", (long long)sum, (long long)size);
        uint8_t *again = guarded_input(&out_memory, (size_t)bytes, at_end, (int)random_below(4)), *block = guarded_take(&coded_memory, (size_t)size, at_end);
        memcpy(block, first, (size_t)size);
        CHECK(tp_block_header(block, size, &header) == TP_OK && header.elements == e && header.bytes == bytes && header.delta == delta, "header");
        CHECK(tp_block_decode(block, size, base, again, bytes, scratch) == TP_OK && !memcmp(again, in, (size_t)bytes), "tier %d does not decode", tier);
    }
    uint8_t *wrong = malloc((size_t)size + 8), *decoded = malloc((size_t)bytes + 1);
    for (int round = 0; round < 16; round++) {
        memcpy(wrong, first, (size_t)size);
        memset(wrong + size, 0, 8);
        const int64_t length = round % 4 ? size : random_below(size + 8);
        for (int64_t flips = 1 + random_below(3); flips > 0; flips--)
            wrong[random_below(round % 2 && size > 80 ? 80 : size)] ^= (uint8_t)(1 << random_below(8));
        for (int b = 0; b < 4 && length >= 12; b++) wrong[8 + b] = (uint8_t)(length >> 8 * b);
        tp_status said = TP_OK;
        for (int tier = 0; tier < test_tiers; tier++) {
            test_use_tier(tier);
            uint8_t *block = guarded_take(&coded_memory, (size_t)length, true), *out = guarded_take(&out_memory, (size_t)bytes, true);
            memcpy(block, wrong, (size_t)length);
            memset(out, 0, (size_t)bytes);
            tp_block header;
            int64_t least = 0;
            if (tp_block_header(block, length, &header) == TP_OK) tp_block_scratch(header.elements, header.bytes, &least);
            if (least > ROOM + TP_CODING_SCRATCH) continue;
            const tp_status status = tp_block_decode(block, length, base, out, bytes, scratch);
            if (tier == 0) {
                said = status;
                memcpy(decoded, out, (size_t)bytes);
            }
            CHECK(status == said && (status == TP_OK || status == TP_ERR_FORMAT || status == TP_ERR_ARGUMENT), "tier %d: %d, not %d", tier, status, said);
            CHECK(status || !memcmp(decoded, out, (size_t)bytes), "tier %d decodes something else", tier);
        }
    }
    free(wrong);
    free(decoded);
    free(first);
}

/* Of a bare list of runs, and what is wrong with others. */
static void check_runs(void) {
    uint8_t block[] = {'T', 'C', 1, TP_CODE_BYTES, 6, 0, 0, 0, 35, 0, 0, 0, 0, 0, 0, 0,
                       TP_CODING_RUNS, 14, 0, 0, 0, 2, 0, 0, 0, 1, 2, TP_CODING_STORED, 3, 0, 0, 0, 7, 8, 9};
    uint8_t out[6], want[6] = {7, 0, 0, 8, 9, 0};
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        block[4] = 5;
        CHECK(tp_block_decode(block, sizeof block, NULL, out, 5, scratch) == TP_OK && !memcmp(out, want, 5), "runs");
        block[4] = 6;
        CHECK(tp_block_decode(block, sizeof block, NULL, out, 6, scratch) == TP_ERR_FORMAT, "one too few");
        block[4] = 5;
        block[26] = 0;
        CHECK(tp_block_decode(block, sizeof block, NULL, out, 5, scratch) == TP_ERR_FORMAT, "a run of none");
        block[26] = 130;
        CHECK(tp_block_decode(block, sizeof block, NULL, out, 5, scratch) == TP_ERR_FORMAT, "a number without end");
        block[26] = 2;
        block[27] = TP_CODING_RUNS;
        CHECK(tp_block_decode(block, sizeof block, NULL, out, 5, scratch) == TP_ERR_FORMAT, "runs within runs");
        block[27] = TP_CODING_STORED;
    }
}

static void check_arguments(void) {
    uint16_t f[TP_CODING_ALPHABET] = {1024, 1024}, half[2] = {1, 4096};
    uint8_t lengths[256] = {1, 1}, in[4] = {0, 1, 2, 3}, out[200];
    uint32_t counts[TP_CODING_ALPHABET] = {0};
    int64_t bytes;
    int32_t k;
    for (int tier = 0; tier < test_tiers; tier++) {
        test_use_tier(tier);
        CHECK(tp_coding_histogram(3, 1, in, counts) == TP_ERR_ARGUMENT && tp_coding_histogram(1, -1, in, counts) == TP_ERR_SHAPE, "histogram");
        CHECK(tp_coding_histogram(1, 1, NULL, counts) == TP_ERR_ARGUMENT && tp_coding_histogram(2, 2, half, counts) == TP_ERR_MAGNITUDE, "histogram");
        CHECK(tp_rans_encode(1, 4, in, 11, f, out, 200, &bytes, scratch) == TP_ERR_MAGNITUDE, "symbols without frequencies");
        CHECK(tp_rans_encode(2, 2, half, 11, f, out, 200, &bytes, scratch) == TP_ERR_MAGNITUDE, "symbols out of the alphabet");
        CHECK(tp_rans_encode(1, 2, in, 12, f, out, 200, &bytes, scratch) == TP_ERR_ARGUMENT, "sum");
        CHECK(tp_rans_encode(1, 2, in, 10, f, out, 200, &bytes, scratch) == TP_ERR_ARGUMENT, "total");
        CHECK(tp_rans_encode(1, 2, in, 11, f, out, 200, &bytes, scratch + 1) == TP_ERR_ARGUMENT, "scratch");
        CHECK(tp_rans_decode(1, 2, 11, f, out, 100, in, scratch) == TP_ERR_FORMAT, "no states");
        CHECK(tp_huffman_encode(4, in, lengths, out, 200, &bytes) == TP_ERR_MAGNITUDE, "symbols without codes");
        lengths[2] = 1;
        CHECK(tp_huffman_encode(2, in, lengths, out, 200, &bytes) == TP_ERR_ARGUMENT, "too many codes");
        CHECK(tp_huffman_decode(2, lengths, out, 200, in, scratch) == TP_ERR_ARGUMENT, "too many codes");
        lengths[2] = 0;
        f[0] = 2048;
        f[1] = 0;
        CHECK(tp_rans_decode(1, 2, 11, f, out, 200, in, scratch) == TP_ERR_ARGUMENT, "one symbol");
        f[0] = f[1] = 1024;
        CHECK(tp_planes_split(TP_CODE_BYTES, 1, in, NULL, out) == TP_ERR_TYPE && tp_planes_split(TP_CODE_F32, -1, in, NULL, out) == TP_ERR_SHAPE, "planes");
    }
    memset(counts, 0, sizeof counts);
    uint16_t frequencies[TP_CODING_ALPHABET];
    CHECK(tp_coding_frequencies(256, counts, 0, frequencies, &k, &bytes) == TP_ERR_ARGUMENT, "nothing");
    counts[5] = 1;
    CHECK(tp_coding_frequencies(256, counts, 0, frequencies, &k, &bytes) == TP_ERR_ARGUMENT, "one symbol");
    counts[6] = (1 << 28) - 2;
    CHECK(tp_coding_frequencies(256, counts, 12, frequencies, &k, &bytes) == TP_OK && frequencies[5] == 1 && frequencies[6] == 4095, "two");
    counts[7] = 1;
    CHECK(tp_coding_frequencies(256, counts, 12, frequencies, &k, &bytes) == TP_ERR_ARGUMENT, "too many");
    counts[7] = 0;
    CHECK(tp_coding_frequencies(300, counts, 12, frequencies, &k, &bytes) == TP_ERR_ARGUMENT, "alphabet");
    CHECK(tp_block_scratch(TP_CODE_F32, 6, &bytes) == TP_ERR_SHAPE && tp_block_scratch(9, 8, &bytes) == TP_ERR_ARGUMENT, "scratch");
    CHECK(tp_block_scratch(TP_CODE_BYTES, TP_BLOCK_MOST + 1, &bytes) == TP_ERR_SHAPE, "scratch");
    tp_coded coded;
    CHECK(tp_block_encode(TP_CODE_BYTES, 4, in, NULL, out, 4 + TP_BLOCK_SLACK - 1, scratch, &coded) == TP_ERR_SHAPE, "capacity");
    CHECK(tp_block_encode(TP_CODE_BYTES, 4, in, in, out, 200, scratch, &coded) == TP_OK, "good");
    CHECK(tp_block_decode(out, coded.bytes, NULL, in, 4, scratch) == TP_ERR_ARGUMENT, "no base");
    CHECK(tp_block_decode(out, coded.bytes, in, in, 3, scratch) == TP_ERR_FORMAT, "bytes");
    uint8_t same[4] = {0, 1, 2, 3};
    CHECK(tp_block_decode(out, coded.bytes, same, in, 4, scratch) == TP_OK && !memcmp(in, same, 4), "in place");
}

static void check_cuda_arguments(void) {
    uint16_t f[256] = {1024, 1024};
    uint8_t in[300] = {0}, out[8];
    const tp_rans_array good = {.symbols = 4, .in = 100, .bytes = 200, .out = 4, .log_total = 11};
#define DECODE(a) tp_cuda_rans_decode_all(test_cuda, 1, 1, a, f, in, 300, out, 8)
    CHECK(DECODE(&good) == TP_ERR_FORMAT, "states that are 0");
    CHECK(DECODE(NULL) == TP_ERR_ARGUMENT && tp_cuda_rans_decode_all(NULL, 1, 1, &good, f, in, 300, out, 8) == TP_ERR_ARGUMENT, "null");
    CHECK(tp_cuda_rans_decode_all(test_cuda, 3, 1, &good, f, in, 300, out, 8) == TP_ERR_ARGUMENT, "width");
    CHECK(tp_cuda_rans_decode_all(test_cuda, 1, 0, NULL, NULL, NULL, 0, NULL, 0) == TP_OK, "no arrays");
    CHECK(tp_cuda_rans_decode_all(test_cuda, 1, -1, &good, f, in, 300, out, 8) == TP_ERR_SHAPE, "count");
    const int64_t wrong[][4] = {{-1, 100, 200, 4}, {5, 100, 200, 4}, {4, -1, 200, 4}, {4, 101, 200, 4}, {4, 100, -1, 4}, {4, 100, 200, -1}, {4, 100, 200, 5}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const tp_rans_array a = {.symbols = wrong[i][0], .in = wrong[i][1], .bytes = wrong[i][2], .out = wrong[i][3], .log_total = 11};
        CHECK(DECODE(&a) == TP_ERR_SHAPE, "array %d", (int)i);
    }
    f[1] = 1023;
    CHECK(DECODE(&good) == TP_ERR_ARGUMENT, "frequencies");
#undef DECODE
}

int main(void) {
    test_start("coding");
    guarded *const all[] = {&in_memory, &base_memory, &coded_memory, &out_memory, &mask_memory};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) *all[i] = guarded_new(1 << 19);
    scratch = aligned_alloc(64, ROOM + TP_CODING_SCRATCH);
    open_cuda(0);
    check_arguments();
    check_cuda_arguments();
    check_runs();
    while (test_round()) {
        for (int i = 0; i < 40; i++) check_bands();
        for (int64_t n = TP_RANS_HALVED - 1; n <= MOST; n += 1487) {
            check_rans(1, n);
            check_rans(2, n);
            check_block(TP_CODE_BYTES + (int32_t)random_below(8), n / 4 * 4);
        }
        static const int64_t some[] = {0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 127, 500, 1000, 4096, 20000};
        for (size_t i = 0; i < sizeof some / sizeof *some; i++)
            for (int again = 0; again < 6; again++) {
                const int64_t n = again % 2 ? some[i] : random_below(some[i] + 1);
                check_rans(1, n);
                check_rans(2, n);
                check_huffman(n);
                check_planes(TP_CODE_F16 + (int32_t)random_below(3), n);
                check_zeros(n);
                for (tp_elements e = TP_CODE_BYTES; e <= TP_CODE_F32; e++) check_block(e, n / 4 * 4);
            }
    }
    free(scratch);
    tp_cuda_close(test_cuda);
    return test_end();
}
