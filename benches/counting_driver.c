/* A CUDA driver that computes nothing: to count what a training asks of a GPU on a machine that has none.
 *
 *     gcc -O2 -shared -fPIC -o DIR/libcuda.so benches/counting_driver.c
 *     LD_LIBRARY_PATH=DIR UMBRA_COUNT_LAUNCHES=1 UMBRA_CUDA_LIBS=.../site-packages/nvidia \
 *         umbra bench --device cuda:0 --bf16
 *
 * `libcuda.so` and not `libcuda.so.1`: NVRTC opens the latter itself and wants a real one. Memory is address space that
 * nobody may touch, copies to the host give zeros, kernels are counted by name. At the end one line of JSON goes to the
 * file COUNTING_DRIVER_LOG (else stderr), and with COUNTING_DRIVER_KERNELS a line per kernel and its launches.
 *
 * Functions are those of cuda.h; what is not here is not called by cubecl, NVRTC, cuDNN's planning or umbra. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

typedef int Result;
typedef uint64_t Address;
#define SUCCESS 0
#define OUT_OF_MEMORY 2
#define NOT_SUPPORTED 801

/* The card that is pretended: an H100. */
#define MEMORY ((size_t)80 << 30)

/* ---- what is counted ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long modules, launches, allocations, to_device, to_host, waits;
static size_t live, peak;

struct kernel {
    char name[256];
    long launches;
    struct kernel *next;
};
static struct kernel *kernels;

static void tell(void) {
    const char *path = getenv("COUNTING_DRIVER_LOG");
    FILE *out = path ? fopen(path, "a") : stderr;
    if (!out) return;
    fprintf(out,
            "{\"modules\":%ld,\"launches\":%ld,\"allocations\":%ld,\"to_device\":%ld,\"to_host\":%ld,\"waits\":%ld,"
            "\"peak_gib\":%.3f}\n",
            modules, launches, allocations, to_device, to_host, waits, (double)peak / (1 << 30));
    if (getenv("COUNTING_DRIVER_KERNELS"))
        for (struct kernel *k = kernels; k; k = k->next)
            if (k->launches) fprintf(out, "%8ld %s\n", k->launches, k->name);
    if (path) fclose(out);
}

__attribute__((constructor)) static void begin(void) { atexit(tell); }

static void *handle(void) {
    static uintptr_t next = 0x10000;
    return (void *)__sync_add_and_fetch(&next, 16);
}

/* ---- devices and contexts ---- */

static __thread void *current;

Result cuInit(unsigned flags) { (void)flags; return SUCCESS; }
Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) { *device = ordinal; return SUCCESS; }
Result cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    snprintf(name, length, "counting driver, no card");
    return SUCCESS;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = MEMORY; return SUCCESS; }
Result cuDeviceGetPCIBusId(char *text, int length, int device) {
    snprintf(text, length, "0000:%02x:00.0", device + 1);
    return SUCCESS;
}
Result cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, device + 1, 16); return SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    static const int known[][2] = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64},           /* threads per block, block x y z */
        {5, 2147483647}, {6, 65535}, {7, 65535},            /* grid x y z */
        {8, 49152}, {10, 32}, {16, 132}, {39, 2048},        /* shared, warp, multiprocessors, threads of one */
        {75, 9}, {76, 0}, {81, 233472}, {97, 232448},       /* capability, shared per multiprocessor, opt-in */
    };
    *value = 1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i][0] == attribute) *value = known[i][1];
    return SUCCESS;
}
Result cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)(uintptr_t)(0x1000 + device);
    return SUCCESS;
}
Result cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return SUCCESS; }
Result cuCtxSetCurrent(void *context) { current = context; return SUCCESS; }
Result cuCtxGetCurrent(void **context) { *context = current; return SUCCESS; }
Result cuCtxPushCurrent_v2(void *context) { current = context; return SUCCESS; }
Result cuCtxPushCurrent(void *context) { current = context; return SUCCESS; }
Result cuCtxPopCurrent_v2(void **context) { *context = current; return SUCCESS; }
Result cuCtxPopCurrent(void **context) { *context = current; return SUCCESS; }
Result cuCtxGetDevice(int *device) { *device = (int)((uintptr_t)current - 0x1000); return SUCCESS; }
Result cuCtxGetLimit(size_t *value, int limit) { (void)limit; *value = 1 << 20; return SUCCESS; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = 0;
    return SUCCESS;
}
Result cuCtxSynchronize(void) { __sync_fetch_and_add(&waits, 1); return SUCCESS; }
Result cuMemGetInfo_v2(size_t *free, size_t *total) { *total = MEMORY; *free = MEMORY - live; return SUCCESS; }

