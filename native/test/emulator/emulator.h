/*
 * Device code on the processor. Each thread of a block is a fiber on one thread of the host; they switch at synchronizing operations,
 * in an order that the seed shuffles, and blocks run one after the other, in shuffled order. Faults end the launch as on a GPU, with an
 * error that stays; last_fault() says what it was. What is a fault, beside what a GPU knows:
 *   - shared memory: each array ends at a page that cannot be touched, and begins with contents that are no number;
 *   - lanes of a mask that do not meet in one line with one mask, a lane that is not in its own mask, a lane read that is not in the mask;
 *   - barriers that wait for ever, since others wait in another line;
 *   - pointer arguments that are addresses of the host's own memory;
 *   - what the host touches of the device's memory, which is a fault of the process;
 *   - writes just before or behind an allocation, found when the kernel ends.
 * Misaligned accesses trap if the code was compiled with -fsanitize=alignment -fsanitize-undefined-trap-on-error.
 */
#ifndef TP_EMULATOR_H
#define TP_EMULATOR_H

#include <cuda_runtime.h>
#include <string.h>

#include <string>
#include <vector>

namespace emulator {

/* ---- for tests ---- */

/* What TENSORPRESS_EMULATOR says at first; tests may change it at any time. */
struct Settings {
    int devices = 1;                   /* devices=N; CUDA_VISIBLE_DEVICES hides them */
    int major = 9, minor = 0;          /* cc=9.0 */
    int multiprocessors = 4;           /* sms=N */
    size_t memory = (size_t)256 << 20; /* memory=64M: of a device */
    int driver = 13000;                /* driver=0: there is none; driver=old: it is older than the runtime; or its version */
    uint64_t seed = 1;                 /* seed=N */
    bool preempt = false;              /* preempt=1: threads switch at atomic operations and fences too */
    bool pageable = false;             /* pageable=1: asynchronous copies from and to memory that is not pinned are let through */
    bool print = true;                 /* print=0: faults are not printed */
    long fail = 0, lost = 0;           /* fail=N, lost=N: the N-th call from now fails; after lost, so does every one */
    cudaError_t fail_with = cudaErrorMemoryAllocation, lost_with = cudaErrorECCUncorrectable;
};
extern Settings settings;

/* Settings as in TENSORPRESS_EMULATOR, over the defaults; and no error, no fault, and counts are 0. Nothing is freed. */
void start(const char *text);
/* Calls of the runtime, launches of kernels, and what is allocated (memory, streams, events), since start(). */
long calls();
long launches();
long live();
/* What the last fault was; empty: there was none. */
std::string last_fault();
/* Names of NVTX ranges since start(), in order; those that ended are "/". */
std::vector<std::string> ranges();

/* ---- for device code ---- */

/* Where an operation is called. */
struct Site {
    const char *function;
    int line;
    static constexpr Site here(const char *function = __builtin_FUNCTION(), int line = __builtin_LINE()) { return {function, line}; }
};

[[noreturn]] void fault(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Shared memory of the block by its declaration, which `key` stands for; filled with what is no number when a block first asks. */
void *shared(const void *key, size_t bytes, size_t alignment, const char *name);
void *dynamic_shared();
template <class T> T &shared_array(const void *key, const char *name) { return *static_cast<T *>(shared(key, sizeof(T), alignof(T), name)); }

struct Votes {
    int yes, all;
};
Votes barrier(const char *name, Site site, bool vote);

/* Waits until all lanes of the mask are here; the last one calls `finish` with what each brought, by lane. */
void meet(const char *name, Site site, unsigned mask, void *brought, void (*finish)(unsigned mask, void *const *brought));

void yield();
inline void preempt() {
    if (settings.preempt) yield();
}

/* An operation of lanes: `combine` makes the results of all from the values of all; those outside of the mask are not there. */
template <class T, class R>
R together(const char *name, Site site, unsigned mask, T value, void (*combine)(unsigned mask, const T *values, R *results)) {
    struct Brought {
        T value;
        R result;
        void (*combine)(unsigned, const T *, R *);
    } own = {value, R(), combine};
    meet(name, site, mask, &own, [](unsigned mask, void *const *brought) {
        T values[32] = {};
        R results[32] = {};
        Brought *any = nullptr;
        for (int lane = 0; lane < 32; lane++)
            if (mask >> lane & 1) values[lane] = (any = static_cast<Brought *>(brought[lane]))->value;
        any->combine(mask, values, results);
        for (int lane = 0; lane < 32; lane++)
            if (mask >> lane & 1) static_cast<Brought *>(brought[lane])->result = results[lane];
    });
    return own.result;
}

/* The same for a result that all lanes share: `add` joins two values. */
template <class T, class Add> T reduce(const char *name, Site site, unsigned mask, T value, Add) {
    return together<T, T>(name, site, mask, value, [](unsigned mask, const T *values, T *results) {
        T sum = values[__builtin_ctz(mask)];
        for (int lane = __builtin_ctz(mask) + 1; lane < 32; lane++)
            if (mask >> lane & 1) sum = Add::join(sum, values[lane]);
        for (int lane = 0; lane < 32; lane++) results[lane] = sum;
    });
}
#define TP_JOIN(name, expression)                                                                                     \
    struct name {                                                                                                     \
        template <class T> static T join(T a, T b) { return expression; }                                             \
    };
TP_JOIN(Sum, a + b)
TP_JOIN(Least, b < a ? b : a)
TP_JOIN(Most, a < b ? b : a)
TP_JOIN(And, a & b)
TP_JOIN(Or, a | b)
TP_JOIN(Xor, a ^ b)
#undef TP_JOIN

template <class T> struct Shuffle {
    const char *name;
    T value;
    int from; /* lane */
};
template <class T> T shuffle(const char *name, Site site, unsigned mask, T value, int from) {
    static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles are of 4 or 8 bytes");
    return together<Shuffle<T>, T>(name, site, mask, {name, value, from}, [](unsigned mask, const Shuffle<T> *values, T *results) {
        for (int lane = 0; lane < 32; lane++) {
            if (!(mask >> lane & 1)) continue;
            const int from = values[lane].from;
            if (!(mask >> from & 1))
                fault(cudaErrorLaunchFailure, "%s: lane %d reads lane %d, which mask %08x leaves out", values[lane].name, lane, from,
                      mask);
            results[lane] = values[from].value;
        }
    });
}
inline int lane() { return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32); }

template <class To, class From> To bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "bits are as many as before");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

