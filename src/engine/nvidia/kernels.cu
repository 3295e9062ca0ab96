// Umbra's own kernels: what NVIDIA's libraries do not do, or do in more passes over memory.
//
// One program without a header: NVRTC compiles it at run time, and `host_shim.h` turns it into host C++ for the tests.
// `kernels.rs` has the launch of each kernel (grid, block, scratch memory) and its arguments in order.
//
// Memory is [N, rows, C] with C innermost (NHWC; rows = H W). T is bf16 or float, by the kernel's last name. Tensors
// start at multiples of 16 bytes and overlap only where that is said. Sums and statistics are f32 and always taken in
// the same order: no result depends on how blocks are scheduled, given the same launch.
//
// Most kernels see memory as a *sheet* of rows and columns: a thread owns one pack of V neighbouring columns (8 where
// the number of columns allows it, else 1) and walks down its slice of the rows. Block (columns, rows), 256 threads at
// most; grid (tiles of columns, slices of rows, N).

typedef unsigned int u32;
typedef unsigned long long u64;

struct bf16 {
    unsigned short bits;
};

struct alignas(16) Quad {
    u32 word[4];
};

#ifndef UMBRA_HOST
#define INLINE __device__ __forceinline__

INLINE u32 narrow_pair(float low, float high) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
#endif

// ---- numbers ---------------------------------------------------------------------------------------------------

INLINE float widen(float x) { return x; }
INLINE float widen(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

INLINE void narrow(float x, float& out) { out = x; }
INLINE void narrow(float x, bf16& out) { out.bits = (unsigned short)narrow_pair(x, 0.0f); }

// What is left of `x` after a round trip through memory as T.
template <class T> INLINE float rounded(float x) {
    T out;
    narrow(x, out);
    return widen(out);
}

// Reads V neighbours; 16 bytes at a time where V is 8.
template <int V> INLINE void load(const float* from, float (&x)[V]) {
    if constexpr (V == 8) {
        Quad a = ((const Quad*)from)[0], b = ((const Quad*)from)[1];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[i] = __uint_as_float(a.word[i]);
            x[i + 4] = __uint_as_float(b.word[i]);
        }
    } else {
        x[0] = from[0];
    }
}

template <int V> INLINE void load(const bf16* from, float (&x)[V]) {
    if constexpr (V == 8) {
        Quad a = *(const Quad*)from;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[2 * i] = __uint_as_float(a.word[i] << 16);
            x[2 * i + 1] = __uint_as_float(a.word[i] & 0xffff0000u);
        }
    } else {
        x[0] = widen(from[0]);
    }
}

template <int V> INLINE void store(float* to, const float (&x)[V]) {
    if constexpr (V == 8) {
        Quad a, b;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a.word[i] = __float_as_uint(x[i]);
            b.word[i] = __float_as_uint(x[i + 4]);
        }
        ((Quad*)to)[0] = a;
        ((Quad*)to)[1] = b;
    } else {
        to[0] = x[0];
    }
}

template <int V> INLINE void store(bf16* to, const float (&x)[V]) {
    if constexpr (V == 8) {
        Quad a;
#pragma unroll
        for (int i = 0; i < 4; i++) a.word[i] = narrow_pair(x[2 * i], x[2 * i + 1]);
        *(Quad*)to = a;
    } else {
        narrow(x[0], to[0]);
    }
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

INLINE float silu(float x) { return x * sigmoid(x); }

INLINE float silu_slope(float x) {
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

// Share of a standard normal below `x`.
INLINE float normal_below(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118654752f)); }

INLINE float gelu(float x) { return x * normal_below(x); }

INLINE float gelu_slope(float x) {
    return normal_below(x) + x * 0.39894228040143268f * __expf(-0.5f * x * x);
}

// ---- sums over threads -----------------------------------------------------------------------------------------

const u32 WARP = 32, BLOCK = 256;

INLINE float warp_sum(float x) {
#pragma unroll
    for (int reach = 16; reach > 0; reach >>= 1) x += __shfl_xor_sync(0xffffffffu, x, reach);
    return x;
}

INLINE float warp_max(float x) {
#pragma unroll
    for (int reach = 16; reach > 0; reach >>= 1) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, reach));
    }
    return x;
}

// Sum over a flat block of 256 threads; every thread gets it.
INLINE float block_sum(float x) {
    __shared__ float of_warp[BLOCK / WARP];
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = x;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < BLOCK / WARP; i++) sum += of_warp[i];
    return sum;
}

INLINE u32 block_thread() { return threadIdx.y * blockDim.x + threadIdx.x; }

// Half of the smallest power of two that is not below `n`.
INLINE u32 first_reach(u32 n) {
    u32 power = 1;
    while (power < n) power *= 2;
    return power / 2;
}

// Sums `x` down the rows of a block; row 0 has the result.
template <int V> INLINE void sum_down(float (&x)[V]) {
    __shared__ float held[V * BLOCK];
    u32 at = block_thread();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < V; i++) held[i * BLOCK + at] = x[i];
    for (u32 reach = first_reach(blockDim.y); reach > 0; reach /= 2) {
        __syncthreads();
        if (threadIdx.y < reach && threadIdx.y + reach < blockDim.y) {
#pragma unroll
            for (int i = 0; i < V; i++) {
                x[i] += held[i * BLOCK + at + reach * blockDim.x];
                held[i * BLOCK + at] = x[i];
            }
        }
    }
}

// ---- sheets ----------------------------------------------------------------------------------------------------

INLINE u32 ceil_div(u32 a, u32 b) { return (a + b - 1) / b; }

INLINE u32 least(u32 a, u32 b) { return a < b ? a : b; }

// Rows in slice `slice` of `slices`; the last ones may have fewer, or none.
INLINE u32 rows_in_slice(u32 rows, u32 slices, u32 slice) {
    u32 each = ceil_div(rows, slices), first = least(rows, slice * each);
    return least(rows, first + each) - first;
}

// A thread's part of a sheet: its first column, and rows `first`, `first + step`, .. below `end`.
struct Part {
    u32 column, first, end, step;
    bool inside;
};

template <int V> INLINE Part part_of(u32 rows, u32 columns) {
    u32 each = ceil_div(rows, gridDim.y), top = least(rows, blockIdx.y * each);
    Part part;
    part.column = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    part.inside = part.column < columns;
    part.first = top + threadIdx.y;
    part.end = least(rows, top + each);
    part.step = blockDim.y;
    return part;
}

// Second stage of every sum over rows: `out`[C] = sum over slices of `partial`[planes, slices, C], plane 0 to `first`,
// plane 1 to `second`.
//
// Grid (ceil(columns / 32), planes), block (32, 8).
extern "C" __global__ void fold(const float* partial, float* first, float* second, u32 slices, u32 columns) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    float sum[1] = {0.0f};
    if (column < columns) {
        const float* from = partial + (u64)blockIdx.y * slices * columns + column;
#pragma unroll 4
        for (u32 slice = threadIdx.y; slice < slices; slice += blockDim.y) {
            sum[0] += from[(u64)slice * columns];
        }
    }
    sum_down(sum);
    float* out = blockIdx.y == 0 ? first : second;
    if (threadIdx.y == 0 && column < columns) out[column] = sum[0];
}

// First stage of a column sum: `partial`[slices, C] of x[rows, C]. Sheet.
template <class T, int V> INLINE void column_sums(const T* x, float* partial, u32 rows, u32 columns) {
    Part part = part_of<V>(rows, columns);
    float sum[V] = {};
    if (part.inside) {
#pragma unroll 4
        for (u32 row = part.first; row < part.end; row += part.step) {
            float v[V];
            load(x + (u64)row * columns + part.column, v);
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += v[i];
        }
    }
    sum_down(sum);
    if (part.inside && threadIdx.y == 0) store(partial + (u64)blockIdx.y * columns + part.column, sum);
}

