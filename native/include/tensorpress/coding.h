/*
 * Kernel family "coding": arrays of bytes made smaller without loss, by how often which value is there.
 *
 * Example:
 *
 *     static uint8_t in[4096], out[4096 + TP_BLOCK_SLACK], again[4096];
 *     static _Alignas(64) uint8_t scratch[TP_CODING_SCRATCH + 3 * 4096 + 512];
 *     for (int i = 0; i < 4096; i++) in[i] = (uint8_t)(i % 7 % 3);
 *     tp_coded coded;
 *     assert(tp_block_encode(TP_CODE_BYTES, 4096, in, NULL, out, sizeof out, scratch, &coded) == TP_OK && coded.bytes < 1100);
 *     assert(tp_block_decode(out, coded.bytes, NULL, again, 4096, scratch) == TP_OK && again[4095] == in[4095]);
 *
 * At the bottom are coders of symbols, which are u8, or u16 below TP_CODING_ALPHABET: rANS and Huffman. Above them a block: an array of
 * up to TP_BLOCK_MOST bytes that is taken apart into planes, each of which is coded in the smallest way that there is, or stored. A block
 * says itself what it is. A block is coded by one thread; the caller cuts what is larger, and spreads blocks over threads.
 *
 * Whatever is decoded may be anything: no function reads or writes out of bounds, or takes longer than in proportion to input and output.
 * What cannot be decoded is TP_ERR_FORMAT. That is no checksum: most damage shows, not all of it.
 *
 * All numbers are little-endian; bits of a byte count from its least significant one, and so do bits of a sequence of bits, of which a
 * number takes as many as it has, its least significant one first. Bits that fill up a last byte are 0.
 *
 * rANS. Frequencies are natural numbers that sum to 2^k, k = 11 to 15; the start of a symbol is the sum of those before it. There are 32
 * lanes, each with a state x, a u32. Symbol i is that of lane i % 32. To decode it: slot = x % 2^k; the symbol is the one whose
 * start <= slot < start + frequency; x = frequency * (x / 2^k) + slot - start; and if x < 2^16, x = x * 2^16 + the next word, a u16.
 * Symbols are decoded in order, so words lie in the order of lanes within 32 symbols. The bytes are the 32 states to begin with, each at least
 * 2^16, then the words. At the end each state is 2^16, and no word is left.
 * From 65536 symbols on there are two such sequences, since a processor decodes two at once in little more time than one: a u32, the bytes of the
 * first one; the first n / 64 * 32 of the n symbols; and the others.
 *
 * Huffman. Lengths of codes are 1 to 11 bits, and sum(2^-length) = 1. Codes are given to symbols in the order of length, then of symbol, as
 * ascending binary numbers, a longer one continuing where the shorter ones end (as in RFC 1951); the first bit of a code is its most
 * significant one. Four streams of bits: symbol i is in stream i % 4. The bytes are the lengths in bytes of the first three streams, u32
 * each, then the streams.
 *
 * Block:
 *     u8[2]  "TC"
 *     u8     version, 1
 *     u8     elements, a tp_elements
 *     u32    bytes that were coded
 *     u32    bytes of the block, with this header
 *     u8     1 if what was coded is the XOR with a base, else 0
 *     u8[3]  0
 *     then a stream for each plane
 *
 * Planes, of bytes but for symbols. x is the element as an unsigned number:
 *     bytes, nibbles, f8   one: the bytes. The byte of a float of 8 bits is coded whole, which is never worse than its fields apart
 *     symbols              one, of u16
 *     f16                  exponents: x >> 8, which is sign, exponent, and two bits; low bytes: x % 256
 *     bf16                 exponents: x >> 7 & 255; mantissas: x & 127 | x >> 8 & 128, so the sign is on top
 *     f32                  exponents: x >> 23 & 255; mantissas: x >> 16 & 127 | x >> 24 & 128; middle bytes: x >> 8 & 255; low bytes: x & 255
 *
 * Stream, of n symbols that are known: u8 coding, u32 bytes that follow, and these:
 *     stored     the symbols
 *     constant   one symbol, all are like it
 *     rans       u8 k, the table of frequencies, then as above. Each frequency is less than 2^k
 *     huffman    the table of lengths, then as above. Not for u16
 *     masked     two streams, of ceil(n / 8) and of m bytes: a bit for each symbol, 1 where it is not 0, and the m symbols that are not 0
 *     runs       u32 bytes of the list; the list: pairs (symbols that are kept, zeros that are left out), at least 1 zero each, as numbers
 *                of 7 bits a byte, low bits first, the top bit set but in the last byte of a number, 4 bytes at most; a stream of what is kept
 *     codes      a stream of 2 n symbols below 16: the low halves and the high halves of bytes, in turn
 * Streams within streams are of one of the first four codings.
 *
 * Table, of a sequence of bits, filled up to a byte. From symbol 0 on, until frequencies sum to 2^k, or 2^-length to 1: a number c of 4
 * bits. 0: symbols that are not there; b of 4 bits, then r of b bits: 2^b + r of them. Else, for frequencies: c - 1 bits r follow, and the frequency is
 * 2^(c - 1) + r; for lengths: c is the length.
 */
