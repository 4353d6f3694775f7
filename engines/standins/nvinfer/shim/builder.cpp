// The classes that build engines, over whichever declarations `bridge.h` chose.
#include "bridge.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rest.h"

using namespace nvinfer1;

namespace standin
{
#ifdef STANDIN_REAL_HEADERS
static_assert(static_cast<int>(BuilderFlag::kGPU_FALLBACK) == 3, "flags");
#if STANDIN_MAJOR == 10
static_assert(static_cast<int>(BuilderFlag::kFP16) == 0 && static_cast<int>(BuilderFlag::kINT8) == 1, "flags");
static_assert(static_cast<int>(BuilderFlag::kBF16) == 17, "flags");
static_assert(static_cast<int>(BuilderFlag::kVERSION_COMPATIBLE) == 13, "flags");
static_assert(static_cast<int>(NetworkDefinitionCreationFlag::kSTRONGLY_TYPED) == 1, "flags");
static_assert(static_cast<int>(CalibrationAlgoType::kENTROPY_CALIBRATION_2) == 2, "calibrators");
#else
static_assert(static_cast<int>(BuilderFlag::kVERSION_COMPATIBLE) == 12, "flags");
#endif
#endif

IHostMemory* publishBytes(void* bytes) noexcept;

class TimingCache final : public apiv::VTimingCacheRest
{
public:
    explicit TimingCache(void* cache) noexcept
        : mCache(cache)
    {
    }
    ~TimingCache() noexcept override
    {
        wpn_cache_free(mCache);
    }
    IHostMemory* serialize() const noexcept override
    {
        return publishBytes(wpn_cache_serialize(mCache));
    }
    bool combine(ITimingCache const& inputCache, bool) noexcept override
    {
        wpn_cache_combine(mCache, behind<TimingCache, apiv::VTimingCache>(inputCache)->mCache);
        return true;
    }
    bool reset() noexcept override
    {
        wpn_cache_reset(mCache);
        return true;
    }
    void* handle() const noexcept
    {
        return mCache;
    }
    ITimingCache* mPublic{};

private:
    void* mCache;
};

class OptimizationProfile final : public apiv::VOptimizationProfileRest
{
public:
    bool setDimensions(char const* inputName, OptProfileSelector select, Dims const& dims) noexcept override
    {
        if (!inputName || dims.nbDims < 0 || dims.nbDims > 8)
        {
            return false;
        }
        mShapes.emplace(inputName, std::array<Dims, 3>{empty(), empty(), empty()});
        mShapes[inputName][number(select)] = dims;
        return true;
    }
    Dims getDimensions(char const* inputName, OptProfileSelector select) const noexcept override
    {
        auto const found = mShapes.find(inputName);
        return found == mShapes.end() ? empty() : found->second[number(select)];
    }
    bool isValid() const noexcept override
    {
        return std::all_of(mShapes.begin(), mShapes.end(), [](auto const& entry) { return ordered(entry.second); });
    }
    std::vector<wpn_profile> shapes() const
    {
        std::vector<wpn_profile> all;
        for (auto const& [name, shapes] : mShapes)
        {
            all.push_back({name.c_str(), {shapes[0], shapes[1], shapes[2]}});
        }
        return all;
    }
    IOptimizationProfile* mPublic{};

private:
    static Dims empty() noexcept
    {
        Dims dims{};
        dims.nbDims = -1;
        return dims;
    }
    static bool ordered(std::array<Dims, 3> const& shapes)
    {
        int32_t const count = shapes[0].nbDims;
        if (count < 0 || shapes[1].nbDims != count || shapes[2].nbDims != count)
        {
            return false;
        }
        for (int32_t axis = 0; axis < count; ++axis)
        {
            if (shapes[0].d[axis] > shapes[1].d[axis] || shapes[1].d[axis] > shapes[2].d[axis])
            {
                return false;
            }
        }
        return true;
    }
    std::map<std::string, std::array<Dims, 3>> mShapes;
};

class NetworkDefinition final : public apiv::VNetworkDefinitionRest
{
public:
    NetworkDefinition(void* definition, uint32_t flags, IBuilder* builder) noexcept
        : mDefinition(definition)
        , mFlags(flags)
        , mBuilder(builder)
    {
    }
    ~NetworkDefinition() noexcept override
    {
        wpn_definition_free(mDefinition);
    }
    int32_t getNbLayers() const noexcept override
    {
        return wpn_definition_outputs(mDefinition);
    }
    int32_t getNbInputs() const noexcept override
    {
        return wpn_definition_inputs(mDefinition);
    }
    int32_t getNbOutputs() const noexcept override
    {
        return wpn_definition_outputs(mDefinition);
    }
    void setName(char const* name) noexcept override
    {
        mName = name;
    }
    char const* getName() const noexcept override
    {
        return mName.c_str();
    }
    bool hasImplicitBatchDimension() const noexcept override
    {
        return false;
    }
    IBuilder& getBuilder() const noexcept override
    {
        return *mBuilder;
    }
    NetworkDefinitionCreationFlags getFlags() const noexcept override
    {
        return mFlags;
    }
    bool getFlag(NetworkDefinitionCreationFlag flag) const noexcept override
    {
        return (mFlags >> number(flag)) & 1U;
    }
    // Ours, behind the last slot of the real table: how the parser's library gets in.
    virtual ParserPort openParser(void* logger) noexcept
    {
        return {wpn_definition_open_parser(mDefinition, logger), wpn_parser_parse, wpn_parser_complaints,
            wpn_parser_complaint, wpn_parser_clear, wpn_parser_free};
    }
    void* handle() const noexcept
    {
        return mDefinition;
    }
    bool isStronglyTyped() const noexcept
    {
        return STANDIN_MAJOR >= 11 || ((mFlags >> 1U) & 1U);
    }
    INetworkDefinition* mPublic{};

private:
    void* mDefinition;
    uint32_t mFlags;
    IBuilder* mBuilder;
    std::string mName;
};

class BuilderConfig final : public apiv::VBuilderConfigRest
{
public:
    explicit BuilderConfig(void* builder) noexcept
        : mBuilder(builder)
        , mConfig(wpn_config_new())
    {
    }
    ~BuilderConfig() noexcept override
    {
        wpn_config_free(mConfig);
    }
    void setFlags(BuilderFlags builderFlags) noexcept override
    {
        mFlags = builderFlags;
    }
    BuilderFlags getFlags() const noexcept override
    {
        return mFlags;
    }
    void clearFlag(BuilderFlag builderFlag) noexcept override
    {
        mFlags &= ~bit(builderFlag);
    }
    void setFlag(BuilderFlag builderFlag) noexcept override
    {
        mFlags |= bit(builderFlag);
    }
    bool getFlag(BuilderFlag builderFlag) const noexcept override
    {
        return (mFlags & bit(builderFlag)) != 0;
    }
    void setDLACore(int32_t dlaCore) noexcept override
    {
        mDlaCore = dlaCore;
    }
    int32_t getDLACore() const noexcept override
    {
        return mDlaCore;
    }
    void setDefaultDeviceType(DeviceType deviceType) noexcept override
    {
        mDeviceType = number(deviceType);
    }
    DeviceType getDefaultDeviceType() const noexcept override
    {
        return static_cast<DeviceType>(mDeviceType);
    }
    int32_t addOptimizationProfile(IOptimizationProfile const* profile) noexcept override
    {
        auto const* ours = profile ? behind<OptimizationProfile, apiv::VOptimizationProfile>(*profile) : nullptr;
        if (!ours || !ours->isValid())
        {
            wpn_builder_error(mBuilder, "IBuilderConfig::addOptimizationProfile: the profile is not valid");
            return -1;
        }
        mProfiles.push_back(ours);
        return static_cast<int32_t>(mProfiles.size()) - 1;
    }
    int32_t getNbOptimizationProfiles() const noexcept override
    {
        return static_cast<int32_t>(mProfiles.size());
    }
    void setProfilingVerbosity(ProfilingVerbosity verbosity) noexcept override
    {
        mVerbosity = verbosity;
    }
    ProfilingVerbosity getProfilingVerbosity() const noexcept override
    {
        return mVerbosity;
    }
    ITimingCache* createTimingCache(void const* blob, std::size_t size) const noexcept override
    {
        void* cache = wpn_cache_new(blob, size, mBuilder);
        return cache ? publish<ITimingCache>(new TimingCache(cache)) : nullptr;
    }
    bool setTimingCache(ITimingCache const& cache, bool) noexcept override
    {
        mCache = &cache;
        return true;
    }
    ITimingCache const* getTimingCache() const noexcept override
    {
        return mCache;
    }
    void setMemoryPoolLimit(MemoryPoolType pool, std::size_t poolSize) noexcept override
    {
        mPools[number(pool) & 7] = poolSize;
    }
    std::size_t getMemoryPoolLimit(MemoryPoolType pool) const noexcept override
    {
        return mPools[number(pool) & 7];
    }
    void setBuilderOptimizationLevel(int32_t level) noexcept override
    {
        mLevel = level;
    }
    int32_t getBuilderOptimizationLevel() const noexcept override
    {
        return mLevel;
    }
    void setHardwareCompatibilityLevel(HardwareCompatibilityLevel level) noexcept override
    {
        mCompatibility = level;
    }
    HardwareCompatibilityLevel getHardwareCompatibilityLevel() const noexcept override
    {
        return mCompatibility;
    }
#if STANDIN_MAJOR == 10
    void setInt8Calibrator(IInt8Calibrator* calibrator) noexcept override
    {
        mCalibrator = calibrator;
    }
    IInt8Calibrator* getInt8Calibrator() const noexcept override
    {
        return mCalibrator;
    }
    bool setCalibrationProfile(IOptimizationProfile const* profile) noexcept override
    {
        mCalibrationProfile = profile;
        return profile != nullptr;
    }
    IOptimizationProfile const* getCalibrationProfile() noexcept override
    {
        return mCalibrationProfile;
    }
#endif
    void* build(NetworkDefinition const& network) noexcept
    {
        std::vector<wpn_profile> profiles;
        if (!mProfiles.empty())
        {
            profiles = mProfiles.front()->shapes();
        }
        wpn_request request{};
        request.flags = mFlags;
        request.strongly_typed = network.isStronglyTyped();
        request.device_type = mDeviceType;
        request.dla_core = mDlaCore;
        request.hardware_compatibility = static_cast<uint32_t>(number(mCompatibility));
        request.profiles = profiles.data();
        request.profile_count = profiles.size();
        request.timing_cache = mCache ? behind<TimingCache, apiv::VTimingCache>(*mCache)->handle() : nullptr;
        return calibrate(network) ? wpn_builder_build(mBuilder, network.handle(), &request) : nullptr;
    }
    IBuilderConfig* mPublic{};

private:
    bool calibrate(NetworkDefinition const& network) noexcept;

