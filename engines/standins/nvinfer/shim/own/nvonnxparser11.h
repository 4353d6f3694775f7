// Written by `WATCHPOST_BLESS=1 cargo test -p watchpost-standin-nvinfer --test declarations`;
// the comment behind a function is its slot.
#pragma once
#include <cstddef>
#include <cstdint>

namespace nvinfer1
{
class IBuilderConfig;
class ITensor;
} // namespace nvinfer1

namespace nvonnxparser
{
using nvinfer1::IBuilderConfig;
using nvinfer1::ITensor;
class IParserError;
struct SubGraphCollection_t;
using OnnxParserFlags = uint32_t;
enum class ErrorCode : int32_t;
class IRefitterObserver;
enum class OnnxParserFlag : int32_t;

class IParserError
{
public:
    virtual ErrorCode code() const = 0; // 0
    virtual char const* desc() const = 0; // 1
    virtual char const* file() const = 0; // 2
    virtual int line() const = 0; // 3
    virtual char const* func() const = 0; // 4
    virtual int node() const = 0; // 5
    virtual char const* nodeName() const = 0; // 6
    virtual char const* nodeOperator() const = 0; // 7
    virtual char const* const* localFunctionStack() const = 0; // 8
    virtual int32_t localFunctionStackSize() const = 0; // 9
    virtual ~IParserError() noexcept = default; // 10
};
class IParser
{
public:
    virtual bool parse(void const* serialized_onnx_model, size_t serialized_onnx_model_size, const char* model_path = nullptr) noexcept = 0; // 0
    virtual bool parseFromFile(char const* onnxModelFile, int verbosity) noexcept = 0; // 1
    virtual bool supportsOperator(const char* op_name) const noexcept = 0; // 2
    virtual int getNbErrors() const noexcept = 0; // 3
    virtual IParserError const* getError(int index) const noexcept = 0; // 4
    virtual void clearErrors() noexcept = 0; // 5
    virtual ~IParser() noexcept = default; // 6
    virtual char const* const* getUsedVCPluginLibraries(int64_t& nbPluginLibs) const noexcept = 0; // 8
    virtual void setFlags(OnnxParserFlags onnxParserFlags) noexcept = 0; // 9
    virtual OnnxParserFlags getFlags() const noexcept = 0; // 10
    virtual void clearFlag(OnnxParserFlag onnxParserFlag) noexcept = 0; // 11
    virtual void setFlag(OnnxParserFlag onnxParserFlag) noexcept = 0; // 12
    virtual bool getFlag(OnnxParserFlag onnxParserFlag) const noexcept = 0; // 13
    virtual ITensor const* getLayerOutputTensor(char const* name, int64_t i) noexcept = 0; // 14
    virtual bool supportsModelV2(void const* serializedOnnxModel, size_t serializedOnnxModelSize, char const* modelPath = nullptr) noexcept = 0; // 15
    virtual int64_t getNbSubgraphs() noexcept = 0; // 16
    virtual bool isSubgraphSupported(int64_t const index) noexcept = 0; // 17
    virtual int64_t* getSubgraphNodes(int64_t const index, int64_t& subgraphLength) noexcept = 0; // 18
    virtual bool loadModelProto(void const* serializedOnnxModel, size_t serializedOnnxModelSize, char const* modelPath = nullptr) noexcept = 0; // 19
    virtual bool loadInitializer(char const* name, void const* data, size_t size) noexcept = 0; // 20
    virtual bool parseModelProto() noexcept = 0; // 21
    virtual bool setBuilderConfig(const IBuilderConfig* const builderConfig) noexcept = 0; // 22
    virtual void setRefitObserver(IRefitterObserver* observer) noexcept = 0; // 23
};
} // namespace nvonnxparser
