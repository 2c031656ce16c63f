/* The public functions: checks up front, so that kernels have none but for what symbols are. */
#include "coding/block.h"
#include "coding/rans.h"
#include "coding/scalar.h"
#include "core/dispatch.h"

const tp_coding_kernels tp_coding_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_CODING_KERNELS);

TP_FIND_KERNELS(coding)

tp_status tp_coding_histogram(int32_t width, int64_t n, const void *in, uint32_t *counts) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_symbols(width, n, in));
    return counts ? kernels->coding_histogram(width, n, in, counts) : TP_ERR_ARGUMENT;
}

tp_status tp_rans_encode(int32_t width, int64_t n, const void *in, int32_t log_total, const uint16_t *frequencies, uint8_t *out,
                         int64_t capacity, int64_t *bytes, void *scratch) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_symbols(width, n, in));
    TRY(tp_check_frequencies(width, log_total, frequencies));
    if (!bytes || !tp_aligned(scratch) || (capacity > 0 && !out)) return TP_ERR_ARGUMENT;
    if (capacity < 0) return TP_ERR_SHAPE;
    return tp_rans_write(kernels, width, n, in, log_total, frequencies, out, capacity, bytes, scratch);
}

tp_status tp_rans_decode(int32_t width, int64_t n, int32_t log_total, const uint16_t *frequencies, const uint8_t *in, int64_t bytes,
                         void *out, void *scratch) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_symbols(width, n, out));
    TRY(tp_check_frequencies(width, log_total, frequencies));
    if (!tp_aligned(scratch) || (bytes > 0 && !in)) return TP_ERR_ARGUMENT;
    if (bytes < 0) return TP_ERR_SHAPE;
    return tp_rans_read(kernels, width, n, log_total, frequencies, in, bytes, out, scratch);
}

tp_status tp_huffman_encode(int64_t n, const uint8_t *in, const uint8_t *lengths, uint8_t *out, int64_t capacity, int64_t *bytes) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_symbols(1, n, in));
    TRY(tp_check_lengths(lengths));
    if (!bytes || (capacity > 0 && !out)) return TP_ERR_ARGUMENT;
    if (capacity < 0) return TP_ERR_SHAPE;
    return kernels->huffman_encode(n, in, lengths, out, capacity, bytes);
}

tp_status tp_huffman_decode(int64_t n, const uint8_t *lengths, const uint8_t *in, int64_t bytes, uint8_t *out, void *scratch) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_symbols(1, n, out));
    TRY(tp_check_lengths(lengths));
    if (!tp_aligned(scratch) || (bytes > 0 && !in)) return TP_ERR_ARGUMENT;
    if (bytes < 0) return TP_ERR_SHAPE;
    return kernels->huffman_decode(n, lengths, in, bytes, out, scratch);
}

static tp_status check_planes(tp_elements elements, int64_t n, const void *in, const void *out) {
    if (tp_planes_of(elements) == 1) return TP_ERR_TYPE;
    if (n < 0 || n > TP_MOST_SYMBOLS) return TP_ERR_SHAPE;
    return n == 0 || (in && out) ? TP_OK : TP_ERR_ARGUMENT;
}

tp_status tp_planes_split(tp_elements elements, int64_t n, const void *in, const void *base, uint8_t *planes) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check_planes(elements, n, in, planes));
    return n ? kernels->planes_split(elements, n, in, base, planes) : TP_OK;
}

tp_status tp_planes_merge(tp_elements elements, int64_t n, const uint8_t *const *planes, const void *base, void *out) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(check_planes(elements, n, planes, out));
    for (int32_t p = 0; n && p < tp_planes_of(elements); p++)
        if (!planes[p]) return TP_ERR_ARGUMENT;
    return n ? kernels->planes_merge(elements, n, planes, base, out) : TP_OK;
}

tp_status tp_xor(int64_t n, const uint8_t *a, const uint8_t *b, uint8_t *out) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_symbols(1, n, a));
    if (n && (!b || !out)) return TP_ERR_ARGUMENT;
    return n ? kernels->xor(n, a, b, out) : TP_OK;
}

tp_status tp_zeros_cut(int64_t n, const uint8_t *in, uint8_t *mask, uint8_t *rest, int64_t *count) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_symbols(1, n, in));
    if (!count || (n && (!mask || !rest))) return TP_ERR_ARGUMENT;
    return kernels->zeros_cut(n, in, mask, rest, count);
}

tp_status tp_zeros_put(int64_t n, const uint8_t *mask, const uint8_t *rest, int64_t count, uint8_t *out) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_symbols(1, n, out));
    if (count < 0 || count > n) return TP_ERR_SHAPE;
    if ((n && !mask) || (count && !rest)) return TP_ERR_ARGUMENT;
    if (ones_of(n, mask) != count) return TP_ERR_FORMAT;
    return kernels->zeros_put(n, mask, rest, count, out);
}

tp_status tp_block_scratch(tp_elements elements, int64_t bytes, int64_t *scratch_bytes) {
    if (!scratch_bytes) return TP_ERR_ARGUMENT;
    TRY(tp_check_block(elements, bytes));
    *scratch_bytes = tp_block_scratch_bytes(elements, bytes);
    return TP_OK;
}

tp_status tp_block_encode(tp_elements elements, int64_t bytes, const void *in, const void *base, uint8_t *out, int64_t capacity,
                          void *scratch, tp_coded *coded) {
    const tp_coding_kernels *kernels;
    TRY(find_kernels(&kernels));
    TRY(tp_check_block(elements, bytes));
    if (!out || !coded || !tp_aligned(scratch) || (bytes && !in)) return TP_ERR_ARGUMENT;
    if (capacity < bytes + TP_BLOCK_SLACK) return TP_ERR_SHAPE;
    return tp_block_write(kernels, elements, bytes, in, base, out, scratch, coded);
}

tp_status tp_block_header(const uint8_t *block, int64_t block_bytes, tp_block *header) {
    if (!block || !header) return TP_ERR_ARGUMENT;
    if (block_bytes < TP_BLOCK_HEADER || block[0] != 'T' || block[1] != 'C' || block[2] != 1) return TP_ERR_FORMAT;
    *header = (tp_block){.elements = block[3], .delta = block[12], .bytes = get32(block + 4)};
    if (get32(block + 8) != block_bytes || block[12] > 1 || block[13] || block[14] || block[15]) return TP_ERR_FORMAT;
    return tp_check_block(header->elements, header->bytes) ? TP_ERR_FORMAT : TP_OK;
}

tp_status tp_block_decode(const uint8_t *block, int64_t block_bytes, const void *base, void *out, int64_t bytes, void *scratch) {
    const tp_coding_kernels *kernels;
    tp_block header;
    TRY(find_kernels(&kernels));
    TRY(tp_block_header(block, block_bytes, &header));
    if (header.bytes != bytes) return TP_ERR_FORMAT;
    if (!tp_aligned(scratch) || (bytes && !out) || (base != NULL) != (header.delta == 1)) return TP_ERR_ARGUMENT;
    return tp_block_read(kernels, &header, block, block_bytes, base, out, scratch);
}