/* A float as an integer, as the device converts: what is too large is the nearest, NaN is 0 (64 bits: the least). */
template <class I, class F> I to_integer(F rounded) {
    if (rounded != rounded) return sizeof(I) == 8 ? (I)((uint64_t)1 << 63) : 0;
    const F least = (F)(I)(std::is_signed<I>::value ? (I)1 << (8 * sizeof(I) - 1) : 0), end = (F)ldexp(1, 8 * (int)sizeof(I) - std::is_signed<I>::value);
    return rounded < least ? (I)least : rounded >= end ? (I) ~(std::is_signed<I>::value ? (I)1 << (8 * sizeof(I) - 1) : 0) : (I)rounded;
}

/* What is changed by an atomic operation: returns what was there. */
template <class T, class Change> T atomic(T *p, Change change) {
    static_assert(!std::is_same<T, long>::value && !std::is_same<T, unsigned long>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                  "CUDA has no atomic operations of this type");
    preempt();
    const T old = *p;
    *p = change(old);
    return old;
}
template <class T> using Plain = typename std::common_type<T>::type;

}  // namespace emulator

/* ---- shared memory ---- */

/* Each declaration, in each instance of a template, has a key of its own. */
#define TP_SHARED(type, name, ...)                                                                                    \
    auto &name = emulator::shared_array<type __VA_ARGS__>(                                                            \
        [] {                                                                                                          \
            static const char key = 0;                                                                                \
            return &key;                                                                                              \
        }(),                                                                                                          \
        #name)
#define TP_DYNAMIC_SHARED(type, name) type *const name = static_cast<type *>(emulator::dynamic_shared())

void tp_copy_async16(void *shared, const void *global);
void tp_copy_async_commit();
namespace emulator {
void copy_async_wait(unsigned pending);
}
template <int pending> void tp_copy_async_wait() { emulator::copy_async_wait(pending); }

/* ---- tensor cores ---- */

void tp_mma_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], emulator::Site site = emulator::Site::here());
void tp_mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], emulator::Site site = emulator::Site::here());
void tp_mma_f64(double (&d)[2], double a, double b, emulator::Site site = emulator::Site::here());

/* ---- barriers, votes, shuffles ---- */

#define TP_SITE emulator::Site site = emulator::Site::here()

