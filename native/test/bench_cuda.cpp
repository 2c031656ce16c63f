/*
 * The CUDA library on a device: whether its bytes are those of the processor, then how fast it is. Data lie on the device, in
 * buffers that take turns, each larger than the cache; times are the device's own, by events around the kernels, medians of the
 * rounds. Ceilings are measured first, in the same run. Writes a table in Markdown to the file that is named, and to the output.
 *
 *     bench_cuda [--small] [TABLE]
 *
 * --small: sizes for the emulator, which shows that the program works; its times mean nothing.
 */
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "tensorpress/cuda/codebook.h"
#include "tensorpress/cuda/coding.h"
#include "tensorpress/cuda/feedback.h"
#include "tensorpress/cuda/gemm.h"
#include "tensorpress/cuda/prune.h"
#include "tensorpress/cuda/quantize.h"
#include "tensorpress/cuda/sparse.h"
#include "tensorpress/cuda/spmm.h"
#include "tensorpress/cuda/statistics.h"
#include "tensorpress/cuda/svd.h"

namespace {

enum { SLOTS = 3, ROUNDS = 15 };

tp_cuda *cuda;
tp_cuda_device device;
double copy_ceiling, int8_ceiling;
bool small;
bool failed;
FILE *table;

void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print(const char *format, ...) {
    for (FILE *to : {stdout, table}) {
        if (!to) continue;
        va_list arguments;
        va_start(arguments, format);
        vfprintf(to, format, arguments);
        va_end(arguments);
        fflush(to);
    }
}

void check(tp_status status, const char *what) {
    if (status == TP_OK) return;
    print("\nFAILED: %s: %s %s\n", what, tp_status_name(status), tp_cuda_message(cuda));
    exit(1);
}
#define CHECK(call) check(call, #call)

/* ---- memory ---- */

/* A tensor of the host, and as many copies of it on the device as take turns. */
struct Memory {
    std::vector<char> host;
    void *slots[SLOTS] = {};
    explicit Memory(int64_t bytes) : host((size_t)bytes) {
        for (void *&slot : slots) CHECK(tp_cuda_allocate(cuda, bytes, &slot));
    }
    ~Memory() {
        for (void *slot : slots) CHECK(tp_cuda_free(cuda, slot));
    }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    int64_t bytes() const { return (int64_t)host.size(); }
    void upload() {
        for (void *slot : slots) CHECK(tp_cuda_copy(cuda, slot, host.data(), bytes()));
    }
    template <class T> T *at(int slot) const { return static_cast<T *>(slots[slot]); }
    template <class T> T *on_host() { return reinterpret_cast<T *>(host.data()); }
};

uint64_t state = 1;
uint64_t bits() {
    uint64_t x = state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* About normal: the sum of four uniform numbers. A share of the elements is zero. */
void fill(float *x, int64_t n, double zeros) {
    const uint64_t least = (uint64_t)(zeros * 65536);
    for (int64_t i = 0; i < n; i++) {
        const uint64_t b = bits();
        const float sum = (float)(b & 0xffff) + (float)(b >> 16 & 0xffff) + (float)(b >> 32 & 0xffff) + (float)(b >> 48) - 131070.0f;
        x[i] = zeros > 0 && (bits() & 0xffff) < least ? 0 : sum * 2e-5f;
    }
}

/* ---- rows of the table ---- */

double seconds_of_call;
/* A call inside of what is timed. */
void did(tp_status status, const char *what) {
    check(status, what);
    tp_cuda_times times;
    CHECK(tp_cuda_last(cuda, &times));
    seconds_of_call += times.kernel_seconds;
}
#define DID(call) did(call, #call)

double median_seconds(const std::function<void(int)> &work) {
    std::vector<double> times;
    for (int round = -1; round < (small ? 1 : ROUNDS); round++) {
        seconds_of_call = 0;
        work((round + SLOTS) % SLOTS);
        if (round >= 0) times.push_back(seconds_of_call);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

/* Work that memory bounds: `bytes` are those that have to be read and written. `goal` is a share of the ceiling, 0 for none. */
double row_bytes(const char *name, double bytes, double goal, const std::function<void(int)> &work) {
    const double seconds = median_seconds(work), share = bytes / seconds / copy_ceiling;
    print("| %s | %.3f | %.0f GB/s | %.2f | %s |\n", name, seconds * 1e3, bytes / seconds * 1e-9, share,
          goal == 0 ? "" : (std::to_string(goal).substr(0, 4) + (share >= goal ? " met" : " missed")).c_str());
    return seconds;
}

/* Work that arithmetic bounds, of so many operations; `ceiling` 0 where there is none. */
double row_operations(const char *name, double operations, double ceiling, double goal, const std::function<void(int)> &work) {
    const double seconds = median_seconds(work), share = ceiling > 0 ? operations / seconds / ceiling : 0;
    char shown[32] = "";
    if (ceiling > 0) snprintf(shown, sizeof shown, "%.2f", share);
    print("| %s | %.3f | %.1f TOP/s | %s | %s |\n", name, seconds * 1e3, operations / seconds * 1e-12, shown,
          goal == 0 ? "" : (std::to_string(goal).substr(0, 4) + (share >= goal ? " met" : " missed")).c_str());
    return seconds;
}

void same(const char *name, const void *expected, const void *on_device, int64_t bytes) {
    std::vector<char> got((size_t)bytes);
    CHECK(tp_cuda_copy(cuda, got.data(), on_device, bytes));
    if (!memcmp(expected, got.data(), (size_t)bytes)) return;
    print("\nFAILED: %s: the device's bytes are not the processor's\n", name);
    failed = true;
}

void head(const char *title, int64_t rows, int64_t cols) {
    print("\n### %s, %lld x %lld\n\n| Work | ms | Rate | Of ceiling | Goal |\n|---|---:|---:|---:|---|\n", title, (long long)rows, (long long)cols);
}

/* ---- quantize ---- */

tp_quant quantization(int64_t n, int64_t group_rows, int64_t group_cols, tp_dtype in, tp_dtype out, int32_t range, int32_t clip) {
    tp_quant q = {};
    const int width = out == TP_I8 || out == TP_U8 ? 8 : 4;
    const bool is_signed = out == TP_I8 || out == TP_I4;
    const int low = is_signed ? -(1 << (width - 1)) : 0;
    q.rows = q.cols = q.in_stride = q.out_stride = n;
    q.group_rows = group_rows;
    q.group_cols = group_cols;
    q.in_type = in;
    q.out_type = out;
    q.scale_type = TP_F32;
    q.qmin = low + (is_signed && range == TP_RANGE_ABSMAX);
    q.qmax = low + (1 << width) - 1;
    q.range = range;
    q.rounding = TP_ROUND_DIVIDE;
    q.clip_steps = clip;
    q.clip_min = 0.5f;
    return q;
}

void quantize(int64_t n) {
    head("Quantization", n, n);
    Memory floats(n * n * 4), halves(n * n * 2), codes(n * n), scales(n * n / 4), zeros(n * n / 16), out(n * n * 4), errors(n * (int64_t)sizeof(tp_error));
    fill(floats.on_host<float>(), n * n, 0);
    CHECK(tp_convert(TP_F32, floats.host.data(), n * n, TP_BF16, halves.host.data()));
    floats.upload();
    halves.upload();
    struct Case {
        const char *name;
        tp_quant q;
        double goal;
    };
    const Case cases[] = {
        {"f32 to int8 per row", quantization(n, 1, n, TP_F32, TP_I8, TP_RANGE_ABSMAX, 0), 0.9},
        {"bf16 to int8 per row", quantization(n, 1, n, TP_BF16, TP_I8, TP_RANGE_ABSMAX, 0), 0.9},
        {"f32 to uint8 per row, min/max", quantization(n, 1, n, TP_F32, TP_U8, TP_RANGE_MINMAX, 0), 0.9},
        {"f32 to int8 per column", quantization(n, n, 1, TP_F32, TP_I8, TP_RANGE_ABSMAX, 0), 0.9},
        {"f32 to int4, blocks of 64 in rows", quantization(n, 1, 64, TP_F32, TP_I4, TP_RANGE_ABSMAX, 0), 0.9},
        {"bf16 to int4, blocks of 128 in rows", quantization(n, 1, 128, TP_BF16, TP_I4, TP_RANGE_ABSMAX_FULL, 0), 0.9},
        {"f32 to uint4, blocks of 64 in columns", quantization(n, 64, 1, TP_F32, TP_U4, TP_RANGE_ABSMAX, 0), 0.9},
        {"f32 to int8 per tensor", quantization(n, n, n, TP_F32, TP_I8, TP_RANGE_ABSMAX, 0), 0},
        {"f32 to int4, blocks of 128 in rows, clip search of 20", quantization(n, 1, 128, TP_F32, TP_I4, TP_RANGE_ABSMAX, 20), 0},
        {"f32 to int8 per row, clip search of 20", quantization(n, 1, n, TP_F32, TP_I8, TP_RANGE_ABSMAX, 20), 0},
    };
    double plain = 0;
    for (const Case &c : cases) {
        const Memory &in = c.q.in_type == TP_F32 ? floats : halves;
        int64_t lines, groups, code_bytes, scratch;
        CHECK(tp_quantize_sizes(&c.q, &lines, &groups, &code_bytes));
        CHECK(tp_quantize_scratch(&c.q, lines, &scratch));
        void *work = scratch ? aligned_alloc(64, (size_t)((scratch + 63) / 64 * 64)) : nullptr;
        CHECK(tp_quantize(&c.q, 0, lines, in.host.data(), codes.host.data(), scales.on_host<float>(), zeros.on_host<uint8_t>(), work));
        free(work);
        const double bytes = (double)in.bytes() + (double)code_bytes + 5.0 * (double)groups;
        const double seconds = row_bytes(c.name, bytes, c.goal, [&](int s) {
            DID(tp_cuda_quantize(cuda, &c.q, 0, lines, in.slots[s], codes.slots[s], scales.at<float>(s), zeros.at<uint8_t>(s)));
        });
        if (&c == cases) plain = seconds;
        if (c.q.clip_steps > 1)
            print("| ... its time, in times of f32 to int8 per row | %.2f | | | 1.5%s |\n", seconds / plain, seconds <= 1.5 * plain ? " met" : " missed");
        same(c.name, codes.host.data(), codes.slots[0], code_bytes);
        same(c.name, scales.host.data(), scales.slots[0], groups * 4);
        same(c.name, zeros.host.data(), zeros.slots[0], groups);
        if (c.q.clip_steps > 1 || c.q.in_type != TP_F32) continue;
        const std::string back = std::string("back to f32: ") + c.name;
        CHECK(tp_dequantize(&c.q, 0, lines, codes.host.data(), scales.on_host<float>(), zeros.on_host<uint8_t>(), out.on_host<float>()));
        row_bytes(back.c_str(), (double)code_bytes + (double)n * (double)n * 4, 0.9, [&](int s) {
            DID(tp_cuda_dequantize(cuda, &c.q, 0, lines, codes.slots[s], scales.at<float>(s), zeros.at<uint8_t>(s), out.at<float>(s)));
        });
        same(back.c_str(), out.host.data(), out.slots[0], out.bytes());
        const std::string error = std::string("error sums: ") + c.name;
        CHECK(tp_quantize_error(&c.q, 0, lines, in.host.data(), codes.host.data(), scales.on_host<float>(), zeros.on_host<uint8_t>(), errors.on_host<tp_error>()));
        row_bytes(error.c_str(), (double)in.bytes() + (double)code_bytes, 0, [&](int s) {
            DID(tp_cuda_quantize_error(cuda, &c.q, 0, lines, in.slots[s], codes.slots[s], scales.at<float>(s), zeros.at<uint8_t>(s), errors.at<tp_error>(s)));
        });
        same(error.c_str(), errors.host.data(), errors.slots[0], lines * (int64_t)sizeof(tp_error));
    }
    row_bytes("f32 to bf16", (double)n * (double)n * 6, 0.9, [&](int s) { DID(tp_cuda_convert(cuda, TP_F32, floats.slots[s], n * n, TP_BF16, halves.slots[s])); });
    same("f32 to bf16", halves.host.data(), halves.slots[0], halves.bytes());
}

/* ---- prune and sparse ---- */

/* The key of the k-th largest magnitude, by three histograms. `histogram` counts a digit. */
template <class Histogram> uint32_t select(int64_t k, Histogram histogram) {
    static const int shifts[] = {21, 10, 0};
    uint32_t prefix = 0;
    for (int digit = 0; digit < TP_PRUNE_DIGITS; digit++) {
        int64_t counts[TP_PRUNE_COUNTS] = {};
        histogram(digit, prefix, counts);
        int d = TP_PRUNE_COUNTS - 1;
        for (; counts[d] < k; d--) k -= counts[d];
        prefix |= (uint32_t)d << shifts[digit];
    }
    return prefix;
}

void prune(int64_t n) {
    head("Choosing elements", n, n);
    Memory in(n * n * 4), mask(n * ((n + 7) / 8)), out(n * n * 4), scores(n * n / 4), errors(n * (int64_t)sizeof(tp_error));
    fill(in.on_host<float>(), n * n, 0);
    in.upload();
    tp_scores s = {};
    s.rows = s.cols = s.stride = n;
    s.type = TP_F32;
    s.order = TP_ORDER_MAGNITUDE;
    const double bytes = (double)in.bytes();
    uint32_t key = 0;
    const int64_t k = n * n / 2;
    row_bytes("the median magnitude, of reading three times", 3 * bytes, 0.6, [&](int slot) {
        key = select(k, [&](int digit, uint32_t prefix, int64_t *counts) {
            DID(tp_cuda_prune_histogram(cuda, &s, 0, n, in.slots[slot], digit, prefix, counts));
        });
    });
    const uint32_t expected = select(k, [&](int digit, uint32_t prefix, int64_t *counts) {
        CHECK(tp_prune_histogram(&s, 0, n, in.host.data(), digit, prefix, counts));
    });
    if (key != expected) failed = true, print("\nFAILED: key %08x, not %08x\n", key, expected);
    CHECK(tp_prune_mask(&s, 0, n, in.host.data(), key, n, 0, mask.on_host<uint8_t>()));
    row_bytes("mask of larger elements", bytes * 33 / 32, 0, [&](int slot) {
        DID(tp_cuda_prune_mask(cuda, &s, 0, n, in.slots[slot], key, n, 0, mask.at<uint8_t>(slot)));
    });
    same("mask", mask.host.data(), mask.slots[0], mask.bytes());
    mask.upload();
    CHECK(tp_prune_apply(&s, 0, n, in.host.data(), mask.on_host<uint8_t>(), out.host.data()));
    row_bytes("apply a mask", 2 * bytes, 0, [&](int slot) {
        DID(tp_cuda_prune_apply(cuda, &s, 0, n, in.slots[slot], mask.at<uint8_t>(slot), out.slots[slot]));
    });
    same("apply", out.host.data(), out.slots[0], out.bytes());
    CHECK(tp_prune_error(&s, 0, n, in.host.data(), out.host.data(), errors.on_host<tp_error>()));
    row_bytes("error sums", 2 * bytes, 0, [&](int slot) {
        DID(tp_cuda_prune_error(cuda, &s, 0, n, in.slots[slot], out.slots[slot], errors.at<tp_error>(slot)));
    });
    same("error sums", errors.host.data(), errors.slots[0], errors.bytes());
    CHECK(tp_prune_nm(&s, 1, 0, n, in.host.data(), 2, 4, mask.on_host<uint8_t>()));
    row_bytes("2:4 in rows", bytes * 33 / 32, 0, [&](int slot) {
        DID(tp_cuda_prune_nm(cuda, &s, 1, 0, n, in.slots[slot], 2, 4, mask.at<uint8_t>(slot)));
    });
    same("2:4", mask.host.data(), mask.slots[0], mask.bytes());
    int64_t scratch;
    CHECK(tp_prune_lines_scratch(&s, 1, &scratch));
    void *work = scratch ? aligned_alloc(64, (size_t)((scratch + 63) / 64 * 64)) : nullptr;
    CHECK(tp_prune_lines(&s, 1, 0, n, in.host.data(), n / 2, mask.on_host<uint8_t>(), work));
    free(work);
    row_bytes("half of each row", bytes * 33 / 32, 0, [&](int slot) {
        DID(tp_cuda_prune_lines(cuda, &s, 1, 0, n, in.slots[slot], n / 2, mask.at<uint8_t>(slot)));
    });
    same("half of each row", mask.host.data(), mask.slots[0], mask.bytes());
    CHECK(tp_prune_blocks(&s, 4, 4, 0, n / 4, in.host.data(), scores.on_host<float>()));
    row_bytes("norms of blocks of 4 x 4", bytes * 17 / 16, 0, [&](int slot) {
        DID(tp_cuda_prune_blocks(cuda, &s, 4, 4, 0, n / 4, in.slots[slot], scores.at<float>(slot)));
    });
    same("norms of blocks", scores.host.data(), scores.slots[0], n * n / 16 * 4);
}

void sparse(int64_t n) {
    head("Storing 90 % sparse matrices, and products with them", n, n);
    Memory in(n * n * 4), offsets((n + 1) * 8), indices(n * n * 4), values(n * n * 4), out(n * n * 4), b(n * 128 * 4), c(n * 128 * 4);
    fill(in.on_host<float>(), n * n, 0.9);
    in.upload();
    fill(b.on_host<float>(), n * 128, 0);
    b.upload();
    static const struct {
        const char *name;
        int32_t layout;
    } layouts[] = {{"CSR16", TP_SPARSE_CSR16}, {"CSR32", TP_SPARSE_CSR32}, {"bit mask", TP_SPARSE_BITMASK}};
    for (const auto &l : layouts) {
        tp_sparse s = {};
        s.rows = s.cols = s.stride = n;
        s.type = TP_F32;
        s.layout = l.layout;
        int64_t *starts = offsets.on_host<int64_t>();
        starts[0] = 0;
        CHECK(tp_sparse_count(&s, 0, n, in.host.data(), starts + 1));
        for (int64_t i = 0; i < n; i++) starts[i + 1] += starts[i];
        int64_t offset_bytes, index_bytes, value_bytes;
        CHECK(tp_sparse_bytes(&s, starts[n], &offset_bytes, &index_bytes, &value_bytes));
        CHECK(tp_sparse_pack(&s, 0, n, in.host.data(), starts, indices.host.data(), values.host.data()));
        offsets.upload();
        const double stored = (double)(index_bytes + value_bytes);
        const std::string to = std::string("to ") + l.name + ", counting included", back = std::string("from ") + l.name;
        row_bytes(to.c_str(), 2 * (double)in.bytes() + stored, 0.7, [&](int slot) {
            DID(tp_cuda_sparse_count(cuda, &s, 0, n, in.slots[slot], c.at<int64_t>(slot)));
            DID(tp_cuda_sparse_pack(cuda, &s, 0, n, in.slots[slot], offsets.at<int64_t>(slot), indices.slots[slot], values.slots[slot]));
        });
        same(to.c_str(), indices.host.data(), indices.slots[0], index_bytes);
        same(to.c_str(), values.host.data(), values.slots[0], value_bytes);
        row_bytes(back.c_str(), (double)in.bytes() + stored, 0, [&](int slot) {
            DID(tp_cuda_sparse_unpack(cuda, &s, 0, n, offsets.at<int64_t>(slot), indices.slots[slot], values.slots[slot], out.slots[slot]));
        });
        same(back.c_str(), in.host.data(), out.slots[0], out.bytes());
        if (l.layout == TP_SPARSE_BITMASK) continue;
        for (int64_t columns : {(int64_t)1, (int64_t)128}) {
            tp_product p = {};
            p.a = s;
            p.n = p.b_stride = p.out_stride = columns;
            char name[80];
            snprintf(name, sizeof name, "%s times %lld columns", l.name, (long long)columns);
            row_bytes(name, stored + 8.0 * (double)n * (double)columns, 0, [&](int slot) {
                DID(tp_cuda_spmm(cuda, &p, 0, n, offsets.at<int64_t>(slot), indices.slots[slot], values.slots[slot], b.slots[slot], c.slots[slot]));
            });
        }
    }
}

/* ---- products ---- */

void gemm(int64_t n) {
    head("Products", n, n);
    Memory a(n * n * 4), b(n * n * 4), c(n * n * 4);
    for (int64_t i = 0; i < n * n / 2; i++) {
        const uint64_t x = bits();
        memcpy(a.host.data() + i * 8, &x, 8);
    }
    b.host = a.host;
    a.upload();
    b.upload();
    tp_gemm_spec s = {};
    s.m = s.n = s.k = s.a_stride = s.b_stride = s.c_stride = n;
    s.type = TP_I8;
    const double operations = 2.0 * (double)n * (double)n * (double)n;
    s.form = TP_GEMM_ABT;
    row_operations("int8, A B^T", operations, int8_ceiling, 0.7, [&](int slot) {
        DID(tp_cuda_gemm(cuda, &s, 0, n, a.slots[slot], b.slots[slot], c.slots[slot]));
    });
    s.form = TP_GEMM_AB;
    row_operations("int8, A B", operations, int8_ceiling, 0, [&](int slot) {
        DID(tp_cuda_gemm(cuda, &s, 0, n, a.slots[slot], b.slots[slot], c.slots[slot]));
    });
    /* The processor computes some rows. */
    const int64_t rows = std::min<int64_t>(n, 64);
    tp_gemm_spec part = s;
    part.m = rows;
    tp_gemm_layout layout;
    CHECK(tp_gemm_layout_of(&part, &layout));
    void *packed = aligned_alloc(64, (size_t)(layout.packed_bytes + 63) / 64 * 64), *scratch = aligned_alloc(64, (size_t)(layout.scratch_bytes + 63) / 64 * 64);
    CHECK(tp_gemm_pack(&part, 0, layout.panels, b.host.data(), packed));
    CHECK(tp_gemm(&part, 0, rows, 0, layout.panels, a.host.data(), packed, c.host.data(), scratch));
    same("int8, A B", c.host.data(), c.slots[0], rows * n * 4);
    free(packed);
    free(scratch);
    fill(a.on_host<float>(), n * n, 0);
    fill(b.on_host<float>(), n * n, 0);
    a.upload();
    b.upload();
    s.type = TP_F32;
    row_operations("f32, the processor's bits", operations, 0, 0, [&](int slot) {
        DID(tp_cuda_gemm(cuda, &s, 0, n, a.slots[slot], b.slots[slot], c.slots[slot]));
    });
    part = s;
    part.m = rows;
    CHECK(tp_gemm_layout_of(&part, &layout));
    packed = aligned_alloc(64, (size_t)(layout.packed_bytes + 63) / 64 * 64);
    scratch = aligned_alloc(64, (size_t)(layout.scratch_bytes + 63) / 64 * 64);
    CHECK(tp_gemm_pack(&part, 0, layout.panels, b.host.data(), packed));
    CHECK(tp_gemm(&part, 0, rows, 0, layout.panels, a.host.data(), packed, c.host.data(), scratch));
    same("f32", c.host.data(), c.slots[0], rows * n * 4);
    free(packed);
    free(scratch);
    row_operations("f32 by three TF32 products", operations, 0, 0, [&](int slot) {
        DID(tp_cuda_gemm_tf32x3(cuda, &s, 0, n, a.slots[slot], b.slots[slot], c.slots[slot]));
    });
}

/* ---- calibration ---- */

void calibrate(int64_t n) {
    head("Statistics, and rounding by them", n, n);
    Memory x(n * n * 4), sums(n * n * 8), seen(n * n * 4), counts(TP_STATISTICS_BINS * 8), min(n * 4), max(n * 4), sum(n * 8), squares(n * 8);
    fill(x.on_host<float>(), n * n, 0);
    x.upload();
    const double bytes = (double)x.bytes();
    for (Memory *m : {&min, &max, &sum, &squares, &counts, &sums}) m->upload(); /* zeros */
    int64_t at;
    row_bytes("minima, maxima, sums and squares of channels", bytes, 0, [&](int slot) {
        DID(tp_cuda_observe_channels(cuda, n, n, n, 0, n, x.slots[slot], min.at<float>(slot), max.at<float>(slot), sum.at<double>(slot),
                                     squares.at<double>(slot), &at));
    });
    /* How often a slot was added to depends on the rounds; here once more, from zeros. */
    for (Memory *m : {&min, &max, &sum, &squares}) m->upload();
    CHECK(tp_observe_channels(n, n, n, 0, n, x.host.data(), min.on_host<float>(), max.on_host<float>(), sum.on_host<double>(), squares.on_host<double>(), &at));
    CHECK(tp_cuda_observe_channels(cuda, n, n, n, 0, n, x.slots[0], min.at<float>(0), max.at<float>(0), sum.at<double>(0), squares.at<double>(0), &at));
    same("minima", min.host.data(), min.slots[0], min.bytes());
    same("maxima", max.host.data(), max.slots[0], max.bytes());
    same("sums", sum.host.data(), sum.slots[0], sum.bytes());
    same("squares", squares.host.data(), squares.slots[0], squares.bytes());
    row_bytes("histogram", bytes, 0, [&](int slot) {
        DID(tp_cuda_observe_histogram(cuda, n, n, n, 0, n, x.slots[slot], 0x1p-9f, counts.at<int64_t>(slot)));
    });
    counts.upload();
    CHECK(tp_observe_histogram(n, n, n, 0, n, x.host.data(), 0x1p-9f, counts.on_host<int64_t>()));
    CHECK(tp_cuda_observe_histogram(cuda, n, n, n, 0, n, x.slots[0], 0x1p-9f, counts.at<int64_t>(0)));
    same("histogram", counts.host.data(), counts.slots[0], counts.bytes());
    row_bytes("add to f64", 5 * bytes, 0.9, [&](int slot) { DID(tp_cuda_accumulate(cuda, n, n, n, n, 0, n, x.at<float>(slot), sums.at<double>(slot))); });
    sums.upload();
    CHECK(tp_accumulate(n, n, n, n, 0, n, x.on_host<float>(), sums.on_host<double>()));
    CHECK(tp_cuda_accumulate(cuda, n, n, n, n, 0, n, x.at<float>(0), sums.at<double>(0)));
    same("add to f64", sums.host.data(), sums.slots[0], sums.bytes());
    /* As many patches of 64 channels as x has elements, or nearly. */
    tp_window w = {};
    w.channels = 64;
    w.kernel_height = w.kernel_width = 3;
    w.height = w.width = (int64_t)std::sqrt((double)(n * n) / (64 * 9));
    w.stride_height = w.stride_width = w.dilation_height = w.dilation_width = 1;
    w.before_height = w.before_width = w.after_height = w.after_width = 1;
    const int64_t positions = w.height * w.width, patch_bytes = positions * w.channels * 9 * 4;
    CHECK(tp_patches(&w, 0, positions, x.host.data(), seen.on_host<float>()));
    row_bytes("patches of 64 channels, 3 x 3", (double)patch_bytes * 10 / 9, 0, [&](int slot) {
        DID(tp_cuda_patches(cuda, &w, 0, positions, x.slots[slot], seen.at<float>(slot)));
    });
    same("patches", seen.host.data(), seen.slots[0], patch_bytes);

    enum { INPUTS = TP_FEEDBACK_BLOCK };
    const int64_t outputs = small ? 2 * n : 16 * n;
    Memory m(INPUTS * INPUTS * 4), weight(INPUTS * outputs * 4), outside(weight.bytes()), e(weight.bytes()), change(weight.bytes()), scales(outputs * 4),
        moved(outputs * 4), mask(INPUTS * (outputs / 8));
    fill(m.on_host<float>(), INPUTS * INPUTS, 0);
    fill(weight.on_host<float>(), INPUTS * outputs, 0);
    fill(outside.on_host<float>(), INPUTS * outputs, 0);
    for (int64_t j = 0; j < outputs; j++) scales.on_host<float>()[j] = 0.25f;
    for (int64_t i = 0; i < mask.bytes(); i++) mask.host[(size_t)i] = (char)bits();
    for (Memory *each : {&m, &weight, &outside, &e, &scales, &moved, &mask}) each->upload();
    const int32_t groups[INPUTS] = {};
    tp_feedback s = {};
    s.inputs = s.m_stride = INPUTS;
    s.outputs = s.stride = s.scale_stride = outputs;
    s.qmin = -7;
    s.qmax = 7;
    const double moving = 5.0 * (double)weight.bytes();
    char name[80];
    snprintf(name, sizeof name, "rounding of 64 inputs, %lld outputs", (long long)outputs);
    row_bytes(name, moving, 0.5, [&](int slot) {
        DID(tp_cuda_feedback_round(cuda, &s, 0, outputs, m.at<float>(slot), weight.at<float>(slot), outside.at<float>(slot), groups, scales.at<float>(slot),
                                   nullptr, e.at<float>(slot), change.at<float>(slot), moved.at<int32_t>(slot)));
    });
    e.upload();
    moved.upload();
    CHECK(tp_feedback_round(&s, 0, outputs, m.on_host<float>(), weight.on_host<float>(), outside.on_host<float>(), groups, scales.on_host<float>(), nullptr,
                            e.on_host<float>(), change.on_host<float>(), moved.on_host<int32_t>()));
    CHECK(tp_cuda_feedback_round(cuda, &s, 0, outputs, m.at<float>(0), weight.at<float>(0), outside.at<float>(0), groups, scales.at<float>(0), nullptr,
                                 e.at<float>(0), change.at<float>(0), moved.at<int32_t>(0)));
    same("errors of rounding", e.host.data(), e.slots[0], e.bytes());
    same("changes of rounding", change.host.data(), change.slots[0], change.bytes());
    same("moved", moved.host.data(), moved.slots[0], moved.bytes());
    tp_refit r = {};
    r.inputs = r.m_stride = INPUTS;
    r.outputs = r.stride = outputs;
    r.mask_stride = outputs / 8;
    snprintf(name, sizeof name, "refit of 64 inputs, %lld outputs", (long long)outputs);
    row_bytes(name, moving, 0.5, [&](int slot) {
        DID(tp_cuda_feedback_refit(cuda, &r, 0, outputs, m.at<float>(slot), weight.at<float>(slot), outside.at<float>(slot), mask.at<uint8_t>(slot),
                                   e.at<float>(slot), change.at<float>(slot)));
    });
    e.upload();
    CHECK(tp_feedback_refit(&r, 0, outputs, m.on_host<float>(), weight.on_host<float>(), outside.on_host<float>(), mask.on_host<uint8_t>(),
                            e.on_host<float>(), change.on_host<float>()));
    CHECK(tp_cuda_feedback_refit(cuda, &r, 0, outputs, m.at<float>(0), weight.at<float>(0), outside.at<float>(0), mask.at<uint8_t>(0), e.at<float>(0),
                                 change.at<float>(0)));
    same("errors of the refit", e.host.data(), e.slots[0], e.bytes());
    same("changes of the refit", change.host.data(), change.slots[0], change.bytes());
}

/* ---- codebooks ---- */

void codebook(int64_t n) {
    head("Codes of codebooks", n, n);
    Memory in(n * n * 4), codes(n * n), tables(4096 * 8 * 4), out(n * n * 4), sums(4096 * 8 * 8);
    fill(in.on_host<float>(), n * n, 0);
    in.upload();
    struct Case {
        const char *name;
        int32_t dimension, bits;
    };
    for (const Case &c : {Case{"numbers, 4 bits", 1, 4}, Case{"numbers, 8 bits", 1, 8}, Case{"vectors of 4, 8 bits", 4, 8}}) {
        tp_codebook s = {};
        s.rows = s.cols = s.stride = s.group_rows = s.group_cols = n;
        s.dimension = c.dimension;
        s.bits = c.bits;
        s.type = TP_F32;
        const int64_t floats = (int64_t)c.dimension << c.bits, some = small ? n : 64;
        fill(tables.on_host<float>(), floats, 0);
        if (c.dimension == 1) std::sort(tables.on_host<float>(), tables.on_host<float>() + floats);
        tables.upload();
        const std::vector<float> assigned(tables.on_host<float>(), tables.on_host<float>() + floats);
        const double code_bytes = (double)(n * n / c.dimension);
        const std::function<void(int)> assign = [&](int slot) {
            DID(tp_cuda_codebook_assign(cuda, &s, 0, n, in.slots[slot], tables.at<float>(slot), codes.slots[slot]));
        };
        if (c.dimension == 1)
            row_bytes(c.name, (double)in.bytes() + code_bytes, 0, assign);
        else
            row_operations(c.name, 2.0 * (double)n * (double)n * (double)(1 << c.bits), 0, 0, assign);
        CHECK(tp_codebook_assign(&s, 0, some, in.host.data(), tables.on_host<float>(), codes.host.data())); /* the processor's, of some rows */
        same(c.name, codes.host.data(), codes.slots[0], some * n / c.dimension);
        const std::string back = std::string("decode ") + c.name;
        row_bytes(back.c_str(), (double)out.bytes() + code_bytes, 0.9, [&](int slot) {
            DID(tp_cuda_codebook_decode(cuda, &s, 0, n, codes.slots[slot], tables.at<float>(slot), out.at<float>(slot)));
        });
        CHECK(tp_codebook_decode(&s, 0, some, codes.host.data(), tables.on_host<float>(), out.on_host<float>()));
        same(back.c_str(), out.host.data(), out.slots[0], some * n * 4);
        const std::string train = std::string("train ") + c.name;
        row_bytes(train.c_str(), (double)in.bytes(), 0, [&](int slot) {
            DID(tp_cuda_codebook_train(cuda, &s, 1, 4, 0, 1, in.slots[slot], nullptr, nullptr, tables.at<float>(slot)));
        });
        int64_t needed;
        CHECK(tp_codebook_scratch(&s, &needed));
        void *scratch = aligned_alloc(64, (size_t)(needed + 63) / 64 * 64);
        CHECK(tp_codebook_train(&s, 1, 4, 0, 1, in.host.data(), nullptr, nullptr, scratch, tables.on_host<float>()));
        free(scratch);
        same(train.c_str(), tables.host.data(), tables.slots[0], floats * 4);
        const std::string gradients = std::string("gradients of ") + c.name;
        row_bytes(gradients.c_str(), (double)in.bytes() + code_bytes, 0, [&](int slot) {
            DID(tp_cuda_codebook_gradients(cuda, &s, 0, 1, codes.slots[slot], in.at<float>(slot), sums.at<double>(slot)));
        });
        CHECK(tp_codebook_assign(&s, 0, n, in.host.data(), assigned.data(), codes.host.data()));
        CHECK(tp_codebook_gradients(&s, 0, 1, codes.host.data(), in.on_host<float>(), sums.on_host<double>()));
        same(gradients.c_str(), sums.host.data(), sums.slots[0], floats * 8);
    }
}

/* ---- coding ---- */

/* Bytes about as codes of 8 bits are, in arrays of so many. */
void coding(int64_t count, int64_t length) {
    head("Arrays of bytes coded by rANS", count, length);
    Memory plain(count * length), coded(count * (length + 512)), out(count * length);
    for (char &byte : plain.host) {
        const uint64_t b = bits();
        int sum = 0;
        for (int i = 0; i < 8; i++) sum += (int)(b >> 8 * i & 31);
        byte = (char)(sum - 124);
    }
    std::vector<tp_rans_array> arrays((size_t)count);
    std::vector<uint16_t> frequencies((size_t)count * 256);
    void *scratch = aligned_alloc(64, TP_CODING_SCRATCH);
    int64_t all = 0;
    for (int64_t a = 0; a < count; a++) {
        uint32_t counts[256] = {};
        int64_t estimate, size;
        int32_t k;
        const char *in = plain.host.data() + a * length;
        uint16_t *f = frequencies.data() + a * 256;
        CHECK(tp_coding_histogram(1, length, in, counts));
        CHECK(tp_coding_frequencies(256, counts, 12, f, &k, &estimate));
        CHECK(tp_rans_encode(1, length, in, k, f, coded.on_host<uint8_t>() + all, coded.bytes() - all, &size, scratch));
        arrays[(size_t)a] = {length, all, size, a * length, k};
        all += size;
    }
    free(scratch);
    coded.upload();
    char name[80];
    snprintf(name, sizeof name, "decode %lld arrays, %.2f of their bytes", (long long)count, (double)all / (double)plain.bytes());
    row_bytes(name, (double)(all + plain.bytes()), 0, [&](int slot) {
        DID(tp_cuda_rans_decode_all(cuda, 1, count, arrays.data(), frequencies.data(), coded.at<uint8_t>(slot), all, out.slots[slot], out.bytes()));
    });
    same("rANS", plain.host.data(), out.slots[0], plain.bytes());
}

/* ---- decompositions ---- */

/*
 * The peer for many small ones, where it is installed: cuSOLVER's gesvdjBatched, by the symbols of its library. Only pointers and
 * integers pass through its interface. Seconds by the clock, the device being idle before and after; 0 without it.
 */
double seconds_of_peer(const Memory &matrices, int64_t count, int side) {
    void *library = nullptr;
    for (const char *name : {"libcusolver.so", "libcusolver.so.12", "libcusolver.so.11"})
        if (!library) library = dlopen(name, RTLD_NOW);
    if (!library) return 0;
    using Handle = void *;
    auto create = reinterpret_cast<int (*)(Handle *)>(dlsym(library, "cusolverDnCreate"));
    auto create_info = reinterpret_cast<int (*)(Handle *)>(dlsym(library, "cusolverDnCreateGesvdjInfo"));
    auto size = reinterpret_cast<int (*)(Handle, int, int, int, const float *, int, const float *, const float *, int, const float *, int, int *, Handle, int)>(
        dlsym(library, "cusolverDnSgesvdjBatched_bufferSize"));
    auto run = reinterpret_cast<int (*)(Handle, int, int, int, float *, int, float *, float *, int, float *, int, float *, int, int *, Handle, int)>(
        dlsym(library, "cusolverDnSgesvdjBatched"));
    Handle handle, info;
    if (!create || !create_info || !size || !run || create(&handle) || create_info(&info)) return 0;
    Memory a(matrices.bytes()), u(matrices.bytes()), v(matrices.bytes()), s(count * side * 4), status(count * 4);
    int work = 0;
    enum { VECTORS = 1 };
    if (size(handle, VECTORS, side, side, a.at<float>(0), side, s.at<float>(0), u.at<float>(0), side, v.at<float>(0), side, &work, info, (int)count)) return 0;
    Memory buffer((int64_t)work * 4);
    std::vector<double> times;
    for (int round = -1; round < 5; round++) {
        const int slot = (round + SLOTS) % SLOTS;
        CHECK(tp_cuda_copy(cuda, a.slots[slot], matrices.slots[slot], a.bytes()));
        char wait;
        const auto begin = std::chrono::steady_clock::now();
        if (run(handle, VECTORS, side, side, a.at<float>(slot), side, s.at<float>(slot), u.at<float>(slot), side, v.at<float>(slot), side, buffer.at<float>(0),
                work, status.at<int>(0), info, (int)count))
            return 0;
        CHECK(tp_cuda_copy(cuda, &wait, status.slots[0], 1)); /* on the stream that all others wait for */
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        if (round >= 0) times.push_back(seconds.count());
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

void svd(int64_t n, int64_t count) {
    head("Decompositions", n, n);
    {
        Memory a(n * n * 4), c(n * n * 8);
        fill(a.on_host<float>(), n * n, 0);
        a.upload();
        tp_multiplication m = {};
        m.m = m.n = m.k = m.a_stride = m.b_stride = m.c_stride = n;
        m.a_type = m.b_type = TP_F32;
        m.alpha = 1;
        row_operations("f64 product of f32 matrices", 2.0 * (double)n * (double)n * (double)n, 0, 0, [&](int slot) {
            DID(tp_cuda_multiply(cuda, &m, 0, n, a.slots[slot], a.slots[slot], c.at<double>(slot)));
        });
        row_bytes("normal numbers, f32", (double)n * (double)n * 4, 0, [&](int slot) {
            DID(tp_cuda_gaussian(cuda, 1, 0, 0, n * n, TP_F32, a.slots[slot]));
        });
        tp_qb q = {};
        q.m = q.n = q.stride = n;
        q.type = q.out_type = TP_F32;
        q.rank = std::min<int64_t>(n / 4, 256);
        q.powers = 1;
        q.seed = 1;
        Memory left(n * q.rank * 4), right(n * q.rank * 4);
        double residual[4];
        const double seconds = median_seconds([&](int slot) { DID(tp_cuda_qb(cuda, &q, a.slots[slot], left.slots[slot], right.slots[slot], residual)); });
        print("| factors of rank %lld | %.3f | | | 15 ms at rank 256 of 8192 x 8192%s |\n", (long long)q.rank, seconds * 1e3,
              n != 8192 ? "" : seconds < 15e-3 ? " met" : " missed");
    }
    enum { SIDE = 32 };
    Memory matrices(count * SIDE * SIDE * 4), u(matrices.bytes()), v(matrices.bytes()), s(count * SIDE * 4);
    fill(matrices.on_host<float>(), count * SIDE * SIDE, 0);
    matrices.upload();
    tp_small small_ones = {};
    small_ones.count = count;
    small_ones.rows = small_ones.cols = small_ones.in_stride = SIDE;
    small_ones.in_step = SIDE * SIDE;
    small_ones.type = TP_F32;
    small_ones.sweeps = 30;
    const double seconds = median_seconds([&](int slot) {
        DID(tp_cuda_svd_small(cuda, &small_ones, 0, count, matrices.slots[slot], u.slots[slot], s.slots[slot], v.slots[slot]));
    });
    const double peer = small ? 0 : seconds_of_peer(matrices, count, SIDE);
    char goal[80] = "no cuSOLVER here";
    if (peer > 0) snprintf(goal, sizeof goal, "twice cuSOLVER's speed: %.2f%s", peer / seconds, peer >= 2 * seconds ? " met" : " missed");
    print("| %lld matrices 32 x 32 | %.3f | %.0f a second | | %s |\n", (long long)count, seconds * 1e3, (double)count / seconds, goal);
    if (peer > 0) print("| ... cuSOLVER's gesvdjBatched (f32) | %.3f | %.0f a second | | |\n", peer * 1e3, (double)count / peer);
}

}  // namespace

int main(int argc, char **argv) {
    int at = 1;
    if (at < argc && !strcmp(argv[at], "--small")) small = true, at++;
    if (at < argc && !(table = fopen(argv[at], "w"))) {
        perror(argv[at]);
        return 2;
    }
    if (tp_cuda_open(0, small ? 32 << 20 : 0, &cuda) != TP_OK) {
        print("no CUDA device: %s\n", tp_cuda_message(nullptr));
        return 1;
    }
    CHECK(tp_cuda_describe(0, &device));
    CHECK(tp_cuda_timing(cuda, 1));
    CHECK(tp_cuda_ceilings(cuda, &copy_ceiling, &int8_ceiling));
    print("## %s\n\nCompute capability %d.%d, %d multiprocessors, %.0f GB, %.0f MB of L2, driver of CUDA %d.%d.\n\nCeilings: copies %.0f GB/s, read and written; "
          "int8 products on tensor cores %.1f TOP/s.\n",
          device.name, device.major, device.minor, device.multiprocessors, (double)device.memory_bytes * 1e-9, (double)device.l2_bytes * 0x1p-20, device.driver / 1000,
          device.driver % 1000 / 10, copy_ceiling * 1e-9, int8_ceiling * 1e-12);
    const int64_t n = small ? 128 : 8192;
    quantize(n);
    prune(n);
    sparse(n);
    gemm(n);
    calibrate(n);
    codebook(n);
    coding(small ? 5 : 8192, small ? 30000 : 32768);
    svd(small ? 64 : 8192, small ? 20 : 10000);
    tp_cuda_close(cuda);
    print("\n%s\n", failed ? "Some bytes differ from the processor's: see FAILED above." : "All bytes that have to be equal to the processor's are.");
    return failed;
}