#ifndef TENSORPRESS_CODING_H
#define TENSORPRESS_CODING_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TP_CODING_ALPHABET = 4096,     /* symbols of u16 are below */
    TP_CODING_LANES = 32,
    TP_RANS_HALVED = 65536,        /* symbols from which on there are two sequences */
    TP_HUFFMAN_LONGEST = 11,       /* bits */
    TP_CODING_SCRATCH = 192 * 1024, /* bytes that any of the coders needs, and a block beside what grows with it */
    TP_BLOCK_MOST = 1 << 26,       /* bytes */
    TP_BLOCK_HEADER = 16,          /* bytes of a block that say what it is */
    TP_BLOCK_SLACK = 64,           /* bytes that a block may have more than what was coded */
    TP_BLOCK_PLANES = 4
};

/*
 * Adds to counts [alphabet] how often each symbol is there. A count must not pass 2^32 - 1.
 *
 *   width      1: u8, alphabet is 256; 2: u16, alphabet is TP_CODING_ALPHABET; else TP_ERR_ARGUMENT
 *   in         n symbols, at any byte
 *
 * TP_ERR_MAGNITUDE: a symbol is not in the alphabet. TP_ERR_SHAPE: n is negative.
 */
TP_API tp_status tp_coding_histogram(int32_t width, int64_t n, const void *in, uint32_t *counts);

/*
 * Frequencies that code symbols with these counts in few bits: at least 1 where the count is, 0 elsewhere.
 *
 *   alphabet   256 or TP_CODING_ALPHABET
 *   counts     [alphabet], that sum to less than 2^28; at least two are not 0, else TP_ERR_ARGUMENT
 *   log_total  k, 11 to 15; or 0: the one for which table and symbols are smallest, though for 256 symbols above 12 only if that gains 1/128,
 *              since it is slower. TP_ERR_ARGUMENT if 2^k is less than the symbols that there are
 *   frequencies [alphabet], out: each less than 2^k
 *   chosen     out: k
 *   bits       out: of symbols and table, by frequencies; rounded up
 */
TP_API tp_status tp_coding_frequencies(int32_t alphabet, const uint32_t *counts, int32_t log_total, uint16_t *frequencies, int32_t *chosen,
                                       int64_t *bits);

/*
 * Codes n symbols by rANS. Scratch has TP_CODING_SCRATCH bytes.
 *
 *   width        as above
 *   log_total    k, 11 to 15
 *   frequencies  [256] or [TP_CODING_ALPHABET], each less than 2^k; they sum to that, else TP_ERR_ARGUMENT
 *   out          capacity bytes, any of which may be written
 *   bytes        out: how many it takes, from out[0] on; -1 if more than capacity
 *
 * TP_ERR_MAGNITUDE: a symbol has no frequency.
 */
TP_API tp_status tp_rans_encode(int32_t width, int64_t n, const void *in, int32_t log_total, const uint16_t *frequencies, uint8_t *out,
                                int64_t capacity, int64_t *bytes, void *scratch);

/* Decodes n symbols, from all of `bytes` bytes. */
TP_API tp_status tp_rans_decode(int32_t width, int64_t n, int32_t log_total, const uint16_t *frequencies, const uint8_t *in, int64_t bytes,
                                void *out, void *scratch);

/*
 * Lengths of codes, of TP_HUFFMAN_LONGEST bits at most, for which symbols with these counts [256] take the fewest bits (package-merge: Larmore
 * and Hirschberg, 1990). At least two counts are not 0, else TP_ERR_ARGUMENT; they sum to less than 2^28.
 *
 *   lengths    [256], out: 0 where no symbol is
 *   bits       out: of symbols
 */
TP_API tp_status tp_huffman_lengths(const uint32_t *counts, uint8_t *lengths, int64_t *bits);

/* Codes n bytes; as tp_rans_encode, without scratch. TP_ERR_ARGUMENT for lengths [256] that are no complete code. */
TP_API tp_status tp_huffman_encode(int64_t n, const uint8_t *in, const uint8_t *lengths, uint8_t *out, int64_t capacity, int64_t *bytes);

/* Decodes n bytes, from all of `bytes` bytes. */
TP_API tp_status tp_huffman_decode(int64_t n, const uint8_t *lengths, const uint8_t *in, int64_t bytes, uint8_t *out, void *scratch);

/* What the bytes of a block are. The values are pinned. */
typedef int32_t tp_elements;
enum {
    TP_CODE_BYTES = 1,
    TP_CODE_NIBBLES = 2,  /* two codes of 4 bits a byte */
    TP_CODE_SYMBOLS = 3,  /* u16 below TP_CODING_ALPHABET */
    TP_CODE_F8_E4M3 = 4,
    TP_CODE_F8_E5M2 = 5,
    TP_CODE_F16 = 6,
    TP_CODE_BF16 = 7,
    TP_CODE_F32 = 8
};

