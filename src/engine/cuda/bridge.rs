//! Calls of our own on cubecl's stream, between its launches. The only file that knows cubecl's insides.
//!
//! A device has one thread that carries out what was queued for it, in the order in which it was queued. A call is
//! queued like a launch: it runs on that thread, with the context current, ordered behind whatever wrote its inputs.
//! Memory that is given back while a call is queued is used again only by later work on the same stream.

use super::runner::{self, Runner};
use crate::engine::nvidia::EngineError;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;
use cubecl_common::device_handle::DeviceHandle;
use cubecl_environment::stream::StreamId;
use cubecl_runtime::runtime::Runtime;
use cubecl_runtime::server::{BufferBinding, ServerError};
use cubecl_server::command::DeviceStream as _;
use cubecl_server::stream::{ExecuteScope, FailureStore as _, WriteScoped as _};

type Server = <CudaRuntime as Runtime>::Server;

/// A call in flight: what it may use, and where its memory lies.
pub(super) struct Call<'a> {
    /// Libraries and kernels of the device.
    pub(super) runner: &'a mut Runner,
    /// Addresses of what is read, then of what is written, in the order in which [`enqueue`] was told of them.
    pub(super) at: &'a [u64],
}

/// Queues `call` for the device of `near`.
///
/// A failure, also one that an input carries, is kept with what `call` writes: whoever reads it is told. Nothing in
/// `call` may ask the device for anything through burn.
pub(super) fn enqueue(
    near: &CubeTensor,
    reads: &[&CubeTensor],
    writes: &[&CubeTensor],
    call: impl FnOnce(&mut Call<'_>) -> Result<(), EngineError> + Send + 'static,
) {
    let binding = |tensor: &&CubeTensor| tensor.handle.clone().binding();
    let reads: Vec<BufferBinding> = reads.iter().map(binding).collect();
    let writes: Vec<BufferBinding> = writes.iter().map(binding).collect();
    let stream_id = StreamId::current();
    let service = DeviceHandle::<Server>::new(near.client.service_id().device);
    service.submit(move |server: &mut Server| {
        let scope = ExecuteScope::over(server, stream_id, writes.clone());
        scope.execute(|server| {
            server.write_streams().ensure_written(reads.iter())?;
            let every = || reads.iter().chain(&writes);
            let mut streams = server.write_streams().resolve(stream_id, every())?;
            let mut at = Vec::with_capacity(reads.len() + writes.len());
            for binding in every() {
                let page = binding.memory.descriptor().location();
                streams.current().capturing().touch(binding.stream, page);
                let memory = streams.get(&binding.stream).device_memory();
                let (start, end) = (binding.offset_start, binding.offset_end);
                at.push(memory.get_resource(binding.memory.clone(), start, end)?.ptr);
            }
            let stream = streams.current().signal() as u64;
            runner::with(stream, |runner| call(&mut Call { runner, at: &at }))
                .map_err(|fault| ServerError::graph_state(fault.to_string()))
        });
    });
}
