/*
 * Tensorpress native kernels: what every family shares, and SHA-256.
 *
 * Example:
 *
 *     tp_sha256 hash;
 *     uint8_t digest[32];
 *     tp_sha256_start(&hash);
 *     tp_sha256_update(&hash, NULL, "abc", 3);
 *     assert(tp_sha256_finish(&hash, digest) == TP_OK && digest[0] == 0xba);
 *
 * Rules that hold for every function of this library
 *   - It starts no thread, allocates nothing, prints nothing, never aborts and keeps no pointer after it returns.
 *   - It reads no byte outside the tensors it is given: a tensor may end on the last byte of a mapping.
 *   - `in`, the tensor that a kernel reads, may start at any byte: tensors in mapped files have no alignment. All
 *     other pointers need the alignment of their element type. Outputs may not overlap inputs, unless said.
 *   - Scratch, and what a function packs for another one, lies at a multiple of 64 bytes, else TP_ERR_ARGUMENT.
 *   - Sizes, strides and indices are int64_t and count elements, unless the name ends in _bytes.
 *   - A fallible function returns a tp_status; results leave through out-pointers. After an error the contents of
 *     the outputs are unspecified.
 *   - Matrices are row-major; "stride" is the number of elements from one row to the next.
 *   - It works on a range [begin, end) of lines, so that the caller may spread ranges over threads of its own.
 *     Results do not depend on how the work was cut into ranges.
 *   - Integer results are bit-identical for every instruction set (tier). Rounding is to nearest, ties to even.
 */
#ifndef TENSORPRESS_CORE_H
#define TENSORPRESS_CORE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TP_API __attribute__((visibility("default")))
#else
#define TP_API
#endif

/* Raised whenever functions are added, or a signature, a struct or the meaning of a value changes. */
#define TP_ABI_VERSION 4

/* Status codes. The values are pinned: new ones are appended. */
typedef int32_t tp_status;
enum {
    TP_OK = 0,
    TP_ERR_ARGUMENT = 1,    /* a null pointer, or an enum value that is not listed */
    TP_ERR_TYPE = 2,        /* this data type is not supported in this place */
    TP_ERR_SHAPE = 3,       /* negative size, stride smaller than a row, group that does not fit, size overflow */
    TP_ERR_RANGE = 4,       /* begin/end outside the lines, or not on a boundary that the function asks for */
    TP_ERR_NONFINITE = 5,   /* the input holds NaN or infinity; tp_find_nonfinite() says where */
    TP_ERR_SCALE = 6,       /* a scale is not representable in the scale type that was asked for */
    TP_ERR_ISA = 7,         /* TENSORPRESS_ISA names a tier that is unknown, or that this machine lacks */
    TP_ERR_FORMAT = 8,      /* offsets, indices or masks of a sparse matrix contradict each other or its shape */
    TP_ERR_LAYOUT = 9,      /* the matrix does not fit the sparse layout: a gap too wide, a group too full */
    TP_ERR_INDEFINITE = 10, /* a symmetric matrix is not positive definite to working precision */
    TP_ERR_CONVERGENCE = 11, /* an iteration did not end within its limit */
    TP_ERR_MAGNITUDE = 12,  /* the numbers are too large or too small for this function's arithmetic: scale them before */
    TP_ERR_DEVICE = 13,     /* a call of CUDA failed, and the device goes on working; the three are of libtensorpress_cuda alone */
    TP_ERR_DEVICE_LOST = 14, /* the device cannot be used any more, at least by this process */
    TP_ERR_MEMORY = 15      /* more device memory is needed than there is, even for the smallest pieces */
};

/* Element types. The values are pinned. */
typedef int32_t tp_dtype;
enum {
    TP_F32 = 1,   /* IEEE binary32 */
    TP_F16 = 2,   /* IEEE binary16 */
    TP_BF16 = 3,  /* the upper half of a binary32 */
    TP_I8 = 4,
    TP_U8 = 5,
    TP_I4 = 6,    /* two's complement, two elements to a byte, the first in the low nibble */
    TP_U4 = 7,    /* unsigned, packed like TP_I4 */
    TP_F64 = 8,   /* IEEE binary64 */
    TP_I16 = 9    /* of codes of transforms alone */
};

