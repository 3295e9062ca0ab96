/* Enough of a driver for cuDNN to compile kernels where there is none: it has no device, and takes every kernel. */
#define NONE(name) int name(void) { return 100; }
#define FINE(name) int name(void) { return 0; }
#define MAKES(name) int name(void **made) { *made = &made; return 0; }
NONE(cuInit)
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuGetErrorName(int code, const char **text) { *text = "CUDA_ERROR_NO_DEVICE"; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "no device"; return 0; }
NONE(cuCtxGetCurrent)
NONE(cuCtxGetLimit)
NONE(cuCtxPopCurrent)
NONE(cuCtxPushCurrent)
NONE(cuStreamGetCtx)
NONE(cuLinkCreate)
NONE(cuLinkAddData)
NONE(cuLinkComplete)
NONE(cuLinkDestroy)
NONE(cuLaunchKernel)
NONE(cuLaunchCooperativeKernel)
NONE(cuDeviceGetCount)
NONE(cuDeviceGet)
MAKES(cuLibraryLoadData)
MAKES(cuLibraryLoadFromFile)
MAKES(cuLibraryGetKernel)
FINE(cuLibraryUnload)
FINE(cuKernelSetAttribute)
FINE(cuKernelGetAttribute)
MAKES(cuKernelGetFunction)
NONE(cuOccupancyMaxPotentialClusterSize)
NONE(cuLaunchKernelEx)