// ---- group norm ------------------------------------------------------------------------------------------------
//
// u = (x + add - mean) rstd weight + bias, mean and rstd over the rows and channels of each of G groups of an image,
// y = u or SiLU(u). `add`[N, C] may be null.
//
// Forward: statistics, merge, apply. Backward: backward_sums, backward_merge, fold (weight and bias), backward_apply.

// `partial`[N, slices, C, 2]: mean and sum of squared differences from it, of one channel in one slice of rows. Sheet.
//
// Each thread shifts by the first value it sees: of k values, no one is further from their mean than sqrt(k) standard
// deviations, so little cancels even where the mean is large.
template <class T, int V>
INLINE void group_norm_statistics(const T* x, const T* add, float* partial, u32 rows, u32 channels) {
    __shared__ float means[V * BLOCK], squares[V * BLOCK], counts[BLOCK];
    Part part = part_of<V>(rows, channels);
    u32 n = blockIdx.z, at = block_thread();
    float shift[V] = {}, mean[V] = {}, square[V] = {}, count = 0.0f;
    if (part.inside && part.first < part.end) {
        x += (u64)n * rows * channels + part.column;
        load(x + (u64)part.first * channels, shift);
#pragma unroll 4
        for (u32 row = part.first; row < part.end; row += part.step) {
            float v[V];
            load(x + (u64)row * channels, v);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float d = v[i] - shift[i];
                mean[i] += d;
                square[i] += d * d;
            }
        }
        count = (float)ceil_div(part.end - part.first, part.step);
        float share = 1.0f / count;
#pragma unroll
        for (int i = 0; i < V; i++) {
            square[i] = fmaxf(square[i] - mean[i] * mean[i] * share, 0.0f);
            mean[i] = shift[i] + mean[i] * share;
        }
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        means[i * BLOCK + at] = mean[i];
        squares[i * BLOCK + at] = square[i];
    }
    counts[at] = count;
    for (u32 reach = first_reach(blockDim.y); reach > 0; reach /= 2) {
        __syncthreads();
        u32 other = at + reach * blockDim.x;
        if (threadIdx.y < reach && threadIdx.y + reach < blockDim.y && counts[other] > 0.0f) {
            // Chan, Golub & LeVeque (1979).
            float both = count + counts[other], share = counts[other] / both;
#pragma unroll
            for (int i = 0; i < V; i++) {
                float d = means[i * BLOCK + other] - mean[i];
                square[i] += squares[i * BLOCK + other] + d * d * count * share;
                mean[i] += d * share;
                means[i * BLOCK + at] = mean[i];
                squares[i * BLOCK + at] = square[i];
            }
            counts[at] = count = both;
        }
    }
    if (part.inside && threadIdx.y == 0) {
        float* out = partial + (((u64)n * gridDim.y + blockIdx.y) * channels + part.column) * 2;
#pragma unroll
        for (int i = 0; i < V; i++) {
            out[2 * i] = mean[i] + (add ? widen(add[(u64)n * channels + part.column + i]) : 0.0f);
            out[2 * i + 1] = square[i];
        }
    }
}

// mean, rstd [N, G] from the partial statistics. A warp for each group; grid ceil(N G / 4), block 128.
extern "C" __global__ void group_norm_merge(const float* partial, float* mean, float* rstd, u32 batch, u32 rows,
                                            u32 channels, u32 groups, u32 slices, float epsilon) {
    u32 group = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (group >= batch * groups) return;
    u32 n = group / groups, width = channels / groups;
    const float* from = partial + ((u64)n * slices * channels + (group % groups) * width) * 2;
    float total = (float)rows * (float)width, sum = 0.0f, square = 0.0f;
    // The first mean as a shift: sums of large numbers would lose the small ones.
    float shift = from[0];
#pragma unroll 4
    for (u32 i = lane; i < slices * width; i += WARP) {
        u32 slice = i / width;
        float at = from[((u64)slice * channels + i % width) * 2];
        sum += (float)rows_in_slice(rows, slices, slice) * (at - shift);
    }
    float difference = warp_sum(sum) / total;
#pragma unroll 4
    for (u32 i = lane; i < slices * width; i += WARP) {
        u32 slice = i / width;
        const float* at = from + ((u64)slice * channels + i % width) * 2;
        float d = at[0] - shift - difference;
        square += at[1] + (float)rows_in_slice(rows, slices, slice) * d * d;
    }
    square = warp_sum(square) / total;
    if (lane == 0) {
        mean[group] = shift + difference;
        rstd[group] = rsqrtf(square + epsilon);
    }
}

// What a thread needs of its channels: (v - center) rstd is the normalized value.
template <int V> struct Channels {
    float center[V], rstd[V], weight[V], bias[V];
};

template <class T, int V>
INLINE Channels<V> channels_of(u32 n, u32 column, const T* add, const float* weight, const float* bias,
                               const float* mean, const float* rstd, u32 channels, u32 groups) {
    Channels<V> of;
    u32 width = channels / groups;
#pragma unroll
    for (int i = 0; i < V; i++) {
        u32 channel = column + i, group = n * groups + channel / width;
        of.center[i] = mean[group] - (add ? widen(add[(u64)n * channels + channel]) : 0.0f);
        of.rstd[i] = rstd[group];
        of.weight[i] = weight[channel];
        of.bias[i] = bias[channel];
    }
    return of;
}

// y[N, rows, C]; may be x. Sheet.
template <class T, int V, bool SILU>
INLINE void group_norm_apply(const T* x, const T* add, const float* weight, const float* bias, const float* mean,
                             const float* rstd, T* y, u32 rows, u32 channels, u32 groups) {
    Part part = part_of<V>(rows, channels);
    if (!part.inside || part.first >= part.end) return;
    Channels<V> of = channels_of<T, V>(blockIdx.z, part.column, add, weight, bias, mean, rstd, channels, groups);
    u64 start = (u64)blockIdx.z * rows * channels + part.column;
    // Two rows at a time, so that twice as many bytes are under way.
    for (u32 row = part.first; row < part.end; row += 2 * part.step) {
        u32 num = row + part.step < part.end ? 2 : 1;
        float v[2][V];
#pragma unroll
        for (u32 k = 0; k < 2; k++) {
            if (k < num) load(x + start + (u64)(row + k * part.step) * channels, v[k]);
        }
#pragma unroll
        for (u32 k = 0; k < 2; k++) {
            if (k >= num) break;
#pragma unroll
            for (int i = 0; i < V; i++) {
                float u = (v[k][i] - of.center[i]) * of.rstd[i] * of.weight[i] + of.bias[i];
                v[k][i] = SILU ? silu(u) : u;
            }
            store(y + start + (u64)(row + k * part.step) * channels, v[k]);
        }
    }
}

