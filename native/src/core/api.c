#include "core/dispatch.h"
#include "core/kernels.h"

const tp_core_kernels tp_core_tables[TP_TIERS_BUILT] = TP_KERNEL_TABLES(TP_CORE_KERNELS);

TP_FIND_KERNELS(core)

int32_t tp_abi_version(void) { return TP_ABI_VERSION; }

const char *tp_version(void) { return TP_VERSION; }

const char *tp_status_name(tp_status status) {
    switch (status) {
    case TP_OK: return "TP_OK";
    case TP_ERR_ARGUMENT: return "TP_ERR_ARGUMENT";
    case TP_ERR_TYPE: return "TP_ERR_TYPE";
    case TP_ERR_SHAPE: return "TP_ERR_SHAPE";
    case TP_ERR_RANGE: return "TP_ERR_RANGE";
    case TP_ERR_NONFINITE: return "TP_ERR_NONFINITE";
    case TP_ERR_SCALE: return "TP_ERR_SCALE";
    case TP_ERR_ISA: return "TP_ERR_ISA";
    case TP_ERR_FORMAT: return "TP_ERR_FORMAT";
    case TP_ERR_LAYOUT: return "TP_ERR_LAYOUT";
    case TP_ERR_INDEFINITE: return "TP_ERR_INDEFINITE";
    case TP_ERR_CONVERGENCE: return "TP_ERR_CONVERGENCE";
    case TP_ERR_MAGNITUDE: return "TP_ERR_MAGNITUDE";
    case TP_ERR_DEVICE: return "TP_ERR_DEVICE";
    case TP_ERR_DEVICE_LOST: return "TP_ERR_DEVICE_LOST";
    case TP_ERR_MEMORY: return "TP_ERR_MEMORY";
    default: return "TP_ERR_UNKNOWN";
    }
}

tp_status tp_stream_narrow(const float *in, int64_t n, uint8_t *out) {
    const tp_core_kernels *kernels;
    TRY(find_kernels(&kernels));
    if (n < 0 || n > INT64_MAX / (int64_t)sizeof *in) return TP_ERR_SHAPE;
    if (n == 0) return TP_OK;
    if (!in || !out) return TP_ERR_ARGUMENT;
    return kernels->stream_narrow(in, n, out);
}

tp_status tp_stream_read(const void *in, int64_t n_bytes, uint64_t *out) {
    const tp_core_kernels *kernels;
    TRY(find_kernels(&kernels));
    if (n_bytes < 0) return TP_ERR_SHAPE;
    if (!out || (!in && n_bytes)) return TP_ERR_ARGUMENT;
    return kernels->stream_read(in, n_bytes, out);
}
