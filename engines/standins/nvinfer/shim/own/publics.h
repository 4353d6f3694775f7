// The public objects: 16 bytes, a virtual table with the destructor and the pointer to the V-object.
#pragma once

#define STANDIN_PUBLIC(NAME)                 \
    class I##NAME                            \
    {                                        \
    public:                                  \
        virtual ~I##NAME() noexcept = default; \
                                             \
    protected:                               \
        apiv::V##NAME* mImpl;                \
    };

namespace nvinfer1
{
STANDIN_PUBLIC(HostMemory)
STANDIN_PUBLIC(Runtime)
STANDIN_PUBLIC(CudaEngine)
STANDIN_PUBLIC(ExecutionContext)
STANDIN_PUBLIC(Builder)
STANDIN_PUBLIC(BuilderConfig)
STANDIN_PUBLIC(NetworkDefinition)
STANDIN_PUBLIC(OptimizationProfile)
STANDIN_PUBLIC(TimingCache)
} // namespace nvinfer1

#undef STANDIN_PUBLIC