// `partial`[3, N, slices, C]: sums over rows of du, du h and h, with h the normalized value. Sheet.
template <class T, int V, bool SILU>
INLINE void group_norm_backward_sums(const T* x, const T* add, const T* dy, const float* weight, const float* bias,
                                     const float* mean, const float* rstd, float* partial, u32 rows, u32 channels,
                                     u32 groups) {
    Part part = part_of<V>(rows, channels);
    float slope[V] = {}, product[V] = {}, value[V] = {};
    if (part.inside && part.first < part.end) {
        Channels<V> of = channels_of<T, V>(blockIdx.z, part.column, add, weight, bias, mean, rstd, channels, groups);
        u64 start = (u64)blockIdx.z * rows * channels + part.column;
#pragma unroll 2
        for (u32 row = part.first; row < part.end; row += part.step) {
            float v[V], d[V];
            load(x + start + (u64)row * channels, v);
            load(dy + start + (u64)row * channels, d);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float h = (v[i] - of.center[i]) * of.rstd[i];
                float du = SILU ? d[i] * silu_slope(h * of.weight[i] + of.bias[i]) : d[i];
                slope[i] += du;
                product[i] += du * h;
                value[i] += h;
            }
        }
    }
    sum_down(slope);
    sum_down(product);
    sum_down(value);
    if (part.inside && threadIdx.y == 0) {
        u64 plane = (u64)gridDim.z * gridDim.y * channels;
        float* out = partial + ((u64)blockIdx.z * gridDim.y + blockIdx.y) * channels + part.column;
        store(out, slope);
        store(out + plane, product);
        store(out + 2 * plane, value);
    }
}

// `totals`[3, N, C]: the partial sums over all slices. `pull`[N, G, 2]: means over each group of weight du and of
// weight du h. dadd[N, C] (may be null): the gradient of `add`, sum of dx over rows.
//
// The gradients of bias and weight are `fold(totals, dbias, dweight, N, C)` with 2 planes.
// A block for each group; grid (G, N), block (32, 8).
template <class T>
INLINE void group_norm_backward_merge(const float* partial, const float* weight, const float* rstd, float* totals,
                                      float* pull, T* dadd, u32 rows, u32 channels, u32 groups, u32 slices) {
    __shared__ float shared_pull[2];
    u32 group = blockIdx.x, n = blockIdx.y, width = channels / groups;
    u64 plane = (u64)gridDim.y * slices * channels, total_plane = (u64)gridDim.y * channels;
    float mean_slope = 0.0f, mean_product = 0.0f;
    for (u32 base = 0; base < width; base += WARP) {
        u32 k = base + threadIdx.x, channel = group * width + k;
        float sum[3] = {};
        if (k < width) {
            const float* from = partial + (u64)n * slices * channels + channel;
            for (u32 slice = threadIdx.y; slice < slices; slice += blockDim.y) {
#pragma unroll
                for (int i = 0; i < 3; i++) sum[i] += from[i * plane + (u64)slice * channels];
            }
        }
        sum_down(sum);
        if (threadIdx.y == 0 && k < width) {
            float* to = totals + (u64)n * channels + channel;
#pragma unroll
            for (int i = 0; i < 3; i++) to[i * total_plane] = sum[i];
            mean_slope += weight[channel] * sum[0];
            mean_product += weight[channel] * sum[1];
        }
    }
    if (threadIdx.y == 0) {
        float share = 1.0f / ((float)rows * (float)width);
        mean_slope = warp_sum(mean_slope) * share;
        mean_product = warp_sum(mean_product) * share;
        if (threadIdx.x == 0) {
            float* to = pull + ((u64)n * groups + group) * 2;
            to[0] = shared_pull[0] = mean_slope;
            to[1] = shared_pull[1] = mean_product;
        }
    }
    __syncthreads();
    if (!dadd) return;
    float r = rstd[(u64)n * groups + group];
    for (u32 k = block_thread(); k < width; k += BLOCK) {
        u32 channel = group * width + k;
        const float* from = totals + (u64)n * channels + channel;
        float slope = from[0], value = from[2 * total_plane];
        float sum = weight[channel] * slope - (float)rows * shared_pull[0] - value * shared_pull[1];
        narrow(r * sum, dadd[(u64)n * channels + channel]);
    }
}

// dx[N, rows, C]; may be dy. Sheet.
template <class T, int V, bool SILU>
INLINE void group_norm_backward_apply(const T* x, const T* add, const T* dy, const float* weight, const float* bias,
                                      const float* mean, const float* rstd, const float* pull, T* dx, u32 rows,
                                      u32 channels, u32 groups) {
    Part part = part_of<V>(rows, channels);
    if (!part.inside || part.first >= part.end) return;
    Channels<V> of = channels_of<T, V>(blockIdx.z, part.column, add, weight, bias, mean, rstd, channels, groups);
    float slope[V], product[V];
    u32 width = channels / groups;
#pragma unroll
    for (int i = 0; i < V; i++) {
        const float* from = pull + ((u64)blockIdx.z * groups + (part.column + i) / width) * 2;
        slope[i] = from[0];
        product[i] = from[1];
    }
    u64 start = (u64)blockIdx.z * rows * channels + part.column;
    for (u32 row = part.first; row < part.end; row += 2 * part.step) {
        u32 num = row + part.step < part.end ? 2 : 1;
        float v[2][V], d[2][V];
#pragma unroll
        for (u32 k = 0; k < 2; k++) {
            u64 at = start + (u64)(row + k * part.step) * channels;
            if (k < num) load(x + at, v[k]);
            if (k < num) load(dy + at, d[k]);
        }
#pragma unroll
        for (u32 k = 0; k < 2; k++) {
            if (k >= num) break;
#pragma unroll
            for (int i = 0; i < V; i++) {
                float h = (v[k][i] - of.center[i]) * of.rstd[i];
                float du = SILU ? d[k][i] * silu_slope(h * of.weight[i] + of.bias[i]) : d[k][i];
                v[k][i] = of.rstd[i] * (du * of.weight[i] - slope[i] - h * product[i]);
            }
            store(dx + start + (u64)(row + k * part.step) * channels, v[k]);
        }
    }
}

// ---- layer norm ------------------------------------------------------------------------------------------------
//
// s = x + residual, y = (s - mean) rstd weight + bias, mean and rstd over each row. A warp for each row; grid
// ceil(rows / 4), block 128. A row of a multiple of 8 and up to 256 K values stays in registers, and is one kernel for
// each K, or all would need the registers of the largest; K = 0 takes any row and reads it again from memory.

// `residual` may be null; then `sum` is not written and may be null. y may be x. mean, rstd [rows].
template <class T, int K>
INLINE void layer_norm(const T* x, const T* residual, T* sum, const float* weight, const float* bias, T* y,
                       float* mean, float* rstd, u32 rows, u32 width, float epsilon) {
    const int V = K > 0 ? 8 : 1;
    const int HELD = K > 0 ? K : 1;
    u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    u64 start = (u64)row * width;
    x += start;
    y += start;
    float held[HELD][V];
    auto read = [&](u32 column, float(&v)[V]) {
        load(x + column, v);
        if (residual) {
            float r[V];
            load(residual + start + column, r);
#pragma unroll
            for (int i = 0; i < V; i++) v[i] = rounded<T>(v[i] + r[i]);
        }
    };
    // Calls `each` for the lane's packs of the row.
    auto walk = [&](bool is_first, auto each) {
        if constexpr (K > 0) {
#pragma unroll
            for (int k = 0; k < K; k++) {
                u32 column = (k * WARP + lane) * V;
                if (column < width) {
                    if (is_first) read(column, held[k]);
                    each(column, held[k]);
                }
            }
        } else {
            for (u32 column = lane; column < width; column += WARP) {
                read(column, held[0]);
                each(column, held[0]);
            }
        }
    };
    float total = 0.0f;
    walk(true, [&](u32, float(&v)[V]) {
#pragma unroll
        for (int i = 0; i < V; i++) total += v[i];
    });
    float center = warp_sum(total) / (float)width, square = 0.0f;
    walk(false, [&](u32, float(&v)[V]) {
#pragma unroll
        for (int i = 0; i < V; i++) square += (v[i] - center) * (v[i] - center);
    });
    float scale = rsqrtf(warp_sum(square) / (float)width + epsilon);
    walk(false, [&](u32 column, float(&v)[V]) {
        float w[V], b[V], out[V];
        load(weight + column, w);
        load(bias + column, b);
#pragma unroll
        for (int i = 0; i < V; i++) out[i] = (v[i] - center) * scale * w[i] + b[i];
        if (residual) store(sum + start + column, v);
        store(y + column, out);
    });
    if (lane == 0) {
        mean[row] = center;
        rstd[row] = scale;
    }
}