/*
 * Takes n elements apart: plane p is at planes + p n, n bytes. They are XORed with those of base first, unless that is null.
 * TP_ERR_TYPE for elements that are not f16, bf16 or f32.
 */
TP_API tp_status tp_planes_split(tp_elements elements, int64_t n, const void *in, const void *base, uint8_t *planes);

/* Puts them together again; plane p is at planes[p]. */
TP_API tp_status tp_planes_merge(tp_elements elements, int64_t n, const uint8_t *const *planes, const void *base, void *out);

/* out = a XOR b, n bytes. Out may be a. */
TP_API tp_status tp_xor(int64_t n, const uint8_t *a, const uint8_t *b, uint8_t *out);

/*
 * Cuts zeros out of n bytes: bit i % 8 of mask[i / 8] is 1 where byte i is not 0, and these bytes follow each other in rest, which has n bytes,
 * any of which may be written.
 *
 *   count      out: of bytes that are not 0
 */
TP_API tp_status tp_zeros_cut(int64_t n, const uint8_t *in, uint8_t *mask, uint8_t *rest, int64_t *count);

/* Puts them in again. TP_ERR_FORMAT if the bits of mask that are 1 are not `count`, or one of them is behind the last byte. */
TP_API tp_status tp_zeros_put(int64_t n, const uint8_t *mask, const uint8_t *rest, int64_t count, uint8_t *out);

/* How a plane is coded. The values are pinned. */
typedef int32_t tp_coding;
enum {
    TP_CODING_STORED = 0,
    TP_CODING_CONSTANT = 1,
    TP_CODING_RANS = 2,
    TP_CODING_HUFFMAN = 3,
    TP_CODING_MASKED = 4,
    TP_CODING_RUNS = 5,
    TP_CODING_CODES = 6,
    TP_CODINGS = 7
};

/* What a plane has in it. The values are pinned. */
typedef int32_t tp_part;
enum { TP_PART_BYTES = 1, TP_PART_SYMBOLS = 2, TP_PART_EXPONENTS = 3, TP_PART_MANTISSAS = 4, TP_PART_MIDDLE = 5, TP_PART_LOW = 6 };

/* What became of a plane. */
typedef struct tp_plane {
    tp_part part;
    tp_coding coding;
    int64_t in_bytes, out_bytes;
    int64_t sizes[TP_CODINGS]; /* what it would have, or was estimated to have, coded so; -1 where that was not considered */
} tp_plane;

/* What became of a block. */
typedef struct tp_coded {
    int64_t bytes;
    int32_t planes;
    tp_plane plane[TP_BLOCK_PLANES];
} tp_coded;

/* What a block says of itself. */
typedef struct tp_block {
    tp_elements elements;
    int32_t delta; /* whether it needs a base */
    int64_t bytes; /* that were coded */
} tp_block;

/* Bytes of scratch for a block of so many, in either direction. TP_ERR_SHAPE for more than TP_BLOCK_MOST, or parts of elements. */
TP_API tp_status tp_block_scratch(tp_elements elements, int64_t bytes, int64_t *scratch_bytes);

/*
 * Codes a block.
 *
 *   bytes      0 .. TP_BLOCK_MOST, whole elements, else TP_ERR_SHAPE
 *   in, base   at any byte; base may be null
 *   out        capacity bytes, at least bytes + TP_BLOCK_SLACK, else TP_ERR_SHAPE; any of them may be written
 *
 * For each plane the smallest coding is chosen, by its size or by what the counts of symbols say of it. Which one is known for each input,
 * whatever the tier. Where codings differ by less than 1/128, the faster one is taken: stored, constant, rans, and then the others.
 * Planes but exponents are first looked at in part, and stored if that would gain less than 1/64. TP_ERR_MAGNITUDE for symbols out of the alphabet.
 */
TP_API tp_status tp_block_encode(tp_elements elements, int64_t bytes, const void *in, const void *base, uint8_t *out, int64_t capacity,
                                 void *scratch, tp_coded *coded);

/* What a block of so many bytes is, by its header. */
TP_API tp_status tp_block_header(const uint8_t *block, int64_t block_bytes, tp_block *header);

/*
 * Decodes a block of so many bytes.
 *
 *   base       what it was coded with, or null; if that is not what the block says, TP_ERR_ARGUMENT
 *   out        `bytes` bytes, at any byte; if the block says otherwise, TP_ERR_FORMAT
 *   scratch    as tp_block_scratch says for what the header says
 */
TP_API tp_status tp_block_decode(const uint8_t *block, int64_t block_bytes, const void *base, void *out, int64_t bytes, void *scratch);

#ifdef __cplusplus
}
#endif
#endif
