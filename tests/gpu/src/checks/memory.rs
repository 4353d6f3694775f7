//! Slots, uploads, kernels and batches of several cameras at once: nobody reads what is not written, nobody writes what is
//! still read; and everything comes back.

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::json;
use watchpost::clock;
use watchpost::model::Fit;
use watchpost_cuda::{
    Batch, Buffer, CudaError, Element, Gpu, Letterboxer, Owner, Pinned, Placement, Range, Recipe, SlotTensor,
    Stream, f16_to_f32,
};
use watchpost_prove::outcome::{Figures, Stop, demand, rounded};
use watchpost_prove::pictures::{Format, Source, device_recipe, recipe};
use watchpost_prove::settings::Settings;

use super::kernel::OnDevice;

const SLOTS: usize = 2;
const BATCH: usize = 4;
/// A driver hands memory out in pieces of this size.
const PIECE_BYTES: u64 = 2 << 20;

pub fn run(settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let gpu = super::gpu()?;
    for element in [Element::F16, Element::F32] {
        order(&gpu, element, settings, figures)?;
        demand(gpu.ledger().is_empty(), || format!("after the cameras the ledger has {:?}", gpu.ledger()))?;
    }
    cycles(&gpu, settings, figures)?;
    contexts(gpu, settings, figures)
}

/// A filled slot on its way to the engine, and what is in it.
struct Sent {
    camera: usize,
    slot: SlotTensor,
    value: f32,
}

fn side(settings: &Settings) -> u32 {
    if settings.quick { 32 } else { 640 }
}

/// Everything that one camera has.
struct Camera {
    index: usize,
    letterboxer: Letterboxer,
    pictures: Vec<(f32, OnDevice)>,
    placement: Placement,
}

impl Camera {
    fn new(gpu: &Gpu, index: usize, recipe: Recipe) -> Result<Self, Stop> {
        let stream = Stream::new(gpu)?;
        let grey = |level: u16| {
            let mut source = Source { range: Range::Full, ..Source::new(320, 240, Format::Nv12, 1) };
            source.planes[0].fill(level << 2);
            source.planes[1].fill(512);
            source.planes[2].fill(512);
            Ok((f32::from(level), OnDevice::new(gpu, &stream, &source)?))
        };
        let first = 20 + 30 * index as u16;
        let pictures = (first..first + 8).map(grey).collect::<Result<Vec<_>, Stop>>()?;
        let placement = Placement { left: 0, top: 0, width: recipe.width, height: recipe.height };
        Ok(Self { index, letterboxer: Letterboxer::new(gpu, recipe)?, pictures, placement })
    }

    /// In turn a picture on the GPU and a tensor of the CPU, each with a value of its own.
    fn fill(&mut self, number: usize, slot: &mut SlotTensor) -> Result<f32, CudaError> {
        if number.is_multiple_of(2) {
            let (value, picture) = &self.pictures[number / 2 % self.pictures.len()];
            self.letterboxer.letterbox(&picture.picture(), self.placement, slot)?;
            return Ok(*value);
        }
        let value = (300 + 200 * self.index + number % 200) as f32;
        self.letterboxer.staging()?.fill(value);
        self.letterboxer.upload(slot)?;
        Ok(value)
    }

    fn run(
        mut self,
        frames: usize,
        home: &Receiver<SlotTensor>,
        work: &Sender<Sent>,
    ) -> Result<(), CudaError> {
        for number in 0..frames {
            let Ok(mut slot) = home.recv() else { break };
            let value = self.fill(number, &mut slot)?;
            if work.send(Sent { camera: self.index, slot, value }).is_err() {
                break;
            }
        }
        // The pictures go with `self`; what reads them must be over.
        self.letterboxer.finish()
    }
}

/// The engine: gathers what has come, sends the slots home before the GPU has read them, and then looks.
struct Engine {
    stream: Stream,
    batch: Batch,
    outputs: Pinned,
    element: Element,
    frame_len: usize,
    off_by: f32,
}

impl Engine {
    fn look(&mut self, sent: Vec<Sent>, homes: &[Sender<SlotTensor>]) -> Result<(), Stop> {
        let slots: Vec<&SlotTensor> = sent.iter().map(|sent| &sent.slot).collect();
        let address = self.batch.gather(&slots, &self.stream)?;
        let bytes = self.frame_len * self.element.bytes() * slots.len();
        // SAFETY: that many bytes were gathered there; slots and batch wait for their readers before they go, and the
        // outputs are read after the wait below.
        unsafe { self.stream.copy_to_host(&mut self.outputs, address, bytes) }?;
        self.batch.read_by(&slots, &self.stream)?;
        let mut expected = Vec::with_capacity(sent.len());
        for Sent { camera, slot, value } in sent {
            expected.push((camera, value + self.off_by));
            // Who is gone needs no slot.
            let _camera_has_ended = homes[camera].send(slot);
        }
        self.stream.wait()?;
        for (index, (camera, value)) in expected.into_iter().enumerate() {
            let range = index * self.frame_len..(index + 1) * self.frame_len;
            let wrong = match self.element {
                Element::F32 => self.outputs.f32s()[range].iter().copied().find(|got| is_off(*got, value)),
                Element::F16 => self.outputs.u16s()[range]
                    .iter()
                    .map(|&half| f16_to_f32(half))
                    .find(|got| is_off(*got, value)),
            };
            if let Some(got) = wrong {
                let words =
                    format!("camera {camera}: {got} where its frame was all {value}: an order was not kept");
                return Err(Stop::failed(words));
            }
        }
        Ok(())
    }
}

