// The border between the C++ classes here and the Rust that does the work: handles and plain C.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef STANDIN_REAL_HEADERS
#include <NvInfer.h>
#elif STANDIN_MAJOR == 10
#include "nvinfer10.h"
#else
#include "nvinfer11.h"
#endif

using Dims = nvinfer1::Dims;

extern "C"
{
    struct wpn_tensor
    {
        int32_t is_input;
        int32_t element;
        int32_t element_bytes;
    };

    struct wpn_profile
    {
        char const* name;
        Dims shapes[3];
    };

    struct wpn_request
    {
        uint32_t flags;
        bool strongly_typed;
        int32_t device_type;
        int32_t dla_core;
        uint32_t hardware_compatibility;
        wpn_profile const* profiles;
        size_t profile_count;
        void* timing_cache;
    };

    // Rust, called from C++. Handles are from the function that is named like the type; `free` ends them.

    void* wpn_runtime_deserialize(void* runtime, void const* blob, size_t size) noexcept;
    int32_t wpn_dla_cores() noexcept;
    void wpn_runtime_free(void* runtime) noexcept;

    void* wpn_bytes_data(void* bytes) noexcept;
    size_t wpn_bytes_size(void* bytes) noexcept;
    void wpn_bytes_free(void* bytes) noexcept;

    int32_t wpn_engine_tensor_count(void* engine) noexcept;
    char const* wpn_engine_tensor_name(void* engine, int32_t index) noexcept;
    // False, and a word in the log, where there is no such tensor; the outputs then are what the real one returns.
    bool wpn_engine_tensor(void* engine, char const* name, wpn_tensor* tensor, Dims* shape) noexcept;
    void wpn_engine_profile_shape(void* engine, char const* name, int32_t profile, int32_t select, Dims* shape) noexcept;
    int64_t wpn_engine_activation_bytes(void* engine) noexcept;
    int32_t wpn_engine_hardware_compatibility(void* engine) noexcept;
    void* wpn_engine_serialize(void* engine) noexcept;
    void* wpn_engine_create_context(void* engine, int32_t strategy) noexcept;
    void wpn_engine_free(void* engine) noexcept;

    bool wpn_context_set_shape(void* context, char const* name, Dims const* shape) noexcept;
    void wpn_context_shape(void* context, char const* name, Dims* shape) noexcept;
    bool wpn_context_is_shaped(void* context) noexcept;
    bool wpn_context_set_address(void* context, char const* name, void const* address) noexcept;
    void* wpn_context_address(void* context, char const* name) noexcept;
    int64_t wpn_context_max_output_bytes(void* context, char const* name) noexcept;
    void wpn_context_set_memory(void* context, void* memory, int64_t size) noexcept;
    size_t wpn_context_bytes_for_shapes(void* context) noexcept;
    bool wpn_context_enqueue(void* context, void* stream) noexcept;
    void wpn_context_free(void* context) noexcept;

    void* wpn_definition_new(void* builder) noexcept;
    int32_t wpn_definition_inputs(void* definition) noexcept;
    char const* wpn_definition_input_name(void* definition) noexcept;
    int32_t wpn_definition_outputs(void* definition) noexcept;
    void* wpn_definition_open_parser(void* definition, void* logger) noexcept;
    void wpn_definition_free(void* definition) noexcept;

    bool wpn_parser_parse(void* parser, void const* onnx, size_t size) noexcept;
    int32_t wpn_parser_complaints(void* parser) noexcept;
    // 0: what, 1: node, 2: operator
    char const* wpn_parser_complaint(void* parser, int32_t index, int32_t part) noexcept;
    void wpn_parser_clear(void* parser) noexcept;
    void wpn_parser_free(void* parser) noexcept;

    void* wpn_config_new() noexcept;
    void wpn_config_free(void* config) noexcept;
    bool wpn_flag_is_known(uint32_t flag) noexcept;
    void* wpn_cache_new(void const* blob, size_t size, void* builder) noexcept;
    void* wpn_cache_serialize(void* cache) noexcept;
    void wpn_cache_combine(void* cache, void* other) noexcept;
    void wpn_cache_reset(void* cache) noexcept;
    void wpn_cache_free(void* cache) noexcept;
    // One batch of calibration pictures, in device memory: read, so that it must be there.
    bool wpn_calibration_batch(void* builder, void* definition, void const* pictures, int32_t batch) noexcept;
    void* wpn_builder_build(void* builder, void* definition, wpn_request const* request) noexcept;
    void wpn_builder_error(void* builder, char const* text) noexcept;
    void wpn_builder_free(void* builder) noexcept;

    // C++, called from Rust.
    void wps_log(void* logger, int32_t severity, char const* text) noexcept;
    bool wps_logger_is_sound(void* logger) noexcept;
    void* wps_wrap_runtime(void* runtime, void* logger) noexcept;
    void* wps_wrap_builder(void* builder, void* logger) noexcept;
    char const* wps_headers() noexcept;
    [[noreturn]] void wps_unimplemented(char const* table, int slot, char const* signature) noexcept;
}

namespace standin
{
// What a parser needs of a network: it is in another library, so it gets functions, not symbols.
struct ParserPort
{
    void* parser;
    bool (*parse)(void*, void const*, size_t) noexcept;
    int32_t (*complaints)(void*) noexcept;
    char const* (*complaint)(void*, int32_t, int32_t) noexcept;
    void (*clear)(void*) noexcept;
    void (*free)(void*) noexcept;
};

// A public object of 16 bytes. Deleting it deletes the V-object, as in the real library.
template <class Interface, class Implementation>
class Public final : public Interface
{
public:
    explicit Public(Implementation* implementation) noexcept
    {
        this->mImpl = implementation;
        implementation->mPublic = this;
    }
    ~Public() noexcept override
    {
        delete this->mImpl;
    }
};

template <class Interface, class Implementation>
Interface* publish(Implementation* implementation)
{
    static_assert(sizeof(Public<Interface, Implementation>) == 16, "a virtual table and one pointer");
    return new Public<Interface, Implementation>(implementation);
}

// The V-object behind a public object: the pointer behind the virtual table.
template <class Implementation, class Table, class Interface>
Implementation* behind(Interface const& object)
{
    return static_cast<Implementation*>(reinterpret_cast<Table* const*>(&object)[1]);
}

template <class Enum>
int32_t number(Enum value)
{
    return static_cast<int32_t>(value);
}
} // namespace standin
