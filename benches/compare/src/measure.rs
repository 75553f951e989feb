//! Measures cases in interleaved rounds. Each round takes one sample of each case, so a slow moment
//! of the machine affects all cases.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
    time::{Duration, Instant},
};

/// A benchmark case.
pub struct Case<'a> {
    pub name: String,
    /// The largest number of runs in one sample.
    pub most: usize,
    /// Runs the case the given number of times, and returns the total cost.
    pub sample: Box<dyn FnMut(usize) -> Sample + 'a>,
}

#[derive(Clone, Copy)]
pub struct Sample {
    time: Duration,
    allocations: u64,
}

/// The cost of one run of a case.
pub struct Cost {
    pub name: String,
    /// The mean time per run in the fastest round, in nanoseconds.
    pub least: f64,
    /// The mean time per run in the median round, in nanoseconds.
    pub median: f64,
    /// The mean number of allocations per run, measured in the round with the fewest allocations.
    pub allocations: f64,
}

/// Measures `runs` calls of `run`, each with its own input. The inputs are created in small groups
/// just before they are used, because a real request is also read just before it is handled. The
/// result does not include the time for dropping the outputs.
pub fn timed<I, T>(
    runs: usize,
    mut input: impl FnMut(usize) -> I,
    mut run: impl FnMut(I) -> T,
) -> Sample {
    let mut sample = Sample { time: Duration::ZERO, allocations: 0 };
    let (mut inputs, mut outputs) = (Vec::with_capacity(FEW), Vec::with_capacity(FEW));
    for start in (0..runs).step_by(FEW) {
        inputs.extend((start..runs.min(start + FEW)).map(&mut input));
        let (before, now) = (ALLOCATIONS.get(), Instant::now());
        for input in inputs.drain(..) {
            outputs.push(run(black_box(input)));
        }
        sample.time += now.elapsed();
        sample.allocations += ALLOCATIONS.get() - before;
        black_box(&mut outputs).clear();
    }
    sample
}

pub fn measure(mut cases: Vec<Case<'_>>, rounds: usize) -> Vec<Cost> {
    let batches = cases.iter_mut().map(batch).collect::<Vec<_>>();
    let mut samples = vec![Vec::with_capacity(rounds); cases.len()];
    for round in 0..rounds {
        // Reverses the order of the cases in every second round. With a fixed order, each case
        // would always run directly after the same predecessor.
        let mut order = (0..cases.len()).collect::<Vec<_>>();
        if round % 2 == 1 {
            order.reverse();
        }
        for case in order {
            samples[case].push((cases[case].sample)(batches[case]));
        }
    }
    let cost = |((case, batch), mut samples): ((Case<'_>, usize), Vec<Sample>)| {
        let per_run = |sample: &Sample| sample.time.as_secs_f64() * 1e9 / batch as f64;
        samples.sort_by_key(|sample| sample.time);
        let allocations = samples.iter().map(|sample| sample.allocations).min().unwrap();
        Cost {
            name: case.name,
            least: per_run(&samples[0]),
            median: per_run(&samples[samples.len() / 2]),
            allocations: allocations as f64 / batch as f64,
        }
    };
    cases.into_iter().zip(batches).zip(samples).map(cost).collect()
}

/// Returns the number of runs in one sample. Together, these runs take about one millisecond.
fn batch(case: &mut Case<'_>) -> usize {
    (case.sample)(case.most.min(16));
    let few = case.most.min(16);
    let time = (case.sample)(few).time.as_secs_f64() / few as f64;
    ((0.001 / time) as usize).clamp(2, case.most)
}

/// The number of inputs that are created at a time.
const FEW: usize = 16;

/// The system allocator, with a counter.
pub struct CountingAllocator;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to `System` unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}