// dx = rstd (weight dy - mean(weight dy) - h mean(weight dy h)) + ds, of s as the forward pass left it.
// `ds` (may be null) is what arrives at s from elsewhere; dx may be dy or ds.
template <class T, int K>
INLINE void layer_norm_backward(const T* s, const T* dy, const T* ds, const float* weight, const float* mean,
                                const float* rstd, T* dx, u32 rows, u32 width) {
    const int V = K > 0 ? 8 : 1;
    const int HELD = K > 0 ? K : 1;
    u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    u64 start = (u64)row * width;
    float center = mean[row], scale = rstd[row], slope = 0.0f, product = 0.0f;
    // h and weight dy of the lane's packs.
    float normal[HELD][V], pulled[HELD][V];
    auto read = [&](u32 column, float(&h)[V], float(&d)[V]) {
        float w[V];
        load(s + start + column, h);
        load(dy + start + column, d);
        load(weight + column, w);
#pragma unroll
        for (int i = 0; i < V; i++) {
            h[i] = (h[i] - center) * scale;
            d[i] *= w[i];
        }
    };
    auto walk = [&](bool is_first, auto each) {
        if constexpr (K > 0) {
#pragma unroll
            for (int k = 0; k < K; k++) {
                u32 column = (k * WARP + lane) * V;
                if (column < width) {
                    if (is_first) read(column, normal[k], pulled[k]);
                    each(column, normal[k], pulled[k]);
                }
            }
        } else {
            for (u32 column = lane; column < width; column += WARP) {
                read(column, normal[0], pulled[0]);
                each(column, normal[0], pulled[0]);
            }
        }
    };
    walk(true, [&](u32, float(&h)[V], float(&d)[V]) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            slope += d[i];
            product += d[i] * h[i];
        }
    });
    slope = warp_sum(slope) / (float)width;
    product = warp_sum(product) / (float)width;
    walk(false, [&](u32 column, float(&h)[V], float(&d)[V]) {
        float out[V], more[V] = {};
        if (ds) load(ds + start + column, more);
#pragma unroll
        for (int i = 0; i < V; i++) out[i] = scale * (d[i] - slope - h[i] * product) + more[i];
        store(dx + start + column, out);
    });
}

// `partial`[2, slices, width]: sums over rows of dy and of dy h, for `fold(partial, dbias, dweight, slices, width)`
// with 2 planes. Sheet.
template <class T, int V>
INLINE void layer_norm_backward_sums(const T* s, const T* dy, const float* mean, const float* rstd, float* partial,
                                     u32 rows, u32 width) {
    Part part = part_of<V>(rows, width);
    float slope[V] = {}, product[V] = {};
    if (part.inside) {
        for (u32 row = part.first; row < part.end; row += part.step) {
            float v[V], d[V], center = mean[row], scale = rstd[row];
            load(s + (u64)row * width + part.column, v);
            load(dy + (u64)row * width + part.column, d);
#pragma unroll
            for (int i = 0; i < V; i++) {
                slope[i] += d[i];
                product[i] += d[i] * (v[i] - center) * scale;
            }
        }
    }
    sum_down(slope);
    sum_down(product);
    if (part.inside && threadIdx.y == 0) {
        float* out = partial + (u64)blockIdx.y * width + part.column;
        store(out, slope);
        store(out + (u64)gridDim.y * width, product);
    }
}

// ---- element by element ----------------------------------------------------------------------------------------
//
// Flat arrays of n values: packs of 8, then what is left. Block 256, any grid. Outputs may be inputs.

INLINE u64 grid_thread() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

INLINE u64 grid_threads() { return (u64)gridDim.x * blockDim.x; }

// y = f(x).
template <class A, class B, class F> INLINE void map(const A* x, B* y, u64 n, F f) {
    for (u64 i = grid_thread(); i < n / 8; i += grid_threads()) {
        float v[8];
        load(x + i * 8, v);
#pragma unroll
        for (int k = 0; k < 8; k++) v[k] = f(v[k]);
        store(y + i * 8, v);
    }
    for (u64 i = n / 8 * 8 + grid_thread(); i < n; i += grid_threads()) narrow(f(widen(x[i])), y[i]);
}

// y = f(a, b).
template <class T, class F> INLINE void map(const T* a, const T* b, T* y, u64 n, F f) {
    for (u64 i = grid_thread(); i < n / 8; i += grid_threads()) {
        float v[8], w[8];
        load(a + i * 8, v);
        load(b + i * 8, w);
#pragma unroll
        for (int k = 0; k < 8; k++) v[k] = f(v[k], w[k]);
        store(y + i * 8, v);
    }
    for (u64 i = n / 8 * 8 + grid_thread(); i < n; i += grid_threads()) {
        narrow(f(widen(a[i]), widen(b[i])), y[i]);
    }
}

// y = alpha a + beta b; b may be null.
template <class T> INLINE void combine(const T* a, float alpha, const T* b, float beta, T* y, u64 n) {
    if (b) {
        map(a, b, y, n, [=](float v, float w) { return alpha * v + beta * w; });
    } else {
        map(a, y, n, [=](float v) { return alpha * v; });
    }
}

// y[rows, C] = x + bias[C]; y may be x. Sheet.
template <class T, int V> INLINE void add_bias(const T* x, const float* bias, T* y, u32 rows, u32 columns) {
    Part part = part_of<V>(rows, columns);
    if (!part.inside) return;
    float b[V];
    load(bias + part.column, b);
#pragma unroll 2
    for (u32 row = part.first; row < part.end; row += part.step) {
        float v[V];
        load(x + (u64)row * columns + part.column, v);
#pragma unroll
        for (int i = 0; i < V; i++) v[i] += b[i];
        store(y + (u64)row * columns + part.column, v);
    }
}

// y[rows, half] = a gelu(g) of x[rows, 2 half] = [a, g]. Sheet of `half` columns.
template <class T, int V> INLINE void geglu(const T* x, T* y, u32 rows, u32 half) {
    Part part = part_of<V>(rows, half);
    if (!part.inside) return;
    for (u32 row = part.first; row < part.end; row += part.step) {
        const T* from = x + (u64)row * half * 2 + part.column;
        float a[V], g[V];
        load(from, a);
        load(from + half, g);
#pragma unroll
        for (int i = 0; i < V; i++) a[i] *= gelu(g[i]);
        store(y + (u64)row * half + part.column, a);
    }
}

// dx[rows, 2 half] of x and dy[rows, half]; dx may be x. Sheet of `half` columns.
template <class T, int V> INLINE void geglu_backward(const T* x, const T* dy, T* dx, u32 rows, u32 half) {
    Part part = part_of<V>(rows, half);
    if (!part.inside) return;
    for (u32 row = part.first; row < part.end; row += part.step) {
        u64 at = (u64)row * half * 2 + part.column;
        float a[V], g[V], d[V];
        load(x + at, a);
        load(x + at + half, g);
        load(dy + (u64)row * half + part.column, d);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float da = d[i] * gelu(g[i]);
            g[i] = d[i] * a[i] * gelu_slope(g[i]);
            a[i] = da;
        }
        store(dx + at, a);
        store(dx + at + half, g);
    }
}

