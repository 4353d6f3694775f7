//! After the first inference nothing is allocated on our side: the library's own memory is its own affair.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use support::onnx_writer::Dim;
use support::{doubling_half, on_both};
use watchpost_cuda::SlotTensor;
use watchpost_tensorrt::LoadOptions;

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

// SAFETY: the system's allocator, and a number beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_inference_allocates_nothing_and_the_count_would_see_it() {
    on_both(|bench| {
        let plan = bench.plan(&doubling_half(Dim::Open("batch")), 3);
        for replay in [false, true] {
            let options = LoadOptions { replay, contexts: 2, dla_core: None };
            let mut runner = bench.load(&plan, options).unwrap();
            let slots = bench.slots(&runner, 3);
            let all: [&SlotTensor; 3] = std::array::from_fn(|index| &slots[index]);
            let mut sum = 0.0;
            let mut run = |extra: bool| {
                let before = COUNT.load(Ordering::Relaxed);
                for round in 0..50 {
                    let count = round % 3 + 1;
                    let mut add =
                        |_: usize, outputs: &[watchpost_tensorrt::TensorView<'_>]| sum += outputs[0].data[0];
                    runner.infer(&all[..count], &mut add).unwrap();
                    runner.submit(&all[..count]).unwrap();
                    runner.submit(&all[..1]).unwrap();
                    while runner.collect(&mut add).unwrap() > 0 {}
                    if extra {
                        std::hint::black_box(vec![0_u8; 8]);
                    }
                }
                COUNT.load(Ordering::Relaxed) - before
            };
            run(false);
            assert_eq!(run(false), 0, "TensorRT {} replay={replay}", bench.major);
            assert!(run(true) >= 50, "the control");
            assert!(sum > 0.0);
        }
    });
}
