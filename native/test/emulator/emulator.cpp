/* What emulator.h and cuda_runtime.h declare. One lock is around every call; kernels run under it, on the thread that waits for them. */
#include "emulator.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <nvtx3/nvToolsExt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#include <ucontext.h>
#ifdef __x86_64__
#define TP_OWN_SWITCH 1 /* a tenth of the time of swapcontext */
#else
#define TP_OWN_SWITCH 0
#endif

using emulator::fault;
using emulator::settings;
using emulator::Site;

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
emulator::Settings emulator::settings;

namespace {

/* ---- memory with a page behind it that cannot be touched ---- */

constexpr size_t PAGE = 4096, MARGIN = 64;
/* No number as float, double, f16 or bf16, and unlikely as an integer. */
constexpr uint64_t NO_NUMBER = 0xfffdffcdffcdffcd;

enum Kind { DEVICE, PINNED, SHARED };
const char *const kind_names[] = {"device", "pinned", "shared"};

struct Memory {
    Kind kind;
    char *map; /* a page before and behind that cannot be touched */
    size_t map_bytes;
    char *start;
    size_t bytes;
    std::string name;
    int device;
    char *end() const { return start + bytes; }
    char *limit() const { return map + map_bytes - PAGE; }
    void allow(int access) const { mprotect(map + PAGE, map_bytes - 2 * PAGE, access); }
};

void fill(char *at, const char *end) {
    for (; at < end; at += 8) memcpy(at, &NO_NUMBER, std::min<size_t>(8, (size_t)(end - at)));
}

/*
 * Addresses of devices are a range of their own, so that one of the host is told apart from one that is before or behind an array, where
 * kernels that count from the first line of the whole may begin. Memory lies in the middle half of the range.
 */
constexpr size_t DEVICE_ADDRESSES = (size_t)1 << 44;

char *device_addresses() {
    static char *const first = [] {
        void *p = mmap(nullptr, DEVICE_ADDRESSES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            perror("emulator: no addresses");
            abort();
        }
        return static_cast<char *>(p);
    }();
    return first;
}

bool is_device_address(const void *p) {
    const uintptr_t from = reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(device_addresses());
    return from < DEVICE_ADDRESSES;
}

/* Addresses are not used again for as long as possible. */
char *next_addresses(size_t bytes) {
    static size_t used = 0;
    if (used + bytes > DEVICE_ADDRESSES / 2) used = 0;
    char *p = device_addresses() + DEVICE_ADDRESSES / 4 + used;
    used += bytes;
    return p;
}

Memory map_memory(Kind kind, size_t bytes, size_t alignment, const char *name) {
    const size_t body = (bytes + alignment - 1) / alignment * alignment;
    const size_t map_bytes = (body + MARGIN + PAGE - 1) / PAGE * PAGE + 2 * PAGE;
    char *map = static_cast<char *>(mmap(kind == DEVICE ? next_addresses(map_bytes) : nullptr, map_bytes, PROT_NONE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (kind == DEVICE ? MAP_FIXED : 0), -1, 0));
    if (map == MAP_FAILED || mprotect(map + PAGE, map_bytes - 2 * PAGE, PROT_READ | PROT_WRITE)) {
        perror("emulator: no memory");
        abort();
    }
    Memory m = {kind, map, map_bytes, map + map_bytes - PAGE - body, bytes, name, 0};
    fill(m.start - MARGIN, m.limit());
    return m;
}

/* Addresses of devices stay theirs. */
void unmap(const Memory &m) {
    if (m.kind != DEVICE)
        munmap(m.map, m.map_bytes);
    else if (mmap(m.map, m.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        perror("emulator: no addresses");
}

/* Nothing wrote just before or behind it. */
bool margins_hold(const Memory &m) {
    for (const char *p = m.start - MARGIN; p < m.start; p += 8)
        if (memcmp(p, &NO_NUMBER, 8)) return false;
    for (const char *p = m.end(); p < m.limit(); p++)
        if (*p != reinterpret_cast<const char *>(&NO_NUMBER)[(p - m.start) % 8]) return false;
    return true;
}

std::map<const char *, Memory> memories; /* by start */
std::deque<Memory> freed;                /* the last ones, which cannot be touched */
std::map<const void *, Memory> shared_arrays; /* by declaration, and by nothing that whose size the launch says; kept for all launches */

/* The host cannot touch memory of the device: it is open while what is queued runs. */
bool memory_open;
void open_memory(bool open) {
    if (open == memory_open) return;
    memory_open = open;
    for (auto &entry : memories)
        if (entry.second.kind == DEVICE) entry.second.allow(open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

const Memory *find_memory(const void *pointer) {
    const char *p = static_cast<const char *>(pointer);
    auto after = memories.upper_bound(p);
    if (after == memories.begin()) return nullptr;
    const Memory &m = std::prev(after)->second;
    return p <= m.end() ? &m : nullptr;
}

/* ---- fibers ---- */

constexpr size_t STACK = 256 << 10;

struct Fiber {
#if TP_OWN_SWITCH
    void *top; /* of the stack, while it does not run */
#else
    ucontext_t context;
#endif
    char *stack; /* a page that cannot be touched, and the stack */
    void *fake;  /* AddressSanitizer's */
    const void *bottom;
    size_t size;
};

Fiber main_fiber;
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber *> free_fibers;
bool from_main;

void run_threads();

#if TP_OWN_SWITCH
extern "C" void emulator_switch(void **from, void *to);
asm(R"(
    .text
    .globl emulator_switch
    .type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulator_switch, .-emulator_switch
)");
#endif

void arrived(Fiber *self) {
#ifdef __SANITIZE_ADDRESS__
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(self ? self->fake : nullptr, &bottom, &size);
    if (from_main) main_fiber.bottom = bottom, main_fiber.size = size;
#else
    (void)self;
#endif
    from_main = false;
}

void switch_fiber(Fiber *from, Fiber *to) {
    from_main = from == &main_fiber;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->size);
#endif
#if TP_OWN_SWITCH
    emulator_switch(&from->top, to->top);
#else
    swapcontext(&from->context, &to->context);
#endif
    arrived(from);
}

/* A stack that begins anew at the next switch. Stacks begin at different offsets in their pages, so that they do not share lines of
   a cache. */
void renew(Fiber *f, size_t number) {
    char *const bottom = f->stack + PAGE, *const top = bottom + STACK - number % 61 * 64;
    f->bottom = bottom;
    f->size = STACK;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(bottom, STACK);
#endif
#if TP_OWN_SWITCH
    void **at = reinterpret_cast<void **>(top) - 1;
    *at = nullptr; /* whom run_threads would return to */
    *--at = reinterpret_cast<void *>(run_threads);
    f->top = at - 6;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = bottom;
    f->context.uc_stack.ss_size = (size_t)(top - bottom);
    makecontext(&f->context, run_threads, 0);
#endif
}

Fiber *take_fiber() {
    if (free_fibers.empty()) {
        Fiber *f = new Fiber();
        f->stack = static_cast<char *>(mmap(nullptr, PAGE + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (f->stack == MAP_FAILED || mprotect(f->stack, PAGE, PROT_NONE)) {
            perror("emulator: no stack");
            abort();
        }
        renew(f, fibers.size());
        fibers.emplace_back(f);
        return f;
    }
    Fiber *f = free_fibers.back();
    free_fibers.pop_back();
    return f;
}

/* ---- the block that runs ---- */

struct Copy {
    char *shared;
    const char *global;
    unsigned group;
};

/* An operation where threads wait for each other: of some lanes, or a barrier (mask 0). */
struct Meeting {
    const char *name;
    Site site;
    unsigned mask, here; /* here: lanes, or number of threads */
    int yes;
    bool is(const char *n, Site s, unsigned m) const { return mask == m && site.line == s.line && (name == n || !strcmp(name, n)); }
};

struct Thread {
    uint3 index;
    Fiber *fiber; /* null before the first switch away from it, and at the end */
    bool waits, over;
    Meeting at; /* if it waits; its name, site and mask */
    void *brought;
    emulator::Votes votes;
    std::vector<Copy> copies;
    unsigned groups;
};

struct Launch {
    const void *kernel;
    dim3 grid, block;
    size_t dynamic_bytes;
    std::vector<const void *> pointers;
    std::function<void()> thread;
};

struct Block {
    const Launch *launch;
    pthread_t host;
    bool running, failed;
    int count, live;
    std::vector<Thread> threads;
    unsigned ready_warps, ready[32]; /* warps, and lanes of each */
    int warp;                        /* of the last one picked */
    std::vector<Meeting> barriers, meetings[32]; /* that are not complete; meetings by warp */
    Thread *current, *next;
    std::vector<std::pair<const void *, char *>> arrays; /* shared, that it has asked for */
    size_t static_bytes;
    uint64_t random;
} block;

struct Fault {
    cudaError_t error;
    std::string text;
} last;

uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
uint64_t next_random(uint64_t &state) { return mix(state += 0x9e3779b97f4a7c15u); }
size_t random_below(uint64_t &state, size_t n) { return (size_t)((next_random(state) >> 32) * n >> 32); }

std::string print(const char *format, ...) __attribute__((format(printf, 1, 2)));
std::string print(const char *format, va_list arguments) {
    char text[1024];
    vsnprintf(text, sizeof text, format, arguments);
    return text;
}
std::string print(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const std::string text = print(format, arguments);
    va_end(arguments);
    return text;
}

/* The name of the function with this address, by the symbols of its file; without them, where it is in that. */
std::string function_name(const void *address) {
    Dl_info info;
    if (!dladdr(address, &info)) return print("%p", address);
    std::string name, file;
    if (FILE *f = fopen(info.dli_fname, "rb")) {
        fseek(f, 0, SEEK_END);
        file.resize((size_t)ftell(f));
        rewind(f);
        file.resize(fread(&file[0], 1, file.size(), f));
        fclose(f);
    }
    const Elf64_Ehdr *elf = reinterpret_cast<const Elf64_Ehdr *>(file.data());
    const uint64_t offset = (uint64_t)address - (file.size() > sizeof *elf && elf->e_type == ET_DYN ? (uint64_t)info.dli_fbase : 0);
    if (file.size() > sizeof *elf && elf->e_ident[EI_CLASS] == ELFCLASS64) {
        const Elf64_Shdr *sections = reinterpret_cast<const Elf64_Shdr *>(file.data() + elf->e_shoff);
        for (int i = 0; i < elf->e_shnum; i++) {
            if (sections[i].sh_type != SHT_SYMTAB) continue;
            const Elf64_Sym *symbols = reinterpret_cast<const Elf64_Sym *>(file.data() + sections[i].sh_offset);
            for (size_t s = 0; s < sections[i].sh_size / sizeof *symbols; s++)
                if (ELF64_ST_TYPE(symbols[s].st_info) == STT_FUNC && offset - symbols[s].st_value < symbols[s].st_size)
                    name = file.data() + sections[sections[i].sh_link].sh_offset + symbols[s].st_name;
        }
    }
    if (name.empty()) return print("%s+%#llx", info.dli_fname, (unsigned long long)offset);
    int status;
    char *plain = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    if (plain) name = plain;
    free(plain);
    for (const char *noise : {"(anonymous namespace)::", "void "})
        for (size_t at; (at = name.find(noise)) != std::string::npos;) name.erase(at, strlen(noise));
    return name.substr(0, name.find('('));
}

void set_fault(cudaError_t error, const std::string &text) {
    last = {error, text};
    if (settings.print) fprintf(stderr, "emulator: %s\n", text.c_str());
}

void fail_block(cudaError_t error, const std::string &what) {
    const std::string kernel = function_name(block.launch->kernel);
    const uint3 t = block.current->index, b = blockIdx;
    block.failed = true;
    set_fault(error, print("kernel %s, block (%u, %u, %u), thread (%u, %u, %u): %s", kernel.c_str(), b.x, b.y, b.z, t.x, t.y, t.z, what.c_str()));
}

/* Back to main, whatever the fibers do: nothing on their stacks is ever destroyed. */
[[noreturn]] void leave_block() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(nullptr, main_fiber.bottom, main_fiber.size);
#endif
#if TP_OWN_SWITCH
    void *unused;
    emulator_switch(&unused, main_fiber.top);
#else
    setcontext(&main_fiber.context);
#endif
    abort();
}

/* A bit of a mask. */
int pick_bit(unsigned mask, uint64_t random) {
    const int by = (int)(random & 31);
    return (__builtin_ctz(mask >> by | mask << (-by & 31)) + by) & 31;
}

/* Often of the same warp, so that some get far ahead of others. */
Thread *pick() {
    block.random = block.random * 6364136223846793005u + 1442695040888963407u;
    const uint64_t random = block.random >> 48;
    if (!block.ready[block.warp] || !(random & 7)) block.warp = pick_bit(block.ready_warps, random >> 3);
    const int lane = pick_bit(block.ready[block.warp], random >> 8);
    if (!(block.ready[block.warp] &= ~(1u << lane))) block.ready_warps &= ~(1u << block.warp);
    return &block.threads[(size_t)(block.warp * 32 + lane)];
}

void make_ready(int thread) {
    block.ready[thread / 32] |= 1u << thread % 32;
    block.ready_warps |= 1u << thread / 32;
}

int number(const Thread *t) { return (int)(t - block.threads.data()); }

std::string describe(const Thread &t) {
    if (t.over) return "has ended";
    if (!t.at.mask) return print("waits in %s (%s:%d)", t.at.name, t.at.site.function, t.at.site.line);
    return print("waits in %s (%s:%d, mask %08x)", t.at.name, t.at.site.function, t.at.site.line, t.at.mask);
}

/* Why a thread waits for ever; it becomes the current one. */
std::string describe_deadlock() {
    Thread *barrier = nullptr;
    for (int i = 0; i < block.count; i++) {
        Thread &t = block.threads[(size_t)i];
        if (!t.waits) continue;
        block.current = &t;
        if (!t.at.mask) {
            if (barrier && !barrier->at.is(t.at.name, t.at.site, 0))
                return print("%s, while thread %d %s: the barrier diverges", describe(t).c_str(), number(barrier), describe(*barrier).c_str());
            barrier = &t;
            continue;
        }
        for (int lane = 0; lane < 32; lane++) {
            const int other = i / 32 * 32 + lane;
            if (!(t.at.mask >> lane & 1)) continue;
            const std::string who = print("%s for lane %d, which ", describe(t).c_str(), lane);
            if (other >= block.count) return who + "is not there";
            const Thread &o = block.threads[(size_t)other];
            if (!o.waits || !o.at.is(t.at.name, t.at.site, t.at.mask)) return who + describe(o);
        }
    }
    return "threads wait for ever";
}

/* Nothing can run, and not all have ended. */
[[noreturn]] void deadlock() {
    fail_block(cudaErrorLaunchFailure, describe_deadlock());
    leave_block();
}

void resume(Thread *t, Fiber *from) {
    if (!t->fiber) {
        t->fiber = take_fiber();
        block.next = t;
    }
    switch_fiber(from, t->fiber);
}

/* Lets others run until the current thread is picked again. */
void park() {
    Thread *me = block.current;
    if (!block.ready_warps) deadlock();
    Thread *t = pick();
    if (t != me) resume(t, me->fiber);
    block.current = me;
    threadIdx = me->index;
}

void release_barrier() {
    const Meeting m = block.barriers[0];
    block.barriers.clear();
    for (int i = 0; i < block.count; i++) {
        Thread &t = block.threads[(size_t)i];
        if (t.over) continue;
        t.waits = false;
        t.votes = {m.yes, (int)m.here};
        make_ready(i);
    }
}

/* What a fiber does: threads, one after the other, until one waits. */
void run_threads() {
    arrived(nullptr);
    for (;;) {
        Thread *t = block.next;
        Fiber *const self = t->fiber;
        block.current = t;
        threadIdx = t->index;
        block.launch->thread();
        t->over = true;
        t->fiber = nullptr;
        if (--block.live == 0) {
            free_fibers.push_back(self);
            switch_fiber(self, &main_fiber);
            continue;
        }
        if (block.barriers.size() == 1 && (int)block.barriers[0].here == block.live) release_barrier();
        if (!block.ready_warps) deadlock();
        Thread *n = pick();
        if (n->fiber) {
            free_fibers.push_back(self);
            switch_fiber(self, n->fiber);
        } else {
            n->fiber = self;
            block.next = n;
        }
    }
}

/* Where a thread of the host handles signals, since the stack that runs may have ended. */
struct SignalStack {
    static constexpr size_t SIZE = 64 << 10;
    std::unique_ptr<char[]> memory;
    stack_t before = {};
    void use() {
        if (memory) return;
        memory.reset(new char[SIZE]);
        stack_t stack = {};
        stack.ss_sp = memory.get();
        stack.ss_size = SIZE;
        sigaltstack(&stack, &before);
    }
    ~SignalStack() {
        if (memory) sigaltstack(&before, nullptr);
    }
};
thread_local SignalStack signal_stack;

void start_array(Memory &m) { fill(m.start - MARGIN, m.limit()); }

void run_block() {
    block.live = block.count;
    block.ready_warps = 0;
    memset(block.ready, 0, sizeof block.ready);
    block.barriers.clear();
    for (auto &m : block.meetings) m.clear();
    block.arrays.clear();
    block.static_bytes = 0;
    block.failed = false;
    for (int i = 0; i < block.count; i++) {
        Thread &t = block.threads[(size_t)i];
        t.fiber = nullptr;
        t.waits = t.over = false;
        t.copies.clear();
        t.groups = 0;
        make_ready(i);
    }
    block.running = true;
    Thread *first = block.current = pick();
    resume(first, &main_fiber);
    block.running = false;
    if (block.failed) {
#ifdef __SANITIZE_ADDRESS__
        __asan_unpoison_memory_region(signal_stack.memory.get(), SignalStack::SIZE);
#endif
        free_fibers.clear();
        for (auto &f : fibers) {
            renew(f.get(), free_fibers.size());
            free_fibers.push_back(f.get());
        }
        return;
    }
    for (auto &array : block.arrays) {
        const Memory &m = shared_arrays.at(array.first);
        if (!margins_hold(m)) {
            block.failed = true;
            set_fault(cudaErrorIllegalAddress, print("kernel %s, block (%u, %u, %u): wrote outside of shared array %s",
                                                     function_name(block.launch->kernel).c_str(), blockIdx.x, blockIdx.y, blockIdx.z, m.name.c_str()));
            return;
        }
    }
}

/* ---- faults of the processor ---- */

std::string describe_address(const char *p) {
    auto relative = [p](const Memory &m, const char *state) {
        const long by = p < m.start ? (long)(m.start - p) : p - m.end();
        return print("%p, %ld bytes %s %s%s memory%s%s of %zu bytes", (const void *)p, p < m.start || p >= m.end() ? by : (long)(p - m.start),
                     p < m.start ? "before" : p >= m.end() ? "behind" : "inside of", state, kind_names[m.kind], m.name.empty() ? "" : " ",
                     m.name.c_str(), m.bytes);
    };
    for (auto &entry : memories)
        if (p >= entry.second.map && p < entry.second.map + entry.second.map_bytes) return relative(entry.second, "");
    for (auto &entry : shared_arrays)
        if (p >= entry.second.map && p < entry.second.map + entry.second.map_bytes) return relative(entry.second, "");
    for (const Memory &m : freed)
        if (p >= m.map && p < m.map + m.map_bytes) return relative(m, "freed ");
    for (const auto &f : fibers)
        if (p >= f->stack && p < f->stack + PAGE) return "the end of its stack";
    return print("%p", (const void *)p);
}

struct sigaction before[NSIG];

void fail_with_signal(int signal, siginfo_t *info, void *context) {
    const char *way = "touches ";
    std::string code;
#ifdef __x86_64__
    const auto &registers = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
    code = " at " + function_name(reinterpret_cast<void *>(registers[REG_RIP]));
    way = registers[REG_ERR] & 2 ? "writes " : "reads ";
#else
    (void)context;
#endif
    if (signal == SIGFPE)
        fail_block(cudaErrorLaunchFailure, "integer division" + code);
    else if (signal != SIGSEGV || info->si_code == SI_KERNEL)
        fail_block(cudaErrorMisalignedAddress, "misaligned access, or other undefined behaviour" + code);
    else
        fail_block(cudaErrorIllegalAddress, way + describe_address(static_cast<char *>(info->si_addr)) + code);
}

void on_signal(int signal, siginfo_t *info, void *context) {
    if (!block.running || !pthread_equal(block.host, pthread_self())) {
        const Memory *m = signal == SIGSEGV ? find_memory(info->si_addr) : nullptr;
        if (m && m->kind == DEVICE) fprintf(stderr, "emulator: the host touches %s\n", describe_address(static_cast<char *>(info->si_addr)).c_str());
        sigaction(signal, &before[signal], nullptr); /* it happens again there */
        return;
    }
    block.running = false; /* a fault in here is none of the kernel's */
    fail_with_signal(signal, info, context);
    leave_block();
}

void catch_signals() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action = {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int s : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE}) sigaction(s, &action, &before[s]);
    });
    signal_stack.use();
}

/* ---- launches ---- */

long launch_count;

bool run_launch(const Launch &launch) {
    catch_signals();
    block.launch = &launch;
    block.host = pthread_self();
    block.count = (int)(launch.block.x * launch.block.y * launch.block.z);
    if ((int)block.threads.size() < block.count) block.threads.resize((size_t)block.count);
    size_t i = 0;
    for (unsigned z = 0; z < launch.block.z; z++)
        for (unsigned y = 0; y < launch.block.y; y++)
            for (unsigned x = 0; x < launch.block.x; x++) block.threads[i++].index = {x, y, z};
    blockDim = launch.block;
    gridDim = launch.grid;
    blockIdx = {0, 0, 0};
    block.current = block.threads.data();
    for (const void *p : launch.pointers) {
        if (!p || is_device_address(p) || find_memory(p)) continue;
        set_fault(cudaErrorIllegalAddress, print("kernel %s: argument %p is no memory of a device", function_name(launch.kernel).c_str(), p));
        return false;
    }
    block.random = mix(settings.seed * 0x9e3779b97f4a7c15u + (uint64_t)++launch_count);
    /* Block b runs as number b * step + first. */
    const uint64_t blocks = (uint64_t)launch.grid.x * launch.grid.y * launch.grid.z;
    uint64_t step = blocks > 1 ? 1 + next_random(block.random) % (blocks - 1) : 1, at = next_random(block.random) % blocks;
    auto divisor = [](uint64_t a, uint64_t b) {
        while (b) a %= b, std::swap(a, b);
        return a;
    };
    while (divisor(step, blocks) != 1) step = step % blocks + 1;
    for (uint64_t b = 0; b < blocks; b++, at = (at + step) % blocks) {
        blockIdx = {(unsigned)(at % launch.grid.x), (unsigned)(at / launch.grid.x % launch.grid.y), (unsigned)(at / launch.grid.x / launch.grid.y)};
        run_block();
        if (block.failed) return false;
    }
    for (auto &entry : memories) {
        if (margins_hold(entry.second)) continue;
        set_fault(cudaErrorIllegalAddress, print("kernel %s: wrote outside of %s memory of %zu bytes", function_name(launch.kernel).c_str(),
                                                 kind_names[entry.second.kind], entry.second.bytes));
        return false;
    }
    return true;
}

}  // namespace

