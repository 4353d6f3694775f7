// What letterbox.cu needs in order to be plain C++: the words of CUDA, and a loop in place of a grid.
#pragma once

#include <cstdint>
#include <cstring>

#define __global__
#define __device__

struct HostIndex {
    unsigned x, y, z;
};

// A launch runs on the thread that makes it; several threads may launch at once.
static thread_local HostIndex gridDim, blockDim, blockIdx, threadIdx;

// Calls `kernel` once for every thread of the grid.
template <typename Kernel>
static void host_launch(const unsigned grid[3], const unsigned block[3], Kernel kernel) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++)
                for (threadIdx.z = 0; threadIdx.z < block[2]; threadIdx.z++)
                    for (threadIdx.y = 0; threadIdx.y < block[1]; threadIdx.y++)
                        for (threadIdx.x = 0; threadIdx.x < block[0]; threadIdx.x++)
                            kernel();
}

// IEEE 754 binary32 to binary16, to nearest, ties to even: what cvt.rn.f16.f32 does.
static inline std::uint16_t host_f16(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (std::uint16_t)0x7fffu;  // cvt gives this one NaN for all
    if (magnitude >= 0x477ff000u) return (std::uint16_t)(sign | 0x7c00u);  // 65520 and more: infinite
    if (magnitude < 0x33000000u) return (std::uint16_t)sign;               // below half the smallest subnormal
    const std::uint32_t exponent = magnitude >> 23;
    const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    // 13 bits go; more where the result is subnormal (exponents below 113 = 127 - 14).
    const std::uint32_t shift = exponent >= 113u ? 13u : 126u - exponent;
    std::uint32_t half = mantissa >> shift;
    const std::uint32_t rest = mantissa & ((1u << shift) - 1u);
    const std::uint32_t tie = 1u << (shift - 1u);
    if (rest > tie || (rest == tie && (half & 1u))) half++;
    // A normal result has its hidden bit in `half`, so one less goes into the exponent.
    if (exponent >= 113u) half += (exponent - 113u) << 10;
    return (std::uint16_t)(sign | half);
}