/* ---- streams and events ---- */

Result cuStreamCreate(void **stream, unsigned flags) { (void)flags; *stream = handle(); return SUCCESS; }
Result cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    (void)priority;
    return cuStreamCreate(stream, flags);
}
Result cuStreamSynchronize(void *stream) { (void)stream; __sync_fetch_and_add(&waits, 1); return SUCCESS; }
Result cuStreamQuery(void *stream) { (void)stream; return SUCCESS; }
Result cuStreamDestroy_v2(void *stream) { (void)stream; return SUCCESS; }
Result cuStreamGetCtx(void *stream, void **context) { (void)stream; *context = current; return SUCCESS; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    (void)stream; (void)event; (void)flags;
    return SUCCESS;
}
Result cuEventCreate(void **event, unsigned flags) { (void)flags; *event = handle(); return SUCCESS; }
Result cuEventRecord(void *event, void *stream) { (void)event; (void)stream; return SUCCESS; }
Result cuEventQuery(void *event) { (void)event; return SUCCESS; }
Result cuEventSynchronize(void *event) { (void)event; __sync_fetch_and_add(&waits, 1); return SUCCESS; }
Result cuEventDestroy_v2(void *event) { (void)event; return SUCCESS; }
Result cuEventElapsedTime(float *ms, void *from, void *to) { (void)from; (void)to; *ms = 0.01f; return SUCCESS; }
Result cuEventElapsedTime_v2(float *ms, void *from, void *to) { return cuEventElapsedTime(ms, from, to); }

/* ---- memory ---- */

struct block {
    Address at;
    size_t bytes;
    struct block *next;
};
static struct block *blocks;

static Result take(Address *at, size_t bytes) {
    Result result = OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    if (live + bytes <= MEMORY) {
        void *space = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        struct block *block = malloc(sizeof *block);
        if (space != MAP_FAILED && block) {
            *block = (struct block){(Address)space, bytes, blocks};
            blocks = block;
            *at = block->at;
            allocations++;
            live += bytes;
            if (live > peak) peak = live;
            result = SUCCESS;
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static Result give_back(Address at) {
    pthread_mutex_lock(&lock);
    for (struct block **block = &blocks; *block; block = &(*block)->next)
        if ((*block)->at == at) {
            struct block *gone = *block;
            *block = gone->next;
            live -= gone->bytes;
            munmap((void *)gone->at, gone->bytes);
            free(gone);
            break;
        }
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

Result cuMemAlloc_v2(Address *at, size_t bytes) { return take(at, bytes); }
Result cuMemAllocAsync(Address *at, size_t bytes, void *stream) { (void)stream; return take(at, bytes); }
Result cuMemFree_v2(Address at) { return give_back(at); }
Result cuMemFreeAsync(Address at, void *stream) { (void)stream; return give_back(at); }
Result cuMemAllocHost_v2(void **at, size_t bytes) { *at = malloc(bytes); return *at ? SUCCESS : OUT_OF_MEMORY; }
Result cuMemHostAlloc(void **at, size_t bytes, unsigned flags) { (void)flags; return cuMemAllocHost_v2(at, bytes); }
Result cuMemFreeHost(void *at) { free(at); return SUCCESS; }
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *stream) {
    (void)to; (void)from; (void)bytes; (void)stream;
    __sync_fetch_and_add(&to_device, 1);
    return SUCCESS;
}
Result cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) { return cuMemcpyHtoDAsync_v2(to, from, bytes, 0); }
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *stream) {
    (void)from; (void)stream;
    __sync_fetch_and_add(&to_host, 1);
    memset(to, 0, bytes);
    return SUCCESS;
}
Result cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) { return cuMemcpyDtoHAsync_v2(to, from, bytes, 0); }
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *stream) {
    (void)to; (void)from; (void)bytes; (void)stream;
    return SUCCESS;
}
/* CUDA_MEMCPY2D. */
struct rectangle {
    size_t from_x, from_y;
    int from_type;
    const void *from_host;
    Address from_device;
    void *from_array;
    size_t from_pitch, to_x, to_y;
    int to_type;
    void *to_host;
    Address to_device;
    void *to_array;
    size_t to_pitch, width, height;
};
Result cuMemcpy2DAsync_v2(const struct rectangle *copy, void *stream) {
    (void)stream;
    if (copy->to_type != 1) {
        __sync_fetch_and_add(&to_device, 1);
        return SUCCESS;
    }
    __sync_fetch_and_add(&to_host, 1);
    for (size_t row = 0; row < copy->height; row++)
        memset((char *)copy->to_host + row * copy->to_pitch, 0, copy->width);
    return SUCCESS;
}
Result cuMemsetD8Async(Address at, unsigned char value, size_t count, void *stream) {
    (void)at; (void)value; (void)count; (void)stream;
    return SUCCESS;
}
Result cuMemsetD32Async(Address at, unsigned value, size_t count, void *stream) {
    (void)at; (void)value; (void)count; (void)stream;
    return SUCCESS;
}

