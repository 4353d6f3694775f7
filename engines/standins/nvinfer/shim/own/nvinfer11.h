// Written by `WATCHPOST_BLESS=1 cargo test -p watchpost-standin-nvinfer --test declarations`;
// the comment behind a function is its slot.
#pragma once
#include "types.h"

namespace nvinfer1
{
enum class ActivationType : int32_t;
enum class AttentionNormalizationOp : int32_t;
enum class BuilderFlag : int32_t;
enum class CausalMaskKind : int32_t;
enum class CollectiveOperation : int32_t;
enum class CumulativeOperation : int32_t;
enum class DLAWorkspaceAllocationStrategy : int32_t;
enum class DeviceType : int32_t;
enum class ElementWiseOperation : int32_t;
enum class EngineCapability : int32_t;
enum class EngineStat : int32_t;
enum class ExecutionContextAllocationStrategy : int32_t;
enum class FillOperation : int32_t;
enum class GatherMode : int32_t;
enum class HardwareCompatibilityLevel : int32_t;
class IActivationLayer;
class IAssertionLayer;
class IAttention;
class IBuilder;
class IBuilderConfig;
class ICastLayer;
class IConcatenationLayer;
class IConstantLayer;
class IConvolutionLayer;
class ICudaEngine;
class ICumulativeLayer;
class IDebugListener;
class IDeconvolutionLayer;
class IDequantizeLayer;
class IDistCollectiveLayer;
class IDynamicQuantizeLayer;
class IEinsumLayer;
class IElementWiseLayer;
class IEngineInspector;
class IErrorRecorder;
class IExecutionContext;
class IFillLayer;
class IGatherLayer;
class IGpuAllocator;
class IGridSampleLayer;
class IHostMemory;
class IIdentityLayer;
class IIfConditional;
class IKVCacheUpdateLayer;
class ILRNLayer;
class ILayer;
class ILoop;
class IMatrixMultiplyLayer;
class IMoELayer;
class INMSLayer;
class INetworkDefinition;
class INonZeroLayer;
class INormalizationLayer;
class IOneHotLayer;
class IOptimizationProfile;
class IOutputAllocator;
class IPaddingLayer;
class IParametricReLULayer;
class IPluginRegistry;
class IPluginV2;
class IPluginV2Layer;
class IPluginV3;
class IPluginV3Layer;
class IPoolingLayer;
class IProfiler;
class IProgressMonitor;
class IQuantizeLayer;
class IRaggedSoftMaxLayer;
class IReduceLayer;
class IRefitter;
class IResizeLayer;
class IReverseSequenceLayer;
class IRotaryEmbeddingLayer;
class IRuntime;
class IRuntimeConfig;
class IScaleLayer;
class IScatterLayer;
class ISelectLayer;
class ISerializationConfig;
class IShapeLayer;
class IShuffleLayer;
class ISliceLayer;
class ISoftMaxLayer;
class ISqueezeLayer;
class IStreamReaderV2;
class IStreamWriter;
class ITensor;
class ITimingCache;
class ITopKLayer;
class IUnaryLayer;
class IUnsqueezeLayer;
enum class KVCacheMode : int32_t;
enum class MatrixOperation : int32_t;
enum class MemoryPoolType : int32_t;
enum class NetworkDefinitionCreationFlag : int32_t;
enum class OptProfileSelector : int32_t;
enum class PoolingType : int32_t;
enum class PreviewFeature : int32_t;
enum class ProfilingVerbosity : int32_t;
enum class ReduceOperation : int32_t;
enum class RuntimePlatform : int32_t;
enum class ScaleMode : int32_t;
enum class ScatterMode : int32_t;
enum class TensorFormat : int32_t;
enum class TensorIOMode : int32_t;
enum class TensorLocation : int32_t;
enum class TilingOptimizationLevel : int32_t;
enum class TopKOperation : int32_t;
enum class UnaryOperation : int32_t;

namespace apiv
{
class VBuilder : public VRoot
{
public:
    virtual int32_t getMaxDLABatchSize() const noexcept = 0; // 2
    virtual int32_t getNbDLACores() const noexcept = 0; // 3
    virtual void setGpuAllocator(IGpuAllocator* allocator) noexcept = 0; // 4
    virtual IBuilderConfig* createBuilderConfig() noexcept = 0; // 5
    virtual INetworkDefinition* createNetworkV2(NetworkDefinitionCreationFlags flags) noexcept = 0; // 6
    virtual IOptimizationProfile* createOptimizationProfile() noexcept = 0; // 7
    virtual void setErrorRecorder(IErrorRecorder* recorder) noexcept = 0; // 8
    virtual IErrorRecorder* getErrorRecorder() const noexcept = 0; // 9
    virtual void reset() noexcept = 0; // 10
    virtual IHostMemory* buildSerializedNetwork(INetworkDefinition& network, IBuilderConfig& config) noexcept = 0; // 11
    virtual bool isNetworkSupported(INetworkDefinition const& network, IBuilderConfig const& config) const noexcept = 0; // 12
    virtual ILogger* getLogger() const noexcept = 0; // 13
    virtual bool setMaxThreads(int32_t maxThreads) noexcept = 0; // 14
    virtual int32_t getMaxThreads() const noexcept = 0; // 15
    virtual IPluginRegistry& getPluginRegistry() noexcept = 0; // 16
    virtual ICudaEngine* buildEngineWithConfig(INetworkDefinition& network, IBuilderConfig& config) noexcept = 0; // 17
    virtual bool buildSerializedNetworkToStream(INetworkDefinition& network, IBuilderConfig& config, IStreamWriter& writer) noexcept = 0; // 18
    virtual IHostMemory* buildSerializedNetworkWithKernelText(INetworkDefinition& network, IBuilderConfig& config, IHostMemory*& kernelText) noexcept = 0; // 19
};
class VBuilderConfig : public VRoot
{
public:
    virtual void setAvgTimingIterations(int32_t avgTiming) noexcept = 0; // 2
    virtual int32_t getAvgTimingIterations() const noexcept = 0; // 3
    virtual void setEngineCapability(EngineCapability capability) noexcept = 0; // 4
    virtual EngineCapability getEngineCapability() const noexcept = 0; // 5
    virtual void setFlags(BuilderFlags builderFlags) noexcept = 0; // 6
    virtual BuilderFlags getFlags() const noexcept = 0; // 7
    virtual void clearFlag(BuilderFlag builderFlag) noexcept = 0; // 8
    virtual void setFlag(BuilderFlag builderFlag) noexcept = 0; // 9
    virtual bool getFlag(BuilderFlag builderFlag) const noexcept = 0; // 10
    virtual void setDeviceType(ILayer const* layer, DeviceType deviceType) noexcept = 0; // 11
    virtual DeviceType getDeviceType(ILayer const* layer) const noexcept = 0; // 12
    virtual bool isDeviceTypeSet(ILayer const* layer) const noexcept = 0; // 13
    virtual void resetDeviceType(ILayer const* layer) noexcept = 0; // 14
    virtual bool canRunOnDLA(ILayer const* layer) const noexcept = 0; // 15
    virtual void setDLACore(int32_t dlaCore) noexcept = 0; // 16
    virtual int32_t getDLACore() const noexcept = 0; // 17
    virtual void setDefaultDeviceType(DeviceType deviceType) noexcept = 0; // 18
    virtual DeviceType getDefaultDeviceType() const noexcept = 0; // 19
    virtual void reset() noexcept = 0; // 20
    virtual void setProfileStream(const cudaStream_t stream) noexcept = 0; // 21
    virtual cudaStream_t getProfileStream() const noexcept = 0; // 22
    virtual int32_t addOptimizationProfile(IOptimizationProfile const* profile) noexcept = 0; // 23
    virtual int32_t getNbOptimizationProfiles() const noexcept = 0; // 24
    virtual void setProfilingVerbosity(ProfilingVerbosity verbosity) noexcept = 0; // 25
    virtual ProfilingVerbosity getProfilingVerbosity() const noexcept = 0; // 26
    virtual bool setTacticSources(TacticSources tacticSources) noexcept = 0; // 27
    virtual TacticSources getTacticSources() const noexcept = 0; // 28
    virtual ITimingCache* createTimingCache(void const* blob, std::size_t size) const noexcept = 0; // 29
    virtual bool setTimingCache(ITimingCache const& cache, bool ignoreMismatch) noexcept = 0; // 30
    virtual ITimingCache const* getTimingCache() const noexcept = 0; // 31
    virtual void setMemoryPoolLimit(MemoryPoolType pool, std::size_t poolSize) noexcept = 0; // 32
    virtual std::size_t getMemoryPoolLimit(MemoryPoolType pool) const noexcept = 0; // 33
    virtual void setPreviewFeature(PreviewFeature feature, bool enable) noexcept = 0; // 34
    virtual bool getPreviewFeature(PreviewFeature feature) const noexcept = 0; // 35
    virtual void setBuilderOptimizationLevel(int32_t level) noexcept = 0; // 36
    virtual int32_t getBuilderOptimizationLevel() const noexcept = 0; // 37
    virtual void setHardwareCompatibilityLevel(HardwareCompatibilityLevel hardwareCompatibilityLevel) noexcept = 0; // 38
    virtual HardwareCompatibilityLevel getHardwareCompatibilityLevel() const noexcept = 0; // 39
    virtual void setPluginsToSerialize(char const* const* paths, int32_t nbPaths) noexcept = 0; // 40
    virtual char const* getPluginToSerialize(int32_t index) const noexcept = 0; // 41
    virtual int32_t getNbPluginsToSerialize() const noexcept = 0; // 42
    virtual bool setMaxAuxStreams(int32_t nbStreams) noexcept = 0; // 43
    virtual int32_t getMaxAuxStreams() const noexcept = 0; // 44
    virtual void setProgressMonitor(IProgressMonitor* monitor) noexcept = 0; // 45
    virtual IProgressMonitor* getProgressMonitor() const noexcept = 0; // 46
    virtual void setRuntimePlatform(RuntimePlatform runtimePlatform) noexcept = 0; // 47
    virtual RuntimePlatform getRuntimePlatform() const noexcept = 0; // 48
    virtual void setMaxNbTactics(int32_t maxTactics) noexcept = 0; // 49
    virtual int32_t getMaxNbTactics() const noexcept = 0; // 50
    virtual bool setTilingOptimizationLevel(TilingOptimizationLevel level) noexcept = 0; // 51
    virtual TilingOptimizationLevel getTilingOptimizationLevel() const noexcept = 0; // 52
    virtual bool setL2LimitForTiling(int64_t size) noexcept = 0; // 53
    virtual int64_t getL2LimitForTiling() const noexcept = 0; // 54
    virtual bool setRemoteAutoTuningConfig(char const* config) noexcept = 0; // 55
    virtual char const* getRemoteAutoTuningConfig() const noexcept = 0; // 56
    virtual bool setBuildRoute(char const* buildRoute) noexcept = 0; // 57
    virtual char const* getBuildRoute() const noexcept = 0; // 58
    virtual char const* getAllBuildRoutes() const noexcept = 0; // 59
};
class VCudaEngine : public VRoot
{
public:
    virtual ICudaEngine* getPImpl() noexcept = 0; // 2
    virtual int32_t getNbLayers() const noexcept = 0; // 3
    virtual IHostMemory* serialize() const noexcept = 0; // 4
    virtual IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept = 0; // 5
    virtual bool isRefittable() const noexcept = 0; // 6
    virtual char const* getName() const noexcept = 0; // 7
    virtual int32_t getNbOptimizationProfiles() const noexcept = 0; // 8
    virtual EngineCapability getEngineCapability() const noexcept = 0; // 9
    virtual void setErrorRecorder(IErrorRecorder* recorder) noexcept = 0; // 10
    virtual IErrorRecorder* getErrorRecorder() const noexcept = 0; // 11
    virtual TacticSources getTacticSources() const noexcept = 0; // 12
    virtual ProfilingVerbosity getProfilingVerbosity() const noexcept = 0; // 13
    virtual IEngineInspector* createEngineInspector() const noexcept = 0; // 14
    virtual Dims getTensorShape(char const* tensorName) const noexcept = 0; // 15
    virtual DataType getTensorDataType(char const* tensorName) const noexcept = 0; // 16
    virtual TensorLocation getTensorLocation(char const* tensorName) const noexcept = 0; // 17
    virtual bool isShapeInferenceIO(char const* tensorName) const noexcept = 0; // 18
    virtual TensorIOMode getTensorIOMode(char const* tensorName) const noexcept = 0; // 19
    virtual int32_t getTensorBytesPerComponent(char const* tensorName) const noexcept = 0; // 20
    virtual int32_t getTensorComponentsPerElement(char const* tensorName) const noexcept = 0; // 21
    virtual TensorFormat getTensorFormat(char const* tensorName) const noexcept = 0; // 22
    virtual char const* getTensorFormatDesc(char const* tensorName) const noexcept = 0; // 23
    virtual int32_t getTensorVectorizedDim(char const* tensorName) const noexcept = 0; // 24
    virtual Dims getProfileShape(char const* tensorName, int32_t profileIndex, OptProfileSelector select) const noexcept = 0; // 25
    virtual int32_t getNbIOTensors() const noexcept = 0; // 26
    virtual char const* getIOTensorName(int32_t index) const noexcept = 0; // 27
    virtual HardwareCompatibilityLevel getHardwareCompatibilityLevel() const noexcept = 0; // 28
    virtual int32_t getNbAuxStreams() const noexcept = 0; // 29
    virtual int32_t getTensorBytesPerComponentV2(char const* tensorName, int32_t profileIndex) const noexcept = 0; // 30
    virtual int32_t getTensorComponentsPerElementV2(char const* tensorName, int32_t profileIndex) const noexcept = 0; // 31
    virtual TensorFormat getTensorFormatV2(char const* tensorName, int32_t profileIndex) const noexcept = 0; // 32
    virtual char const* getTensorFormatDescV2(char const* tensorName, int32_t profileIndex) const noexcept = 0; // 33
    virtual int32_t getTensorVectorizedDimV2(char const* tensorName, int32_t profileIndex) const noexcept = 0; // 34
    virtual ISerializationConfig* createSerializationConfig() noexcept = 0; // 35
    virtual IHostMemory* serializeWithConfig(ISerializationConfig& config) const noexcept = 0; // 36
    virtual IRefitter* createRefitter(ILogger& logger) noexcept = 0; // 37
    virtual int64_t getStreamableWeightsSize() const noexcept = 0; // 38
    virtual bool isDebugTensor(char const* name) const noexcept = 0; // 39
    virtual bool setWeightStreamingBudgetV2(int64_t gpuMemoryBudget) noexcept = 0; // 40
    virtual int64_t getWeightStreamingBudgetV2() const noexcept = 0; // 41
    virtual int64_t getWeightStreamingAutomaticBudget() const noexcept = 0; // 42
    virtual int64_t getWeightStreamingScratchMemorySize() const noexcept = 0; // 43
    virtual int64_t getDeviceMemorySizeV2() const noexcept = 0; // 44
    virtual int64_t getDeviceMemorySizeForProfileV2(int32_t profileIndex) const noexcept = 0; // 45
    virtual int64_t const* getProfileTensorValuesV2(char const* tensorName, int32_t profileIndex, OptProfileSelector select) const noexcept = 0; // 46
    virtual IExecutionContext* createExecutionContextWithRuntimeConfig(IRuntimeConfig* runtimeConfig) noexcept = 0; // 47
    virtual IRuntimeConfig* createRuntimeConfig() noexcept = 0; // 48
    virtual int64_t getEngineStat(EngineStat stat) const noexcept = 0; // 49
    virtual char const* getAliasedInputTensor(char const* tensorName) const noexcept = 0; // 50
};
class VExecutionContext : public VRoot
{
public:
    virtual IExecutionContext* getPImpl() noexcept = 0; // 2
    virtual void setDebugSync(bool sync) noexcept = 0; // 3
    virtual bool getDebugSync() const noexcept = 0; // 4
    virtual void setProfiler(IProfiler*) noexcept = 0; // 5
    virtual IProfiler* getProfiler() const noexcept = 0; // 6
    virtual ICudaEngine const& getEngine() const noexcept = 0; // 7
    virtual void setName(char const* name) noexcept = 0; // 8
    virtual char const* getName() const noexcept = 0; // 9
    virtual void setDeviceMemory(void* memory) noexcept = 0; // 10
    virtual int32_t getOptimizationProfile() const noexcept = 0; // 11
    virtual bool allInputDimensionsSpecified() const noexcept = 0; // 12
    virtual void setErrorRecorder(IErrorRecorder* recorder) noexcept = 0; // 13
    virtual IErrorRecorder* getErrorRecorder() const noexcept = 0; // 14
    virtual bool executeV2(void* const* bindings) noexcept = 0; // 15
    virtual bool setOptimizationProfileAsync(int32_t profileIndex, cudaStream_t stream) noexcept = 0; // 16
    virtual void setEnqueueEmitsProfile(bool enqueueEmitsProfile) noexcept = 0; // 17
    virtual bool getEnqueueEmitsProfile() const noexcept = 0; // 18
    virtual bool reportToProfiler() const noexcept = 0; // 19
    virtual bool setInputShape(char const* tensorName, Dims const& dims) noexcept = 0; // 20
    virtual Dims getTensorShape(char const* tensorName) const noexcept = 0; // 21
    virtual Dims getTensorStrides(char const* tensorName) const noexcept = 0; // 22
    virtual bool setTensorAddress(char const* tensorName, void* data) noexcept = 0; // 23
    virtual void const* getTensorAddress(char const* tensorName) const noexcept = 0; // 24
    virtual bool setInputTensorAddress(char const* tensorName, void const* data) noexcept = 0; // 25
    virtual bool setOutputTensorAddress(char const* tensorName, void* data) noexcept = 0; // 26
    virtual int32_t inferShapes(int32_t nbMaxNames, char const** tensorNames) noexcept = 0; // 27
    virtual bool setInputConsumedEvent(cudaEvent_t event) noexcept = 0; // 28
    virtual cudaEvent_t getInputConsumedEvent() const noexcept = 0; // 29
    virtual void* getOutputTensorAddress(char const* tensorName) const noexcept = 0; // 30
    virtual bool setOutputAllocator(char const* tensorName, IOutputAllocator* outputAllocator) noexcept = 0; // 31
    virtual IOutputAllocator* getOutputAllocator(char const* name) noexcept = 0; // 32
    virtual int64_t getMaxOutputSize(char const* tensorName) const noexcept = 0; // 33
    virtual bool setTemporaryStorageAllocator(IGpuAllocator* allocator) noexcept = 0; // 34
    virtual IGpuAllocator* getTemporaryStorageAllocator() const noexcept = 0; // 35
    virtual bool enqueueV3(cudaStream_t stream) noexcept = 0; // 36
    virtual void setPersistentCacheLimit(size_t size) noexcept = 0; // 37
    virtual size_t getPersistentCacheLimit() const noexcept = 0; // 38
    virtual bool setNvtxVerbosity(ProfilingVerbosity verbosity) noexcept = 0; // 39
    virtual ProfilingVerbosity getNvtxVerbosity() const noexcept = 0; // 40
    virtual void setAuxStreams(cudaStream_t* auxStreams, int32_t nbStreams) noexcept = 0; // 41
    virtual bool setDebugListener(IDebugListener* listener) noexcept = 0; // 42
    virtual IDebugListener* getDebugListener() noexcept = 0; // 43
    virtual bool setTensorDebugState(char const* name, bool flag) noexcept = 0; // 44
    virtual bool getDebugState(char const* name) const noexcept = 0; // 45
    virtual bool setAllTensorsDebugState(bool flag) noexcept = 0; // 46
    virtual size_t updateDeviceMemorySizeForShapes() noexcept = 0; // 47
    virtual void setDeviceMemoryV2(void* memory, int64_t size) noexcept = 0; // 48
    virtual IRuntimeConfig* getRuntimeConfig() const noexcept = 0; // 49
    virtual bool setUnfusedTensorsDebugState(bool flag) noexcept = 0; // 50
    virtual bool getUnfusedTensorsDebugState() const noexcept = 0; // 51
    virtual bool setCommunicator(void* communicator) noexcept = 0; // 52
};
class VHostMemory : public VRoot
{
public:
    virtual void* data() const noexcept = 0; // 2
    virtual std::size_t size() const noexcept = 0; // 3
    virtual DataType type() const noexcept = 0; // 4
};
class VNetworkDefinition : public VRoot
{
public:
    virtual ITensor* addInput(char const* name, DataType type, Dims const& dimensions) noexcept = 0; // 2
    virtual void markOutput(ITensor& tensor) noexcept = 0; // 3
    virtual IActivationLayer* addActivation(ITensor& input, ActivationType type) noexcept = 0; // 4
    virtual ILRNLayer* addLRN(ITensor& input, int64_t window, float alpha, float beta, float k) noexcept = 0; // 5
    virtual IScaleLayer* addScale(ITensor& input, ScaleMode mode, Weights shift, Weights scale, Weights power) noexcept = 0; // 6
    virtual ISoftMaxLayer* addSoftMax(ITensor& input) noexcept = 0; // 7
    virtual IConcatenationLayer* addConcatenation(ITensor* const* inputs, int32_t nbInputs) noexcept = 0; // 8
    virtual IElementWiseLayer* addElementWise(ITensor& input1, ITensor& input2, ElementWiseOperation op) noexcept = 0; // 9
    virtual IUnaryLayer* addUnary(ITensor& input, UnaryOperation operation) noexcept = 0; // 10
    virtual IShuffleLayer* addShuffle(ITensor& input) noexcept = 0; // 11
    virtual int32_t getNbLayers() const noexcept = 0; // 12
    virtual ILayer* getLayer(int32_t index) const noexcept = 0; // 13
    virtual int32_t getNbInputs() const noexcept = 0; // 14
    virtual ITensor* getInput(int32_t index) const noexcept = 0; // 15
    virtual int32_t getNbOutputs() const noexcept = 0; // 16
    virtual ITensor* getOutput(int32_t index) const noexcept = 0; // 17
    virtual IReduceLayer* addReduce(ITensor& input, ReduceOperation operation, uint32_t reduceAxes, bool keepDimensions) noexcept = 0; // 18
    virtual ITopKLayer* addTopK(ITensor& input, TopKOperation op, int32_t k, uint32_t reduceAxes) noexcept = 0; // 19
    virtual IGatherLayer* addGather(ITensor& data, ITensor& indices, int32_t axis) noexcept = 0; // 20
    virtual IRaggedSoftMaxLayer* addRaggedSoftMax(ITensor& input, ITensor& bounds) noexcept = 0; // 21
    virtual IMatrixMultiplyLayer* addMatrixMultiply(ITensor& input0, MatrixOperation op0, ITensor& input1, MatrixOperation op1) noexcept = 0; // 22
    virtual IConstantLayer* addConstant(Dims const& dimensions, Weights weights) noexcept = 0; // 23
    virtual IIdentityLayer* addIdentity(ITensor& input) noexcept = 0; // 24
    virtual void removeTensor(ITensor& tensor) noexcept = 0; // 25
    virtual void unmarkOutput(ITensor& tensor) noexcept = 0; // 26
    virtual IPluginV2Layer* addPluginV2(ITensor* const* inputs, int32_t nbInputs, IPluginV2& plugin) noexcept = 0; // 27
    virtual IPluginV3Layer* addPluginV3(ITensor* const* inputs, int32_t nbInputs, ITensor* const* shapeInputs, int32_t nbShapeInputs, IPluginV3& plugin) noexcept = 0; // 28
    virtual ISliceLayer* addSlice(ITensor& input, Dims const& start, Dims const& size, Dims const& stride) noexcept = 0; // 29
    virtual void setName(char const* name) noexcept = 0; // 30
    virtual char const* getName() const noexcept = 0; // 31
    virtual IShapeLayer* addShape(ITensor& input) noexcept = 0; // 32
    virtual bool hasImplicitBatchDimension() const noexcept = 0; // 33
    virtual bool markOutputForShapes(ITensor& tensor) noexcept = 0; // 34
    virtual bool unmarkOutputForShapes(ITensor& tensor) noexcept = 0; // 35
    virtual IParametricReLULayer* addParametricReLU(ITensor& input, ITensor& slope) noexcept = 0; // 36
    virtual IConvolutionLayer* addConvolutionNd(ITensor& input, int64_t nbOutputMaps, Dims const& kernelSize, Weights kernelWeights, Weights biasWeights) noexcept = 0; // 37
    virtual IPoolingLayer* addPoolingNd(ITensor& input, PoolingType type, Dims const& windowSize) noexcept = 0; // 38
    virtual IDeconvolutionLayer* addDeconvolutionNd(ITensor& input, int64_t nbOutputMaps, Dims const& kernelSize, Weights kernelWeights, Weights biasWeights) noexcept = 0; // 39
    virtual IScaleLayer* addScaleNd(ITensor& input, ScaleMode mode, Weights shift, Weights scale, Weights power, int32_t channelAxis) noexcept = 0; // 40
    virtual IResizeLayer* addResize(ITensor& input) noexcept = 0; // 41
    virtual ILoop* addLoop() noexcept = 0; // 42
    virtual ISelectLayer* addSelect(ITensor& condition, ITensor& thenInput, ITensor& elseInput) noexcept = 0; // 43
    virtual IPaddingLayer* addPaddingNd(ITensor& input, Dims const& prePadding, Dims const& postPadding) noexcept = 0; // 44
    virtual bool setWeightsName(Weights weights, char const* name) noexcept = 0; // 45
    virtual void setErrorRecorder(IErrorRecorder* recorder) noexcept = 0; // 46
    virtual IErrorRecorder* getErrorRecorder() const noexcept = 0; // 47
    virtual IGatherLayer* addGatherV2(ITensor& data, ITensor& indices, GatherMode mode) noexcept = 0; // 48
    virtual IIfConditional* addIfConditional() noexcept = 0; // 49
    virtual IScatterLayer* addScatter(ITensor& data, ITensor& indices, ITensor& updates, ScatterMode mode) noexcept = 0; // 50
    virtual IEinsumLayer* addEinsum(ITensor* const* inputs, int32_t nbInputs, char const* equation) noexcept = 0; // 51
    virtual IAssertionLayer* addAssertion(ITensor& condition, char const* message) noexcept = 0; // 52
    virtual IOneHotLayer* addOneHot(ITensor& indices, ITensor& values, ITensor& depth, int32_t axis) noexcept = 0; // 53
    virtual INonZeroLayer* addNonZero(ITensor& input) noexcept = 0; // 54
    virtual IGridSampleLayer* addGridSample(ITensor& input, ITensor& grid) noexcept = 0; // 55
    virtual INMSLayer* addNMS(ITensor& boxes, ITensor& scores, ITensor& maxOutputBoxesPerClass) noexcept = 0; // 56
    virtual IReverseSequenceLayer* addReverseSequence(ITensor& input, ITensor& sequenceLens) noexcept = 0; // 57
    virtual INormalizationLayer* addNormalization(ITensor& input, ITensor& scale, ITensor& bias, uint32_t axesMask) noexcept = 0; // 58
    virtual ICastLayer* addCast(ITensor& input, DataType toType) noexcept = 0; // 59
    virtual IBuilder& getBuilder() const noexcept = 0; // 60
    virtual NetworkDefinitionCreationFlags getFlags() const noexcept = 0; // 61
    virtual bool getFlag(NetworkDefinitionCreationFlag networkDefinitionCreationFlag) const noexcept = 0; // 62
    virtual IQuantizeLayer* addQuantizeV2(ITensor& input, ITensor& scale, DataType outputType) noexcept = 0; // 63
    virtual IDequantizeLayer* addDequantizeV2(ITensor& input, ITensor& scale, DataType outputType) noexcept = 0; // 64
    virtual IFillLayer* addFillV2(Dims const& dimensions, FillOperation op, DataType outputType) noexcept = 0; // 65
    virtual bool markDebug(ITensor& tensor) noexcept = 0; // 66
    virtual bool unmarkDebug(ITensor& tensor) noexcept = 0; // 67
    virtual bool isDebugTensor(ITensor const& tensor) const noexcept = 0; // 68
    virtual bool markWeightsRefittable(char const* name) noexcept = 0; // 69
    virtual bool unmarkWeightsRefittable(char const* name) noexcept = 0; // 70
    virtual bool areWeightsMarkedRefittable(char const* name) const noexcept = 0; // 71
    virtual ISqueezeLayer* addSqueeze(ITensor& input, ITensor& axes) noexcept = 0; // 72
    virtual IUnsqueezeLayer* addUnsqueeze(ITensor& input, ITensor& axes) noexcept = 0; // 73
    virtual IDynamicQuantizeLayer* addDynamicQuantize(ITensor& input, int32_t axis, int32_t blockSize, DataType toType, DataType scaleType) noexcept = 0; // 74
    virtual ICumulativeLayer* addCumulative(ITensor& input, ITensor& axis, CumulativeOperation operation, bool exclusive, bool reverse) noexcept = 0; // 75
    virtual bool markUnfusedTensorsAsDebugTensors() noexcept = 0; // 76
    virtual bool unmarkUnfusedTensorsAsDebugTensors() noexcept = 0; // 77
    virtual ITopKLayer* addTopKV2(ITensor& input, TopKOperation op, int32_t k, uint32_t reduceAxes, DataType indicesType) noexcept = 0; // 78
    virtual INonZeroLayer* addNonZeroV2(ITensor& input, DataType indicesType) noexcept = 0; // 79
    virtual INMSLayer* addNMSV2(ITensor& boxes, ITensor& scores, ITensor& maxOutputBoxesPerClass, DataType indicesType) noexcept = 0; // 80
    virtual IAttention* addAttention(ITensor& query, ITensor& key, ITensor& value, AttentionNormalizationOp normOp, bool isCausal) noexcept = 0; // 81
    virtual IRotaryEmbeddingLayer* addRotaryEmbedding(ITensor& input, ITensor& cosCache, ITensor& sinCache, bool interleaved, int32_t rotaryEmbeddingDim) noexcept = 0; // 82
    virtual IDynamicQuantizeLayer* addDynamicQuantizeV2(ITensor& input, Dims const& blockShape, DataType toType, DataType scaleType) noexcept = 0; // 83
    virtual IKVCacheUpdateLayer* addKVCacheUpdate(ITensor& cache, ITensor& update, ITensor& writeIndices, KVCacheMode cacheMode) noexcept = 0; // 84
    virtual INormalizationLayer* addNormalizationV2(ITensor& input, ITensor& scale, ITensor& bias, uint32_t axesMask) noexcept = 0; // 85
    virtual IMoELayer* addMoE(ITensor& hiddenStates, ITensor& selectedExpertsForTokens, ITensor& scoresForSelectedExperts) noexcept = 0; // 86
    virtual IDistCollectiveLayer* addDistCollective(ITensor& input, CollectiveOperation distCollectiveOp, ReduceOperation reduceOp, int64_t root, int64_t* groups, int64_t groupSize) noexcept = 0; // 87
    virtual IAttention* addAttentionV2(ITensor& query, ITensor& key, ITensor& value, AttentionNormalizationOp normOp, CausalMaskKind causalKind) noexcept = 0; // 88
    virtual ISqueezeLayer* addSqueezeV2(ITensor& input, ITensor* axes) noexcept = 0; // 89
};
class VOptimizationProfile : public VRoot
{
public:
    virtual bool setDimensions(char const* inputName, OptProfileSelector select, Dims const& dims) noexcept = 0; // 2
    virtual Dims getDimensions(char const* inputName, OptProfileSelector select) const noexcept = 0; // 3
    virtual int32_t getNbShapeValues(char const* inputName) const noexcept = 0; // 4
    virtual bool setExtraMemoryTarget(float target) noexcept = 0; // 5
    virtual float getExtraMemoryTarget() const noexcept = 0; // 6
    virtual bool isValid() const noexcept = 0; // 7
    virtual bool setShapeValuesV2(char const* inputName, OptProfileSelector select, int64_t const* values, int32_t nbValues) noexcept = 0; // 8
    virtual int64_t const* getShapeValuesV2(char const* inputName, OptProfileSelector select) const noexcept = 0; // 9
    virtual void setProfileStream(cudaStream_t stream) noexcept = 0; // 10
    virtual cudaStream_t getProfileStream() const noexcept = 0; // 11
};
class VRuntime : public VRoot
{
public:
    virtual IRuntime* getPImpl() noexcept = 0; // 2
    virtual ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept = 0; // 3
    virtual void setDLACore(int32_t dlaCore) noexcept = 0; // 4
    virtual int32_t getDLACore() const noexcept = 0; // 5
    virtual int32_t getNbDLACores() const noexcept = 0; // 6
    virtual void setGpuAllocator(IGpuAllocator* allocator) noexcept = 0; // 7
    virtual void setErrorRecorder(IErrorRecorder* recorder) noexcept = 0; // 8
    virtual IErrorRecorder* getErrorRecorder() const noexcept = 0; // 9
    virtual ILogger* getLogger() const noexcept = 0; // 10
    virtual bool setMaxThreads(int32_t maxThreads) noexcept = 0; // 11
    virtual int32_t getMaxThreads() const noexcept = 0; // 12
    virtual void setTemporaryDirectory(char const*) noexcept = 0; // 13
    virtual char const* getTemporaryDirectory() const noexcept = 0; // 14
    virtual void setTempfileControlFlags(TempfileControlFlags) noexcept = 0; // 15
    virtual TempfileControlFlags getTempfileControlFlags() const noexcept = 0; // 16
    virtual IPluginRegistry& getPluginRegistry() noexcept = 0; // 17
    virtual void setPluginRegistryParent(IPluginRegistry* parent) noexcept = 0; // 18
    virtual IRuntime* loadRuntime(char const* path) noexcept = 0; // 19
    virtual void setEngineHostCodeAllowed(bool allowed) noexcept = 0; // 20
    virtual bool getEngineHostCodeAllowed() const noexcept = 0; // 21
    virtual ICudaEngine* deserializeCudaEngineV2(IStreamReaderV2& streamReader) noexcept = 0; // 22
    virtual bool setDLAWorkspaceAllocationStrategy(DLAWorkspaceAllocationStrategy strategy) noexcept = 0; // 23
    virtual DLAWorkspaceAllocationStrategy getDLAWorkspaceAllocationStrategy() const noexcept = 0; // 24
};
class VTimingCache : public VRoot
{
public:
    virtual IHostMemory* serialize() const noexcept = 0; // 2
    virtual bool combine(ITimingCache const& inputCache, bool ignoreMismatch) noexcept = 0; // 3
    virtual bool reset() noexcept = 0; // 4
    virtual int64_t queryKeys(TimingCacheKey* keyBuffer, int64_t capacity) const noexcept = 0; // 5
    virtual TimingCacheValue query(TimingCacheKey const& key) const noexcept = 0; // 6
    virtual bool update(TimingCacheKey const& key, TimingCacheValue const& value) noexcept = 0; // 7
};
} // namespace apiv
} // namespace nvinfer1

#include "publics.h"
