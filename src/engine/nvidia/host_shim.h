// CUDA's words for a C++ compiler of the host, so that `kernels.cu` runs in tests without a GPU.
//
// The threads of a block are fibers of one thread, switched at barriers and shuffles only; blocks run one after another.
// In which order fibers run between barriers is the caller's choice: results that depend on it show a missing barrier.
// Barriers that not all threads reach, and shuffles with a missing lane, end the process with a sentence.

#define UMBRA_HOST
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <utility>
#include <vector>

#define __global__ __attribute__((visibility("default")))
#define __device__
#define __shared__ static thread_local
#define __launch_bounds__(threads)
#define INLINE static inline

namespace host {

struct Dim {
    unsigned x, y, z;
};

struct Barrier {
    unsigned arrived = 0, alive = 0, round = 0;

    void open_if_complete() {
        if (alive > 0 && arrived == alive) {
            arrived = 0;
            round++;
        }
    }
};

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 16);
    Dim thread;
    unsigned flat;
    bool is_done;
};

inline thread_local Dim grid, block, block_at;
inline thread_local std::vector<Fiber> fibers;
inline thread_local Fiber* now;
inline thread_local ucontext_t scheduler;
inline thread_local Barrier of_block, of_warp[32];
inline thread_local float lanes[1024];
inline thread_local void (*body)(void**);
inline thread_local void** arguments;
inline thread_local bool has_moved;

[[noreturn]] inline void fail(const char* what) {
    fprintf(stderr, "host_shim: %s, block (%u, %u, %u)\n", what, block_at.x, block_at.y, block_at.z);
    abort();
}

inline void wait(Barrier& barrier) {
    unsigned round = barrier.round;
    barrier.arrived++;
    has_moved = true;
    barrier.open_if_complete();
    while (barrier.round == round) swapcontext(&now->context, &scheduler);
}

inline void enter() {
    body(arguments);
    now->is_done = has_moved = true;
    Barrier& warp = of_warp[now->flat / 32];
    of_block.alive--;
    warp.alive--;
    of_block.open_if_complete();
    warp.open_if_complete();
}

inline void run_block(bool is_backwards) {
    unsigned count = block.x * block.y * block.z;
    if (fibers.size() < count) fibers = std::vector<Fiber>(count);
    of_block = Barrier{0, count, 0};
    for (Barrier& warp : of_warp) warp = Barrier();
    for (unsigned i = 0; i < count; i++) {
        Fiber& fiber = fibers[i];
        fiber.thread = Dim{i % block.x, i / block.x % block.y, i / block.x / block.y};
        fiber.flat = i;
        fiber.is_done = false;
        of_warp[i / 32].alive++;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, enter, 0);
    }
    while (of_block.alive > 0) {
        has_moved = false;
        for (unsigned i = 0; i < count; i++) {
            now = &fibers[is_backwards ? count - 1 - i : i];
            if (!now->is_done) swapcontext(&scheduler, &now->context);
        }
        if (!has_moved) fail("some threads of a block or warp never reach a barrier");
    }
    if (of_block.arrived > 0) fail("a barrier is left with threads in it");
}

template <class... A, size_t... I>
void call_with(void (*kernel)(A...), void** from, std::index_sequence<I...>) {
    kernel(*(std::remove_cv_t<A>*)from[I]...);
}

template <class... A> void call(void (*kernel)(A...), void** from) {
    call_with(kernel, from, std::index_sequence_for<A...>());
}

}  // namespace host

#define threadIdx (host::now->thread)
#define blockIdx (host::block_at)
#define blockDim (host::block)
#define gridDim (host::grid)

inline void __syncthreads() { host::wait(host::of_block); }

inline float __shfl_xor_sync(unsigned mask, float x, int reach) {
    unsigned flat = host::now->flat;
    host::Barrier& warp = host::of_warp[flat / 32];
    if (mask != 0xffffffffu || warp.alive != 32) host::fail("a shuffle without all 32 lanes");
    host::lanes[flat] = x;
    host::wait(warp);
    float other = host::lanes[flat ^ (unsigned)reach];
    host::wait(warp);
    return other;
}

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}

inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// To nearest, ties to even, as `cvt.rn.bf16.f32`.
inline unsigned narrow_bits(float x) {
    unsigned bits = __float_as_uint(x);
    if (x != x) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline unsigned narrow_pair(float low, float high) { return narrow_bits(low) | narrow_bits(high) << 16; }

inline float __expf(float x) { return expf(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

// `KERNEL(name)` makes `call_name`, which takes its arguments as the driver does: an array of their addresses.
#define KERNEL(name) \
    extern "C" void call_##name(void** arguments) { host::call(name, arguments); }

// Runs `body` for every thread of every block. `dims`: grid x y z, block x y z.
extern "C" void launch(void (*body)(void**), const unsigned* dims, void** arguments, int is_backwards) {
    host::grid = {dims[0], dims[1], dims[2]};
    host::block = {dims[3], dims[4], dims[5]};
    host::body = body;
    host::arguments = arguments;
    for (unsigned z = 0; z < dims[2]; z++)
        for (unsigned y = 0; y < dims[1]; y++)
            for (unsigned x = 0; x < dims[0]; x++) {
                host::block_at = {x, y, z};
                host::run_block(is_backwards);
            }
}
