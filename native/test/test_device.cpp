/*
 * What carries the families on a device, on the emulator: pieces and their buffers, memory, errors, and what is said where no device
 * can be used.
 */
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/checks.h"
#include "cuda/context.cuh"
#include "cuda/device.h"

extern "C" {
#include "support.h"
}

using namespace tp;

namespace {

constexpr int64_t SHIFT = 3;

/* An element of `bits` bits; two of 4 bits share a byte, which one thread writes at a time. */
__device__ inline int get(const char *p, int64_t i, int bits) { return bits == 4 ? p[i / 2] >> i % 2 * 4 & 15 : p[i * (bits / 8)]; }
__device__ inline void put(char *p, int64_t i, int bits, int value) {
    if (bits == 4)
        p[i / 2] = (char)((p[i / 2] & 0xf0 >> i % 2 * 4) | (value & 15) << i % 2 * 4);
    else
        for (int k = 0; k < bits / 8; k++) p[i * (bits / 8) + k] = (char)(value + k);
}

/* out = in + line + SHIFT, element by element, each line by one thread. Lines of one byte are of one thread. */
TP_KERNEL(32) add_lines(int64_t begin, int64_t end, int64_t length, Array in, int in_bits, bool in_columns, Array out, int out_bits,
                        bool out_columns) {
    const int64_t lines_of_thread = out_bits == 4 ? 2 : 1;
    const int64_t first = begin + (blockIdx.x * 32LL + threadIdx.x) * lines_of_thread;
    for (int64_t l = first; l < first + lines_of_thread && l < end; l++) {
        for (int64_t i = 0; i < length; i++) {
            const int x = get(in.base, in_columns ? i * in.stride + l : l * in.stride + i, in_bits);
            put(out.base, out_columns ? i * out.stride + l : l * out.stride + i, out_bits, (int)(x + l + SHIFT));
        }
    }
}

struct Side {
    Layout layout;
    int64_t bytes;
    std::vector<char> host;
    char *device = nullptr; /* where it lies, if not on the host */
};

Side random_side(int64_t lines, int64_t length, bool four_bits) {
    Side s;
    s.layout.columns = random_below(2);
    s.layout.bits = four_bits && random_below(2) ? 4 : 8 << random_below(3);
    s.layout.length = length;
    s.layout.stride = (s.layout.columns ? lines : length) + (random_below(2) ? random_below(5) : 0);
    const int64_t rows = s.layout.columns ? length : lines, cols = s.layout.columns ? lines : length;
    /* Lines of 4 bits that are rows begin at whole bytes, as the families' rules for ranges see to. */
    if (s.layout.bits == 4 && !s.layout.columns) s.layout.stride += s.layout.stride % 2;
    s.bytes = (((rows - 1) * s.layout.stride + cols) * s.layout.bits + 7) / 8;
    for (int64_t i = 0; i < s.bytes; i++) s.host.push_back((char)random_bits());
    return s;
}

/* Some lines of a random matrix go through the device; what is outside of them stays. */
void check_lines(tp_cuda *cuda, bool spacious) {
    const int64_t lines = 1 + random_below(70), length = 1 + random_below(40), granule = 2 << random_below(3);
    Side in = random_side(lines, length, true), out = random_side(lines, length, true);
    int64_t begin = random_below(lines) / granule * granule, end = begin + random_below(lines - begin + 1);
    if (end < lines) end = end / granule * granule;
    if (end < begin) end = begin;
    std::vector<char> expected = out.host;
    const Layout &a = in.layout, &b = out.layout;
    for (int64_t l = begin; l < end; l++)
        for (int64_t i = 0; i < length; i++)
            put(expected.data(), b.columns ? i * b.stride + l : l * b.stride + i, b.bits,
                (int)(get(in.host.data(), a.columns ? i * a.stride + l : l * a.stride + i, a.bits) + l + SHIFT));
    for (Side *s : {&in, &out}) {
        if (!spacious || random_below(3)) continue;
        void *memory;
        if (tp_cuda_allocate(cuda, s->bytes, &memory) != TP_OK) continue;
        s->device = static_cast<char *>(memory);
        CHECK(tp_cuda_copy(cuda, s->device, s->host.data(), s->bytes) == TP_OK, "copy");
    }
    tp_status status;
    {
        Call call(cuda);
        const int x = call.lines(in.device ? in.device : in.host.data(), READ, a), y = call.lines(out.device ? out.device : out.host.data(), WRITE, b);
        status = call.run(begin, end, granule, [&](const Piece &p) {
            return tp_launch(p.stream, add_lines, dim3((unsigned)((p.end - p.begin + 31) / 32)), 32, 0, p.begin, p.end, length, p[x], a.bits, a.columns,
                             p[y], b.bits, b.columns);
        });
    }
    CHECK(status == TP_OK, "%s: %s", tp_cuda_message(cuda), emulator::last_fault().c_str());
    if (out.device) CHECK(tp_cuda_copy(cuda, out.host.data(), out.device, out.bytes) == TP_OK, "copy");
    CHECK(out.host == expected, "lines %lld..%lld of %lld x %lld, granule %lld: %d bits %s stride %lld%s to %d bits %s stride %lld%s", (long long)begin,
          (long long)end, (long long)lines, (long long)length, (long long)granule, a.bits, a.columns ? "columns" : "rows", (long long)a.stride,
          in.device ? " on the device" : "", b.bits, b.columns ? "columns" : "rows", (long long)b.stride, out.device ? " on the device" : "");
    for (Side *s : {&in, &out}) CHECK(tp_cuda_free(cuda, s->device) == TP_OK, "free");
}

TP_KERNEL(32) count(const int *in, int64_t n, int *out, unsigned *flags) {
    if (threadIdx.x) return;
    for (int64_t i = 0; i < n; i++) *out += in[i];
    atomicOr(flags, *out < 0 ? 2u : 1u);
}

tp_status count_on(tp_cuda *cuda, const int *in, int64_t n, int *out, unsigned *found) {
    return tp::guarded([&] {
        Call call(cuda);
        const int *x = call.whole(in, n * 4, READ);
        int *y = call.whole(out, 4, READ_WRITE);
        unsigned *flags = call.flags();
        const tp_status status = call.run(0, 1, 1, [&](const Piece &p) { return tp_launch(p.stream, count, dim3(1), 32, 0, x, n, y, flags); });
        *found = call.found();
        return status;
    });
}

void check_whole(tp_cuda *cuda) {
    int in[40], sum = 0;
    for (int i = 0; i < 40; i++) sum += in[i] = (int)random_below(100);
    unsigned found = 0;
    int out = 10;
    CHECK(count_on(cuda, in, 40, &out, &found) == TP_OK && out == 10 + sum && found == 1, "%d, not %d, flags %u", out, 10 + sum, found);
    out = -10000;
    CHECK(count_on(cuda, in, 40, &out, &found) == TP_OK && out == sum - 10000 && found == 2, "%d, flags %u", out, found);
}

/* Memory that does not suffice: smaller pieces, then an error after which all goes on. */
void check_memory() {
    emulator::start("memory=64M");
    tp_cuda *cuda;
    CHECK(tp_cuda_open(0, 1 << 20, &cuda) == TP_OK, "open");
    int64_t before, now, most;
    CHECK(tp_cuda_memory(cuda, &before, &most) == TP_OK, "memory");
    std::vector<char> in(8 << 20, 1), out(8 << 20);
    auto run = [&](int64_t lines, int64_t length) {
        Call call(cuda);
        const int x = call.lines(in.data(), READ, {length, length, 8, false}), y = call.lines(out.data(), WRITE, {length, length, 8, false});
        return call.run(0, lines, 1, [&](const Piece &p) {
            return tp_launch(p.stream, add_lines, dim3((unsigned)((p.end - p.begin + 31) / 32)), 32, 0, p.begin, p.end, length, p[x], 8, false, p[y], 8, false);
        });
    };
    CHECK(tp_cuda_timing(cuda, 1) == TP_OK, "timing");
    CHECK(run(64, 128 << 10) == TP_OK && out[0] == 4 && out.back() == (char)(4 + 63), "in pieces: %s", tp_cuda_message(cuda));
    tp_cuda_times times;
    CHECK(tp_cuda_last(cuda, &times) == TP_OK && times.pieces >= 32 && times.in_bytes == 8 << 20 && times.out_bytes == 8 << 20 &&
              times.kernel_seconds > 0 && times.in_seconds > 0 && times.out_seconds > 0,
          "%lld pieces, %lld bytes", (long long)times.pieces, (long long)times.in_bytes);
    CHECK(run(2, 4 << 20) == TP_ERR_MEMORY && strstr(tp_cuda_message(cuda), "do not fit"), "a line that is larger: %s", tp_cuda_message(cuda));
    CHECK(run(64, 1 << 10) == TP_OK, "afterwards: %s", tp_cuda_message(cuda));
    void *memory = &now, *another = nullptr;
    CHECK(tp_cuda_allocate(cuda, 2 << 20, &memory) == TP_ERR_MEMORY && !memory, "more than the budget");
    CHECK(tp_cuda_allocate(cuda, -1, &memory) == TP_ERR_SHAPE, "a negative size");
    CHECK(tp_cuda_allocate(cuda, 0, &memory) == TP_OK && tp_cuda_allocate(cuda, 0, &another) == TP_OK && memory != another, "nothing");
    CHECK(tp_cuda_free(cuda, memory) == TP_OK && tp_cuda_free(cuda, memory) == TP_ERR_ARGUMENT && tp_cuda_free(cuda, &now) == TP_ERR_ARGUMENT, "free");
    CHECK(tp_cuda_free(cuda, another) == TP_OK && tp_cuda_free(cuda, nullptr) == TP_OK, "free");
    CHECK(tp_cuda_memory(cuda, &now, &most) == TP_OK && most <= 1 << 20 && now <= most, "%lld of at most %lld", (long long)now, (long long)most);
    tp_cuda_close(cuda);
    CHECK(emulator::live() == 0, "left behind");
    /* More than there is, whatever the budget says. */
    CHECK(tp_cuda_open(0, INT64_C(1) << 40, &cuda) == TP_OK, "open");
    CHECK(tp_cuda_allocate(cuda, 65 << 20, &memory) == TP_ERR_MEMORY && strstr(tp_cuda_message(cuda), "cudaErrorMemoryAllocation"), "%s", tp_cuda_message(cuda));
    CHECK(tp_cuda_allocate(cuda, 48 << 20, &memory) == TP_OK && tp_cuda_free(cuda, memory) == TP_OK, "what fits");
    CHECK(tp_cuda_allocate(cuda, 60 << 20, &memory) == TP_OK, "kept memory gives way: %s", tp_cuda_message(cuda));
    tp_cuda_close(cuda);
}

TP_KERNEL(32) write_behind(char *p, int64_t at) { p[at] = 1; }

void check_lost() {
    emulator::start("print=0");
    tp_cuda *cuda, *other;
    CHECK(tp_cuda_open(0, 0, &cuda) == TP_OK && tp_cuda_open(0, 0, &other) == TP_OK, "open");
    tp_status status;
    {
        Call call(cuda);
        char *p = call.scratch<char>(64);
        status = call.run(0, 1, 1, [&](const Piece &piece) { return tp_launch(piece.stream, write_behind, dim3(1), 32, 0, p, (int64_t)64); });
    }
    CHECK(status == TP_ERR_DEVICE_LOST && strstr(tp_cuda_message(cuda), "cudaErrorIllegalAddress"), "%d: %s", status, tp_cuda_message(cuda));
    int out = 0;
    unsigned found;
    void *memory;
    double a, b;
    CHECK(count_on(cuda, &out, 1, &out, &found) == TP_ERR_DEVICE_LOST, "a call");
    CHECK(tp_cuda_allocate(cuda, 1, &memory) == TP_ERR_DEVICE_LOST && tp_cuda_copy(cuda, &out, &found, 1) == TP_ERR_DEVICE_LOST, "memory");
    CHECK(tp_cuda_ceilings(cuda, &a, &b) == TP_ERR_DEVICE_LOST, "ceilings");
    tp_cuda_close(cuda);
    tp_cuda_close(other);
}

/* Whatever call of CUDA fails: a status, right results if it is TP_OK, and nothing is left behind. */
void check_failures(const char *kind) {
    for (long n = 1;; n++) {
        const long before = emulator::live();
        char text[64];
        snprintf(text, sizeof text, "print=0,memory=64M,%s=%ld", kind, n);
        emulator::start(text);
        tp_cuda *cuda;
        tp_status status = tp_cuda_open(0, 4 << 10, &cuda);
        bool ended = false;
        if (status == TP_OK) {
            std::vector<char> in(6000, 5), out(6000);
            {
                Call call(cuda);
                const int x = call.lines(in.data(), READ, {100, 100, 8, false}), y = call.lines(out.data(), WRITE, {100, 100, 8, false});
                status = call.run(0, 60, 2, [&](const Piece &p) {
                    return tp_launch(p.stream, add_lines, dim3((unsigned)((p.end - p.begin + 31) / 32)), 32, 0, p.begin, p.end, (int64_t)100, p[x], 8, false, p[y],
                                     8, false);
                });
            }
            for (int i = 0; i < 6000 && status == TP_OK; i++) CHECK(out[(size_t)i] == 5 + i / 100 + SHIFT, "%s: wrong result", text);
            ended = status == TP_OK && emulator::calls() < n;
            if (status == TP_ERR_DEVICE || status == TP_ERR_MEMORY) {
                int one = 1;
                unsigned found;
                CHECK(count_on(cuda, &one, 1, &one, &found) == TP_OK && one == 2, "%s: does not go on: %s", text, tp_cuda_message(cuda));
            }
            tp_cuda_close(cuda);
        }
        CHECK(status == TP_OK || status == TP_ERR_DEVICE || status == TP_ERR_DEVICE_LOST || status == TP_ERR_MEMORY, "%s: status %d", text, status);
        const bool lost = !strcmp(kind, "lost");
        CHECK(lost || emulator::live() <= before + 1, "%s: left behind", text); /* what fails may be what would free it */
        if (ended) return;
        CHECK(n < 2000, "no end");
        if (n == 2000) return;
    }
}

void check_states() {
    static const struct {
        const char *text;
        int32_t state;
    } cases[] = {{"devices=2", TP_CUDA_USABLE},       {"driver=0", TP_CUDA_NO_DRIVER}, {"driver=old", TP_CUDA_OLD_DRIVER},
                 {"devices=0", TP_CUDA_NO_DEVICE}, {"cc=7.5", TP_CUDA_OLD_DEVICE}};
    for (const auto &c : cases) {
        emulator::start(c.text);
        int32_t count, state;
        tp_cuda_device device;
        tp_cuda *cuda;
        CHECK(tp_cuda_probe(&count, &state) == TP_OK, "probe");
        CHECK(c.state == TP_CUDA_OLD_DEVICE ? state == TP_CUDA_USABLE && count == 1 : state == c.state, "%s: %d devices, state %d", c.text, count, state);
        CHECK(tp_cuda_describe(0, &device) == TP_OK && device.state == c.state, "%s: state %d", c.text, device.state);
        const tp_status status = tp_cuda_open(0, 0, &cuda);
        CHECK(c.state == TP_CUDA_USABLE ? status == TP_OK : status == TP_ERR_DEVICE && !cuda && *tp_cuda_message(NULL), "%s: open", c.text);
        if (status == TP_OK) tp_cuda_close(cuda);
        for (int index : {-1, 2}) {
            CHECK(tp_cuda_describe(index, &device) == TP_OK && device.state == (c.state == TP_CUDA_USABLE || c.state == TP_CUDA_OLD_DEVICE ? TP_CUDA_NO_DEVICE : c.state),
                  "%s: device %d: state %d", c.text, index, device.state);
            CHECK(tp_cuda_open(index, 0, &cuda) == TP_ERR_DEVICE && !cuda, "%s: device %d", c.text, index);
        }
    }
    emulator::start("");
    tp_cuda *cuda;
    CHECK(tp_cuda_open(0, -1, &cuda) == TP_ERR_ARGUMENT && tp_cuda_open(0, 0, NULL) == TP_ERR_ARGUMENT, "arguments");
    tp_cuda_close(NULL);
}

void check_ceilings() {
    emulator::start("");
    tp_cuda *cuda;
    CHECK(tp_cuda_open(0, 1 << 20, &cuda) == TP_OK, "open");
    double copy = 0, int8 = 0;
    CHECK(tp_cuda_ceilings(cuda, &copy, &int8) == TP_OK && copy > 0 && int8 > 0, "%g %g", copy, int8);
    tp_cuda_close(cuda);
}

void check_ranges() {
    emulator::start("");
    for (const char *name : {"a", "b", (const char *)nullptr, (const char *)nullptr}) tp_cuda_range(name);
    CHECK(emulator::ranges() == (std::vector<std::string>{"a", "b", "/", "/"}), "ranges");
}

}  // namespace

int main() {
    test_start("test_device");
    while (test_round()) {
        for (int i = 0; i < 600; i++) {
            char text[32];
            snprintf(text, sizeof text, "seed=%d", (int)(random_bits() & 0xffffff));
            const bool spacious = random_below(3);
            tp_cuda *cuda;
            emulator::start(text);
            CHECK(tp_cuda_open(0, spacious ? 0 : 8 << 10, &cuda) == TP_OK, "open");
            if (random_below(2)) cuda->piece_bytes = 16 << random_below(7);
            for (int k = 0; k < 4; k++) check_lines(cuda, spacious);
            check_whole(cuda);
            tp_cuda_close(cuda);
        }
    }
    check_memory();
    check_lost();
    check_failures("fail");
    check_failures("lost");
    check_states();
    check_ceilings();
    check_ranges();
    return test_end();
}