    uint32_t bit(BuilderFlag flag) const noexcept
    {
        uint32_t const place = static_cast<uint32_t>(number(flag));
        if (!wpn_flag_is_known(place))
        {
            wpn_builder_error(mBuilder, "IBuilderConfig: Error Code 3: API Usage Error (there is no such BuilderFlag)");
            return 0;
        }
        return 1U << place;
    }

    void* mBuilder;
    void* mConfig;
    uint32_t mFlags{};
    int32_t mDeviceType{};
    int32_t mDlaCore{-1};
    int32_t mLevel{3};
    ProfilingVerbosity mVerbosity{};
    HardwareCompatibilityLevel mCompatibility{};
    std::array<std::size_t, 8> mPools{};
    std::vector<OptimizationProfile const*> mProfiles;
    ITimingCache const* mCache{};
#if STANDIN_MAJOR == 10
    IInt8Calibrator* mCalibrator{};
    IOptimizationProfile const* mCalibrationProfile{};
#endif
};

#if STANDIN_MAJOR == 10
// The protocol of IInt8EntropyCalibrator2: a cache, or batches until there are no more, and a cache from these.
bool BuilderConfig::calibrate(NetworkDefinition const& network) noexcept
{
    if (!((mFlags >> 1U) & 1U) || !mCalibrator)
    {
        return true;
    }
    if (number(mCalibrator->getAlgorithm()) != 2)
    {
        wpn_builder_error(mBuilder, "Int8: the stand-in knows IInt8EntropyCalibrator2 only");
        return false;
    }
    std::size_t length = 0;
    if (mCalibrator->readCalibrationCache(length) && length > 0)
    {
        return true;
    }
    void* binding = nullptr;
    char const* name = wpn_definition_input_name(network.handle());
    while (mCalibrator->getBatch(&binding, &name, 1))
    {
        if (!wpn_calibration_batch(mBuilder, network.handle(), binding, mCalibrator->getBatchSize()))
        {
            return false;
        }
    }
    static char const table[] = "TRT-EntropyCalibration2\nimages: 3f800000\n";
    mCalibrator->writeCalibrationCache(table, sizeof table - 1);
    return true;
}
#else
bool BuilderConfig::calibrate(NetworkDefinition const&) noexcept
{
    return true;
}
#endif

class Builder final : public apiv::VBuilderRest
{
public:
    Builder(void* builder, ILogger* logger) noexcept
        : mBuilder(builder)
        , mLogger(logger)
    {
    }
    ~Builder() noexcept override
    {
        wpn_builder_free(mBuilder);
    }
#if STANDIN_MAJOR == 10
    bool platformHasFastFp16() const noexcept override
    {
        return true;
    }
    bool platformHasFastInt8() const noexcept override
    {
        return true;
    }
    bool platformHasTf32() const noexcept override
    {
        return true;
    }
#endif
    int32_t getNbDLACores() const noexcept override
    {
        return wpn_dla_cores();
    }
    int32_t getMaxDLABatchSize() const noexcept override
    {
        return 4096;
    }
    IBuilderConfig* createBuilderConfig() noexcept override
    {
        return publish<IBuilderConfig>(new BuilderConfig(mBuilder));
    }
    INetworkDefinition* createNetworkV2(NetworkDefinitionCreationFlags flags) noexcept override
    {
        return publish<INetworkDefinition>(new NetworkDefinition(wpn_definition_new(mBuilder), flags, mPublic));
    }
    IOptimizationProfile* createOptimizationProfile() noexcept override
    {
        mProfiles.emplace_back(new Profile(new OptimizationProfile));
        return mProfiles.back().get();
    }
    IHostMemory* buildSerializedNetwork(INetworkDefinition& network, IBuilderConfig& config) noexcept override
    {
        auto* definition = behind<NetworkDefinition, apiv::VNetworkDefinition>(network);
        void* plan = behind<BuilderConfig, apiv::VBuilderConfig>(config)->build(*definition);
        return plan ? publishBytes(plan) : nullptr;
    }
    void reset() noexcept override {}
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
    IBuilder* mPublic{};

private:
    void* mBuilder;
    ILogger* mLogger;
    int32_t mMaxThreads{1};
    // A caller cannot delete a profile: it goes with the builder.
    using Profile = Public<IOptimizationProfile, OptimizationProfile>;
    std::vector<std::unique_ptr<Profile>> mProfiles;
};
} // namespace standin

extern "C" void* wps_wrap_builder(void* builder, void* logger) noexcept
{
    return standin::publish<IBuilder>(new standin::Builder(builder, static_cast<ILogger*>(logger)));
}
