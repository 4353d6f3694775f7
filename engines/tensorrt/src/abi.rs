//! The few C++ things that cross the border: objects with virtual tables, dimensions, enums.

use std::ffi::c_void;
use std::ptr::NonNull;

use watchpost_cuda::Gpu;

use crate::error::TensorRtError;
use crate::slots::Slot;
use crate::version::Version;

/// A pointer of theirs.
pub(crate) type Raw = *mut c_void;

/// Most dimensions of a tensor.
const DIMS_MAX: usize = 8;
/// Below this nothing is a pointer: without a GPU the library hands out 0x228 in place of a runtime.
const LOWEST_ADDRESS: usize = 4096;
/// Entry of the destructor that also frees.
pub(crate) const DELETE: usize = 1;

/// Their `Dims`: returned through a hidden pointer, taken by reference.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    count: i32,
    sizes: [i64; DIMS_MAX],
}

impl Dims {
    /// Of at most eight sizes.
    pub(crate) fn new(sizes: &[i64]) -> Self {
        let mut dims = Self { count: 0, sizes: [0; DIMS_MAX] };
        for (to, from) in dims.sizes.iter_mut().zip(sizes) {
            *to = *from;
            dims.count += 1;
        }
        dims
    }

    /// The sizes; nothing where the library says that it has no answer (a count of -1).
    pub(crate) fn sizes(&self) -> Option<&[i64]> {
        self.sizes.get(..usize::try_from(self.count).ok()?)
    }
}

/// Calls a method through its slot. In an `unsafe` block, whose comment speaks of the arguments: that the function is of
/// this type, and the object of this class, is what the slot table and the type above [`Object`] hold.
macro_rules! call {
    ($object:expr, $slot:ident $(, $argument:expr)*) => {{
        let (this, function) = $object.method(&crate::slots::$slot)?;
        function(this $(, $argument)*)
    }};
}
pub(crate) use call;

/// Their enums, as numbers. The same in both majors.
pub(crate) mod constants {
    /// `TensorIOMode::kINPUT`.
    pub(crate) const INPUT: i32 = 1;
    /// `TensorIOMode::kOUTPUT`.
    pub(crate) const OUTPUT: i32 = 2;
    /// `TensorLocation::kDEVICE`.
    pub(crate) const ON_DEVICE: i32 = 0;
    /// `OptProfileSelector::kMIN`, `kOPT`, `kMAX`.
    pub(crate) const PROFILE: [i32; 3] = [0, 1, 2];
    /// `ExecutionContextAllocationStrategy::kUSER_MANAGED`.
    pub(crate) const USER_MANAGED: i32 = 2;
    /// `MemoryPoolType::kWORKSPACE`.
    pub(crate) const WORKSPACE: i32 = 0;
    /// `DeviceType::kDLA`.
    pub(crate) const DLA: i32 = 1;
    /// `BuilderFlag::kFP16`, of 10 only.
    pub(crate) const FLAG_FP16: i32 = 0;
    /// `BuilderFlag::kINT8`, of 10 only.
    pub(crate) const FLAG_INT8: i32 = 1;
    /// `BuilderFlag::kGPU_FALLBACK`.
    pub(crate) const FLAG_GPU_FALLBACK: i32 = 3;
    /// `BuilderFlag::kTF32`.
    pub(crate) const FLAG_TF32: i32 = 6;
    /// `BuilderFlag::kSPARSE_WEIGHTS`.
    pub(crate) const FLAG_SPARSE: i32 = 7;
    /// `NetworkDefinitionCreationFlag::kEXPLICIT_BATCH` of 10, as a bit.
    pub(crate) const EXPLICIT_BATCH: u32 = 1;
    /// `NetworkDefinitionCreationFlag::kSTRONGLY_TYPED` of 11, as a bit.
    pub(crate) const STRONGLY_TYPED: u32 = 1;
    /// `TensorFormat::kLINEAR`.
    pub(crate) const ROW_MAJOR: i32 = 0;
}

/// Who deletes an object, and where its methods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of libnvinfer, ours to delete. Its methods are behind a second pointer; the public table has only the
    /// destructors.
    Ours,
    /// Of libnvinfer, deleted by another object of theirs.
    Theirs,
    /// Of libnvonnxparser, whose methods are in the public table. With the entry of the destructor that also frees,
    /// if it is ours to delete.
    Public {
        /// That entry.
        delete: Option<usize>,
    },
}

/// An object of the library.
#[derive(Debug)]
pub(crate) struct Object {
    raw: NonNull<c_void>,
    kind: Kind,
    version: Version,
    /// Where it holds memory, if it does.
    gpu: Option<Gpu>,
}

// SAFETY: TensorRT's objects are bound to no thread. One of them is used by one thread at a time: every method that
// changes one takes `&mut` in the types above this one.
unsafe impl Send for Object {}

