// The classes that run engines, over whichever declarations `bridge.h` chose.
#include "bridge.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "rest.h"

using namespace nvinfer1;

namespace standin
{
static_assert(sizeof(Dims) == 72, "a count, padding and eight sizes");

#ifdef STANDIN_REAL_HEADERS
static_assert(NV_TENSORRT_MAJOR == STANDIN_MAJOR, "headers of another major");
static_assert(static_cast<int>(DataType::kHALF) == 1 && static_cast<int>(DataType::kINT64) == 8, "element types");
static_assert(static_cast<int>(TensorIOMode::kINPUT) == 1, "input");
static_assert(static_cast<int>(ExecutionContextAllocationStrategy::kUSER_MANAGED) == 2, "strategy");
static_assert(static_cast<int>(OptProfileSelector::kMAX) == 2, "selectors");
static_assert(static_cast<int>(DeviceType::kDLA) == 1, "devices");
#endif

class HostMemory final : public apiv::VHostMemoryRest
{
public:
    explicit HostMemory(void* bytes) noexcept
        : mBytes(bytes)
    {
    }
    ~HostMemory() noexcept override
    {
        wpn_bytes_free(mBytes);
    }
    void* data() const noexcept override
    {
        return wpn_bytes_data(mBytes);
    }
    std::size_t size() const noexcept override
    {
        return wpn_bytes_size(mBytes);
    }
    DataType type() const noexcept override
    {
        return static_cast<DataType>(2); // kINT8: bytes
    }
    IHostMemory* mPublic{};

private:
    void* mBytes;
};

class ExecutionContext final : public apiv::VExecutionContextRest
{
public:
    ExecutionContext(void* context, ICudaEngine const* engine) noexcept
        : mContext(context)
        , mEngine(engine)
    {
    }
    ~ExecutionContext() noexcept override
    {
        wpn_context_free(mContext);
    }
    IExecutionContext* getPImpl() noexcept override
    {
        return mPublic;
    }
    ICudaEngine const& getEngine() const noexcept override
    {
        return *mEngine;
    }
    void setName(char const* name) noexcept override
    {
        mName = name;
    }
    char const* getName() const noexcept override
    {
        return mName.c_str();
    }
    void setDeviceMemory(void* memory) noexcept override
    {
        wpn_context_set_memory(mContext, memory, -1);
    }
    void setDeviceMemoryV2(void* memory, int64_t size) noexcept override
    {
        wpn_context_set_memory(mContext, memory, size);
    }
    size_t updateDeviceMemorySizeForShapes() noexcept override
    {
        return wpn_context_bytes_for_shapes(mContext);
    }
    int32_t getOptimizationProfile() const noexcept override
    {
        return 0;
    }
    bool setOptimizationProfileAsync(int32_t profileIndex, cudaStream_t) noexcept override
    {
        return profileIndex == 0;
    }
    bool allInputDimensionsSpecified() const noexcept override
    {
        return wpn_context_is_shaped(mContext);
    }
#if STANDIN_MAJOR == 10
    bool allInputShapesSpecified() const noexcept override
    {
        return true;
    }
#endif
    bool setInputShape(char const* tensorName, Dims const& dims) noexcept override
    {
        return wpn_context_set_shape(mContext, tensorName, &dims);
    }
    Dims getTensorShape(char const* tensorName) const noexcept override
    {
        Dims shape{};
        wpn_context_shape(mContext, tensorName, &shape);
        return shape;
    }
    bool setTensorAddress(char const* tensorName, void* data) noexcept override
    {
        return wpn_context_set_address(mContext, tensorName, data);
    }
    bool setInputTensorAddress(char const* tensorName, void const* data) noexcept override
    {
        return wpn_context_set_address(mContext, tensorName, data);
    }
    bool setOutputTensorAddress(char const* tensorName, void* data) noexcept override
    {
        return wpn_context_set_address(mContext, tensorName, data);
    }
    void const* getTensorAddress(char const* tensorName) const noexcept override
    {
        return wpn_context_address(mContext, tensorName);
    }
    void* getOutputTensorAddress(char const* tensorName) const noexcept override
    {
        return wpn_context_address(mContext, tensorName);
    }
    int64_t getMaxOutputSize(char const* tensorName) const noexcept override
    {
        return wpn_context_max_output_bytes(mContext, tensorName);
    }
    int32_t inferShapes(int32_t, char const**) noexcept override
    {
        return wpn_context_is_shaped(mContext) ? 0 : 1;
    }
    bool enqueueV3(cudaStream_t stream) noexcept override
    {
        return wpn_context_enqueue(mContext, stream);
    }
    IExecutionContext* mPublic{};

private:
    void* mContext;
    ICudaEngine const* mEngine;
    std::string mName;
};

class CudaEngine final : public apiv::VCudaEngineRest
{
public:
    explicit CudaEngine(void* engine) noexcept
        : mEngine(engine)
    {
    }
    ~CudaEngine() noexcept override
    {
        wpn_engine_free(mEngine);
    }
    ICudaEngine* getPImpl() noexcept override
    {
        return mPublic;
    }
    int32_t getNbLayers() const noexcept override
    {
        return 1;
    }
    IHostMemory* serialize() const noexcept override
    {
        return publish<IHostMemory>(new HostMemory(wpn_engine_serialize(mEngine)));
    }
    IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept override
    {
        void* context = wpn_engine_create_context(mEngine, number(strategy));
        return context ? publish<IExecutionContext>(new ExecutionContext(context, mPublic)) : nullptr;
    }
    bool isRefittable() const noexcept override
    {
        return false;
    }
    char const* getName() const noexcept override
    {
        return "stand-in";
    }
    int32_t getNbOptimizationProfiles() const noexcept override
    {
        return 1;
    }
    EngineCapability getEngineCapability() const noexcept override
    {
        return static_cast<EngineCapability>(0);
    }
    Dims getTensorShape(char const* tensorName) const noexcept override
    {
        return shape(tensorName);
    }
    DataType getTensorDataType(char const* tensorName) const noexcept override
    {
        return static_cast<DataType>(tensor(tensorName).element);
    }
    TensorLocation getTensorLocation(char const* tensorName) const noexcept override
    {
        tensor(tensorName);
        return static_cast<TensorLocation>(0);
    }
    bool isShapeInferenceIO(char const* tensorName) const noexcept override
    {
        tensor(tensorName);
        return false;
    }
    TensorIOMode getTensorIOMode(char const* tensorName) const noexcept override
    {
        return static_cast<TensorIOMode>(tensor(tensorName).is_input);
    }
    int32_t getTensorBytesPerComponent(char const* tensorName) const noexcept override
    {
        return tensor(tensorName).element_bytes;
    }
    int32_t getTensorBytesPerComponentV2(char const* tensorName, int32_t) const noexcept override
    {
        return tensor(tensorName).element_bytes;
    }
    int32_t getTensorComponentsPerElement(char const*) const noexcept override
    {
        return -1;
    }
    int32_t getTensorComponentsPerElementV2(char const*, int32_t) const noexcept override
    {
        return -1;
    }
    TensorFormat getTensorFormat(char const* tensorName) const noexcept override
    {
        tensor(tensorName);
        return static_cast<TensorFormat>(0);
    }
    TensorFormat getTensorFormatV2(char const* tensorName, int32_t) const noexcept override
    {
        return getTensorFormat(tensorName);
    }
    char const* getTensorFormatDesc(char const*) const noexcept override
    {
        return "Row-major linear format (kLINEAR)";
    }
    char const* getTensorFormatDescV2(char const* tensorName, int32_t) const noexcept override
    {
        return getTensorFormatDesc(tensorName);
    }
    int32_t getTensorVectorizedDim(char const*) const noexcept override
    {
        return -1;
    }
    int32_t getTensorVectorizedDimV2(char const*, int32_t) const noexcept override
    {
        return -1;
    }
    Dims getProfileShape(
        char const* tensorName, int32_t profileIndex, OptProfileSelector select) const noexcept override
    {
        Dims result{};
        wpn_engine_profile_shape(mEngine, tensorName, profileIndex, number(select), &result);
        return result;
    }
    int32_t getNbIOTensors() const noexcept override
    {
        return wpn_engine_tensor_count(mEngine);
    }
    char const* getIOTensorName(int32_t index) const noexcept override
    {
        return wpn_engine_tensor_name(mEngine, index);
    }
    HardwareCompatibilityLevel getHardwareCompatibilityLevel() const noexcept override
    {
        return static_cast<HardwareCompatibilityLevel>(wpn_engine_hardware_compatibility(mEngine));
    }
    int32_t getNbAuxStreams() const noexcept override
    {
        return 0;
    }
    bool isDebugTensor(char const*) const noexcept override
    {
        return false;
    }
    int64_t getDeviceMemorySizeV2() const noexcept override
    {
        return wpn_engine_activation_bytes(mEngine);
    }
    int64_t getDeviceMemorySizeForProfileV2(int32_t profileIndex) const noexcept override
    {
        return profileIndex == 0 ? wpn_engine_activation_bytes(mEngine) : 0;
    }
#if STANDIN_MAJOR == 10
    IExecutionContext* createExecutionContextWithoutDeviceMemory() noexcept override
    {
        return createExecutionContext(static_cast<ExecutionContextAllocationStrategy>(2));
    }
    size_t getDeviceMemorySize() const noexcept override
    {
        return static_cast<size_t>(wpn_engine_activation_bytes(mEngine));
    }
    size_t getDeviceMemorySizeForProfile(int32_t profileIndex) const noexcept override
    {
        return static_cast<size_t>(getDeviceMemorySizeForProfileV2(profileIndex));
    }
    bool hasImplicitBatchDimension() const noexcept override
    {
        return false;
    }
#endif
    ICudaEngine* mPublic{};

private:
    wpn_tensor tensor(char const* name) const noexcept
    {
        wpn_tensor result{};
        Dims ignored{};
        wpn_engine_tensor(mEngine, name, &result, &ignored);
        return result;
    }
    Dims shape(char const* name) const noexcept
    {
        wpn_tensor ignored{};
        Dims result{};
        wpn_engine_tensor(mEngine, name, &ignored, &result);
        return result;
    }
    void* mEngine;
};

class Runtime final : public apiv::VRuntimeRest
{
public:
    Runtime(void* runtime, ILogger* logger) noexcept
        : mRuntime(runtime)
        , mLogger(logger)
    {
    }
    ~Runtime() noexcept override
    {
        wpn_runtime_free(mRuntime);
    }
    IRuntime* getPImpl() noexcept override
    {
        return mPublic;
    }
    using apiv::VRuntimeRest::deserializeCudaEngine;
    ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept override
    {
        void* engine = wpn_runtime_deserialize(mRuntime, blob, size);
        return engine ? publish<ICudaEngine>(new CudaEngine(engine)) : nullptr;
    }
    void setDLACore(int32_t dlaCore) noexcept override
    {
        mDlaCore = dlaCore;
    }
    int32_t getDLACore() const noexcept override
    {
        return mDlaCore;
    }
    int32_t getNbDLACores() const noexcept override
    {
        return wpn_dla_cores();
    }
    ILogger* getLogger() const noexcept override
    {
        return mLogger;
    }
    bool setMaxThreads(int32_t maxThreads) noexcept override
    {
        mMaxThreads = maxThreads;
        return maxThreads > 0;
    }
    int32_t getMaxThreads() const noexcept override
    {
        return mMaxThreads;
    }
    IRuntime* mPublic{};

private:
    void* mRuntime;
    ILogger* mLogger;
    int32_t mDlaCore{-1};
    int32_t mMaxThreads{1};
};

IHostMemory* publishBytes(void* bytes) noexcept
{
    return publish<IHostMemory>(new HostMemory(bytes));
}
} // namespace standin

