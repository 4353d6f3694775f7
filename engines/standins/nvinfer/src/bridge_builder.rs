//! The functions that the C++ classes of the builder and the parser call.

use std::ffi::{c_char, c_void};
use std::ptr;

use crate::bridge::{Bytes, Dims, borrow, bridge, hand_out, slice, take_back, text};
use crate::builder::{self, Request, TimingCache};
use crate::counters::{self, Live};
use crate::exports::Builder;
use crate::log::{Log, Logger};
use crate::network::{Definition, Parser};

type Raw = *mut c_void;

/// `wpn_profile`
#[repr(C)]
pub struct RawProfile {
    name: *const c_char,
    shapes: [Dims; 3],
}

/// `wpn_request`
#[repr(C)]
pub struct RawRequest {
    flags: u32,
    strongly_typed: bool,
    device_type: i32,
    dla_core: i32,
    hardware_compatibility: u32,
    profiles: *const RawProfile,
    profile_count: usize,
    timing_cache: Raw,
}

/// What an `INetworkDefinition` owns.
struct NetworkHandle {
    definition: Definition,
    log: Log,
    name: std::ffi::CString,
    _live: Live,
}

/// What an `ITimingCache` owns.
struct CacheHandle {
    cache: TimingCache,
    _live: Live,
}

impl RawRequest {
    /// # Safety
    /// As `shim/bridge.h` has it.
    unsafe fn read(&self) -> Request {
        let profiles = if self.profile_count == 0 {
            &[][..]
        } else {
            // SAFETY: as the caller promises.
            unsafe { std::slice::from_raw_parts(self.profiles, self.profile_count) }
        };
        let profile = profiles.iter().map(|profile| {
            // SAFETY: as the caller promises.
            let name = unsafe { text(profile.name) }.to_string_lossy().into_owned();
            (name, profile.shapes.each_ref().map(|shape| shape.shape().to_vec()))
        });
        Request {
            flags: self.flags,
            strongly_typed: self.strongly_typed,
            device_type: self.device_type,
            dla_core: self.dla_core,
            hardware_compatibility: self.hardware_compatibility,
            profile: profile.collect(),
            input: None,
            output: None,
        }
    }
}