/* ---- what device code calls ---- */

void emulator::fault(cudaError_t error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_block(error, print(format, arguments));
    va_end(arguments);
    leave_block();
}

void emulator::yield() {
    make_ready(number(block.current));
    park();
}

emulator::Votes emulator::barrier(const char *name, Site site, bool vote) {
    Thread &me = *block.current;
    Meeting *m = nullptr;
    for (Meeting &b : block.barriers)
        if (b.is(name, site, 0)) m = &b;
    if (!m) {
        block.barriers.push_back({name, site, 0, 0, 0});
        m = &block.barriers.back();
    }
    m->here++;
    m->yes += vote;
    me.waits = true;
    me.at = {name, site, 0, 0, 0};
    if ((int)m->here == block.live) release_barrier();
    park();
    return me.votes;
}

void emulator::meet(const char *name, Site site, unsigned mask, void *brought, void (*finish)(unsigned, void *const *)) {
    Thread &me = *block.current;
    const int lane = number(&me) % 32, warp = number(&me) / 32;
    if (!(mask >> lane & 1)) fault(cudaErrorLaunchFailure, "%s (%s:%d): lane %d is not in its mask %08x", name, site.function, site.line, lane, mask);
    auto &meetings = block.meetings[warp];
    size_t i = 0;
    while (i < meetings.size() && !meetings[i].is(name, site, mask)) i++;
    if (i == meetings.size()) meetings.push_back({name, site, mask, 0, 0});
    meetings[i].here |= 1u << lane;
    me.waits = true;
    me.at.name = name;
    me.at.site = site;
    me.at.mask = mask;
    me.brought = brought;
    if (meetings[i].here == mask) {
        meetings[i] = meetings.back();
        meetings.pop_back();
        void *all[32] = {};
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            Thread &t = block.threads[(size_t)(warp * 32 + __builtin_ctz(rest))];
            all[__builtin_ctz(rest)] = t.brought;
            t.waits = false;
        }
        finish(mask, all);
        block.ready[warp] |= mask;
        block.ready_warps |= 1u << warp;
    }
    park();
}