extern "C"
{
    void wps_log(void* logger, int32_t severity, char const* text) noexcept
    {
        if (logger)
        {
            static_cast<ILogger*>(logger)->log(static_cast<ILogger::Severity>(severity), text);
        }
    }

    // 11 asks what it talks to before it talks.
    bool wps_logger_is_sound(void* logger) noexcept
    {
        if (!logger)
        {
            return false;
        }
#if STANDIN_MAJOR >= 11
        auto* versioned = static_cast<ILogger*>(logger);
        auto const info = versioned->getInterfaceInfo();
        return static_cast<int32_t>(versioned->getAPILanguage()) == 0 && info.kind
            && std::strcmp(info.kind, "ILogger") == 0 && info.major == 1;
#else
        return true;
#endif
    }

    void* wps_wrap_runtime(void* runtime, void* logger) noexcept
    {
        return standin::publish<IRuntime>(new standin::Runtime(runtime, static_cast<ILogger*>(logger)));
    }

    char const* wps_headers() noexcept
    {
        return STANDIN_HEADERS;
    }

    void wps_unimplemented(char const* table, int slot, char const* signature) noexcept
    {
        std::fprintf(stderr, "stand-in libnvinfer " STANDIN_HEADERS ": %s slot %d was called and is not there: %s\n",
            table, slot, signature);
        std::fflush(stderr);
        std::abort();
    }
}