// ---- layouts ---------------------------------------------------------------------------------------------------

// y[batch, columns, rows] = x[batch, rows, columns], in another format if wanted. NCHW to NHWC: batch N, rows C,
// columns H W; weights [K, C, R, S] to [K, R, S, C]: batch K, rows C, columns R S; back with rows and columns swapped.
//
// Block 256. Up to 16 columns: grid (ceil(rows / 256), 1, batch), a block reads one run of memory. Up to 16 rows: grid
// (ceil(columns / 256), 1, batch), a block writes one run. Else tiles: grid (ceil(columns / 32), ceil(rows / 32),
// batch). Grid z may be less than batch.
template <class A, class B> INLINE void swap(const A* x, B* y, u32 batch, u32 rows, u32 columns) {
    // The pitches spread what a warp touches over the banks of shared memory.
    const u32 FEW = 16, TILE = 32, PITCH = BLOCK + 4;
    __shared__ float held[FEW * PITCH];
    u32 t = threadIdx.x, lane = t % TILE, line = t / TILE;
    for (u32 b = blockIdx.z; b < batch; b += gridDim.z) {
        const A* from = x + (u64)b * rows * columns;
        B* to = y + (u64)b * rows * columns;
        __syncthreads();
        if (columns <= FEW) {
            u32 top = blockIdx.x * BLOCK, count = least(rows - top, BLOCK);
#pragma unroll 4
            for (u32 i = t; i < count * columns; i += BLOCK) {
                held[i % columns * PITCH + i / columns] = widen(from[(u64)top * columns + i]);
            }
            __syncthreads();
            if (t < count) {
                for (u32 c = 0; c < columns; c++) narrow(held[c * PITCH + t], to[(u64)c * rows + top + t]);
            }
        } else if (rows <= FEW) {
            u32 left = blockIdx.x * BLOCK, count = least(columns - left, BLOCK);
            if (t < count) {
#pragma unroll 4
                for (u32 r = 0; r < rows; r++) held[r * PITCH + t] = widen(from[(u64)r * columns + left + t]);
            }
            __syncthreads();
            for (u32 i = t; i < count * rows; i += BLOCK) {
                narrow(held[i % rows * PITCH + i / rows], to[(u64)left * rows + i]);
            }
        } else {
            u32 top = blockIdx.y * TILE, left = blockIdx.x * TILE;
#pragma unroll
            for (u32 k = line; k < TILE; k += BLOCK / TILE) {
                u32 r = top + k, c = left + lane;
                if (r < rows && c < columns) held[k * (TILE + 1) + lane] = widen(from[(u64)r * columns + c]);
            }
            __syncthreads();
            for (u32 k = line; k < TILE; k += BLOCK / TILE) {
                u32 c = left + k, r = top + lane;
                if (r < rows && c < columns) narrow(held[lane * (TILE + 1) + k], to[(u64)c * rows + r]);
            }
        }
    }
}

// y[rows, A + B] = [a[rows, A], b[rows, B]]. Sheet of A + B columns; packs of 8 where both allow it.
template <class T, int V>
INLINE void concat(const T* a, const T* b, T* y, u32 rows, u32 a_columns, u32 b_columns) {
    u32 columns = a_columns + b_columns;
    Part part = part_of<V>(rows, columns);
    if (!part.inside) return;
    bool is_a = part.column < a_columns;
    const T* from = is_a ? a + part.column : b + (part.column - a_columns);
    u32 pitch = is_a ? a_columns : b_columns;
#pragma unroll 4
    for (u32 row = part.first; row < part.end; row += part.step) {
        float v[V];
        load(from + (u64)row * pitch, v);
        store(y + (u64)row * columns + part.column, v);
    }
}

// a[rows, A], b[rows, B] of y[rows, A + B]; either may be null. Sheet as for `concat`.
template <class T, int V>
INLINE void split(const T* y, T* a, T* b, u32 rows, u32 a_columns, u32 b_columns) {
    u32 columns = a_columns + b_columns;
    Part part = part_of<V>(rows, columns);
    bool is_a = part.column < a_columns;
    if (!part.inside || !(is_a ? a : b)) return;
    T* to = is_a ? a + part.column : b + (part.column - a_columns);
    u32 pitch = is_a ? a_columns : b_columns;
#pragma unroll 4
    for (u32 row = part.first; row < part.end; row += part.step) {
        float v[V];
        load(y + (u64)row * columns + part.column, v);
        store(to + (u64)row * pitch, v);
    }
}

// y[N, out_height, out_width, C] of x[N, height, width, C]: each pixel twice in both directions; out_height is
// 2 height or 2 height - 1, out_width likewise. Sheet of out_height out_width rows.
template <class T, int V>
INLINE void repeat(const T* x, T* y, u32 height, u32 width, u32 out_height, u32 out_width, u32 channels) {
    Part part = part_of<V>(out_height * out_width, channels);
    if (!part.inside) return;
    x += (u64)blockIdx.z * height * width * channels + part.column;
    y += (u64)blockIdx.z * out_height * out_width * channels + part.column;
    for (u32 row = part.first; row < part.end; row += part.step) {
        u32 h = row / out_width / 2, w = row % out_width / 2;
        float v[V];
        load(x + (u64)(h * width + w) * channels, v);
        store(y + (u64)row * channels, v);
    }
}

// dx[N, height, width, C] of dy[N, out_height, out_width, C]: sums over the copies of a pixel. Sheet of height width
// rows.
template <class T, int V>
INLINE void repeat_backward(const T* dy, T* dx, u32 height, u32 width, u32 out_height, u32 out_width,
                            u32 channels) {
    Part part = part_of<V>(height * width, channels);
    if (!part.inside) return;
    dy += (u64)blockIdx.z * out_height * out_width * channels + part.column;
    dx += (u64)blockIdx.z * height * width * channels + part.column;
    for (u32 row = part.first; row < part.end; row += part.step) {
        u32 h = row / width * 2, w = row % width * 2;
        float sum[V] = {};
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            u32 y = h + k / 2, x = w + k % 2;
            if (y < out_height && x < out_width) {
                float d[V];
                load(dy + (u64)(y * out_width + x) * channels, d);
#pragma unroll
                for (int i = 0; i < V; i++) sum[i] += d[i];
            }
        }
        store(dx + (u64)row * channels, sum);
    }
}

// ---- softmax ---------------------------------------------------------------------------------------------------
//
// Over each row of [rows, width]. A warp for each row; grid ceil(rows / 4), block 128.

// y = exp(scale x - lse), lse[rows] (may be null) = log sum exp(scale x). y may be x. A row of nothing but -inf gives
// NaN.
template <class T, int V> INLINE void softmax(const T* x, T* y, float* lse, u32 rows, u32 width, float scale) {
    u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    x += (u64)row * width;
    y += (u64)row * width;
    const float NONE = -3.402823466e38f;
    // The largest so far and the sum of exponentials relative to it.
    float most = NONE, sum = 0.0f;
    for (u32 column = lane * V; column < width; column += WARP * V) {
        float v[V], top = most;
        load(x + column, v);
#pragma unroll
        for (int i = 0; i < V; i++) {
            v[i] *= scale;
            top = fmaxf(top, v[i]);
        }
        sum *= __expf(most - top);
#pragma unroll
        for (int i = 0; i < V; i++) sum += __expf(v[i] - top);
        most = top;
    }
    float top = warp_max(most);
    sum = warp_sum(sum * __expf(most - top));
    float share = 1.0f / sum;
    for (u32 column = lane * V; column < width; column += WARP * V) {
        float v[V];
        load(x + column, v);
#pragma unroll
        for (int i = 0; i < V; i++) v[i] = __expf(v[i] * scale - top) * share;
        store(y + column, v);
    }
    if (lse && lane == 0) lse[row] = top + logf(sum);
}

