/* Calls: arrays that are staged, in pieces through two buffers each, three streams working at a time. */
#include "cuda/context.cuh"

#include <string.h>

#include "core/checks.h"
#include "cuda/device.h"

namespace tp {

enum : int64_t { ROW_ALIGNMENT = 16 };

static int64_t bytes_of(int64_t elements, int bits) { return (elements * bits + 7) / 8; }

static int64_t align(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

Call::Call(tp_cuda *cuda) : cuda_(cuda) {
    if (!cuda) {
        status_ = TP_ERR_ARGUMENT;
    } else if (cuda->lost) {
        status_ = TP_ERR_DEVICE_LOST;
    } else {
        cuda->message[0] = 0;
        cuda->times = {};
        cuda->spans.clear();
        flags_ = cuda->flags;
        const cudaError_t error = cudaSetDevice(cuda->index);
        if (error != cudaSuccess) fail(error, "cudaSetDevice");
    }
}

/* All streams are idle here: run() saw to that, or nothing was queued. */
Call::~Call() {
    for (void *memory : taken_) cuda_->give(memory);
}

int Call::multiprocessors() const { return cuda_ && cuda_->multiprocessors ? cuda_->multiprocessors : 1; }

tp_status Call::fail(cudaError_t error, const char *what) { return status_ = cuda_->fail(error, what); }

void *Call::take(int64_t bytes) {
    char *memory = nullptr;
    if (status_ == TP_OK) status_ = cuda_->take(bytes, false, &memory);
    if (memory) taken_.push_back(memory);
    return memory;
}

bool Call::on_device(const void *memory, bool *device) {
    cudaPointerAttributes attributes;
    const cudaError_t error = cudaPointerGetAttributes(&attributes, memory);
    if (error != cudaSuccess) {
        fail(error, "cudaPointerGetAttributes");
        return false;
    }
    *device = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
    if (*device && attributes.type == cudaMemoryTypeDevice && attributes.device != cuda_->index) status_ = TP_ERR_ARGUMENT;
    return status_ == TP_OK;
}

void *Call::add_scratch(int64_t bytes) { return take(bytes); }

void *Call::add_whole(void *memory, int64_t bytes, Role role, int64_t alignment) {
    bool device;
    if (status_ != TP_OK || !memory || !on_device(memory, &device)) return nullptr;
    if (device) {
        if (reinterpret_cast<uintptr_t>(memory) % (uintptr_t)alignment) status_ = TP_ERR_ARGUMENT;
        return memory;
    }
    void *staged = take(bytes);
    if (staged) wholes_.push_back({staged, memory, bytes, role});
    return staged;
}

int Call::lines(const void *memory, Role role, const Layout &layout) {
    bool device = true;
    Cut cut = {};
    cut.memory = static_cast<char *>(const_cast<void *>(memory));
    cut.role = role;
    cut.layout = layout;
    if (status_ == TP_OK && memory && on_device(memory, &device) && device &&
        reinterpret_cast<uintptr_t>(memory) % (uintptr_t)(layout.bits < 8 ? 1 : layout.bits / 8))
        status_ = TP_ERR_ARGUMENT;
    if (device)
        cut.mode = Cut::IN_PLACE, cut.base = cut.memory;
    else if (layout.bits == 4 && layout.columns)
        cut.mode = Cut::WHOLE; /* lines share bytes */
    else if (!layout.columns && (layout.bits == 4 || layout.stride == layout.length))
        cut.mode = Cut::SPAN;
    else
        cut.mode = Cut::BLOCK;
    cuts_.push_back(cut);
    return (int)cuts_.size() - 1;
}

/* ---- copies between an array and a buffer ---- */

/* Bytes that a buffer needs for so many lines. */
int64_t Call::buffer_bytes(const Cut &cut, int64_t lines) const {
    const Layout &l = cut.layout;
    if (cut.mode == Cut::SPAN) return lines && l.length ? bytes_of((lines - 1) * l.stride + l.length, l.bits) : 0;
    if (cut.mode != Cut::BLOCK) return 0;
    return l.columns ? l.length * align(bytes_of(lines, l.bits), ROW_ALIGNMENT) : lines * align(bytes_of(l.length, l.bits), ROW_ALIGNMENT);
}

/* Lines [begin, end) from the array to the buffer, or with `out` back. */
void Call::stage(const Cut &cut, int64_t begin, int64_t end, char *buffer, bool out) const {
    const Layout &l = cut.layout;
    char *from;
    int64_t rows, width, step;
    if (cut.mode == Cut::SPAN) {
        from = cut.memory + begin * l.stride * l.bits / 8;
        rows = 1;
        width = buffer_bytes(cut, end - begin);
        step = 0;
    } else {
        from = cut.memory + bytes_of(l.columns ? begin : begin * l.stride, l.bits);
        rows = l.columns ? l.length : end - begin;
        width = bytes_of(l.columns ? end - begin : l.length, l.bits);
        step = bytes_of(l.stride, l.bits);
    }
    const int64_t pitch = align(width, ROW_ALIGNMENT);
    for (int64_t r = 0; r < rows; r++) {
        if (out)
            memcpy(from + r * step, buffer + r * pitch, (size_t)width);
        else
            memcpy(buffer + r * pitch, from + r * step, (size_t)width);
    }
}

/* The array in a buffer, moved so that line `begin` of the whole is its first. */
Array Call::view(const Cut &cut, int64_t begin, int64_t end, int slot) const {
    const Layout &l = cut.layout;
    if (cut.mode == Cut::IN_PLACE || cut.mode == Cut::WHOLE) return {cut.base, l.stride};
    uintptr_t base = reinterpret_cast<uintptr_t>(cut.device[slot]);
    if (cut.mode == Cut::SPAN) return {reinterpret_cast<char *>(base - (uintptr_t)(begin * l.stride * l.bits / 8)), l.stride};
    const int64_t pitch = align(bytes_of(l.columns ? end - begin : l.length, l.bits), ROW_ALIGNMENT);
    base -= (uintptr_t)(l.columns ? bytes_of(begin, l.bits) : begin * pitch);
    return {reinterpret_cast<char *>(base), pitch * 8 / l.bits};
}

/* A copy of host memory that is not pinned goes through two buffers that are. */
tp_status Call::transfer(char *device, char *host, int64_t bytes, bool out) {
    const int stream = out ? tp_cuda::OUT : tp_cuda::IN;
    const int64_t part = bytes < cuda_->piece_bytes ? bytes : cuda_->piece_bytes;
    char *pinned[2] = {};
    tp_status status = TP_OK;
    for (int i = 0; i < 2 && i * part < bytes && status == TP_OK; i++) status = cuda_->take(part, true, &pinned[i]);
    if (status == TP_OK) status = transfer_through(pinned, part, device, host, bytes, stream);
    for (char *p : pinned)
        if (p) cuda_->give(p);
    return status;
}

tp_status Call::transfer_through(char *const (&pinned)[2], int64_t part, char *device, char *host, int64_t bytes, int stream) {
    const bool out = stream == tp_cuda::OUT;
    cudaStream_t queue = cuda_->streams[stream];
    for (int64_t at = 0, i = 0; at < bytes + (out ? part : 0); at += part, i++) {
        const int slot = (int)(i % 2);
        const int64_t n = bytes - at < part ? bytes - at : part;
        if (!out && i >= 2) TRY_CUDA(cuda_, cudaEventSynchronize(cuda_->ready[stream][slot]));
        if (!out) memcpy(pinned[slot], host + at, (size_t)n);
        if (at < bytes) {
            TRY_CUDA(cuda_, cuda_->begin_span(stream));
            TRY_CUDA(cuda_, out ? cudaMemcpyAsync(pinned[slot], device + at, (size_t)n, cudaMemcpyDeviceToHost, queue)
                                : cudaMemcpyAsync(device + at, pinned[slot], (size_t)n, cudaMemcpyHostToDevice, queue));
            TRY_CUDA(cuda_, cuda_->end_span(stream));
            TRY_CUDA(cuda_, cudaEventRecord(cuda_->ready[stream][slot], queue));
        }
        if (out && i >= 1) { /* the one before, while this one is on its way */
            TRY_CUDA(cuda_, cudaEventSynchronize(cuda_->ready[stream][1 - slot]));
            const int64_t before = at - part, m = bytes - before < part ? bytes - before : part;
            memcpy(host + before, pinned[1 - slot], (size_t)m);
        }
    }
    if (!out) TRY_CUDA(cuda_, cudaStreamSynchronize(queue));
    (out ? cuda_->times.out_bytes : cuda_->times.in_bytes) += bytes;
    return TP_OK;
}

/* ---- pieces ---- */

/* Buffers for as many lines as piece_bytes holds, or for fewer where memory is short. */
tp_status Call::take_buffers(int64_t begin, int64_t end, int64_t granule, int64_t *lines) {
    const int64_t all = align(end, granule) - begin / granule * granule; /* pieces begin at multiples of it */
    int64_t line_bytes = 0;
    bool staged = false;
    for (const Cut &cut : cuts_) {
        staged |= cut.mode == Cut::SPAN || cut.mode == Cut::BLOCK;
        line_bytes += buffer_bytes(cut, granule);
    }
    *lines = all;
    if (!staged) return TP_OK;
    const int64_t fit = line_bytes ? cuda_->piece_bytes / line_bytes : all / granule;
    if (fit < all / granule) *lines = (fit ? fit : 1) * granule;
    while (true) {
        tp_status status = TP_OK;
        const int slots = *lines < all ? 2 : 1;
        for (Cut &cut : cuts_) {
            const int64_t bytes = buffer_bytes(cut, *lines < end - begin ? *lines : end - begin);
            if (cut.mode != Cut::SPAN && cut.mode != Cut::BLOCK) continue;
            for (int s = 0; s < slots && status == TP_OK; s++) {
                status = cuda_->take(bytes, false, &cut.device[s]);
                if (status == TP_OK) status = cuda_->take(bytes, true, &cut.pinned[s]);
            }
        }
        if (status == TP_OK) return TP_OK;
        give_buffers();
        if (status != TP_ERR_MEMORY || *lines == granule) return status;
        *lines = align(*lines / 2, granule);
    }
}

void Call::give_buffers() {
    for (Cut &cut : cuts_) {
        for (int s = 0; s < 2; s++) {
            if (cut.device[s]) cuda_->give(cut.device[s]);
            if (cut.pinned[s]) cuda_->give(cut.pinned[s]);
            cut.device[s] = cut.pinned[s] = nullptr;
        }
    }
}

/* Whether there is something between the lines of a span: where it is copied back, it has to be copied in before. */
static bool gaps(const Layout &l) { return l.stride != l.length; }

tp_status Call::copy_back(int64_t begin, int64_t end, int slot) {
    bool waited = false;
    for (const Cut &cut : cuts_) {
        if (!cut.pinned[slot] || cut.role == READ) continue;
        if (!waited) TRY_CUDA(cuda_, cudaEventSynchronize(cuda_->ready[tp_cuda::OUT][slot]));
        waited = true;
        stage(cut, begin, end, cut.pinned[slot], true);
    }
    return TP_OK;
}

tp_status Call::piece(int64_t begin, int64_t end, int slot, bool reused, Queue queue, void *launch) {
    cudaStream_t in = cuda_->streams[tp_cuda::IN], compute = cuda_->streams[tp_cuda::COMPUTE], out = cuda_->streams[tp_cuda::OUT];
    Piece p = {begin, end, compute, {}};
    bool copies_in = false, copies_out = false;
    for (size_t i = 0; i < cuts_.size(); i++) {
        const Cut &cut = cuts_[i];
        p.arrays[i] = view(cut, begin, end, slot);
        if (!cut.device[slot]) continue;
        copies_out |= cut.role != READ;
        if (cut.role == WRITE && !(cut.mode == Cut::SPAN && gaps(cut.layout))) continue;
        if (!copies_in && reused) {
            /* The copy out of this buffer has ended, copy_back waited for it; the kernel that reads it may not have. */
            TRY_CUDA(cuda_, cudaEventSynchronize(cuda_->ready[tp_cuda::IN][slot]));
            TRY_CUDA(cuda_, cudaStreamWaitEvent(in, cuda_->ready[tp_cuda::COMPUTE][slot], 0));
        }
        copies_in = true;
        const int64_t bytes = buffer_bytes(cut, end - begin);
        stage(cut, begin, end, cut.pinned[slot], false);
        TRY_CUDA(cuda_, cuda_->begin_span(tp_cuda::IN));
        TRY_CUDA(cuda_, cudaMemcpyAsync(cut.device[slot], cut.pinned[slot], (size_t)bytes, cudaMemcpyHostToDevice, in));
        TRY_CUDA(cuda_, cuda_->end_span(tp_cuda::IN));
        cuda_->times.in_bytes += bytes;
    }
    if (copies_in) {
        TRY_CUDA(cuda_, cudaEventRecord(cuda_->ready[tp_cuda::IN][slot], in));
        TRY_CUDA(cuda_, cudaStreamWaitEvent(compute, cuda_->ready[tp_cuda::IN][slot], 0));
    }
    TRY_CUDA(cuda_, cuda_->begin_span(tp_cuda::COMPUTE));
    const cudaError_t launched = queue(launch, p);
    if (launched != cudaSuccess) return cuda_->fail(launched, "kernel launch");
    TRY_CUDA(cuda_, cuda_->end_span(tp_cuda::COMPUTE));
    TRY_CUDA(cuda_, cudaEventRecord(cuda_->ready[tp_cuda::COMPUTE][slot], compute));
    cuda_->times.pieces++;
    if (!copies_out) return TP_OK;
    TRY_CUDA(cuda_, cudaStreamWaitEvent(out, cuda_->ready[tp_cuda::COMPUTE][slot], 0));
    for (const Cut &cut : cuts_) {
        if (!cut.device[slot] || cut.role == READ) continue;
        const int64_t bytes = buffer_bytes(cut, end - begin);
        TRY_CUDA(cuda_, cuda_->begin_span(tp_cuda::OUT));
        TRY_CUDA(cuda_, cudaMemcpyAsync(cut.pinned[slot], cut.device[slot], (size_t)bytes, cudaMemcpyDeviceToHost, out));
        TRY_CUDA(cuda_, cuda_->end_span(tp_cuda::OUT));
        cuda_->times.out_bytes += bytes;
    }
    TRY_CUDA(cuda_, cudaEventRecord(cuda_->ready[tp_cuda::OUT][slot], out));
    return TP_OK;
}

tp_status Call::pieces(int64_t begin, int64_t end, int64_t granule, Queue queue, void *launch) {
    TRY_CUDA(cuda_, cudaMemsetAsync(flags_, 0, sizeof *flags_, cuda_->streams[tp_cuda::COMPUTE]));
    for (Cut &cut : cuts_) {
        if (cut.mode != Cut::WHOLE) continue;
        const Layout &l = cut.layout; /* element i of line l at i * stride + l */
        const int64_t lines = l.stride < end ? l.stride : end;
        const int64_t bytes = l.length ? bytes_of((l.length - 1) * l.stride + lines, l.bits) : 0;
        cut.base = static_cast<char *>(add_whole(cut.memory, bytes, cut.role == WRITE ? READ_WRITE : cut.role, 1));
        TRY(status_);
    }
    for (const Whole &w : wholes_)
        if (w.role != WRITE && w.bytes) TRY(transfer(static_cast<char *>(w.device), static_cast<char *>(w.host), w.bytes, false));
    if (begin < end) {
        int64_t lines;
        TRY(take_buffers(begin, end, granule, &lines));
        /* A piece begins at a multiple of the granule, whatever the range begins at. */
        int64_t at[3] = {begin, begin, begin}; /* begin of the piece at hand, and of the two before it */
        int64_t ends[2] = {begin, begin};
        for (int64_t i = 0; at[0] < end; i++) {
            const int64_t next = at[0] / granule * granule + lines, to = next < end ? next : end;
            if (i >= 2) TRY(copy_back(at[2], ends[1], (int)(i % 2)));
            TRY(piece(at[0], to, (int)(i % 2), i >= 2, queue, launch));
            at[2] = at[1];
            at[1] = at[0];
            ends[1] = ends[0];
            ends[0] = to;
            at[0] = to;
            if (to == end) {
                if (i >= 1) TRY(copy_back(at[2], ends[1], (int)((i + 1) % 2)));
                TRY(copy_back(at[1], ends[0], (int)(i % 2)));
            }
        }
    }
    TRY_CUDA(cuda_, cudaMemcpyAsync(cuda_->flags_read, flags_, sizeof *flags_, cudaMemcpyDeviceToHost, cuda_->streams[tp_cuda::COMPUTE]));
    TRY_CUDA(cuda_, cudaStreamSynchronize(cuda_->streams[tp_cuda::COMPUTE]));
    found_ = *cuda_->flags_read;
    for (const Whole &w : wholes_)
        if (w.role != READ && w.bytes) TRY(transfer(static_cast<char *>(w.device), static_cast<char *>(w.host), w.bytes, true));
    return cuda_->timed ? cuda_->add_times() : TP_OK;
}

tp_status Call::run_pieces(int64_t begin, int64_t end, int64_t granule, Queue queue, void *launch) {
    if (status_ == TP_OK) {
        status_ = pieces(begin, end, granule, queue, launch);
        /* After an error too, nobody may touch buffers and arrays any more. */
        if (status_ != TP_OK)
            for (cudaStream_t stream : cuda_->streams)
                if (cudaStreamSynchronize(stream) != cudaSuccess) cuda_->lost = true;
        give_buffers();
    }
    return status_;
}

}  // namespace tp
