//! The worker's end of the doorbell: takes rings from the lists, those of each priority and each tenant in turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use windlass_model::Ring;

use super::Shared;
use super::message::{self, Queue};
use super::patience::Patience;
use crate::Rings;

/// How long Redis keeps us waiting for a ring before we ask again.
const BLOCK: Duration = Duration::from_secs(2);
/// What its answer may take beyond that.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Begins to take rings for the worker of this process.
pub(super) fn listen(shared: Arc<Shared>) -> Box<dyn Rings> {
    shared.has_worker.store(true, Ordering::Relaxed);
    let (wanted, wants) = mpsc::channel(1);
    let (taken, arriving) = mpsc::channel(1);
    let task = tokio::spawn(take_for_ever(shared.clone(), wants, taken));
    let _task = AbortOnDropHandle::new(task);
    Box::new(RedisRings { shared, wanted, arriving, has_asked: false, at_hand: VecDeque::new(), _task })
}

/// A task takes rings, so that one that is on its way is not lost when somebody stops waiting for it. It takes as
/// many as it is asked for: what would have to wait here may be done by another worker.
struct RedisRings {
    shared: Arc<Shared>,
    wanted: mpsc::Sender<usize>,
    arriving: mpsc::Receiver<Vec<Ring>>,
    has_asked: bool,
    at_hand: VecDeque<Ring>,
    _task: AbortOnDropHandle<()>,
}

#[async_trait]
impl Rings for RedisRings {
    async fn take(&mut self, limit: usize) -> Vec<Ring> {
        loop {
            let rung = self.shared.local.rung();
            let count = limit.min(self.at_hand.len());
            let mut taken: Vec<Ring> = self.at_hand.drain(..count).collect();
            taken.extend(self.shared.local.take_now(limit - count));
            if !taken.is_empty() {
                return taken;
            }
            self.has_asked = self.has_asked || self.wanted.try_send(limit).is_ok();
            tokio::select! {
                Some(rings) = self.arriving.recv() => {
                    self.has_asked = false;
                    self.at_hand.extend(rings);
                }
                () = rung => {}
            }
        }
    }
}

/// Takes rings whenever somebody wants some, and connects again whenever that fails.
async fn take_for_ever(
    shared: Arc<Shared>,
    mut wants: mpsc::Receiver<usize>,
    taken: mpsc::Sender<Vec<Ring>>,
) {
    let mut patience = Patience::default();
    let mut wanted = None;
    let mut turn = 0_u64;
    let mut was_away = false;
    loop {
        // Waiting is what this connection is for; how long, we say ourselves.
        let mut connection = shared.connect(&mut patience, None).await;
        shared.takes.store(true, Ordering::Relaxed);
        if was_away {
            tracing::info!("Rings are taken from Redis again");
        }
        let error = loop {
            let limit = match wanted.take() {
                Some(limit) => limit,
                None => match wants.recv().await {
                    Some(limit) => limit,
                    None => return,
                },
            };
            match take(&mut connection, turn, limit).await {
                Ok(rings) => {
                    turn = turn.wrapping_add(1);
                    patience.rewarded();
                    if rings.is_empty() {
                        wanted = Some(limit);
                    } else if taken.send(rings).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    wanted = Some(limit);
                    break error;
                }
            }
        };
        shared.takes.store(false, Ordering::Relaxed);
        was_away = true;
        tracing::warn!(%error, "Rings cannot be taken from Redis; the sweep finds what they were for");
    }
}

async fn take(connection: &mut MultiplexedConnection, turn: u64, limit: usize) -> RedisResult<Vec<Ring>> {
    let mut command = redis::cmd("BLMPOP");
    let queues: Vec<String> = Queue::in_turn(turn).map(Queue::name).collect();
    command.arg(BLOCK.as_secs()).arg(queues.len()).arg(queues);
    command.arg("LEFT").arg("COUNT").arg(limit);
    let answer = tokio::time::timeout(BLOCK + ANSWER_MAX, command.query_async(connection)).await;
    let taken: Option<(String, Vec<Vec<u8>>)> = answer.map_err(no_answer)??;
    let payloads = taken.map(|(_, payloads)| payloads).unwrap_or_default();
    Ok(payloads.iter().filter_map(|payload| message::read_ring(payload)).collect())
}

fn no_answer(elapsed: tokio::time::error::Elapsed) -> redis::RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed).into()
}