// dx = y (dy - sum(dy y)) scale; dx may be dy or y.
template <class T, int V>
INLINE void softmax_backward(const T* y, const T* dy, T* dx, u32 rows, u32 width, float scale) {
    u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    u64 start = (u64)row * width;
    float sum = 0.0f;
    for (u32 column = lane * V; column < width; column += WARP * V) {
        float p[V], d[V];
        load(y + start + column, p);
        load(dy + start + column, d);
#pragma unroll
        for (int i = 0; i < V; i++) sum += p[i] * d[i];
    }
    sum = warp_sum(sum);
    for (u32 column = lane * V; column < width; column += WARP * V) {
        float p[V], d[V];
        load(y + start + column, p);
        load(dy + start + column, d);
#pragma unroll
        for (int i = 0; i < V; i++) d[i] = p[i] * (d[i] - sum) * scale;
        store(dx + start + column, d);
    }
}

// ---- diffusion -------------------------------------------------------------------------------------------------
//
// [N, length], a weight or level for each n. Block 256, grid (blocks along length, N). Packs of 8 where length allows.

// y = alpha[n] x + sigma[n] noise; y may be x or noise.
template <class T, int V>
INLINE void add_noise(const T* x, const T* noise, const float* alpha, const float* sigma, T* y, u64 length) {
    u64 start = (u64)blockIdx.y * length;
    float a = alpha[blockIdx.y], s = sigma[blockIdx.y];
    for (u64 at = grid_thread() * V; at < length; at += grid_threads() * V) {
        float v[V], e[V];
        load(x + start + at, v);
        load(noise + start + at, e);
#pragma unroll
        for (int i = 0; i < V; i++) v[i] = a * v[i] + s * e[i];
        store(y + start + at, v);
    }
}

// `partial`[N, blocks]: weight[n] (prediction - target)^2 summed over a block's part.
template <class T, int V>
INLINE void weighted_error(const T* prediction, const T* target, const float* weight, float* partial, u64 length) {
    u64 start = (u64)blockIdx.y * length;
    float sum = 0.0f;
    for (u64 at = grid_thread() * V; at < length; at += grid_threads() * V) {
        float p[V], t[V];
        load(prediction + start + at, p);
        load(target + start + at, t);
#pragma unroll
        for (int i = 0; i < V; i++) sum += (p[i] - t[i]) * (p[i] - t[i]);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[(u64)blockIdx.y * gridDim.x + blockIdx.x] = weight[blockIdx.y] * sum;
}

// dprediction = 2 weight[n] (prediction - target) scale dloss; dloss (may be null, then 1) is one number on the device,
// scale is 1 / (N length). dprediction may be prediction or target.
template <class T, int V>
INLINE void weighted_error_backward(const T* prediction, const T* target, const float* weight, const float* dloss,
                                    T* dprediction, u64 length, float scale) {
    u64 start = (u64)blockIdx.y * length;
    float factor = 2.0f * weight[blockIdx.y] * scale * (dloss ? *dloss : 1.0f);
    for (u64 at = grid_thread() * V; at < length; at += grid_threads() * V) {
        float p[V], t[V];
        load(prediction + start + at, p);
        load(target + start + at, t);
#pragma unroll
        for (int i = 0; i < V; i++) p[i] = factor * (p[i] - t[i]);
        store(dprediction + start + at, p);
    }
}

// Sum of `count` numbers over one block of 256, in f64.
INLINE double sum_all(const float* partial, u32 count) {
    __shared__ double held[BLOCK];
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < count; i += BLOCK) sum += (double)partial[i];
    held[threadIdx.x] = sum;
    for (u32 reach = BLOCK / 2; reach > 0; reach /= 2) {
        __syncthreads();
        if (threadIdx.x < reach) held[threadIdx.x] += held[threadIdx.x + reach];
    }
    __syncthreads();
    return held[0];
}

// out[0] = scale * sum of partial[count]. Grid 1, block 256.
extern "C" __global__ void sum_up(const float* partial, float* out, u32 count, float scale) {
    double sum = sum_all(partial, count);
    if (threadIdx.x == 0) out[0] = (float)(sum * (double)scale);
}

// ---- all parameters at once ------------------------------------------------------------------------------------
//
// A table of tensors in device memory, cut into chunks of 65,536 values; a block for each chunk. Grid = chunks, block
// 256.

const u32 CHUNK = 65536;

// One piece of one tensor: values index * CHUNK and on.
struct Chunk {
    u32 tensor, index;
};

// A parameter. `gradient` may be null: it then keeps its value and does not decay. `average` and `shadow` may be null.
struct Parameter {
    float* value;
    const float* gradient;
    float* mean;
    float* square;
    float* average;
    bf16* shadow;
    u64 length;
    float weight_decay;       // 0 for vectors
    float mean_correction;    // 1 - beta1^steps
    float square_correction;  // 1 - beta2^steps
    u32 reserved;
};

// A gradient and the sum it is added to.
struct Addend {
    float* sum;
    const void* gradient;
    u64 length;
};

INLINE void load4(const float* from, float (&x)[4]) {
    Quad a = *(const Quad*)from;
#pragma unroll
    for (int i = 0; i < 4; i++) x[i] = __uint_as_float(a.word[i]);
}

INLINE void store4(float* to, const float (&x)[4]) {
    Quad a;
#pragma unroll
    for (int i = 0; i < 4; i++) a.word[i] = __float_as_uint(x[i]);
    *(Quad*)to = a;
}

