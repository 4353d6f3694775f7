// libnvonnxparser: a parser that hands the model to the stand-in's network, which is in another library.
#include "bridge.h"

#include <cstdio>
#include <cstdlib>
#include <deque>

#ifdef STANDIN_REAL_PARSER
#include <NvOnnxParser.h>
#elif STANDIN_MAJOR == 10
#include "nvonnxparser10.h"
#else
#include "nvonnxparser11.h"
#endif

#include "rest_parser.h"

namespace standin
{
using nvonnxparser::ErrorCode;

#ifdef STANDIN_REAL_PARSER
static_assert(NV_ONNX_PARSER_VERSION == 100, "what createNvOnnxParser_INTERNAL is called with");
#endif

// Only the slot counts: the virtual function behind the last one of the real table. The library of the network was
// compiled against the same declarations.
class NetworkDefinitionPort : public nvinfer1::apiv::VNetworkDefinition
{
public:
    virtual ParserPort openParser(void* logger) noexcept = 0;
};

class ParserError final : public nvonnxparser::IParserErrorRest
{
public:
    ParserError(ParserPort const& port, int32_t index) noexcept
        : mPort(port)
        , mIndex(index)
    {
    }
    ErrorCode code() const override
    {
        return static_cast<ErrorCode>(8); // kUNSUPPORTED_NODE
    }
    char const* desc() const override
    {
        return mPort.complaint(mPort.parser, mIndex, 0);
    }
    char const* file() const override
    {
        return "stand-in";
    }
    int line() const override
    {
        return 1;
    }
    char const* func() const override
    {
        return "parse";
    }
    int node() const override
    {
        return 0;
    }
    char const* nodeName() const override
    {
        return mPort.complaint(mPort.parser, mIndex, 1);
    }
    char const* nodeOperator() const override
    {
        return mPort.complaint(mPort.parser, mIndex, 2);
    }
    char const* const* localFunctionStack() const override
    {
        return nullptr;
    }
    int32_t localFunctionStackSize() const override
    {
        return 0;
    }

private:
    ParserPort const& mPort;
    int32_t mIndex;
};

class Parser final : public nvonnxparser::IParserRest
{
public:
    explicit Parser(ParserPort port) noexcept
        : mPort(port)
    {
    }
    ~Parser() noexcept override
    {
        mPort.free(mPort.parser);
    }
    bool parse(void const* onnx, size_t size, char const*) noexcept override
    {
        bool const parsed = mPort.parse(mPort.parser, onnx, size);
        while (static_cast<int32_t>(mErrors.size()) < mPort.complaints(mPort.parser))
        {
            mErrors.emplace_back(mPort, static_cast<int32_t>(mErrors.size()));
        }
        return parsed;
    }
    int getNbErrors() const noexcept override
    {
        return static_cast<int>(mErrors.size());
    }
    nvonnxparser::IParserError const* getError(int index) const noexcept override
    {
        bool const there = index >= 0 && static_cast<size_t>(index) < mErrors.size();
        return there ? &mErrors[static_cast<size_t>(index)] : nullptr;
    }
    void clearErrors() noexcept override
    {
        mErrors.clear();
        mPort.clear(mPort.parser);
    }
    void setFlags(nvonnxparser::OnnxParserFlags flags) noexcept override
    {
        mFlags = flags;
    }
    nvonnxparser::OnnxParserFlags getFlags() const noexcept override
    {
        return mFlags;
    }
    void setFlag(nvonnxparser::OnnxParserFlag flag) noexcept override
    {
        mFlags |= 1U << number(flag);
    }
    void clearFlag(nvonnxparser::OnnxParserFlag flag) noexcept override
    {
        mFlags &= ~(1U << number(flag));
    }
    bool getFlag(nvonnxparser::OnnxParserFlag flag) const noexcept override
    {
        return (mFlags >> number(flag)) & 1U;
    }

private:
    ParserPort mPort;
    // Addresses stay when one is added.
    std::deque<ParserError> mErrors;
    uint32_t mFlags{};
};
} // namespace standin

extern "C"
{
    void* wps_create_parser(void* network, void* logger) noexcept
    {
        using Table = nvinfer1::apiv::VNetworkDefinition;
        auto const& definition = *static_cast<nvinfer1::INetworkDefinition const*>(network);
        auto* port = standin::behind<standin::NetworkDefinitionPort, Table>(definition);
        return static_cast<nvonnxparser::IParser*>(new standin::Parser(port->openParser(logger)));
    }

    void wps_unimplemented(char const* table, int slot, char const* signature) noexcept
    {
        std::fprintf(stderr, "stand-in libnvonnxparser: %s slot %d was called and is not there: %s\n", table, slot,
            signature);
        std::fflush(stderr);
        std::abort();
    }
}