void *emulator::shared(const void *key, size_t bytes, size_t alignment, const char *name) {
    for (auto &array : block.arrays)
        if (array.first == key) return array.second;
    auto found = shared_arrays.find(key);
    if (found != shared_arrays.end() && found->second.bytes != bytes) { /* the launch says another size */
        munmap(found->second.map, found->second.map_bytes);
        shared_arrays.erase(found);
        found = shared_arrays.end();
    }
    if (found == shared_arrays.end())
        found = shared_arrays.emplace(key, map_memory(SHARED, bytes, alignment, name)).first;
    else
        start_array(found->second);
    if (key) {
        block.static_bytes = (block.static_bytes + alignment - 1) / alignment * alignment + bytes;
        if (block.static_bytes > 48 << 10) fault(cudaErrorLaunchFailure, "%zu bytes of static shared memory: a block has 48 KB", block.static_bytes);
    }
    block.arrays.push_back({key, found->second.start});
    return found->second.start;
}

void *emulator::dynamic_shared() { return shared(nullptr, block.launch->dynamic_bytes, 16, "whose size the launch says"); }

/* The bytes arrive at the wait; until then there is no number. */
void tp_copy_async16(void *shared, const void *global) {
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16)
        fault(cudaErrorMisalignedAddress, "tp_copy_async16 from %p to %p: not 16-byte aligned", global, shared);
    char unused[16];
    memcpy(unused, global, 16);
    fill(static_cast<char *>(shared), static_cast<char *>(shared) + 16);
    asm volatile("" ::"r"(unused) : "memory");
    block.current->copies.push_back({static_cast<char *>(shared), static_cast<const char *>(global), block.current->groups});
}

