//! The doorbell: run ids on their way from whoever rang to the engine, through apalis.
//!
//! The queue carries no truth. An id that is lost here is found again by the sweep, one that comes
//! twice finds the run taken.

mod carry;

pub(crate) use carry::{Room, Taken, carry};

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use apalis::layers::WorkerBuilderExt;
use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::error::WorkerError;
use apalis_core::task::Task;
use apalis_core::task::data::Data;
use apalis_core::task::task_id::RandomId;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use apalis_core::worker::ext::parallelize::ParallelizeExt;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::layer::util::Identity;
use tracing::warn;
use windlass_bus::Bus;
use windlass_engine::Engine;
use windlass_store::point;

/// Feeds apalis from a channel. The channel outlives a worker that had to be restarted.
struct Doorbell(Arc<Mutex<mpsc::Receiver<Taken>>>);

impl Backend for Doorbell {
    type Task = Task<Taken>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Taken>, Infallible>>> {
        let mut rings = self.0.lock().expect("no panic while holding it");
        rings.poll_recv(cx).map(|ring| ring.map(|ring| Ok(Task::new(ring))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Doorbell {
    type Args = Taken;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

async fn drive(taken: Taken, engine: Data<Arc<Engine>>) {
    let Taken { ring, place } = taken;
    point("doorbell.answered");
    engine.drive(ring).await;
    point("doorbell.let_go");
    drop(place);
}

/// Answers the doorbell until `stop`, at most `runs_max` runs at a time, and returns when all have been let go.
pub(crate) async fn answer(
    rings: mpsc::Receiver<Taken>,
    engine: Arc<Engine>,
    runs_max: usize,
    bus: Arc<dyn Bus>,
    stop: CancellationToken,
) {
    let rings = Arc::new(Mutex::new(rings));
    while !stop.is_cancelled() {
        if let Err(error) = worker(rings.clone(), engine.clone(), runs_max, stop.clone()).await {
            warn!(error = %error, "The worker runtime stopped; starting it again");
        }
    }
    // What nobody began is for others.
    while let Ok(taken) = rings.lock().expect("no panic while holding it").try_recv() {
        bus.ring(taken.ring);
    }
}

/// Boxed, because the compiler cannot see through apalis' layers that this future is `Send`.
fn worker(
    rings: Arc<Mutex<mpsc::Receiver<Taken>>>,
    engine: Arc<Engine>,
    runs_max: usize,
    stop: CancellationToken,
) -> BoxFuture<'static, Result<(), WorkerError>> {
    let stopped = async move {
        stop.cancelled().await;
        Ok::<(), std::io::Error>(())
    };
    WorkerBuilder::new("windlass")
        .backend(Doorbell(rings))
        .data(engine)
        .concurrency(runs_max)
        // A task of its own for each run: a panic ends that run's task and nothing else.
        .parallelize(tokio::spawn)
        .build(drive)
        .run_until(stopped)
        .boxed()
}
