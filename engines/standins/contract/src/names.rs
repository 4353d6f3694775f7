//! The names of a ledger's numbers. `live` in a name: must be zero when everything has been given back.

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
        /// All of them.
        pub const ALL: &[&str] = &[$($text),*];
    };
}

names! {
    /// Device allocations that nobody has freed.
    LIVE_ALLOCATIONS = "cuda.live_allocations";
    /// Their bytes.
    LIVE_BYTES = "cuda.live_bytes";
    /// Page-locked allocations that nobody has freed.
    LIVE_PINNED = "cuda.live_pinned";
    /// Their bytes.
    LIVE_PINNED_BYTES = "cuda.live_pinned_bytes";
    /// Streams.
    LIVE_STREAMS = "cuda.live_streams";
    /// Events.
    LIVE_EVENTS = "cuda.live_events";
    /// Modules.
    LIVE_MODULES = "cuda.live_modules";
    /// Graphs and executable graphs.
    LIVE_GRAPHS = "cuda.live_graphs";
    /// Contexts made by `cuCtxCreate`, and references to primary contexts.
    LIVE_CONTEXTS = "cuda.live_contexts";
    /// Allocations ever made, device and page-locked.
    ALLOCATIONS = "cuda.allocations";
    /// The most device bytes that were ever live.
    PEAK_BYTES = "cuda.peak_bytes";
    /// Kernels executed.
    KERNELS = "cuda.kernels";
    /// Graphs launched.
    GRAPH_LAUNCHES = "cuda.graph_launches";
    /// Host functions and stream callbacks executed.
    HOST_FUNCTIONS = "cuda.host_functions";
    /// Calls that waited for the device: synchronise a stream, an event, a context.
    SYNCHRONISATIONS = "cuda.synchronisations";
    /// Those of them that would have spun on a real device: neither context nor event asks for blocking.
    SPINNING_WAITS = "cuda.spinning_waits";
    /// Bytes copied from host to device.
    H2D_BYTES = "cuda.h2d_bytes";
    /// Copies from host to device.
    H2D_COPIES = "cuda.h2d_copies";
    /// Bytes copied from device to host.
    D2H_BYTES = "cuda.d2h_bytes";
    /// Copies from device to host.
    D2H_COPIES = "cuda.d2h_copies";
    /// Bytes copied on the device.
    D2D_BYTES = "cuda.d2d_bytes";
    /// Copies on the device.
    D2D_COPIES = "cuda.d2d_copies";
    /// Asynchronous copies that were none, because their host memory is not page-locked.
    PAGEABLE_COPIES = "cuda.pageable_copies";
    /// What no correct program does; the ledger's text says each. The sum of the next six and others.
    VIOLATIONS = "cuda.violations";
    /// Freed memory was used.
    USE_AFTER_FREE = "cuda.violation.use_after_free";
    /// Something was freed or destroyed twice.
    DOUBLE_FREE = "cuda.violation.double_free";
    /// An access beyond the end of an allocation, or of memory that was never one.
    OUT_OF_BOUNDS = "cuda.violation.out_of_bounds";
    /// Something was still held when its context went.
    LEAKED = "cuda.violation.leaked";
    /// A handle that never existed, or exists no more.
    BAD_HANDLE = "cuda.violation.bad_handle";
    /// A host function called the driver.
    CALL_IN_CALLBACK = "cuda.violation.call_in_callback";

    /// Order: the next operation on any stream fails with this error, and the device is lost.
    ORDER_LOST = "order.lost";
    /// Order: that many next allocations fail for want of memory.
    ORDER_OOM = "order.oom";
    /// Order: while this is not zero, no stream begins its next operation.
    ORDER_HANG = "order.hang";
    /// Order: every operation takes that many microseconds longer.
    ORDER_DELAY_US = "order.delay_us";

    /// Video decoders.
    LIVE_DECODERS = "nvcuvid.live_decoders";
    /// Video parsers.
    LIVE_PARSERS = "nvcuvid.live_parsers";
    /// Pictures that are mapped.
    LIVE_MAPPED = "nvcuvid.live_mapped";
    /// Context locks.
    LIVE_LOCKS = "nvcuvid.live_locks";
    /// Pictures decoded.
    DECODED = "nvcuvid.decoded";
    /// Pictures mapped, ever.
    MAPPED = "nvcuvid.mapped";
    /// Order: that many next decoders are refused.
    ORDER_NO_DECODER = "order.no_decoder";
    /// Order: that many next pictures fail to decode.
    ORDER_DECODE_FAILS = "order.decode_fails";
}
