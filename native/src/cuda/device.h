/* The inside of a tp_cuda: streams, memory, events. Only context.cu, device.cu, ceilings.cu and svd/qb.cuh, which adds calls up, see it. */
#ifndef TP_CUDA_DEVICE_H
#define TP_CUDA_DEVICE_H

#include <vector>

#include "cuda/context.cuh"

struct tp_cuda {
    /* Copies in, kernels, copies out. */
    enum { IN, COMPUTE, OUT, STREAMS };
    /* A stretch of a stream between two events, to be timed. */
    struct Span {
        int stream;
        cudaEvent_t begin, end;
    };
    /* Memory that is kept for the next one who asks. */
    struct Block {
        char *memory;
        int64_t bytes;
        bool used, pinned;
    };

    int index = 0, multiprocessors = 0;
    int64_t budget = 0, now = 0, most = 0;
    /* Of all arrays of a piece that are staged: large enough for copies at full speed, small enough to leave host memory alone. */
    int64_t piece_bytes = INT64_C(32) << 20;
    bool lost = false, timed = false, keep = true;
    char message[256] = "";
    cudaStream_t streams[STREAMS] = {};
    /* Of the two buffers: copied in, worked on, copied out. */
    cudaEvent_t ready[STREAMS][2] = {};
    unsigned *flags = nullptr, *flags_read = nullptr; /* on the device, and pinned */
    std::vector<Block> blocks;
    std::vector<cudaEvent_t> events;                  /* for spans, all of them */
    std::vector<Span> spans;                          /* of the call at hand */
    tp_cuda_times times = {};

    /* Both say what failed in message. */
    tp_status fail(cudaError_t error, const char *what);
    tp_status out_of_memory(int64_t bytes);

    /* Device or pinned memory from the pool. */
    tp_status take(int64_t bytes, bool pinned, char **memory);
    void give(void *memory);
    void release_unused();

    /* Spans are begun and ended around what is queued; both do nothing if calls are not timed. */
    cudaError_t begin_span(int stream);
    cudaError_t end_span(int stream);
    tp_status add_times();

    tp_status open();
    void close();
};

namespace tp {

/* TRY for calls of CUDA in functions that return a tp_status and have `cuda`. */
#define TRY_CUDA(cuda, call)                                                                                          \
    do {                                                                                                              \
        const cudaError_t cuda_error = (call);                                                                        \
        if (cuda_error != cudaSuccess) return (cuda)->fail(cuda_error, #call);                                        \
    } while (0)

}  // namespace tp

#endif