// partial[chunks]: sum of the squared gradients of a chunk; 0 where there is none.
extern "C" __global__ void __launch_bounds__(256)
    gradient_squares(const Parameter* parameters, const Chunk* chunks, float* partial) {
    Chunk chunk = chunks[blockIdx.x];
    const float* gradient = parameters[chunk.tensor].gradient;
    u64 start = (u64)chunk.index * CHUNK, left = parameters[chunk.tensor].length - start;
    u32 count = left < CHUNK ? (u32)left : CHUNK;
    float sum = 0.0f;
    if (gradient) {
        gradient += start;
#pragma unroll 4
        for (u32 i = threadIdx.x; i < count / 4; i += BLOCK) {
            float g[4];
            load4(gradient + i * 4, g);
#pragma unroll
            for (int k = 0; k < 4; k++) sum += g[k] * g[k];
        }
        for (u32 i = count / 4 * 4 + threadIdx.x; i < count; i += BLOCK) sum += gradient[i] * gradient[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// norm[0] = sqrt(sum of partial[count]) / rounds, the norm of the mean gradient; not finite where the sum is beyond f32.
// Grid 1, block 256.
extern "C" __global__ void gradient_norm(const float* partial, float* norm, u32 count, u32 rounds) {
    float sum = (float)sum_all(partial, count);
    if (threadIdx.x == 0) norm[0] = (float)(sqrt((double)sum) / (double)rounds);
}

// sum += gradient, or sum = gradient where `is_first`.
template <class T> INLINE void accumulate(const Addend* addends, const Chunk* chunks, u32 is_first) {
    Chunk chunk = chunks[blockIdx.x];
    Addend addend = addends[chunk.tensor];
    u64 start = (u64)chunk.index * CHUNK, left = addend.length - start;
    u32 count = left < CHUNK ? (u32)left : CHUNK;
    const T* gradient = (const T*)addend.gradient + start;
    float* sum = addend.sum + start;
#pragma unroll 2
    for (u32 i = threadIdx.x; i < count / 8; i += BLOCK) {
        float g[8], s[8] = {};
        load(gradient + i * 8, g);
        if (!is_first) load(sum + i * 8, s);
#pragma unroll
        for (int k = 0; k < 8; k++) s[k] += g[k];
        store(sum + i * 8, s);
    }
    for (u32 i = count / 8 * 8 + threadIdx.x; i < count; i += BLOCK) {
        sum[i] = (is_first ? 0.0f : sum[i]) + widen(gradient[i]);
    }
}

// One step of AdamW on the mean gradient, as `train/adamw.rs`; then the running average, as `train/ema.rs`; then the
// bf16 copies. Does nothing at all where `norm` is not finite.
//
// clip_norm: infinity for none. decay: the share of the average that is kept.
extern "C" __global__ void __launch_bounds__(256)
    adamw(const Parameter* parameters, const Chunk* chunks, const float* norm, u32 rounds, float clip_norm,
          float learning_rate, float beta1, float beta2, float epsilon, float decay) {
    float length = *norm;
    if (!(length <= 3.402823466e38f)) return;
    Chunk chunk = chunks[blockIdx.x];
    Parameter p = parameters[chunk.tensor];
    u64 start = (u64)chunk.index * CHUNK, left = p.length - start;
    u32 count = left < CHUNK ? (u32)left : CHUNK;
    float scale = fminf(1.0f, clip_norm / (length + 1e-6f)) / (float)rounds;
    float step_size = learning_rate / p.mean_correction, root_scale = 1.0f / sqrtf(p.square_correction);
    float kept = 1.0f - learning_rate * p.weight_decay;
    float* value = p.value + start;
    float* average = p.average ? p.average + start : 0;
    bf16* shadow = p.shadow ? p.shadow + start : 0;
    const float* gradient = p.gradient ? p.gradient + start : 0;
    float *mean = p.mean + start, *square = p.square + start;
    auto descend = [&](float& w, float g, float& m, float& s) {
        g *= scale;
        m = beta1 * m + (1.0f - beta1) * g;
        s = beta2 * s + (1.0f - beta2) * g * g;
        w = w * kept - step_size * m / (sqrtf(s) * root_scale + epsilon);
    };
    for (u32 i = threadIdx.x * 4; i + 4 <= count; i += BLOCK * 4) {
        float w[4], g[4], m[4], s[4], a[4];
        load4(value + i, w);
        if (average) load4(average + i, a);
        if (gradient) {
            load4(gradient + i, g);
            load4(mean + i, m);
            load4(square + i, s);
#pragma unroll
            for (int k = 0; k < 4; k++) descend(w[k], g[k], m[k], s[k]);
            store4(value + i, w);
            store4(mean + i, m);
            store4(square + i, s);
        }
        if (average) {
#pragma unroll
            for (int k = 0; k < 4; k++) a[k] += (1.0f - decay) * (w[k] - a[k]);
            store4(average + i, a);
        }
        if (shadow) {
            u64 pair = narrow_pair(w[0], w[1]) | (u64)narrow_pair(w[2], w[3]) << 32;
            *(u64*)(shadow + i) = pair;
        }
    }
    for (u32 i = count / 4 * 4 + threadIdx.x; i < count; i += BLOCK) {
        float w = value[i];
        if (gradient) {
            descend(w, gradient[i], mean[i], square[i]);
            value[i] = w;
        }
        if (average) average[i] += (1.0f - decay) * (w - average[i]);
        if (shadow) narrow(w, shadow[i]);
    }
}

// ---- entry points ----------------------------------------------------------------------------------------------

#define ENTRY extern "C" __global__ void __launch_bounds__(256)
#define WARPS extern "C" __global__ void __launch_bounds__(128)
// `f<T, V, ..>(arguments)`, V = 8 where `columns` allows it.
#define PACKED(columns, f, ...) (columns) % 8 == 0 ? f<T, 8>(__VA_ARGS__) : f<T, 1>(__VA_ARGS__)
#define PACKED_SILU(columns, f, ...)                                      \
    if ((columns) % 8 == 0) {                                             \
        is_silu ? f<T, 8, true>(__VA_ARGS__) : f<T, 8, false>(__VA_ARGS__); \
    } else {                                                              \
        is_silu ? f<T, 1, true>(__VA_ARGS__) : f<T, 1, false>(__VA_ARGS__); \
    }
#define KERNELS(TYPE, NAME)                                                                                          \
    ENTRY column_sums_##NAME(const TYPE* x, float* partial, u32 rows, u32 columns) {                                 \
        using T = TYPE;                                                                                              \
        PACKED(columns, column_sums, x, partial, rows, columns);                                                     \
    }                                                                                                                \
    ENTRY group_norm_statistics_##NAME(const TYPE* x, const TYPE* add, float* partial, u32 rows, u32 channels) {     \
        using T = TYPE;                                                                                              \
        PACKED(channels, group_norm_statistics, x, add, partial, rows, channels);                                    \
    }                                                                                                                \
    ENTRY group_norm_apply_##NAME(const TYPE* x, const TYPE* add, const float* weight, const float* bias,            \
                                  const float* mean, const float* rstd, TYPE* y, u32 rows, u32 channels, u32 groups, \
                                  u32 is_silu) {                                                                     \
        using T = TYPE;                                                                                              \
        PACKED_SILU(channels, group_norm_apply, x, add, weight, bias, mean, rstd, y, rows, channels, groups)         \
    }                                                                                                                \
    ENTRY group_norm_backward_sums_##NAME(const TYPE* x, const TYPE* add, const TYPE* dy, const float* weight,       \
                                          const float* bias, const float* mean, const float* rstd, float* partial,   \
                                          u32 rows, u32 channels, u32 groups, u32 is_silu) {                         \
        using T = TYPE;                                                                                              \
        PACKED_SILU(channels, group_norm_backward_sums, x, add, dy, weight, bias, mean, rstd, partial, rows,         \
                    channels, groups)                                                                                \
    }                                                                                                                \
    ENTRY group_norm_backward_merge_##NAME(const float* partial, const float* weight, const float* rstd,             \
                                           float* totals, float* pull, TYPE* dadd, u32 rows, u32 channels,           \
                                           u32 groups, u32 slices) {                                                 \
        group_norm_backward_merge(partial, weight, rstd, totals, pull, dadd, rows, channels, groups, slices);        \
    }                                                                                                                \
    ENTRY group_norm_backward_apply_##NAME(const TYPE* x, const TYPE* add, const TYPE* dy, const float* weight,      \
                                           const float* bias, const float* mean, const float* rstd,                  \
                                           const float* pull, TYPE* dx, u32 rows, u32 channels, u32 groups,          \
                                           u32 is_silu) {                                                            \
        using T = TYPE;                                                                                              \
        PACKED_SILU(channels, group_norm_backward_apply, x, add, dy, weight, bias, mean, rstd, pull, dx, rows,       \
                    channels, groups)                                                                                \
    }                                                                                                                \
    ENTRY layer_norm_backward_sums_##NAME(const TYPE* s, const TYPE* dy, const float* mean, const float* rstd,       \
                                          float* partial, u32 rows, u32 width) {                                     \
        using T = TYPE;                                                                                              \
        PACKED(width, layer_norm_backward_sums, s, dy, mean, rstd, partial, rows, width);                            \
    }                                                                                                                \
    ENTRY gelu_##NAME(const TYPE* x, TYPE* y, u64 n) {                                                               \
        map(x, y, n, [](float v) { return gelu(v); });                                                               \
    }                                                                                                                \
    ENTRY gelu_backward_##NAME(const TYPE* x, const TYPE* dy, TYPE* dx, u64 n) {                                     \
        map(x, dy, dx, n, [](float v, float d) { return d * gelu_slope(v); });                                       \
    }                                                                                                                \
    ENTRY silu_##NAME(const TYPE* x, TYPE* y, u64 n) {                                                               \
        map(x, y, n, [](float v) { return silu(v); });                                                               \
    }                                                                                                                \
    ENTRY silu_backward_##NAME(const TYPE* x, const TYPE* dy, TYPE* dx, u64 n) {                                     \
        map(x, dy, dx, n, [](float v, float d) { return d * silu_slope(v); });                                       \
    }                                                                                                                \
    ENTRY add_##NAME(const TYPE* a, const TYPE* b, TYPE* y, u64 n) {                                                 \
        map(a, b, y, n, [](float v, float w) { return v + w; });                                                     \
    }                                                                                                                \
    ENTRY combine_##NAME(const TYPE* a, float alpha, const TYPE* b, float beta, TYPE* y, u64 n) {                    \
        combine(a, alpha, b, beta, y, n);                                                                            \
    }                                                                                                                \
    ENTRY add_bias_##NAME(const TYPE* x, const float* bias, TYPE* y, u32 rows, u32 columns) {                        \
        using T = TYPE;                                                                                              \
        PACKED(columns, add_bias, x, bias, y, rows, columns);                                                        \
    }                                                                                                                \
    ENTRY geglu_##NAME(const TYPE* x, TYPE* y, u32 rows, u32 half) {                                                 \
        using T = TYPE;                                                                                              \
        PACKED(half, geglu, x, y, rows, half);                                                                       \
    }                                                                                                                \
    ENTRY geglu_backward_##NAME(const TYPE* x, const TYPE* dy, TYPE* dx, u32 rows, u32 half) {                       \
        using T = TYPE;                                                                                              \
        PACKED(half, geglu_backward, x, dy, dx, rows, half);                                                         \
    }                                                                                                                \
    ENTRY cast_f32_##NAME(const float* x, TYPE* y, u64 n) {                                                          \
        map(x, y, n, [](float v) { return v; });                                                                     \
    }                                                                                                                \
    ENTRY cast_bf16_##NAME(const bf16* x, TYPE* y, u64 n) {                                                          \
        map(x, y, n, [](float v) { return v; });                                                                     \
    }                                                                                                                \
    ENTRY swap_f32_##NAME(const float* x, TYPE* y, u32 batch, u32 rows, u32 columns) {                               \
        swap(x, y, batch, rows, columns);                                                                            \
    }                                                                                                                \
    ENTRY swap_bf16_##NAME(const bf16* x, TYPE* y, u32 batch, u32 rows, u32 columns) {                               \
        swap(x, y, batch, rows, columns);                                                                            \
    }                                                                                                                \
    ENTRY concat_##NAME(const TYPE* a, const TYPE* b, TYPE* y, u32 rows, u32 a_columns, u32 b_columns) {             \
        using T = TYPE;                                                                                              \
        PACKED(a_columns | b_columns, concat, a, b, y, rows, a_columns, b_columns);                                  \
    }                                                                                                                \
    ENTRY split_##NAME(const TYPE* y, TYPE* a, TYPE* b, u32 rows, u32 a_columns, u32 b_columns) {                    \
        using T = TYPE;                                                                                              \
        PACKED(a_columns | b_columns, split, y, a, b, rows, a_columns, b_columns);                                   \
    }                                                                                                                \
    ENTRY repeat_##NAME(const TYPE* x, TYPE* y, u32 height, u32 width, u32 out_height, u32 out_width,                \
                        u32 channels) {                                                                              \
        using T = TYPE;                                                                                              \
        PACKED(channels, repeat, x, y, height, width, out_height, out_width, channels);                              \
    }                                                                                                                \
    ENTRY repeat_backward_##NAME(const TYPE* dy, TYPE* dx, u32 height, u32 width, u32 out_height, u32 out_width,     \
                                 u32 channels) {                                                                     \
        using T = TYPE;                                                                                              \
        PACKED(channels, repeat_backward, dy, dx, height, width, out_height, out_width, channels);                   \
    }                                                                                                                \
    WARPS softmax_##NAME(const TYPE* x, TYPE* y, float* lse, u32 rows, u32 width, float scale) {                     \
        using T = TYPE;                                                                                              \
        PACKED(width, softmax, x, y, lse, rows, width, scale);                                                       \
    }                                                                                                                \
    WARPS softmax_backward_##NAME(const TYPE* y, const TYPE* dy, TYPE* dx, u32 rows, u32 width, float scale) {       \
        using T = TYPE;                                                                                              \
        PACKED(width, softmax_backward, y, dy, dx, rows, width, scale);                                              \
    }                                                                                                                \
    ENTRY add_noise_##NAME(const TYPE* x, const TYPE* noise, const float* alpha, const float* sigma, TYPE* y,        \
                           u64 length) {                                                                             \
        using T = TYPE;                                                                                              \
        PACKED(length, add_noise, x, noise, alpha, sigma, y, length);                                                \
    }                                                                                                                \
    ENTRY weighted_error_##NAME(const TYPE* prediction, const TYPE* target, const float* weight, float* partial,     \
                                u64 length) {                                                                        \
        using T = TYPE;                                                                                              \
        PACKED(length, weighted_error, prediction, target, weight, partial, length);                                 \
    }                                                                                                                \
    ENTRY weighted_error_backward_##NAME(const TYPE* prediction, const TYPE* target, const float* weight,            \
                                         const float* dloss, TYPE* dprediction, u64 length, float scale) {           \
        using T = TYPE;                                                                                              \
        PACKED(length, weighted_error_backward, prediction, target, weight, dloss, dprediction, length, scale);      \
    }                                                                                                                \
    ENTRY accumulate_##NAME(const Addend* addends, const Chunk* chunks, u32 is_first) {                              \
        accumulate<TYPE>(addends, chunks, is_first);                                                                 \
    }

