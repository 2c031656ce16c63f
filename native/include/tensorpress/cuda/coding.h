/*
 * The coding family on a device: rANS, decoded. See tensorpress/coding.h.
 *
 * Example:
 *
 *     uint8_t in[100], coded[400], out[100];
 *     static _Alignas(64) uint8_t scratch[TP_CODING_SCRATCH];
 *     static uint16_t frequencies[256];
 *     for (int i = 0; i < 100; i++) in[i] = (uint8_t)(i % 3 == 0);
 *     frequencies[0] = 1500;
 *     frequencies[1] = 548; // of 2^11
 *     int64_t bytes;
 *     assert(tp_rans_encode(1, 100, in, 11, frequencies, coded, sizeof coded, &bytes, scratch) == TP_OK);
 *     const tp_rans_array array = {.symbols = 100, .bytes = bytes, .log_total = 11};
 *     tp_cuda *cuda;
 *     if (tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         assert(tp_cuda_rans_decode_all(cuda, 1, 1, &array, frequencies, coded, bytes, out, 100) == TP_OK && out[99] == in[99]);
 *         tp_cuda_close(cuda);
 *     }
 *
 * The rules of tensorpress/cuda/device.h hold, but that one call decodes several arrays: of each a sequence is a warp's, whose lanes are
 * those of rANS, and a device is busy with some thousand of them.
 */
#ifndef TENSORPRESS_CUDA_CODING_H
#define TENSORPRESS_CUDA_CODING_H

#include "tensorpress/coding.h"
#include "tensorpress/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Symbols that were coded by rANS with frequencies of their own. Fill every field. */
typedef struct tp_rans_array {
    int64_t symbols;
    int64_t in, bytes; /* its bytes are in[in] .. in[in + bytes - 1] */
    int64_t out;       /* its first symbol becomes symbol number `out` */
    int32_t log_total; /* k */
} tp_rans_array;

/*
 * As tp_rans_decode, of each of `count` arrays. What is decoded of arrays that overlap in `out` is not specified.
 *
 *   arrays       [count], memory of the host
 *   frequencies  [count, 256] or [count, TP_CODING_ALPHABET], memory of the host; those of each array sum to its 2^k, else TP_ERR_ARGUMENT
 *   in           in_bytes bytes, at any byte; taken whole
 *   out          out_symbols symbols, u8 or u16; taken whole
 *
 * TP_ERR_SHAPE: an array has negative numbers, or is not inside of `in` and `out`. TP_ERR_FORMAT: one of them cannot be decoded; the others
 * are.
 */
TP_API tp_status tp_cuda_rans_decode_all(tp_cuda *cuda, int32_t width, int64_t count, const tp_rans_array *arrays, const uint16_t *frequencies,
                                         const uint8_t *in, int64_t in_bytes, void *out, int64_t out_symbols);

#ifdef __cplusplus
}
#endif
#endif
