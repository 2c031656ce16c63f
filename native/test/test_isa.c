/* What TENSORPRESS_ISA does. The argument is its value in this process: a tier is honoured, anything else refused. */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include <string.h>

#include "core/dispatch.h"
#include "support.h"

int main(int argc, char **argv) {
    test_start("test_isa");
    if (argc != 2) return 2;
    const char *name = argv[1], *variable = getenv("TENSORPRESS_ISA");
    CHECK(strcmp(name, "unset") == 0 ? !variable : variable && strcmp(variable, strcmp(name, "empty") ? name : "") == 0,
          "the environment is not what the argument says");
    tp_tier wanted = strcmp(name, "unset") == 0 ? tp_best_tier() : tp_tier_by_name(name);
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
    EXPECT(tp_stream_narrow(&x, 1, &byte));
    EXPECT(tp_stream_read(&x, 4, &sum));
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
