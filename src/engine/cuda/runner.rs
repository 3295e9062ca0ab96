//! NVIDIA's libraries and our kernels on one device.

#![allow(unsafe_code)] // Launches with raw device addresses.

use crate::engine::Timing;
use crate::engine::nvidia::cublas::{self, Cublas, Product};
use crate::engine::nvidia::cudnn::{self, Cudnn, Graph, Plan, Target};
use crate::engine::nvidia::driver::{Argument, Driver};
use crate::engine::nvidia::kernels::{self, Launch};
use crate::engine::nvidia::{EngineError, WORKSPACE};
use crate::engine::nvidia::{nvrtc, plans};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

thread_local! {
    /// Of the device whose thread this is.
    static RUNNER: RefCell<Option<Result<Runner, EngineError>>> = const { RefCell::new(None) };
}

/// Runs `call` with what the device of this thread has, started at the first call.
pub(super) fn with<R>(
    stream: u64,
    call: impl FnOnce(&mut Runner) -> Result<R, EngineError>,
) -> Result<R, EngineError> {
    RUNNER.with_borrow_mut(|runner| {
        let runner = runner.get_or_insert_with(Runner::start);
        let runner = runner.as_mut().map_err(|fault| fault.clone())?;
        runner.stream = stream;
        call(runner)
    })
}

/// What operations are computed with.
pub(super) struct Runner {
    driver: Driver,
    cudnn: Cudnn,
    /// Nothing where calls are only counted: the libraries do not start without a card.
    libraries: Option<Libraries>,
    /// What plans of the card are kept under.
    card: String,
    plans: BTreeMap<Graph, Plan>,
    workspace: u64,
    stream: u64,
}

/// The libraries, started on a card.
struct Libraries {
    cublas: Cublas,
    handle: cudnn::Handle,
}

/// Set to anything, it lets operations be counted and planned on a driver that computes nothing (see
/// `benches/counting_driver.c`).
const COUNTING: &str = "UMBRA_COUNT_LAUNCHES";

/// What is planned for where calls are only counted.
const COUNTED_CARD: &str = include_str!("../nvidia/devices/sm_90.json");

/// Kernels of our own and calls of libraries so far, over all devices.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Bytes of memory taken on the card that computed last, as of its last step of the optimizer.
static MEMORY: AtomicU64 = AtomicU64::new(0);