fn is_off(got: f32, value: f32) -> bool {
    // A grey picture is within the kernel's bound of its value, and rounded to f16.
    got.is_nan() || (got - value).abs() > 0.3
}

fn order(gpu: &Gpu, element: Element, settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let (cameras, frames) = if settings.quick { (3, 30) } else { (6, 500) };
    let recipe = device_recipe(&recipe(side(settings) as usize, side(settings) as usize, Fit::Stretch));
    let (to_work, work) = bounded(cameras * SLOTS);
    let mut homes = Vec::new();
    let mut engine = Engine {
        stream: Stream::new(gpu)?,
        batch: Batch::new(gpu, element, recipe.len(), BATCH)?,
        outputs: Pinned::new(gpu, Owner::Outputs, recipe.len() * element.bytes() * BATCH)?,
        element,
        frame_len: recipe.len(),
        off_by: if settings.control { 1.0 } else { 0.0 },
    };
    let mut all = Vec::new();
    for index in 0..cameras {
        let (to_home, home) = bounded(SLOTS);
        for _ in 0..SLOTS {
            let _has_room = to_home.send(SlotTensor::new(gpu, element, recipe.len())?);
        }
        homes.push(to_home);
        all.push((Camera::new(gpu, index, recipe)?, home));
    }
    let began = clock::now();
    let (mut count, mut batches) = (0, 0);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (camera, home) in all {
            let to_work = to_work.clone();
            threads.push(scope.spawn(move || camera.run(frames, &home, &to_work)));
        }
        drop(to_work);
        // Moved in, so that cameras that wait find nobody when this ends early.
        let (work, homes) = (work, homes);
        while let Ok(first) = work.recv() {
            let sent: Vec<Sent> = std::iter::once(first).chain(work.try_iter().take(BATCH - 1)).collect();
            count += sent.len();
            batches += 1;
            engine.look(sent, &homes)?;
        }
        drop((work, homes));
        for thread in threads {
            thread.join().map_err(|_| Stop::failed("a camera's thread panicked"))??;
        }
        Ok::<(), Stop>(())
    })?;
    let seconds = clock::now().saturating_duration_since(began).as_secs_f64();
    let figure = json!({ "cameras": cameras, "frames": count, "batches": batches,
        "frames_per_second": rounded(count as f64 / seconds) });
    figures.insert(format!("order_{element:?}").to_lowercase(), figure);
    demand(count == cameras * frames, || format!("{count} frames came of {}", cameras * frames))
}

/// What a camera and an engine take, taken and given back.
fn cycles(gpu: &Gpu, settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let recipe = device_recipe(&recipe(side(settings) as usize, side(settings) as usize, Fit::Stretch));
    let mut kept = Vec::new();
    let mut after_warm_up = 0;
    let warm_up = settings.cycles.div_ceil(10);
    for cycle in 0..settings.cycles + warm_up {
        let stream = Stream::new(gpu)?;
        let mut letterboxer = Letterboxer::new(gpu, recipe)?;
        let mut slots = [
            SlotTensor::new(gpu, Element::F16, recipe.len())?,
            SlotTensor::new(gpu, Element::F16, recipe.len())?,
        ];
        let mut batch = Batch::new(gpu, Element::F16, recipe.len(), SLOTS)?;
        for slot in &mut slots {
            letterboxer.staging()?.fill(1.0);
            letterboxer.upload(slot)?;
        }
        let both = [&slots[0], &slots[1]];
        batch.gather(&both, &stream)?;
        batch.read_by(&both, &stream)?;
        if settings.control {
            kept.push(Buffer::new(gpu, Owner::Slots, 1 << 20)?);
        }
        // The work is under way when everything goes.
        drop((slots, batch, letterboxer, stream));
        if cycle + 1 == warm_up {
            after_warm_up = gpu.free_bytes()?;
        }
    }
    let free = gpu.free_bytes()?;
    let figure = json!({ "cycles": settings.cycles, "free_bytes_after_warm_up": after_warm_up,
        "free_bytes_at_the_end": free });
    figures.insert("create_and_destroy".to_owned(), figure);
    demand(gpu.ledger().is_empty(), || format!("after the cycles the ledger has {:?}", gpu.ledger()))?;
    demand(free + PIECE_BYTES >= after_warm_up, || {
        let lost = after_warm_up.saturating_sub(free);
        format!(
            "{lost} bytes of the GPU are gone after {} cycles, or another program took them",
            settings.cycles
        )
    })
}

/// The context itself, made and given back.
fn contexts(gpu: Gpu, settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let count = if settings.quick { 3 } else { 20 };
    let index = gpu.info().index;
    let first = gpu.free_bytes()?;
    drop(gpu);
    let mut last = first;
    for _ in 0..count {
        let gpu = Gpu::open(index)?;
        drop(Letterboxer::new(&gpu, device_recipe(&recipe(64, 64, Fit::Stretch)))?);
        last = gpu.free_bytes()?;
    }
    let figure = json!({ "contexts": count, "free_bytes_first": first, "free_bytes_last": last });
    figures.insert("contexts".to_owned(), figure);
    demand(last + PIECE_BYTES >= first, || {
        format!("{} bytes went with {count} contexts", first.saturating_sub(last))
    })
}
