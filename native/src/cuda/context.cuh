/*
 * A device in use, and calls that go through it. A function of a family makes a Call, says which arrays its kernels touch, and
 * gives run() a function that queues the kernels for one piece:
 *
 *     return guarded([&] {
 *         Call call(cuda);
 *         const int x = call.lines(in, READ, {in_stride, cols, 32, false});
 *         const int q = call.lines(codes, WRITE, {out_stride, cols, 8, false});
 *         float *s = call.whole(scales + begin, (end - begin) * 4, WRITE);
 *         return call.run(begin, end, 1, [&](const Piece &p) { return tp_launch(p.stream, kernel, grid, 256, 0, p.begin, p.end, p[x], ...); });
 *     });
 *
 * Arrays may lie on the device already: then kernels work on them where they are. Those of the host are staged: `lines` in pieces
 * through two buffers each, so that copies and kernels of neighbouring pieces overlap; `whole` once, before and after.
 */
#ifndef TP_CUDA_CONTEXT_CUH
#define TP_CUDA_CONTEXT_CUH

#include <new>
#include <vector>

#include "cuda/kernel.cuh"
#include "tensorpress/cuda/device.h"

namespace tp {

/* What kernels do with an array. A WRITE array is written whole, as far as the range goes; what is written in part is READ_WRITE. */
enum Role { READ, WRITE, READ_WRITE };

/*
 * Where the elements of a line are: element i of line l is number l * stride + i, or i * stride + l if lines are columns. `bits` is
 * 4, 8, 16, 32 or 64; or 1, where lines are columns and ranges and pieces begin at multiples of 8. Gaps between lines are never written.
 */
struct Layout {
    int64_t stride, length;
    int bits;
    bool columns;
};

/* An array as kernels of a piece see it: indices of lines and elements are those of the whole, whatever was staged. */
struct Array {
    char *base;
    int64_t stride;
    template <class T> T *as() const { return reinterpret_cast<T *>(base); }
};

/* Lines [begin, end), to be queued on this stream. */
struct Piece {
    int64_t begin, end;
    cudaStream_t stream;
    enum { MOST = 8 };
    Array arrays[MOST];
    const Array &operator[](int i) const { return arrays[i]; }
};

/* The body of a function of the ABI: none lets an exception out. Some pointers in host memory are all that can be missing. */
template <class Body> tp_status guarded(Body body) noexcept {
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return TP_ERR_MEMORY;
    }
}

class Call {
  public:
    explicit Call(tp_cuda *cuda);
    ~Call();
    Call(const Call &) = delete;
    Call &operator=(const Call &) = delete;

    /* An array that is on the device during the whole call; null stays null. What fails is said by run(). */
    template <class T> T *whole(T *memory, int64_t bytes, Role role) {
        return static_cast<T *>(add_whole(const_cast<void *>(static_cast<const void *>(memory)), bytes, role, alignof(T)));
    }
    void *whole_bytes(const void *memory, int64_t bytes, Role role) { return add_whole(const_cast<void *>(memory), bytes, role, 1); }

    /* Device memory for the kernels of this call, 256-byte aligned, contents unspecified. Queue what uses it in order. */
    template <class T> T *scratch(int64_t count) { return static_cast<T *>(add_scratch(count * (int64_t)sizeof(T))); }

    /* An array that is staged line by line; returns its number in Piece. Null if nothing of it is touched. */
    int lines(const void *memory, Role role, const Layout &layout);

    /* A word in which kernels set bits for what they find (atomicOr); 0 before the first piece. */
    unsigned *flags() const { return flags_; }

    /*
     * Runs `launch` for pieces that make up [begin, end) and begin at multiples of `granule`, in order, waits for the end, and copies
     * results back. One piece if nothing is staged by lines. An empty range runs nothing but the copies of whole arrays.
     */
    template <class Launch> tp_status run(int64_t begin, int64_t end, int64_t granule, Launch launch) {
        return run_pieces(
            begin, end, granule, [](void *f, const Piece &p) { return (*static_cast<Launch *>(f))(p); }, &launch);
    }

    /* The word of flags() after run(). */
    unsigned found() const { return found_; }

    /* Streaming multiprocessors, to size grids by. */
    int multiprocessors() const;

  private:
    struct Whole {
        void *device, *host;
        int64_t bytes;
        Role role;
    };
    struct Cut {
        char *memory;
        Role role;
        Layout layout;
        enum Mode { IN_PLACE, SPAN, BLOCK, WHOLE } mode;
        char *base;          /* IN_PLACE, WHOLE: element 0 on the device */
        char *device[2];     /* staged: two buffers each */
        char *pinned[2];
        int64_t pitch;       /* BLOCK: bytes from row to row of a buffer */
    };
    using Queue = cudaError_t (*)(void *, const Piece &);

    void *add_whole(void *memory, int64_t bytes, Role role, int64_t alignment);
    void *add_scratch(int64_t bytes);
    void *take(int64_t bytes);
    bool on_device(const void *memory, bool *device);
    tp_status run_pieces(int64_t begin, int64_t end, int64_t granule, Queue queue, void *launch);
    tp_status pieces(int64_t begin, int64_t end, int64_t granule, Queue queue, void *launch);
    int64_t buffer_bytes(const Cut &cut, int64_t lines) const;
    tp_status take_buffers(int64_t begin, int64_t end, int64_t granule, int64_t *lines);
    void give_buffers();
    void stage(const Cut &cut, int64_t begin, int64_t end, char *buffer, bool out) const;
    Array view(const Cut &cut, int64_t begin, int64_t end, int slot) const;
    tp_status transfer(char *device, char *host, int64_t bytes, bool out);
    tp_status transfer_through(char *const (&pinned)[2], int64_t part, char *device, char *host, int64_t bytes, int stream);
    tp_status copy_back(int64_t begin, int64_t end, int slot);
    tp_status piece(int64_t begin, int64_t end, int slot, bool reused, Queue queue, void *launch);
    tp_status fail(cudaError_t error, const char *what);

    tp_cuda *cuda_;
    tp_status status_ = TP_OK;
    unsigned *flags_ = nullptr;
    unsigned found_ = 0;
    std::vector<Whole> wholes_;
    std::vector<void *> taken_;
    std::vector<Cut> cuts_;
};

}  // namespace tp

#endif