bridge! {
    /// An empty network.
    fn wpn_definition_new(builder: Raw) -> Raw {
        let log = borrow::<Builder>(builder).logger.function();
        let live = Live::new(&counters::LIVE_NETWORKS);
        hand_out(NetworkHandle { definition: Definition::default(), log, name: Default::default(), _live: live })
    }

    /// `getNbInputs`
    fn wpn_definition_inputs(definition: Raw) -> i32 {
        i32::from(borrow::<NetworkHandle>(definition).definition.network().is_some())
    }

    /// The input's name, or an empty one.
    fn wpn_definition_input_name(definition: Raw) -> *const c_char {
        let handle = borrow::<NetworkHandle>(definition);
        let network = handle.definition.network();
        let name = network.map(|network| network.input.name.clone()).unwrap_or_default();
        handle.name = std::ffi::CString::new(name).unwrap_or_default();
        handle.name.as_ptr()
    }

    /// `getNbOutputs`
    fn wpn_definition_outputs(definition: Raw) -> i32 {
        let network = borrow::<NetworkHandle>(definition).definition.network();
        network.map_or(0, |network| i32::try_from(network.outputs.len()).unwrap_or(i32::MAX))
    }

    /// A parser for this network.
    fn wpn_definition_open_parser(definition: Raw, logger: Raw) -> Raw {
        let handle = borrow::<NetworkHandle>(definition);
        hand_out(Parser::new(&handle.definition, Logger::new(logger, handle.log)))
    }

    /// `delete` of an `INetworkDefinition`.
    fn wpn_definition_free(definition: Raw) {
        take_back::<NetworkHandle>(definition);
    }

    /// `IParser::parse`
    fn wpn_parser_parse(parser: Raw, onnx: *const c_void, size: usize) -> bool {
        borrow::<Parser>(parser).parse(slice(onnx, size))
    }

    /// `getNbErrors`
    fn wpn_parser_complaints(parser: Raw) -> i32 {
        i32::try_from(borrow::<Parser>(parser).complaints.len()).unwrap_or(i32::MAX)
    }

    /// A part of an `IParserError`: 0 what, 1 node, 2 operator.
    fn wpn_parser_complaint(parser: Raw, index: i32, part: i32) -> *const c_char {
        let complaints = &borrow::<Parser>(parser).complaints;
        let complaint = usize::try_from(index).ok().and_then(|index| complaints.get(index));
        complaint.map_or(ptr::null(), |complaint| match part {
            0 => complaint.text.as_ptr(),
            1 => complaint.node.as_ptr(),
            _ => complaint.operator.as_ptr(),
        })
    }

    /// `clearErrors`
    fn wpn_parser_clear(parser: Raw) {
        borrow::<Parser>(parser).complaints.clear();
    }

    /// `delete` of an `IParser`.
    fn wpn_parser_free(parser: Raw) {
        take_back::<Parser>(parser);
    }

    /// Counts an `IBuilderConfig`; its settings are the shim's.
    fn wpn_config_new() -> Raw {
        hand_out(Live::new(&counters::LIVE_CONFIGS))
    }

    /// `delete` of an `IBuilderConfig`.
    fn wpn_config_free(config: Raw) {
        take_back::<Live>(config);
    }

    /// Whether this major has such a `BuilderFlag`.
    fn wpn_flag_is_known(flag: u32) -> bool {
        builder::flag_is_known(flag)
    }

    /// `createTimingCache`: a handle, or null after a word in the log.
    fn wpn_cache_new(blob: *const c_void, size: usize, builder: Raw) -> Raw {
        match TimingCache::read(slice(blob, size)) {
            Ok(cache) => hand_out(CacheHandle { cache, _live: Live::new(&counters::LIVE_TIMING_CACHES) }),
            Err(why) => {
                borrow::<Builder>(builder).logger.error(&format!("IBuilderConfig::createTimingCache: {why}"));
                ptr::null_mut()
            }
        }
    }

    /// `ITimingCache::serialize`
    fn wpn_cache_serialize(cache: Raw) -> Raw {
        Bytes::handle(borrow::<CacheHandle>(cache).cache.serialize())
    }

    /// `ITimingCache::combine`
    fn wpn_cache_combine(cache: Raw, other: Raw) {
        let theirs = borrow::<CacheHandle>(other).cache.clone();
        borrow::<CacheHandle>(cache).cache.combine(&theirs);
    }

    /// `ITimingCache::reset`
    fn wpn_cache_reset(cache: Raw) {
        borrow::<CacheHandle>(cache).cache.reset();
    }

    /// `delete` of an `ITimingCache`.
    fn wpn_cache_free(cache: Raw) {
        take_back::<CacheHandle>(cache);
    }

    /// One batch of calibration pictures: device memory of a batch of inputs.
    fn wpn_calibration_batch(builder: Raw, definition: Raw, pictures: *const c_void, batch: i32) -> bool {
        let builder = borrow::<Builder>(builder);
        let Some(network) = borrow::<NetworkHandle>(definition).definition.network() else { return false };
        let values: u64 = network.input.sizes[1..].iter().map(|size| size.unsigned_abs()).product();
        let bytes = batch.max(1).unsigned_abs() as u64 * values * 4;
        let there = network.input.sizes[1..].contains(&-1) || builder.cuda.holds(pictures as u64, bytes) == Ok(true);
        if there {
            counters::CALIBRATION_BATCHES.add(1);
        } else {
            builder.logger.error("Int8: the calibrator's batch is no device memory of the input's size");
        }
        there
    }

    /// `buildSerializedNetwork`: a handle, or null after a word in the log.
    fn wpn_builder_build(builder: Raw, definition: Raw, request: *const RawRequest) -> Raw {
        let builder = borrow::<Builder>(builder);
        let network = borrow::<NetworkHandle>(definition).definition.network_for_build();
        let request = &*request;
        let cache = (!request.timing_cache.is_null()).then(|| &borrow::<CacheHandle>(request.timing_cache).cache);
        let capability = builder.cuda.compute_capability();
        match builder::build(network.as_deref(), &request.read(), cache, capability, &builder.logger) {
            Ok(plan) => Bytes::handle(plan),
            Err(why) => {
                builder.logger.error(&format!("IBuilder::buildSerializedNetwork: {why}"));
                ptr::null_mut()
            }
        }
    }

    /// An error that the shim found.
    fn wpn_builder_error(builder: Raw, why: *const c_char) {
        borrow::<Builder>(builder).logger.error(&text(why).to_string_lossy());
    }

    /// `delete` of an `IBuilder`.
    fn wpn_builder_free(builder: Raw) {
        take_back::<Builder>(builder);
    }
}
