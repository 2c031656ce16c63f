/* Ranges for profilers: recorded, for tests. */
#ifndef TP_EMULATOR_NVTX_H
#define TP_EMULATOR_NVTX_H

/* Both return the depth of the range, which is 0 outside of all; negative: there is none to end. */
int nvtxRangePushA(const char *name);
int nvtxRangePop();

#endif
