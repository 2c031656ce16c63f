/* What TENSORPRESS_ISA does. The argument is its value in this process: a tier is honoured, anything else refused. */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "support.h"
#include "svd/kernels.h"
#include "tensorpress/codebook.h"
#include "tensorpress/coding.h"
#include "tensorpress/feedback.h"
#include "tensorpress/gemm.h"
#include "tensorpress/hashing.h"
#include "tensorpress/merge.h"
#include "tensorpress/prune.h"
#include "tensorpress/sparse.h"
#include "tensorpress/spmm.h"
#include "tensorpress/statistics.h"
#include "tensorpress/transform.h"

int main(int argc, char **argv) {
    test_start("test_isa");
    if (argc != 2) return 2;
    const char *name = argv[1], *variable = getenv("TENSORPRESS_ISA");
    CHECK(strcmp(name, "unset") == 0 ? !variable : variable && strcmp(variable, strcmp(name, "empty") ? name : "") == 0,
          "the environment is not what the argument says");
    tp_tier wanted = strcmp(name, "unset") == 0 || strcmp(name, "empty") == 0 ? tp_best_tier() : tp_tier_by_name(name);
    const bool refused = wanted < 0 || wanted > tp_best_tier();
    const tp_status expected = refused ? TP_ERR_ISA : TP_OK;

    /* First of all a kernel, so that the choice is not made by asking for it. */
    const tp_quant q = {.rows = 1, .cols = 1, .in_stride = 1, .out_stride = 1, .group_rows = 1, .group_cols = 1,
                        .in_type = TP_F32, .out_type = TP_I8, .scale_type = TP_F32, .qmin = -127, .qmax = 127,
                        .range = TP_RANGE_ABSMAX, .rounding = TP_ROUND_DIVIDE};
    float x = 1, scale = 1, min, max, out;
    uint8_t code = 0, zero = 0, byte = 0;
    uint16_t half;
    tp_error error;
    int64_t row, col;
    uint64_t sum;
    tp_sha256 hash = {0};
    uint8_t digest[32];
    const tp_product product = {.a = {.rows = 1, .cols = 1, .stride = 1, .type = TP_F32, .layout = TP_SPARSE_CSR32},
                                .n = 1, .b_stride = 1, .out_stride = 1};
    const int64_t offsets[2] = {0, 1};
    const uint32_t index = 0;
    char scratch[256] __attribute__((aligned(64)));
#define EXPECT(call) CHECK((call) == expected, "%s: %s", name, #call)
    EXPECT(tp_quantize(&q, 0, 1, &x, &code, &scale, &zero, scratch));
    /* Too late to change anything. */
    setenv("TENSORPRESS_ISA", refused ? "ref" : "nonsense", 1);
    EXPECT(tp_minmax(&q, 0, 1, &x, &min, &max));
    EXPECT(tp_scale_of(&q, 0, 1, &scale, &zero));
    EXPECT(tp_dequantize(&q, 0, 1, &code, &scale, &zero, &out));
    EXPECT(tp_quantize_error(&q, 0, 1, &x, &code, &scale, &zero, &error));
    EXPECT(tp_pack4(&code, 1, &byte));
    EXPECT(tp_unpack4(TP_I4, &byte, 1, &code));
    EXPECT(tp_convert(TP_F32, &x, 1, TP_F16, &half));
    EXPECT(tp_find_nonfinite(&q, &x, &row, &col));
    static _Alignas(64) char coders[TP_CODING_SCRATCH + 256];
    static uint32_t histogram[256];
    static const uint16_t frequencies[256] = {1024, 1024};
    static const uint8_t lengths[256] = {1, 1};
    uint8_t coded_bytes[256], symbol = 0;
    const uint8_t *const planes[2] = {&symbol, &symbol};
    int64_t bytes = 0;
    tp_coded coded = {0};
    EXPECT(tp_coding_histogram(1, 1, &symbol, histogram));
    EXPECT(tp_rans_encode(1, 1, &symbol, 11, frequencies, coded_bytes, sizeof coded_bytes, &bytes, coders));
    EXPECT(tp_rans_decode(1, 1, 11, frequencies, coded_bytes, bytes, &symbol, coders));
    EXPECT(tp_huffman_encode(1, &symbol, lengths, coded_bytes, sizeof coded_bytes, &bytes));
    EXPECT(tp_huffman_decode(1, lengths, coded_bytes, bytes, &symbol, coders));
    EXPECT(tp_planes_split(TP_CODE_BF16, 1, &half, NULL, coded_bytes));
    EXPECT(tp_planes_merge(TP_CODE_BF16, 1, planes, NULL, &half));
    EXPECT(tp_xor(1, &symbol, &symbol, coded_bytes));
    EXPECT(tp_zeros_cut(1, &symbol, coded_bytes, coded_bytes + 1, &bytes));
    EXPECT(tp_zeros_put(1, coded_bytes, coded_bytes + 1, bytes, &code));
    EXPECT(tp_block_encode(TP_CODE_BYTES, 1, &symbol, NULL, coded_bytes, sizeof coded_bytes, coders, &coded));
    CHECK(tp_block_decode(coded_bytes, coded.bytes, NULL, &symbol, 1, coders) == (refused ? TP_ERR_ISA : TP_OK), "%s: block", name);
    const tp_codebook book = {.rows = 1, .cols = 2, .stride = 2, .group_rows = 1, .group_cols = 2, .dimension = 2, .bits = 1, .type = TP_F32};
    const float book_weights[2] = {1, 2};
    float book_entries[4] = {0}, book_values[2];
    double book_sums[4];
    static char book_room[1 << 16] __attribute__((aligned(64)));
    EXPECT(tp_codebook_train(&book, 0, 1, 0, 1, book_weights, NULL, NULL, book_room, book_entries));
    EXPECT(tp_codebook_assign(&book, 0, 1, book_weights, book_entries, &byte));
    byte = 0;
    EXPECT(tp_codebook_decode(&book, 0, 1, &byte, book_entries, book_values));
    EXPECT(tp_codebook_gradients(&book, 0, 1, &byte, book_weights, book_sums));
    const tp_feedback rounding = {.inputs = 1, .outputs = 1, .m_stride = 1, .stride = 1, .scale_stride = 1, .qmax = 1};
    const tp_refit refit = {.inputs = 1, .outputs = 1, .m_stride = 1, .stride = 1, .mask_stride = 1};
    const int32_t group = 0;
    int32_t moved = 0;
    EXPECT(tp_feedback_round(&rounding, 0, 1, &x, &x, &x, &group, &scale, NULL, &out, &max, &moved));
    EXPECT(tp_feedback_refit(&refit, 0, 1, &x, &x, &x, &byte, &out, &max));
    const tp_hashing hashing = {.rows = 1, .cols = 1, .stride = 1, .buckets = 1};
    double hashed = 0;
    EXPECT(tp_hash_add(&hashing, 0, 1, &x, &hashed, &moved));
    EXPECT(tp_hash_mean(1, 1, 0, 1, &hashed, &moved, &out));
    EXPECT(tp_hash_decode(&hashing, 0, 1, &x, &out));
    const tp_models models = {.elements = 1, .sources = 2, .type = TP_F32};
    const tp_tasks tasks = {.elements = 1, .sources = 1, .type = TP_F32, .scale = 1, .keep = 1};
    const void *const both[2] = {&x, &x};
    const double model_weights[2] = {0.5, 0.5};
    double model_sums[3];
    EXPECT(tp_models_combine(&models, 0, 1, both, model_weights, &out));
    EXPECT(tp_models_inner(&models, 0, 1, both, model_sums));
    EXPECT(tp_models_delta(&models, 0, 1, both, &out));
    EXPECT(tp_models_tasks(&tasks, 0, 1, both, model_weights, NULL, &out));
    const tp_dct dct = {.rows = 1, .cols = 1, .in_stride = 1, .out_stride = 1, .block = 2, .dimensions = 1};
    const tp_wavelet wavelet = {.rows = 1, .cols = 1, .in_stride = 1, .out_stride = 1, .kind = TP_HAAR};
    const tp_zone zone = {.elements = 1, .step = 1, .zone = 0.5f, .limit = 1};
    static char tables[TP_DCT_SCRATCH] __attribute__((aligned(64)));
    int32_t number;
    int64_t numbers[3] = {0};
    EXPECT(tp_dct_blocks(&dct, 0, 1, &x, &out, tables));
    EXPECT(tp_wavelet_rows(&wavelet, 0, 1, &x, &out, tables));
    EXPECT(tp_wavelet_columns(&wavelet, 0, 1, &x, &out));
    EXPECT(tp_zone_quantize(&zone, 0, 1, &x, &number, NULL));
    EXPECT(tp_zone_decode(&zone, 0, 1, &group, &out));
    EXPECT(tp_widen_codes(TP_I8, 0, 1, &code, &number));
    EXPECT(tp_narrow_codes(TP_I8, 0, 1, &group, &code));
    EXPECT(tp_count_codes(1, 0, 1, &group, numbers));
    const tp_sparse sparse = {.rows = 1, .cols = 1, .stride = 1, .type = TP_F32, .layout = TP_SPARSE_BITMASK};
    tp_survey survey;
    int64_t count;
    EXPECT(tp_sparse_survey(&sparse, 0, 1, &x, &survey));
    EXPECT(tp_sparse_count(&sparse, 0, 1, &x, &count));
    EXPECT(tp_sparse_pack(&sparse, 0, 1, &x, offsets, &byte, &out));
    EXPECT(tp_sparse_count_mask(&sparse, 0, 1, &byte, &count));
    byte = 1; /* where nothing was packed, too */
    EXPECT(tp_sparse_check(&sparse, 0, 1, 1, offsets, &byte, &row));
    EXPECT(tp_sparse_unpack(&sparse, 0, 1, offsets, &byte, &x, &out));
    const tp_scores s = {.rows = 1, .cols = 1, .stride = 1, .type = TP_F32, .order = TP_ORDER_MAGNITUDE};
    static int64_t counts[TP_PRUNE_COUNTS];
    uint32_t key;
    char keys[1 << 13] __attribute__((aligned(64)));
    EXPECT(tp_prune_histogram(&s, 0, 1, &x, 0, 0, counts));
    EXPECT(tp_prune_count(&s, 0, 1, &x, 0, &row, &col));
    EXPECT(tp_prune_find(&s, 0, 1, &x, 0, 0, &row, &col));
    EXPECT(tp_prune_mask(&s, 0, 1, &x, 0, 0, 0, &byte));
    EXPECT(tp_prune_key(&s, 1, &key));
    EXPECT(tp_prune_lines(&s, 1, 0, 1, &x, 1, &byte, keys));
    EXPECT(tp_prune_nm(&s, 1, 0, 1, &x, 1, 1, &byte));
    EXPECT(tp_prune_blocks(&s, 1, 1, 0, 1, &x, &out));
    EXPECT(tp_prune_expand(&s, 1, 1, 0, 1, &code, &byte));
    EXPECT(tp_prune_apply(&s, 0, 1, &x, &byte, &out));
    EXPECT(tp_prune_error(&s, 0, 1, &x, &out, &error));
    EXPECT(tp_spmm(&product, 0, 1, offsets, &index, &x, &x, &out));
    EXPECT(tp_spmm_segment(&product, 0, 0, 0, offsets, &index, &x, &x, &out));
    EXPECT(tp_spmm_column(&product, 0, 0, offsets, &index, &col));
    EXPECT(tp_spmm_add(&product, 0, 1, &x, &out));
    EXPECT(tp_spmm_transposed(&product, 0, 1, 0, 1, offsets, &index, &x, &x, &out));
    const tp_gemm_spec g = {.m = 1, .n = 1, .k = 1, .a_stride = 1, .b_stride = 1, .c_stride = 1, .type = TP_I8};
    const tp_gemm_affine affine = {.scaled = 1};
    tp_gemm_layout layout;
    static char packed[4096] __attribute__((aligned(64))), block[4096] __attribute__((aligned(64)));
    EXPECT(tp_gemm_layout_of(&g, &layout));
    EXPECT(tp_gemm_pack(&g, 0, 1, &byte, packed));
    EXPECT(tp_gemm(&g, 0, 1, 0, 1, &byte, packed, &sum, block));
    EXPECT(tp_gemm_int8(&g, &affine, 0, 1, 0, 1, &byte, packed, &out, block));
    double total = 0, square = 0;
    const tp_window window = {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
    EXPECT(tp_observe_channels(1, 1, 1, 0, 1, &x, &min, &max, &total, &square, &col));
    EXPECT(tp_observe_histogram(1, 1, 1, 0, 1, &x, 1, counts));
    EXPECT(tp_accumulate(1, 1, 1, 1, 0, 1, &x, &total));
    EXPECT(tp_patches(&window, 0, 1, &x, &out));
    EXPECT(tp_stream_narrow(&x, 1, &byte));
    EXPECT(tp_stream_read(&x, 4, &sum));
    EXPECT(tp_sha256_update(&hash, NULL, &x, 4));
    EXPECT(tp_sha256_finish(&hash, digest));
    /* The svd family on matrices of one element. */
    const tp_copying copying = {1, 1, 1, 1, TP_F64, TP_F64, 0, 1};
    const tp_multiplication multiplication = {1, 1, 1, 1, 1, 1, TP_F64, TP_F64, 0, 0, 0, 1, 0};
    const tp_jacobi jacobi = {1, 1, 1, 1, 1, 1, 1e-15, 0};
    const tp_small small = {1, 1, 1, 1, 1, TP_F64, 30};
    static double large[(3 * 128 + TP_TILE_COLS) * 128] __attribute__((aligned(64)));
    double a[4] = {1, 1, 1, 1}, b[4] = {1}, c[4] = {1}, t[4], w[4], y[8];
    int64_t order[4] = {0}, slots[4] = {0}, first, second;
    const int32_t pair[2] = {0, 0};
    EXPECT(tp_gaussian(0, 0, 0, 1, TP_F64, a));
    EXPECT(tp_row_norms(TP_F64, 1, 1, 1, 0, 1, a, b, c));
    EXPECT(tp_row_peaks(1, 1, 1, 0, 1, a, b));
    EXPECT(tp_copy_rows(&copying, 0, 1, NULL, NULL, a, b));
    EXPECT(tp_multiply(&multiplication, 0, 1, a, b, c, large));
    a[0] = 1;
    EXPECT(tp_cholesky(1, 1, a));
    EXPECT(tp_triangular_solve(1, 1, a, 0, 1, 0, 1, b));
    EXPECT(tp_reflect_panel(1, 1, 1, 0, 1, b, 1, c, t));
    EXPECT(tp_reflect_factor(1, 1, 1, b, c, t));
    a[0] = a[1] = a[2] = a[3] = 1;
    EXPECT(tp_tridiagonal_panel(2, 2, 2, 1, a, b, c, 2, t, w, y, y + 4, large));
    EXPECT(tp_tridiagonal_ql(1, b, c, 1, 1, t));
    EXPECT(tp_tridiagonal_conquer(1, b, c, 1, t, large));
    a[0] = b[0] = c[0] = 1;
    EXPECT(tp_merge_deflate(1, 0, 1, a, b, 1, c, t, w, order, slots, slots + 2, &count, &first, &second));
    a[0] = b[0] = 1;
    slots[0] = 0;
    EXPECT(tp_merge_roots(1, 1, a, b, 0, 1, t, w));
    w[0] = -1;
    EXPECT(tp_merge_weights(1, a, b, w, 0, 1, t));
    EXPECT(tp_merge_vectors(1, a, w, slots, 0, 1, t));
    EXPECT(tp_gram_blocks(&jacobi, 1, a, 0, 1, t));
    EXPECT(tp_jacobi_pairs(&jacobi, pair, 0, 1, a, b, large, &count));
    EXPECT(tp_svd_small(&small, 0, 1, a, t, w, y));
    tp_tier tier = -1;
    EXPECT(tp_active_tier(&tier));
    CHECK(refused || tier == wanted, "tier %d in use, not %d", tier, wanted);
    if (test_end()) return 1;
    if (wanted > tp_best_tier()) {
        printf("tier %s was refused as it should be; SKIPPED: that it is honoured\n", name);
        return 77;
    }
    return 0;
}