inline void __syncthreads(TP_SITE) { emulator::barrier("__syncthreads", site, false); }
inline int __syncthreads_or(int vote, TP_SITE) { return emulator::barrier("__syncthreads_or", site, vote).yes != 0; }
inline int __syncthreads_count(int vote, TP_SITE) { return emulator::barrier("__syncthreads_count", site, vote).yes; }
inline int __syncthreads_and(int vote, TP_SITE) {
    const emulator::Votes votes = emulator::barrier("__syncthreads_and", site, vote);
    return votes.yes == votes.all;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, TP_SITE) {
    emulator::meet("__syncwarp", site, mask, nullptr, [](unsigned, void *const *) {});
}
unsigned __activemask() = delete; /* says nothing that code may rely on */

inline unsigned __ballot_sync(unsigned mask, int vote, TP_SITE) {
    return emulator::reduce("__ballot_sync", site, mask, vote ? 1u << emulator::lane() : 0u, emulator::Or());
}
inline int __any_sync(unsigned mask, int vote, TP_SITE) {
    return emulator::reduce("__any_sync", site, mask, vote != 0 ? 1u : 0u, emulator::Or()) != 0;
}
inline int __all_sync(unsigned mask, int vote, TP_SITE) {
    return emulator::reduce("__all_sync", site, mask, vote != 0 ? 1u : 0u, emulator::And()) != 0;
}
#define TP_REDUCE(name, join, type)                                                                                   \
    inline type name(unsigned mask, type value, TP_SITE) { return emulator::reduce(#name, site, mask, value, emulator::join()); }
TP_REDUCE(__reduce_add_sync, Sum, unsigned)
TP_REDUCE(__reduce_min_sync, Least, unsigned)
TP_REDUCE(__reduce_min_sync, Least, int)
TP_REDUCE(__reduce_max_sync, Most, unsigned)
TP_REDUCE(__reduce_max_sync, Most, int)
TP_REDUCE(__reduce_and_sync, And, unsigned)
TP_REDUCE(__reduce_or_sync, Or, unsigned)
TP_REDUCE(__reduce_xor_sync, Xor, unsigned)
#undef TP_REDUCE
inline int __reduce_add_sync(unsigned mask, int value, TP_SITE) { return (int)__reduce_add_sync(mask, (unsigned)value, site); }

template <class T> unsigned __match_any_sync(unsigned mask, T value, TP_SITE) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "matches are of 4 or 8 bytes");
    return emulator::together<T, unsigned>("__match_any_sync", site, mask, value, [](unsigned mask, const T *values, unsigned *results) {
        for (int lane = 0; lane < 32; lane++)
            for (int other = 0; other < 32; other++)
                if (mask >> other & 1 && !memcmp(&values[lane], &values[other], sizeof(T))) results[lane] |= 1u << other;
    });
}

/* The lane's own value where there is no lane to read. */
template <class T> T __shfl_sync(unsigned mask, T value, int from, int width = 32, TP_SITE) {
    const int lane = emulator::lane();
    return emulator::shuffle("__shfl_sync", site, mask, value, (lane & -width) | (from & (width - 1)));
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, TP_SITE) {
    const int lane = emulator::lane();
    return emulator::shuffle("__shfl_up_sync", site, mask, value, lane - (int)by < (lane & -width) ? lane : lane - (int)by);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, TP_SITE) {
    const int lane = emulator::lane();
    return emulator::shuffle("__shfl_down_sync", site, mask, value, lane + (int)by > (lane | (width - 1)) ? lane : lane + (int)by);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, TP_SITE) {
    const int lane = emulator::lane();
    return emulator::shuffle("__shfl_xor_sync", site, mask, value, (lane ^ with) > (lane | (width - 1)) ? lane : lane ^ with);
}
#undef TP_SITE

/* ---- atomic operations, fences, loads ---- */