void tp_copy_async_commit() { block.current->groups++; }

void emulator::copy_async_wait(unsigned pending) {
    Thread &me = *block.current;
    size_t kept = 0;
    for (const Copy &c : me.copies) {
        if (c.group + pending < me.groups)
            memcpy(c.shared, c.global, 16);
        else
            me.copies[kept++] = c;
    }
    me.copies.resize(kept);
}

namespace {
template <class D, class A, class B> struct Fragments {
    D *d;
    const A *a;
    const B *b;
};
struct Nothing {};
}  // namespace

void tp_mma_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
    using All = Fragments<int32_t, uint32_t, uint32_t>;
    emulator::together<All, Nothing>("tp_mma_s8", site, 0xffffffffu, {d, a, b}, [](unsigned, const All *lanes, Nothing *) {
        int8_t A[16][32], B[8][32]; /* B by columns */
        for (int l = 0; l < 32; l++) {
            const int g = l / 4, t = l % 4;
            for (int i = 0; i < 4; i++) memcpy(&A[g + 8 * (i & 1)][4 * t + 16 * (i >> 1)], &lanes[l].a[i], 4);
            for (int i = 0; i < 2; i++) memcpy(&B[g][4 * t + 16 * i], &lanes[l].b[i], 4);
        }
        for (int l = 0; l < 32; l++) {
            for (int i = 0; i < 4; i++) {
                const int row = l / 4 + 8 * (i >> 1), column = 2 * (l % 4) + (i & 1);
                int32_t sum = 0;
                for (int k = 0; k < 32; k++) sum += A[row][k] * B[column][k];
                lanes[l].d[i] = (int32_t)((uint32_t)lanes[l].d[i] + (uint32_t)sum);
            }
        }
    });
}