#define ROW_KERNELS(TYPE, NAME, K)                                                                                   \
    WARPS layer_norm_##K##_##NAME(const TYPE* x, const TYPE* residual, TYPE* sum, const float* weight,               \
                                  const float* bias, TYPE* y, float* mean, float* rstd, u32 rows, u32 width,         \
                                  float epsilon) {                                                                   \
        layer_norm<TYPE, K>(x, residual, sum, weight, bias, y, mean, rstd, rows, width, epsilon);                    \
    }                                                                                                                \
    WARPS layer_norm_backward_##K##_##NAME(const TYPE* s, const TYPE* dy, const TYPE* ds, const float* weight,       \
                                           const float* mean, const float* rstd, TYPE* dx, u32 rows, u32 width) {    \
        layer_norm_backward<TYPE, K>(s, dy, ds, weight, mean, rstd, dx, rows, width);                                \
    }

KERNELS(float, f32)
KERNELS(bf16, bf16)
ROW_KERNELS(float, f32, 0)
ROW_KERNELS(float, f32, 2)
ROW_KERNELS(float, f32, 5)
ROW_KERNELS(float, f32, 8)
ROW_KERNELS(bf16, bf16, 0)
ROW_KERNELS(bf16, bf16, 2)
ROW_KERNELS(bf16, bf16, 5)
ROW_KERNELS(bf16, bf16, 8)