/* ---- kernels ---- */

Result cuModuleLoadData(void **module, const void *image) {
    (void)image;
    __sync_fetch_and_add(&modules, 1);
    *module = handle();
    return SUCCESS;
}
Result cuModuleLoadDataEx(void **module, const void *image, unsigned count, void *options, void *values) {
    (void)count; (void)options; (void)values;
    return cuModuleLoadData(module, image);
}
Result cuModuleUnload(void *module) { (void)module; return SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)module;
    struct kernel *kernel = calloc(1, sizeof *kernel);
    if (!kernel) return OUT_OF_MEMORY;
    strncpy(kernel->name, name, sizeof kernel->name - 1);
    pthread_mutex_lock(&lock);
    kernel->next = kernels;
    kernels = kernel;
    pthread_mutex_unlock(&lock);
    *function = kernel;
    return SUCCESS;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) {
    (void)function; (void)attribute; (void)value;
    return SUCCESS;
}
Result cuFuncGetAttribute(int *value, int attribute, void *function) {
    (void)attribute; (void)function;
    *value = 0;
    return SUCCESS;
}
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
    (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz;
    (void)shared; (void)stream; (void)arguments; (void)extra;
    __sync_fetch_and_add(&launches, 1);
    __sync_fetch_and_add(&((struct kernel *)function)->launches, 1);
    return SUCCESS;
}

/* ---- what cuDNN asks for while it compiles attention ---- */

Result cuLibraryLoadData(void **library, const void *code) { (void)code; *library = handle(); return SUCCESS; }
Result cuLibraryLoadFromFile(void **library, const char *path) { (void)path; *library = handle(); return SUCCESS; }
Result cuLibraryGetKernel(void **kernel, void *library, const char *name) {
    (void)library; (void)name;
    *kernel = handle();
    return SUCCESS;
}
Result cuLibraryUnload(void *library) { (void)library; return SUCCESS; }
Result cuKernelSetAttribute(int attribute, int value, void *kernel, int device) {
    (void)attribute; (void)value; (void)kernel; (void)device;
    return SUCCESS;
}
Result cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) {
    (void)attribute; (void)kernel; (void)device;
    *value = 0;
    return SUCCESS;
}
Result cuKernelGetFunction(void **function, void *kernel) { *function = kernel; return SUCCESS; }
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks_of_one) { *blocks_of_one = 2; return SUCCESS; }
Result cuOccupancyMaxPotentialClusterSize(int *size) { *size = 8; return SUCCESS; }
Result cuLinkCreate(void) { return NOT_SUPPORTED; }
Result cuLinkAddData(void) { return NOT_SUPPORTED; }
Result cuLinkComplete(void) { return NOT_SUPPORTED; }
Result cuLinkDestroy(void) { return NOT_SUPPORTED; }
Result cuLaunchKernelEx(void) { return NOT_SUPPORTED; }
Result cuLaunchCooperativeKernel(void) { return NOT_SUPPORTED; }
Result cuTensorMapEncodeTiled(void) { return SUCCESS; }
Result cuTensorMapEncodeIm2col(void) { return SUCCESS; }

Result cuGetErrorName(Result code, const char **name) { (void)code; *name = "COUNTING_DRIVER"; return SUCCESS; }
Result cuGetErrorString(Result code, const char **text) { (void)code; *text = "the counting driver"; return SUCCESS; }
