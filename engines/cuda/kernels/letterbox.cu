// From a decoded picture in device memory to the planar input tensor of a model, in one pass; and from f32 to f16.
//
// What a pixel of the tensor is, is specified by the daemon's `src/frame/letterbox_reference.rs`; a test compares.
// One thread writes one pixel: three elements, padding too, so nothing of an earlier picture stays.
//
// Positions are fractions of integers, so they are exact at every size (f32 would be off by a thousandth of a
// pixel at 8192 columns, a quarter of a code value on an edge); the caller sees to it that 32 bits suffice.
//
// The same source is compiled by NVRTC for the GPU and as C++ for the host (host.h), where tests run it.

#ifndef __CUDACC__
#include "host.h"
#endif

// Mirrored by `Args` in src/letterbox.rs.
struct LetterboxArgs {
    const unsigned char *y;      // first sample of luma
    const unsigned char *cb;     // first sample of blue difference
    const unsigned char *cr;     // first sample of red difference
    void *tensor;                // [3, height, width], f16 or f32
    unsigned y_stride_bytes;
    unsigned cb_stride_bytes;
    unsigned cr_stride_bytes;
    unsigned chroma_step_bytes;  // from one sample of a chroma row to the next
    unsigned ten_bits;           // 0: 8-bit samples; 1: 16-bit words, the sample in the upper 10 bits
    unsigned source_width;
    unsigned source_height;
    unsigned left;               // where the picture lies in the tensor
    unsigned top;
    unsigned placed_width;
    unsigned placed_height;
    unsigned width;              // the tensor
    unsigned height;
    unsigned half;               // 1: f16
    unsigned bgr;                // 1: blue is the first plane
    float pad;                   // 0..=255
    float luma_black;            // code value of black
    float chroma_zero;           // code value of no colour
    float luma_gain;             // from code values to 0..=255, likewise the next four
    float red_cr;
    float green_cb;
    float green_cr;
    float blue_cb;
    float scale[3];
    float offset[3];
};
static_assert(sizeof(LetterboxArgs) == 32 + 29 * 4 + 4, "mirrored in src/letterbox.rs");

// The two samples that a position lies between, and how far it is from the first.
struct Between {
    unsigned low;
    unsigned high;
    float fraction;
};

// ((index + 0.5) * source / placed) / 2^halvings - 0.5, kept within a plane of `count` samples.
static __device__ Between between(unsigned index, unsigned source, unsigned placed, unsigned halvings, unsigned count) {
    const int denominator = (int)(2u * placed << halvings);
    const int numerator = (int)((2u * index + 1u) * source) - (int)(placed << halvings);
    Between result = {0u, 0u, 0.0f};
    if (numerator > 0) {
        const int low = numerator / denominator;
        if (low >= (int)count - 1) {
            result.low = result.high = count - 1u;
        } else {
            result.low = (unsigned)low;
            result.high = (unsigned)low + 1u;
            result.fraction = (float)(numerator - low * denominator) / (float)denominator;
        }
    }
    return result;
}

static __device__ float sample(const unsigned char *row, unsigned offset_bytes, unsigned ten_bits) {
    if (ten_bits) {
        return (float)(*(const unsigned short *)(row + offset_bytes) >> 6);
    }
    return (float)row[offset_bytes];
}

static __device__ float bilinear(const unsigned char *plane, unsigned stride_bytes, unsigned step_bytes, Between x,
                                 Between y, unsigned ten_bits) {
    const unsigned char *upper_row = plane + (unsigned long long)y.low * stride_bytes;
    const unsigned char *lower_row = plane + (unsigned long long)y.high * stride_bytes;
    const unsigned left = x.low * step_bytes;
    const unsigned right = x.high * step_bytes;
    const float upper = sample(upper_row, left, ten_bits) * (1.0f - x.fraction) + sample(upper_row, right, ten_bits) * x.fraction;
    const float lower = sample(lower_row, left, ten_bits) * (1.0f - x.fraction) + sample(lower_row, right, ten_bits) * x.fraction;
    return upper * (1.0f - y.fraction) + lower * y.fraction;
}

static __device__ float within_code_range(float value) {
    return value < 0.0f ? 0.0f : (value > 255.0f ? 255.0f : value);
}

// Round to nearest, ties to even; too large is infinite. Without cuda_fp16.h, which NVRTC would need a path for.
static __device__ unsigned short to_f16(float value) {
#ifdef __CUDA_ARCH__
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    return host_f16(value);
#endif
}

static __device__ void store(const LetterboxArgs &args, unsigned channel, unsigned x, unsigned y, float sample_value) {
    const unsigned long long index = ((unsigned long long)channel * args.height + y) * args.width + x;
    const float value = sample_value * args.scale[channel] + args.offset[channel];
    if (args.half) {
        ((unsigned short *)args.tensor)[index] = to_f16(value);
    } else {
        ((float *)args.tensor)[index] = value;
    }
}

// Grid: at least width x height threads.
extern "C" __global__ void letterbox(const LetterboxArgs args) {
    const unsigned x = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= args.width || y >= args.height) {
        return;
    }
    float red = args.pad;
    float green = args.pad;
    float blue = args.pad;
    // Left of the picture the difference wraps around and is large.
    const unsigned column = x - args.left;
    const unsigned row = y - args.top;
    if (column < args.placed_width && row < args.placed_height) {
        const unsigned chroma_columns = (args.source_width + 1u) / 2u;
        const unsigned chroma_rows = (args.source_height + 1u) / 2u;
        const unsigned luma_step_bytes = args.ten_bits ? 2u : 1u;
        const Between at_x = between(column, args.source_width, args.placed_width, 0u, args.source_width);
        const Between at_y = between(row, args.source_height, args.placed_height, 0u, args.source_height);
        const Between chroma_x = between(column, args.source_width, args.placed_width, 1u, chroma_columns);
        const Between chroma_y = between(row, args.source_height, args.placed_height, 1u, chroma_rows);
        const float luma = bilinear(args.y, args.y_stride_bytes, luma_step_bytes, at_x, at_y, args.ten_bits);
        const float cb = bilinear(args.cb, args.cb_stride_bytes, args.chroma_step_bytes, chroma_x, chroma_y, args.ten_bits) - args.chroma_zero;
        const float cr = bilinear(args.cr, args.cr_stride_bytes, args.chroma_step_bytes, chroma_x, chroma_y, args.ten_bits) - args.chroma_zero;
        const float grey = (luma - args.luma_black) * args.luma_gain;
        red = within_code_range(grey + args.red_cr * cr);
        green = within_code_range(grey + args.green_cb * cb + args.green_cr * cr);
        blue = within_code_range(grey + args.blue_cb * cb);
    }
    store(args, 0u, x, y, args.bgr ? blue : red);
    store(args, 1u, x, y, green);
    store(args, 2u, x, y, args.bgr ? red : blue);
}

// Grid: at least `count` threads.
extern "C" __global__ void to_half(const float *from, unsigned short *to, unsigned count) {
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        to[index] = to_f16(from[index]);
    }
}
