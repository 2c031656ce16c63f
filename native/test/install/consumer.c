/* A program of somebody else: all headers, and one call that has to give a known result. */
#include <stdio.h>
#include <tensorpress/core.h>
#include <tensorpress/gemm.h>
#include <tensorpress/prune.h>
#include <tensorpress/quantize.h>
#include <tensorpress/sparse.h>
#include <tensorpress/spmm.h>
#include <tensorpress/svd.h>

int main(void)
{
    /* SHA-256 of "abc": FIPS 180-4, appendix. */
    tp_sha256 hash;
    uint8_t digest[32];
    tp_status status = tp_sha256_start(&hash);
    status = status ? status : tp_sha256_update(&hash, NULL, "abc", 3);
    status = status ? status : tp_sha256_finish(&hash, digest);
    printf("%s %s, ABI %d, first byte %02x\n", tp_version(), tp_status_name(status), (int)tp_abi_version(), digest[0]);
    return status == TP_OK && tp_abi_version() == TP_ABI_VERSION && digest[0] == 0xba && digest[31] == 0xad ? 0 : 1;
}
