// What the declarations of TensorRT's classes mention: layouts that cross the library's boundary.
// STANDIN_MAJOR says which major's interface is meant.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

namespace nvinfer1
{
enum class DataType : int32_t;
enum class APILanguage : int32_t { kCPP = 0 };

// 72 bytes: a count, padding, and eight sizes. -1 stands for a size that is open.
class Dims64
{
public:
    int32_t nbDims;
    int64_t d[8];
};
using Dims = Dims64;

class Weights
{
public:
    DataType type;
    void const* values;
    int64_t count;
};

struct TimingCacheKey
{
    uint8_t data[16];
};

struct TimingCacheValue
{
    uint64_t tacticHash;
    float timingMSec;
};

using BuilderFlags = uint32_t;
using NetworkDefinitionCreationFlags = uint32_t;
using QuantizationFlags = uint32_t;
using TacticSources = uint32_t;
using TempfileControlFlags = uint32_t;

class InterfaceInfo
{
public:
    char const* kind;
    int32_t major;
    int32_t minor;
};

class IVersionedInterface
{
public:
    virtual APILanguage getAPILanguage() const noexcept
    {
        return APILanguage::kCPP;
    }
    virtual InterfaceInfo getInterfaceInfo() const noexcept = 0;
    virtual ~IVersionedInterface() noexcept = default;
};

#if STANDIN_MAJOR == 10
enum class CalibrationAlgoType : int32_t;

class IInt8Calibrator : public IVersionedInterface
{
public:
    virtual int32_t getBatchSize() const noexcept = 0;
    virtual bool getBatch(void* bindings[], char const* names[], int32_t nbBindings) noexcept = 0;
    virtual void const* readCalibrationCache(std::size_t& length) noexcept = 0;
    virtual void writeCalibrationCache(void const* cache, std::size_t length) noexcept = 0;
    virtual CalibrationAlgoType getAlgorithm() noexcept = 0;
};
#endif

#if STANDIN_MAJOR >= 11
class ILogger : public IVersionedInterface
#else
class ILogger
#endif
{
public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, char const* message) noexcept = 0;
    virtual ~ILogger() = default;
};

namespace apiv
{
class VRoot
{
public:
    virtual ~VRoot() noexcept = default;
};
} // namespace apiv
} // namespace nvinfer1