/// Bytes of memory taken on the card that last took a step of the optimizer; nothing where none did.
pub(in crate::engine) fn memory_in_use() -> Option<u64> {
    Some(MEMORY.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
}

/// Whether every call is waited for and timed.
static IS_TIMED: AtomicBool = AtomicBool::new(false);

/// What was timed so far, by what was computed.
static TIMINGS: Mutex<BTreeMap<String, Timing>> = Mutex::new(BTreeMap::new());

/// Times every call from now on, or none; what was timed until now.
pub(in crate::engine) fn time_calls(is_timed: bool) -> BTreeMap<String, Timing> {
    IS_TIMED.store(is_timed, Ordering::Relaxed);
    std::mem::take(&mut TIMINGS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Kernels of our own and calls of libraries so far, over all devices.
pub(in crate::engine) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

impl Runner {
    /// On the current context.
    fn start() -> Result<Self, EngineError> {
        let mut driver = Driver::open()?;
        let architecture = driver.architecture()?;
        let cubin = nvrtc::compile(kernels::SOURCE, &architecture)?;
        driver.load(&cubin)?;
        let cudnn = Cudnn::open()?;
        let libraries = match std::env::var_os(COUNTING) {
            Some(_) => None,
            None => Some(Libraries { handle: cudnn.handle()?, cublas: Cublas::start()? }),
        };
        let card = match &libraries {
            Some(libraries) => cudnn.describe_card(&libraries.handle)?,
            None => COUNTED_CARD.to_owned(),
        };
        let card = plans::card_key(&cudnn, &card);
        let workspace = driver.allocate(WORKSPACE)?;
        Ok(Self { driver, cudnn, libraries, card, plans: BTreeMap::new(), workspace, stream: 0 })
    }

    /// Scratch memory of at least `bytes`, for this operation only.
    pub(super) fn scratch(&self, bytes: usize) -> Result<u64, EngineError> {
        match bytes <= WORKSPACE {
            true => Ok(self.workspace),
            false => Err(EngineError::Workspace { needed: bytes }),
        }
    }

    /// Queues one of our kernels.
    pub(super) fn launch(
        &mut self,
        launch: &Launch,
        arguments: &[Argument],
    ) -> Result<(), EngineError> {
        self.timed(|| (launch.name.to_owned(), 0), |runner| runner.launch_now(launch, arguments))
    }

    fn launch_now(&mut self, launch: &Launch, arguments: &[Argument]) -> Result<(), EngineError> {
        // SAFETY: operations pass what the kernel documents, in tensors of the sizes that they were made with.
        unsafe { self.driver.launch(launch, arguments, self.stream)? };
        Ok(())
    }

    /// Queues a product; `bias` is 0 where there is none.
    pub(super) fn multiply(
        &mut self,
        product: &Product,
        operands: [u64; 3],
        bias: u64,
    ) -> Result<(), EngineError> {
        let Product { rows, columns, inner, batch, transposes_a, is_wide, .. } = *product;
        let name = || {
            let kind = if transposes_a { "weight gradient" } else { "product" };
            let wide = if is_wide { ", wide" } else { "" };
            (
                format!("{kind}{wide}, {batch} × [{rows}, {inner}] · [{inner}, {columns}]"),
                product.flops(),
            )
        };
        self.timed(name, |runner| runner.multiply_now(product, operands, bias))
    }

    fn multiply_now(
        &mut self,
        product: &Product,
        operands: [u64; 3],
        bias: u64,
    ) -> Result<(), EngineError> {
        const { assert!(cublas::WORKSPACE <= WORKSPACE) };
        let Some(libraries) = &mut self.libraries else { return Ok(()) };
        // SAFETY: as for kernels.
        unsafe { libraries.cublas.run(product, operands, bias, self.workspace, self.stream)? };
        Ok(())
    }

    /// Queues a graph of cuDNN; the order of `addresses` is what [`Graph`] says.
    pub(super) fn execute(&mut self, graph: &Graph, addresses: &[u64]) -> Result<(), EngineError> {
        let name = || (graph.to_string(), graph.flops());
        self.timed(name, |runner| runner.execute_now(graph, addresses))
    }

    /// Counts a call, and times it where that was asked for.
    fn timed(
        &mut self,
        name: impl FnOnce() -> (String, u64),
        call: impl FnOnce(&mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        if !IS_TIMED.load(Ordering::Relaxed) {
            return call(self);
        }
        // SAFETY: the device's stream.
        unsafe { self.driver.synchronize(self.stream)? };
        let start = Instant::now();
        call(self)?;
        let host = start.elapsed().as_secs_f64();
        // SAFETY: as above.
        unsafe { self.driver.synchronize(self.stream)? };
        let (name, flops) = name();
        let mut timings = TIMINGS.lock().unwrap_or_else(PoisonError::into_inner);
        let timing = timings.entry(name).or_default();
        timing.calls += 1;
        timing.seconds += start.elapsed().as_secs_f64();
        timing.host_seconds += host;
        timing.flops += flops;
        Ok(())
    }

    fn execute_now(&mut self, graph: &Graph, addresses: &[u64]) -> Result<(), EngineError> {
        if !self.plans.contains_key(graph) {
            let target = match &self.libraries {
                Some(libraries) => Target::Here(&libraries.handle),
                None => Target::Described(COUNTED_CARD),
            };
            let folder = nvrtc::cache_folder();
            let plan = plans::obtain(&self.cudnn, graph, &target, &self.card, folder.as_deref())?;
            self.plans.insert(graph.clone(), plan);
        }
        let Some(libraries) = &self.libraries else { return Ok(()) };
        // SAFETY: the device's one stream lives as long as the device; addresses as for kernels.
        unsafe {
            libraries.handle.set_stream(self.stream)?;
            self.plans[graph].execute(&libraries.handle, addresses, self.workspace)?;
        }
        Ok(())
    }

    /// Notes how much memory is taken.
    pub(super) fn note_memory(&self) -> Result<(), EngineError> {
        MEMORY.store(self.driver.memory_in_use()?, Ordering::Relaxed);
        Ok(())
    }

    /// Queues a copy of `bytes` to the device memory at `to`.
    pub(super) fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError> {
        // SAFETY: as for kernels.
        unsafe { self.driver.copy(to, bytes, self.stream)? };
        Ok(())
    }
}
