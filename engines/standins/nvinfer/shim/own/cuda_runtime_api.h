// The few CUDA types that TensorRT's interface mentions, so that neither our own declarations nor
// NVIDIA's headers need a CUDA toolkit.
#pragma once
#include <cstddef>
#include <cstdint>

struct CUstream_st;
struct CUevent_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