void tp_mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
    using All = Fragments<float, uint32_t, uint32_t>;
    emulator::together<All, Nothing>("tp_mma_tf32", site, 0xffffffffu, {d, a, b}, [](unsigned, const All *lanes, Nothing *) {
        auto value = [](uint32_t bits) { return (double)__uint_as_float(bits & ~0x1fffu); };
        double A[16][8], B[8][8];
        for (int l = 0; l < 32; l++) {
            const int g = l / 4, t = l % 4;
            for (int i = 0; i < 4; i++) A[g + 8 * (i & 1)][t + 4 * (i >> 1)] = value(lanes[l].a[i]);
            for (int i = 0; i < 2; i++) B[t + 4 * i][g] = value(lanes[l].b[i]);
        }
        for (int l = 0; l < 32; l++) {
            for (int i = 0; i < 4; i++) {
                const int row = l / 4 + 8 * (i >> 1), column = 2 * (l % 4) + (i & 1);
                double sum = lanes[l].d[i];
                for (int k = 0; k < 8; k++) sum += A[row][k] * B[k][column];
                lanes[l].d[i] = (float)sum;
            }
        }
    });
}

void tp_mma_f64(double (&d)[2], double a, double b, Site site) {
    using All = Fragments<double, double, double>;
    emulator::together<All, Nothing>("tp_mma_f64", site, 0xffffffffu, {d, &a, &b}, [](unsigned, const All *lanes, Nothing *) {
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 2; i++)
                for (int k = 0; k < 4; k++) lanes[l].d[i] = fma(*lanes[l / 4 * 4 + k].a, *lanes[(2 * (l % 4) + i) * 4 + k].b, lanes[l].d[i]);
    });
}

/* ---- the runtime ---- */

namespace {

struct Record {
    bool done;
    timespec time;
};

struct Operation {
    uint64_t number;
    std::function<void()> run;
    std::shared_ptr<Record> waits; /* for an event */
};

}  // namespace

struct CUstream_st {
    bool blocking; /* operations of the default stream wait for it, and it for them */
    bool destroyed;
    uint64_t number;
    std::deque<Operation> queue;
};

struct CUevent_st {
    bool timed;
    std::shared_ptr<Record> record;
};

namespace {

std::recursive_mutex lock;
bool started;
long call_count;
int visible_devices;
size_t used_memory;
cudaError_t sticky = cudaSuccess;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device;
uint64_t operation_count, stream_count, wait_count, stream_random;
CUstream_st default_stream = {true, false, 0, {}};
std::vector<cudaStream_t> streams = {&default_stream};
std::vector<cudaEvent_t> events;
std::map<const void *, size_t> dynamic_limits; /* by kernel */
std::vector<std::string> range_names;
thread_local int range_depth;

size_t shared_limit() {
    const int cc = settings.major * 10 + settings.minor;
    return (size_t)(cc < 80 ? 64 : cc == 80 || cc == 87 ? 163 : cc < 90 || cc >= 120 ? 99 : 227) << 10;
}

size_t parse_size(const char *text) {
    char *end;
    const size_t n = strtoull(text, &end, 0);
    return n << (*end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0);
}

void apply(const std::string &text) {
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find(',', at), text.size()), equals = text.find('=', at);
        const std::string key = text.substr(at, equals - at), value = equals < end ? text.substr(equals + 1, end - equals - 1) : "";
        const long n = (long)parse_size(value.c_str());
        at = end + 1;
        if (key == "devices") settings.devices = (int)n;
        else if (key == "memory") settings.memory = (size_t)n;
        else if (key == "sms") settings.multiprocessors = (int)n;
        else if (key == "seed") settings.seed = (uint64_t)n;
        else if (key == "fail") settings.fail = n;
        else if (key == "lost") settings.lost = n;
        else if (key == "preempt") settings.preempt = n != 0;
        else if (key == "pageable") settings.pageable = n != 0;
        else if (key == "print") settings.print = n != 0;
        else if (key == "driver") settings.driver = value == "old" ? 11080 : (int)n;
        else if (key == "cc" && sscanf(value.c_str(), "%d.%d", &settings.major, &settings.minor) == 2) continue;
        else {
            fprintf(stderr, "TENSORPRESS_EMULATOR: %s=%s is not known\n", key.c_str(), value.c_str());
            abort();
        }
    }
}