impl Object {
    /// Takes what the library returned. `None` for what is no pointer.
    ///
    /// # Safety
    /// The library of this version promises, in the declaration of what returned `raw`, an object of this kind, and it
    /// lives at least as long as this value (`Ours`: until this value deletes it).
    pub(crate) unsafe fn adopt(raw: Raw, kind: Kind, version: Version) -> Option<Self> {
        if raw.addr() < LOWEST_ADDRESS {
            return None;
        }
        Some(Self { raw: NonNull::new(raw)?, kind, version, gpu: None })
    }

    /// It holds memory of this GPU, whose context must be current when it goes.
    pub(crate) fn on(self, gpu: &Gpu) -> Self {
        let mut object = self;
        object.gpu = Some(gpu.clone());
        object
    }

    /// The pointer, to pass to another of their methods.
    pub(crate) fn raw(&self) -> Raw {
        self.raw.as_ptr()
    }

    /// The version of the library that made it.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The function in a slot, and the object that it must be called on.
    ///
    /// # Errors
    /// [`TensorRtError::OldMinor`] if this version's table is not known to reach so far.
    pub(crate) fn method<F: Copy>(&self, slot: &Slot<F>) -> Result<(Raw, F), TensorRtError> {
        const { assert!(size_of::<F>() == size_of::<*const c_void>()) };
        let entry = &slot.entry;
        let have = self.version;
        let place = have.known().and_then(|major| entry.place(major));
        let Some(place) = place.filter(|place| have >= place.since) else {
            let since = place.map(|place| place.since);
            return Err(TensorRtError::OldMinor { method: entry.name(), since, have });
        };
        let this = match self.kind {
            // SAFETY: in all versions that `known` lets through, a public object is two pointers: its table and the
            // object behind it, which lives as long.
            Kind::Ours | Kind::Theirs => unsafe { self.raw.cast::<[Raw; 2]>().as_ref()[1] },
            Kind::Public { .. } => self.raw(),
        };
        // SAFETY: `this` begins with the address of its table, and this version's table has this entry: the slot
        // tables are counted from its headers. The entry is a function of the type that stands beside it in the table.
        let function = unsafe {
            let table: *const *const c_void = *this.cast::<*const *const c_void>();
            std::mem::transmute_copy::<*const c_void, F>(&*table.add(place.slot))
        };
        Ok((this, function))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let delete = match self.kind {
            Kind::Ours => DELETE,
            Kind::Public { delete: Some(delete) } => delete,
            Kind::Theirs | Kind::Public { delete: None } => return,
        };
        if let Some(Err(error)) = self.gpu.as_ref().map(Gpu::make_current)
            && error.is_lost()
        {
            // There is nothing left to give back, the process is about to leave with 75, and the library's destructors
            // have been seen to end it with an exception instead (NVIDIA/TensorRT issues 518 and 2052).
            return;
        }
        // SAFETY: the object is ours and alive, and this is the last use of it. The entry is its deleting destructor.
        unsafe {
            let table: *const unsafe extern "C" fn(Raw) = *self.raw.cast().as_ref();
            (*table.add(delete))(self.raw());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots;

    unsafe extern "C" fn seven(_this: Raw) -> i32 {
        7
    }

    /// A public object, the object behind it, and a table whose every entry answers 7.
    fn count_errors(version: Version, kind: Kind) -> Result<i32, TensorRtError> {
        let table = [seven as *const c_void; 8];
        let mut behind = [table.as_ptr().cast_mut().cast::<c_void>()];
        let mut public = [table.as_ptr().cast_mut().cast::<c_void>(), behind.as_mut_ptr().cast::<c_void>()];
        // SAFETY: laid out as the library's objects are; it lives to the end of this function, and is not deleted.
        let object = unsafe { Object::adopt(public.as_mut_ptr().cast(), kind, version) }.expect("a pointer");
        // SAFETY: no arguments.
        Ok(unsafe { call!(object, PARSER_ERROR_COUNT) })
    }

    #[test]
    fn a_method_that_the_version_is_not_known_to_have_is_not_called() {
        let since =
            slots::PARSER_ERROR_COUNT.entry.place(crate::version::Major::Ten).map(|place| place.since);
        for kind in [Kind::Theirs, Kind::Public { delete: None }] {
            assert_eq!(count_errors(Version::new(10, 16, 0), kind).unwrap(), 7);
            let have = Version::new(10, 15, 9);
            match count_errors(have, kind).unwrap_err() {
                TensorRtError::OldMinor { method: "getNbErrors", since: told, have: of } => {
                    assert_eq!((told, of), (since, have));
                }
                other => panic!("{other}"),
            }
            assert!(count_errors(Version::new(12, 0, 0), kind).is_err(), "an unknown major has no slots");
        }
    }

    #[test]
    fn what_is_no_pointer_is_no_object() {
        for number in [0_usize, 0x228, 4095] {
            // SAFETY: nothing is read where there is no pointer.
            let object = unsafe {
                Object::adopt(std::ptr::without_provenance_mut(number), Kind::Ours, Version::new(10, 16, 0))
            };
            assert!(object.is_none(), "{number:#x}");
        }
    }
}