template <class T> T atomicAdd(T *p, emulator::Plain<T> x) {
    return emulator::atomic(p, [=](T old) {
        if constexpr (std::is_integral<T>::value)
            return (T)((typename std::make_unsigned<T>::type)old + (typename std::make_unsigned<T>::type)x);
        else
            return old + x;
    });
}
#define TP_ATOMIC(name, expression)                                                                                   \
    template <class T> T name(T *p, emulator::Plain<T> x) {                                                           \
        static_assert(std::is_integral<T>::value, "CUDA has " #name " for integers alone");                           \
        return emulator::atomic(p, [=](T old) { return (T)(expression); });                                           \
    }
TP_ATOMIC(atomicMin, x < old ? x : old)
TP_ATOMIC(atomicMax, old < x ? x : old)
TP_ATOMIC(atomicAnd, old &x)
TP_ATOMIC(atomicOr, old | x)
TP_ATOMIC(atomicXor, old ^ x)
#undef TP_ATOMIC
template <class T> T atomicExch(T *p, emulator::Plain<T> x) {
    return emulator::atomic(p, [=](T) { return x; });
}
template <class T> T atomicCAS(T *p, emulator::Plain<T> expected, emulator::Plain<T> x) {
    return emulator::atomic(p, [=](T old) { return old == expected ? x : old; });
}

inline void __threadfence() { emulator::preempt(); }
inline void __threadfence_block() { emulator::preempt(); }
inline void __threadfence_system() { emulator::preempt(); }
inline void __nanosleep(unsigned) { emulator::yield(); }
[[noreturn]] inline void __trap() { emulator::fault(cudaErrorLaunchFailure, "__trap"); }

template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> T __ldca(const T *p) { return *p; }
template <class T> void __stcg(T *p, emulator::Plain<T> x) { *p = x; }
template <class T> void __stcs(T *p, emulator::Plain<T> x) { *p = x; }
template <class T> void __stwb(T *p, emulator::Plain<T> x) { *p = x; }

/* ---- bits and numbers ---- */

#define TP_FUNCTION(type, name, parameters, expression)                                                               \
    inline type name parameters { return expression; }
TP_FUNCTION(unsigned, __float_as_uint, (float x), emulator::bits<unsigned>(x))
TP_FUNCTION(int, __float_as_int, (float x), emulator::bits<int>(x))
TP_FUNCTION(float, __uint_as_float, (unsigned x), emulator::bits<float>(x))
TP_FUNCTION(float, __int_as_float, (int x), emulator::bits<float>(x))
TP_FUNCTION(long long, __double_as_longlong, (double x), emulator::bits<long long>(x))
TP_FUNCTION(double, __longlong_as_double, (long long x), emulator::bits<double>(x))
TP_FUNCTION(double, __hiloint2double, (int high, int low), emulator::bits<double>((uint64_t)(unsigned)high << 32 | (unsigned)low))
TP_FUNCTION(int, __double2hiint, (double x), (int)(emulator::bits<uint64_t>(x) >> 32))
TP_FUNCTION(int, __double2loint, (double x), (int)emulator::bits<uint64_t>(x))

TP_FUNCTION(float, __fadd_rn, (float a, float b), a + b)
TP_FUNCTION(float, __fsub_rn, (float a, float b), a - b)
TP_FUNCTION(float, __fmul_rn, (float a, float b), a *b)
TP_FUNCTION(float, __fdiv_rn, (float a, float b), a / b)
TP_FUNCTION(float, __fsqrt_rn, (float a), sqrtf(a))
TP_FUNCTION(float, __frcp_rn, (float a), 1 / a)
TP_FUNCTION(float, __fmaf_rn, (float a, float b, float c), fmaf(a, b, c))
TP_FUNCTION(double, __dadd_rn, (double a, double b), a + b)
TP_FUNCTION(double, __dsub_rn, (double a, double b), a - b)
TP_FUNCTION(double, __dmul_rn, (double a, double b), a *b)
TP_FUNCTION(double, __ddiv_rn, (double a, double b), a / b)
TP_FUNCTION(double, __dsqrt_rn, (double a), sqrt(a))
TP_FUNCTION(double, __fma_rn, (double a, double b, double c), fma(a, b, c))
TP_FUNCTION(float, rsqrtf, (float x), 1 / sqrtf(x))
TP_FUNCTION(double, rsqrt, (double x), 1 / sqrt(x))
TP_FUNCTION(float, __saturatef, (float x), x > 0 ? x < 1 ? x : 1.0f : 0.0f)

TP_FUNCTION(int, __float2int_rn, (float x), emulator::to_integer<int>(rintf(x)))
TP_FUNCTION(int, __float2int_rz, (float x), emulator::to_integer<int>(truncf(x)))
TP_FUNCTION(int, __float2int_rd, (float x), emulator::to_integer<int>(floorf(x)))
TP_FUNCTION(int, __float2int_ru, (float x), emulator::to_integer<int>(ceilf(x)))
TP_FUNCTION(unsigned, __float2uint_rn, (float x), emulator::to_integer<unsigned>(rintf(x)))
TP_FUNCTION(unsigned, __float2uint_rz, (float x), emulator::to_integer<unsigned>(truncf(x)))
TP_FUNCTION(long long, __float2ll_rn, (float x), emulator::to_integer<long long>(rintf(x)))
TP_FUNCTION(int, __double2int_rn, (double x), emulator::to_integer<int>(rint(x)))
TP_FUNCTION(int, __double2int_rz, (double x), emulator::to_integer<int>(trunc(x)))
TP_FUNCTION(long long, __double2ll_rn, (double x), emulator::to_integer<long long>(rint(x)))
TP_FUNCTION(long long, __double2ll_rz, (double x), emulator::to_integer<long long>(trunc(x)))
TP_FUNCTION(float, __double2float_rn, (double x), (float)x)
TP_FUNCTION(float, __int2float_rn, (int x), (float)x)
TP_FUNCTION(float, __uint2float_rn, (unsigned x), (float)x)
TP_FUNCTION(double, __int2double_rn, (int x), (double)x)
TP_FUNCTION(double, __uint2double_rn, (unsigned x), (double)x)
TP_FUNCTION(float, __ll2float_rn, (long long x), (float)x)
TP_FUNCTION(double, __ll2double_rn, (long long x), (double)x)

TP_FUNCTION(int, __popc, (unsigned x), __builtin_popcount(x))
TP_FUNCTION(int, __popcll, (unsigned long long x), __builtin_popcountll(x))
TP_FUNCTION(int, __clz, (int x), x ? __builtin_clz((unsigned)x) : 32)
TP_FUNCTION(int, __clzll, (long long x), x ? __builtin_clzll((unsigned long long)x) : 64)
TP_FUNCTION(int, __ffs, (int x), __builtin_ffs(x))
TP_FUNCTION(int, __ffsll, (long long x), __builtin_ffsll(x))
TP_FUNCTION(unsigned, __umulhi, (unsigned a, unsigned b), (unsigned)((uint64_t)a *b >> 32))
TP_FUNCTION(int, __mulhi, (int a, int b), (int)((int64_t)a *b >> 32))
TP_FUNCTION(unsigned long long, __umul64hi, (unsigned long long a, unsigned long long b), (unsigned long long)((unsigned __int128)a *b >> 64))
TP_FUNCTION(int, __mul24, (int a, int b), (int)(unsigned)((int64_t)((int)((unsigned)a << 8) >> 8) * ((int)((unsigned)b << 8) >> 8)))
TP_FUNCTION(unsigned, __funnelshift_l, (unsigned low, unsigned high, unsigned by), (unsigned)(((uint64_t)high << 32 | low) << (by & 31) >> 32))
TP_FUNCTION(unsigned, __funnelshift_r, (unsigned low, unsigned high, unsigned by), (unsigned)(((uint64_t)high << 32 | low) >> (by & 31)))
inline unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
    return y;
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const uint64_t both = (uint64_t)high << 32 | low;
    unsigned y = 0;
    for (int i = 0; i < 4; i++) y |= (unsigned)(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return y;
}
inline int __dp4a(int a, int b, int c) {
    unsigned sum = (unsigned)c;
    for (int i = 0; i < 32; i += 8) sum += (unsigned)((int8_t)(a >> i) * (int8_t)(b >> i));
    return (int)sum;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 32; i += 8) c += (a >> i & 0xff) * (b >> i & 0xff);
    return c;
}

#define TP_LEAST_AND_MOST(type)                                                                                       \
    TP_FUNCTION(type, min, (type a, type b), b < a ? b : a)                                                           \
    TP_FUNCTION(type, max, (type a, type b), a < b ? b : a)
TP_LEAST_AND_MOST(int)
TP_LEAST_AND_MOST(unsigned)
TP_LEAST_AND_MOST(long)
TP_LEAST_AND_MOST(unsigned long)
TP_LEAST_AND_MOST(long long)
TP_LEAST_AND_MOST(unsigned long long)
#undef TP_LEAST_AND_MOST
TP_FUNCTION(float, min, (float a, float b), fminf(a, b))
TP_FUNCTION(float, max, (float a, float b), fmaxf(a, b))
TP_FUNCTION(double, min, (double a, double b), fmin(a, b))
TP_FUNCTION(double, max, (double a, double b), fmax(a, b))
#undef TP_FUNCTION

#endif