void begin(const char *more = "") {
    if (started) return;
    started = true;
    catch_signals();
    const char *text = getenv("TENSORPRESS_EMULATOR"), *visible = getenv("CUDA_VISIBLE_DEVICES");
    apply(text ? text : "");
    apply(more);
    /* The list ends at the first that is not there. */
    visible_devices = visible ? 0 : 1 << 20;
    for (const char *p = visible; p && *p;) {
        char *end;
        const long device = strtol(p, &end, 10);
        if (end == p || device < 0 || device >= settings.devices) break;
        visible_devices++;
        p = *end == ',' ? end + 1 : end;
        if (p == end) break;
    }
}

int device_count() { return std::min(settings.devices, visible_devices); }

/* Every call of the runtime: f() carries it out. What gives something back does so whatever has failed. */
enum Way { NEEDS_DEVICE, GIVES_BACK, RESETS, ALWAYS };
template <class F> cudaError_t call(Way way, F f) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    begin();
    call_count++;
    cudaError_t error = cudaSuccess;
    if (settings.lost && --settings.lost == 0) sticky = settings.lost_with;
    if (settings.fail && --settings.fail == 0) error = settings.fail_with;
    if (way != ALWAYS && settings.driver < 12000) error = cudaErrorInsufficientDriver;
    else if (way != ALWAYS && device_count() == 0) error = cudaErrorNoDevice;
    else if (way != RESETS && sticky) error = sticky;
    if (!error || way == GIVES_BACK) {
        const cudaError_t own = f();
        if (!error) error = own;
        if (sticky) error = sticky;
    }
    open_memory(false);
    if (error && error != cudaErrorNotReady) last_error = error;
    return error;
}

bool is_stream(cudaStream_t stream) {
    return !stream || std::any_of(streams.begin(), streams.end(), [=](cudaStream_t s) { return s == stream && !s->destroyed; });
}
bool is_event(cudaEvent_t event) { return std::find(events.begin(), events.end(), event) != events.end(); }

cudaError_t enqueue(cudaStream_t stream, std::function<void()> run, std::shared_ptr<Record> waits = nullptr) {
    if (!is_stream(stream)) return cudaErrorInvalidResourceHandle;
    (stream ? stream : &default_stream)->queue.push_back({++operation_count, std::move(run), std::move(waits)});
    return cudaSuccess;
}

bool can_run(const CUstream_st &stream) {
    if (stream.queue.empty()) return false;
    const Operation &first = stream.queue.front();
    if (first.waits && !first.waits->done && !sticky) return false; /* after an error nothing runs, and nothing waits */
    for (const CUstream_st *other : streams)
        if (stream.blocking && other->blocking && other != &stream && (&stream == &default_stream || other == &default_stream) &&
            !other->queue.empty() && other->queue.front().number < first.number)
            return false;
    return true;
}

/* Runs an operation that can, of any stream, or with `order` of the first there. */
bool step(const std::vector<CUstream_st *> *order) {
    std::vector<CUstream_st *> able;
    for (CUstream_st *s : order ? *order : streams)
        if (can_run(*s)) able.push_back(s);
    if (able.empty()) return false;
    CUstream_st *s = able[order ? 0 : random_below(stream_random, able.size())];
    Operation operation = std::move(s->queue.front());
    s->queue.pop_front();
    if (!sticky && operation.run) {
        open_memory(true);
        operation.run();
    }
    if (s->destroyed && s->queue.empty()) {
        streams.erase(std::find(streams.begin(), streams.end(), s));
        delete s;
    }
    return true;
}

/* Runs what is queued until `done`: half the times evenly mixed, half the times with some streams far ahead of others. */
template <class Done> void run_until(Done done) {
    if (done()) return;
    stream_random = mix(settings.seed * 0x9e3779b97f4a7c15u + ++wait_count + ((uint64_t)1 << 40));
    const bool ahead = next_random(stream_random) & 1;
    while (!done()) {
        std::vector<CUstream_st *> order = streams;
        if (ahead) {
            const uint64_t key = mix(settings.seed + wait_count);
            std::sort(order.begin(), order.end(), [key](CUstream_st *a, CUstream_st *b) { return mix(key ^ a->number) < mix(key ^ b->number); });
        }
        if (!step(ahead ? &order : nullptr)) {
            fprintf(stderr, "emulator: what is queued waits for ever\n");
            abort();
        }
    }
}

void run_all() {
    run_until([] { return std::all_of(streams.begin(), streams.end(), [](cudaStream_t s) { return s->queue.empty(); }); });
}

cudaError_t misuse(cudaError_t error, const std::string &text) {
    set_fault(error, text);
    return error;
}

