/* The functions of the coding family on CUDA devices. */
#include "tensorpress/cuda/coding.h"

#include "coding/checks.h"
#include "cuda/coding/rans.cuh"
#include "cuda/context.cuh"

using namespace tp;

namespace {

tp_status check(int32_t width, int64_t count, const tp_rans_array *arrays, const uint16_t *frequencies, const uint8_t *in, int64_t in_bytes,
                const void *out, int64_t out_symbols) {
    TRY(tp_check_symbols(width, out_symbols, out));
    if (count < 0 || in_bytes < 0 || count > TP_MOST_SYMBOLS || in_bytes > TP_MOST_SYMBOLS) return TP_ERR_SHAPE;
    if (count && (!arrays || !frequencies || (in_bytes && !in))) return TP_ERR_ARGUMENT;
    for (int64_t a = 0; a < count; a++) {
        const tp_rans_array &r = arrays[a];
        TRY(tp_check_frequencies(width, r.log_total, frequencies + a * tp_alphabet(width)));
        if (r.in < 0 || r.bytes < 0 || r.in > in_bytes || r.bytes > in_bytes - r.in || r.out < 0 || r.symbols < 0 || r.out > out_symbols ||
            r.symbols > out_symbols - r.out)
            return TP_ERR_SHAPE;
    }
    return TP_OK;
}

template <class Symbol>
tp_status decode_all(tp_cuda *cuda, int64_t count, const tp_rans_array *arrays, const uint16_t *frequencies, const uint8_t *in, int64_t in_bytes,
                     Symbol *out, int64_t out_symbols) {
    const int32_t alphabet = tp_alphabet((int32_t)sizeof(Symbol));
    int32_t k = 0;
    int64_t symbols = 0;
    for (int64_t a = 0; a < count; a++) {
        k = arrays[a].log_total > k ? arrays[a].log_total : k;
        symbols += arrays[a].symbols;
    }
    const int64_t shared = rans_shared_bytes<Symbol>(alphabet, k);
    Call call(cuda);
    const tp_rans_array *const all = call.whole(arrays, count * (int64_t)sizeof *arrays, READ);
    const uint16_t *const f = call.whole(frequencies, count * alphabet * 2, READ);
    const uint8_t *const from = call.whole(in, in_bytes, READ);
    /* What no array has stays as it is. */
    Symbol *const to = call.whole(out, out_symbols * (int64_t)sizeof *out, symbols == out_symbols ? WRITE : READ_WRITE);
    TRY(call.run(0, 1, 1, [&](const Piece &p) {
        if (shared > 48 * 1024) {
            const cudaError_t error = cudaFuncSetAttribute(decode_rans<Symbol>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
            if (error != cudaSuccess) return error;
        }
        const int64_t most = (int64_t)call.multiprocessors() * 32;
        return tp_launch(p.stream, decode_rans<Symbol>, dim3((unsigned)(count < most ? count : most)), RANS_THREADS, (size_t)shared, all, count, f, from, to,
                         call.flags());
    }));
    return call.found() & FOUND_FORMAT ? TP_ERR_FORMAT : TP_OK;
}

}  // namespace

tp_status tp_cuda_rans_decode_all(tp_cuda *cuda, int32_t width, int64_t count, const tp_rans_array *arrays, const uint16_t *frequencies,
                                  const uint8_t *in, int64_t in_bytes, void *out, int64_t out_symbols) {
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(check(width, count, arrays, frequencies, in, in_bytes, out, out_symbols));
    if (!count) return TP_OK;
    return guarded([&] {
        return width == 1 ? decode_all(cuda, count, arrays, frequencies, in, in_bytes, static_cast<uint8_t *>(out), out_symbols)
                          : decode_all(cuda, count, arrays, frequencies, in, in_bytes, static_cast<uint16_t *>(out), out_symbols);
    });
}