/* Difference between a line of a tensor and its compressed form. */
typedef struct tp_error {
    double sum_squared_error;  /* sum of (x - x')^2, f64 */
    double sum_squares;        /* sum of x^2, f64 */
    double max_error;          /* max |x - x'|, NaN if any of them is */
} tp_error;

/* Instruction-set tiers, from the portable one up. The values are pinned. */
typedef int32_t tp_tier;
enum {
    TP_TIER_REF = 0,    /* portable C17, the normative variant */
    TP_TIER_AVX2 = 1,   /* AVX2, FMA, F16C */
    TP_TIER_AVX512 = 2  /* AVX-512 F, BW, DQ, VL on top of TP_TIER_AVX2; int8 products use VNNI too if it is there */
};

/* TP_ABI_VERSION of the library that was loaded. */
TP_API int32_t tp_abi_version(void);

/* Version of the library, "major.minor.patch", static storage. */
TP_API const char *tp_version(void);

/* The name of a status, such as "TP_ERR_SHAPE"; "TP_ERR_UNKNOWN" for a value not listed. Static storage. */
TP_API const char *tp_status_name(tp_status status);

/*
 * The tier that all kernels of this process use: the best the processor and the operating system offer, or a lower
 * one named by the environment variable TENSORPRESS_ISA (ref, avx2, avx512; empty is as unset). It is chosen at the first
 * call of any function and does not change. TP_ERR_ISA if the variable names an unknown or unavailable tier; every kernel then
 * returns TP_ERR_ISA too, so that a wrong name is never a silent fallback.
 */
TP_API tp_status tp_active_tier(tp_tier *tier);

/* The best tier of this machine, whatever TENSORPRESS_ISA says. */
TP_API tp_tier tp_best_tier(void);

/* "ref", "avx2", "avx512", or "unknown". Static storage. */
TP_API const char *tp_tier_name(tp_tier tier);

/*
 * Reads n floats and writes n bytes, doing nothing else but what moves them (the low byte of each float's bits);
 * non-temporal stores where the tier has them. It is the yardstick for kernels that turn 4 bytes into 1: no such
 * kernel can be faster on this machine. TP_ERR_SHAPE if n is negative, or so large that 4 n overflows.
 */
TP_API tp_status tp_stream_narrow(const float *in, int64_t n, uint8_t *out);

/*
 * SHA-256 (FIPS 180-4) of bytes that come in pieces. Between calls a caller only keeps the struct; its fields are for this
 * library.
 */
typedef struct tp_sha256 {
    uint32_t state[8];
    uint64_t n_bytes;   /* so far; the last n_bytes % 64 of them wait in block */
    uint8_t block[64];
} tp_sha256;

/* Starts over. */
TP_API tp_status tp_sha256_start(tp_sha256 *hash);

/*
 * Takes the next n_bytes of the message. With `other` not null they are part of a second message as well, which may have begun
 * elsewhere, and is not `hash` itself (TP_ERR_ARGUMENT): a processor with instructions for SHA-256 hashes two messages in little
 * more time than one.
 */
TP_API tp_status tp_sha256_update(tp_sha256 *hash, tp_sha256 *other, const void *in, int64_t n_bytes);

/* The digest, 32 bytes. The struct has to be started before it is used again. */
TP_API tp_status tp_sha256_finish(tp_sha256 *hash, uint8_t *digest);

/* Reads n_bytes and leaves the xor of their 64-bit words (the tail zero-extended) in *out: the speed of reading. */
TP_API tp_status tp_stream_read(const void *in, int64_t n_bytes, uint64_t *out);

#ifdef __cplusplus
}
#endif
#endif