cudaError_t allocate(Kind kind, void **memory, size_t bytes) {
    if (!memory) return cudaErrorInvalidValue;
    *memory = nullptr;
    if (!bytes) return cudaSuccess;
    if (kind == DEVICE && bytes > settings.memory - std::min(settings.memory, used_memory)) return cudaErrorMemoryAllocation;
    Memory m = map_memory(kind, bytes, 16, "");
    m.device = current_device;
    if (kind == DEVICE) {
        used_memory += bytes;
        m.allow(memory_open ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
    memories[m.start] = m;
    *memory = m.start;
    return cudaSuccess;
}

cudaError_t release(Kind kind, void *memory) {
    if (!memory) return cudaSuccess;
    run_all();
    auto found = memories.find(static_cast<char *>(memory));
    if (found == memories.end() || found->second.kind != kind) return misuse(cudaErrorInvalidValue, print("%p is freed, but is no %s memory", memory, kind_names[kind]));
    const Memory m = found->second;
    m.allow(PROT_READ | PROT_WRITE);
    const bool held = margins_hold(m);
    memories.erase(found);
    if (kind == DEVICE) used_memory -= m.bytes;
    madvise(m.map, m.map_bytes, MADV_DONTNEED);
    mprotect(m.map, m.map_bytes, PROT_NONE);
    freed.push_back(m);
    if (freed.size() > 256) {
        unmap(freed.front());
        freed.pop_front();
    }
    return held || sticky ? cudaSuccess : misuse(cudaErrorInvalidValue, print("the host wrote outside of %s memory of %zu bytes", kind_names[kind], m.bytes));
}

/* One side of a copy; whether it is of the device. */
cudaError_t check_side(const void *memory, size_t bytes, bool asynchronous, bool device, bool any, bool *is_device) {
    const Memory *m = find_memory(memory);
    *is_device = m && m->kind == DEVICE;
    if (!any && *is_device != device)
        return misuse(cudaErrorInvalidValue, print("copy: %p is %s memory of the device", memory, device ? "no" : "a"));
    if (m && (size_t)(m->end() - static_cast<const char *>(memory)) < bytes)
        return misuse(cudaErrorInvalidValue, print("copy: %zu bytes at %p end behind their %s memory of %zu bytes", bytes, memory, kind_names[m->kind], m->bytes));
    if (!m && asynchronous && !settings.pageable) return misuse(cudaErrorInvalidValue, print("asynchronous copy: %p is not pinned", memory));
    return cudaSuccess;
}

cudaError_t copy(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height, cudaMemcpyKind kind,
                 cudaStream_t stream, bool asynchronous) {
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
    if (!width || !height) return cudaSuccess;
    if (height > 1 && (to_pitch < width || from_pitch < width)) return cudaErrorInvalidValue;
    if (!to || !from) return cudaErrorInvalidValue;
    const bool any = kind == cudaMemcpyDefault;
    bool to_device, from_device;
    cudaError_t error = check_side(to, to_pitch * (height - 1) + width, asynchronous, kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice, any, &to_device);
    if (!error)
        error = check_side(from, from_pitch * (height - 1) + width, asynchronous, kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice, any, &from_device);
    if (error) return error;
    return enqueue(stream, [=] {
        for (size_t row = 0; row < height; row++)
            memmove(static_cast<char *>(to) + row * to_pitch, static_cast<const char *>(from) + row * from_pitch, width);
    });
}

cudaError_t set(void *memory, int byte, size_t bytes, cudaStream_t stream) {
    if (!bytes) return cudaSuccess;
    bool device;
    const cudaError_t error = check_side(memory, bytes, true, true, false, &device);
    return error ? error : enqueue(stream, [=] { memset(memory, byte, bytes); });
}

cudaError_t wait_for(cudaStream_t stream) {
    if (!is_stream(stream)) return cudaErrorInvalidResourceHandle;
    run_until([=] { return (stream ? stream : &default_stream)->queue.empty(); });
    return cudaSuccess;
}

}  // namespace

void emulator::start(const char *text) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    settings = Settings();
    started = false;
    begin(text);
    sticky = last_error = cudaSuccess;
    last = {cudaSuccess, ""};
    call_count = launch_count = 0;
    wait_count = 0;
    range_names.clear();
}

long emulator::calls() { return call_count; }
long emulator::launches() { return launch_count; }
long emulator::live() { return (long)(memories.size() + streams.size() - 1 + events.size()); }
std::string emulator::last_fault() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return last.text;
}
std::vector<std::string> emulator::ranges() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return range_names;
}

int nvtxRangePushA(const char *name) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    range_names.push_back(name);
    return range_depth++;
}
int nvtxRangePop() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (range_depth == 0) return -1;
    range_names.push_back("/");
    return --range_depth;
}

const char *cudaGetErrorName(cudaError_t error) {
#define X(name, number, text)                                                                                         \
    if (error == name) return #name;
    TP_CUDA_ERRORS(X)
#undef X
    return "unrecognized error code";
}
const char *cudaGetErrorString(cudaError_t error) {
#define X(name, number, text)                                                                                         \
    if (error == name) return text;
    TP_CUDA_ERRORS(X)
#undef X
    return "unrecognized error code";
}
cudaError_t cudaPeekAtLastError() {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return sticky ? sticky : last_error;
}
cudaError_t cudaGetLastError() {
    const cudaError_t error = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 0;
    return call(NEEDS_DEVICE, [=] { return *count = device_count(), cudaSuccess; });
}
cudaError_t cudaSetDevice(int device) {
    return call(NEEDS_DEVICE, [=] {
        if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
        current_device = device;
        return cudaSuccess;
    });
}
cudaError_t cudaGetDevice(int *device) {
    return call(NEEDS_DEVICE, [=] { return *device = current_device, cudaSuccess; });
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    return call(NEEDS_DEVICE, [=] {
        if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
        *p = {"Emulated device", settings.memory, 48 << 10, shared_limit() + 1024, shared_limit(), settings.major, settings.minor,
              settings.multiprocessors, 4 << 20, 32, 1024};
        return cudaSuccess;
    });
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp p;
    const cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (error) return error;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    default: return last_error = cudaErrorInvalidValue;
    }
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) {
    return call(ALWAYS, [=] { return *version = settings.driver, cudaSuccess; });
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    return call(ALWAYS, [=] { return *version = 13000, cudaSuccess; });
}
cudaError_t cudaDeviceSynchronize() {
    return call(NEEDS_DEVICE, [] { return run_all(), cudaSuccess; });
}
cudaError_t cudaDeviceReset() {
    return call(RESETS, [] {
        run_all();
        while (!memories.empty()) release(memories.begin()->second.kind, memories.begin()->second.start);
        for (cudaStream_t s : streams)
            if (s != &default_stream) delete s;
        streams = {&default_stream};
        for (cudaEvent_t e : events) delete e;
        events.clear();
        dynamic_limits.clear();
        sticky = last_error = cudaSuccess;
        return cudaSuccess;
    });
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    return call(NEEDS_DEVICE, [=] {
        *total = settings.memory;
        *free = settings.memory - std::min(settings.memory, used_memory);
        return cudaSuccess;
    });
}
cudaError_t cudaMalloc(void **memory, size_t bytes) {
    return call(NEEDS_DEVICE, [=] { return allocate(DEVICE, memory, bytes); });
}
cudaError_t cudaFree(void *memory) {
    return call(GIVES_BACK, [=] { return release(DEVICE, memory); });
}
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
    return call(NEEDS_DEVICE, [=] { return allocate(PINNED, memory, bytes); });
}
cudaError_t cudaMallocHost(void **memory, size_t bytes, unsigned flags) { return cudaHostAlloc(memory, bytes, flags); }
cudaError_t cudaFreeHost(void *memory) {
    return call(GIVES_BACK, [=] { return release(PINNED, memory); });
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
    return call(NEEDS_DEVICE, [=] {
        const Memory *m = find_memory(pointer);
        if (m && pointer == m->end()) m = nullptr;
        void *p = const_cast<void *>(pointer);
        *attributes = {};
        if (!m)
            *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, p};
        else
            *attributes = {m->kind == DEVICE ? cudaMemoryTypeDevice : cudaMemoryTypeHost, m->device, p, m->kind == DEVICE ? nullptr : p};
        return cudaSuccess;
    });
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    return call(NEEDS_DEVICE, [=] { return copy(to, bytes, from, bytes, bytes, 1, kind, stream, true); });
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
    return call(NEEDS_DEVICE, [=] { return copy(to, to_pitch, from, from_pitch, width, height, kind, stream, true); });
}
cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height, cudaMemcpyKind kind) {
    return call(NEEDS_DEVICE, [=] {
        const cudaError_t error = copy(to, to_pitch, from, from_pitch, width, height, kind, nullptr, false);
        return error ? error : wait_for(nullptr);
    });
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) { return cudaMemcpy2D(to, bytes, from, bytes, bytes, 1, kind); }
cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t stream) {
    return call(NEEDS_DEVICE, [=] { return set(memory, byte, bytes, stream); });
}
cudaError_t cudaMemset(void *memory, int byte, size_t bytes) { return cudaMemsetAsync(memory, byte, bytes, nullptr); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    return call(NEEDS_DEVICE, [=] {
        *stream = new CUstream_st{!(flags & cudaStreamNonBlocking), false, ++stream_count, {}};
        streams.push_back(*stream);
        return cudaSuccess;
    });
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    return call(GIVES_BACK, [=] {
        if (!stream || !is_stream(stream)) return cudaErrorInvalidResourceHandle;
        stream->destroyed = true; /* what is queued still runs */
        if (stream->queue.empty()) {
            streams.erase(std::find(streams.begin(), streams.end(), stream));
            delete stream;
        }
        return cudaSuccess;
    });
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return call(NEEDS_DEVICE, [=] { return wait_for(stream); });
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return call(NEEDS_DEVICE, [=] {
        if (!is_stream(stream)) return cudaErrorInvalidResourceHandle;
        step(nullptr);
        return (stream ? stream : &default_stream)->queue.empty() ? cudaSuccess : cudaErrorNotReady;
    });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    return call(NEEDS_DEVICE, [=] {
        if (!is_event(event)) return cudaErrorInvalidResourceHandle;
        return event->record ? enqueue(stream, nullptr, event->record) : cudaSuccess;
    });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    return call(NEEDS_DEVICE, [=] {
        *event = new CUevent_st{!(flags & cudaEventDisableTiming), nullptr};
        events.push_back(*event);
        return cudaSuccess;
    });
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    return call(GIVES_BACK, [=] {
        if (!is_event(event)) return cudaErrorInvalidResourceHandle;
        events.erase(std::find(events.begin(), events.end(), event));
        delete event;
        return cudaSuccess;
    });
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return call(NEEDS_DEVICE, [=] {
        if (!is_event(event)) return cudaErrorInvalidResourceHandle;
        auto record = std::make_shared<Record>();
        event->record = record;
        return enqueue(stream, [=] {
            record->done = true;
            clock_gettime(CLOCK_MONOTONIC, &record->time);
        });
    });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return call(NEEDS_DEVICE, [=] {
        if (!is_event(event)) return cudaErrorInvalidResourceHandle;
        auto record = event->record;
        run_until([&] { return sticky || !record || record->done; });
        return cudaSuccess;
    });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    return call(NEEDS_DEVICE, [=] {
        if (!is_event(event)) return cudaErrorInvalidResourceHandle;
        if (event->record && !event->record->done) step(nullptr);
        return !event->record || event->record->done ? cudaSuccess : cudaErrorNotReady;
    });
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    return call(NEEDS_DEVICE, [=] {
        for (cudaEvent_t e : {begin, end})
            if (!is_event(e) || !e->timed || !e->record) return cudaErrorInvalidResourceHandle;
        if (!begin->record->done || !end->record->done) return cudaErrorNotReady;
        const timespec a = begin->record->time, b = end->record->time;
        *milliseconds = (float)((double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6);
        return cudaSuccess;
    });
}

/* As __launch_bounds__ says; 1024 without. */
static int most_threads(const void *kernel) {
    const unsigned char *p = static_cast<const unsigned char *>(kernel);
    if (!memcmp(p, "\xf3\x0f\x1e\xfa", 4)) p += 4; /* endbr64 */
    int units = 0;
    while (p[units] == 0x90) units++; /* nop */
    return units ? units * 32 : 1024;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value) {
    return call(NEEDS_DEVICE, [=] {
        if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
        if (value < 0 || (size_t)value > shared_limit()) return cudaErrorInvalidValue;
        dynamic_limits[kernel] = (size_t)value;
        return cudaSuccess;
    });
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel) {
    return call(NEEDS_DEVICE, [=] {
        auto limit = dynamic_limits.find(kernel);
        *attributes = {};
        attributes->maxThreadsPerBlock = most_threads(kernel);
        attributes->numRegs = 32;
        attributes->ptxVersion = attributes->binaryVersion = settings.major * 10 + settings.minor;
        attributes->maxDynamicSharedSizeBytes = limit == dynamic_limits.end() ? 48 << 10 : (int)limit->second;
        return cudaSuccess;
    });
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads, size_t dynamic_bytes) {
    return call(NEEDS_DEVICE, [=] {
        if (threads < 1) return cudaErrorInvalidValue;
        *blocks = std::min({2048 / ((threads + 31) / 32 * 32), (int)((shared_limit() + 1024) / (dynamic_bytes + 1024)), 32});
        return cudaSuccess;
    });
}

cudaError_t emulator::launch(const cudaLaunchConfig_t &config, const void *kernel, std::vector<const void *> pointers,
                             std::function<void()> thread) {
    return call(NEEDS_DEVICE, [&]() -> cudaError_t {
        const dim3 g = config.gridDim, b = config.blockDim;
        if (!g.x || !g.y || !g.z || g.x > 0x7fffffff || g.y > 65535 || g.z > 65535) return cudaErrorInvalidConfiguration;
        if (!b.x || !b.y || !b.z || b.x > 1024 || b.y > 1024 || b.z > 64 || (uint64_t)b.x * b.y * b.z > 1024) return cudaErrorInvalidConfiguration;
        if (b.x * b.y * b.z > (unsigned)most_threads(kernel))
            return misuse(cudaErrorInvalidValue, print("kernel %s: %u threads, but it is made for %d", function_name(kernel).c_str(), b.x * b.y * b.z, most_threads(kernel)));
        auto limit = dynamic_limits.find(kernel);
        if (config.dynamicSmemBytes > (limit == dynamic_limits.end() ? (size_t)48 << 10 : limit->second)) return cudaErrorInvalidValue;
        auto launch = std::make_shared<Launch>(Launch{kernel, g, b, config.dynamicSmemBytes, std::move(pointers), std::move(thread)});
        return enqueue(config.stream, [launch] {
            if (!run_launch(*launch)) sticky = last.error;
        });
    });
}
