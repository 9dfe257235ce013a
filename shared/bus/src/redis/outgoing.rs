//! Everything that goes out, on one connection: what gathers while a batch is on its way makes up the next.
//!
//! Messages are built for watched runs only. Redis itself knows who watches what, so each batch asks for its runs, all
//! at once; a run that is known to be watched is not asked about again until somebody tells that nobody heard.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio::sync::mpsc;
use windlass_model::{Event, Priority, RunId, SessionId};

use super::Shared;
use super::message::{self, Channel};
use super::patience::Patience;

/// Posts that make up one batch.
const BATCH_MAX: usize = 512;
/// A Redis that takes longer is as good as away, until it answers again.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Runs known to be watched; beyond that all are forgotten, and asked about again.
const WATCHED_MAX: usize = 10_000;

/// Something to send.
pub(super) enum Post {
    Ring(RunId, Priority),
    Poke(SessionId, RunId),
    Events(RunId, Vec<Event>),
    Progress(RunId, Value),
}

/// Sends until nobody can post any more.
pub(super) async fn send_all(shared: Arc<Shared>, mut posts: mpsc::Receiver<Post>) {
    set_connected(&shared, false);
    let mut patience = Patience::default();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while !posts.is_closed() {
        let connection = shared.connect(&mut patience, Some(ANSWER_MAX)).await;
        let mut out = Outgoing { connection, watched: HashSet::new() };
        tracing::info!("Redis is there");
        set_connected(&shared, true);
        while posts.recv_many(&mut batch, BATCH_MAX).await > 0 {
            match out.send(Batch::of(batch.drain(..))).await {
                Ok(()) => patience.rewarded(),
                Err((rings, error)) => {
                    tracing::warn!(%error, "Redis is away; everything goes on, slower");
                    set_connected(&shared, false);
                    rings.into_iter().for_each(|(run_id, priority)| shared.keep(run_id, priority));
                    break;
                }
            }
        }
        // What came before everybody knew. Others will find the rest in the database.
        while let Ok(post) = posts.try_recv() {
            if let Post::Ring(run_id, priority) = post {
                shared.keep(run_id, priority);
            }
        }
    }
}

fn set_connected(shared: &Shared, connected: bool) {
    shared.sends.store(connected, Ordering::Relaxed);
    metrics::gauge!("windlass_redis_connected").set(f64::from(u8::from(connected)));
}

struct Outgoing {
    connection: MultiplexedConnection,
    /// Runs that somebody heard of when we last published.
    watched: HashSet<RunId>,
}

/// Posts, sorted by what Redis is told.
#[derive(Default)]
struct Batch {
    rings: Vec<(RunId, Priority)>,
    pokes: Vec<(SessionId, RunId)>,
    /// In the order in which runs were first mentioned.
    news: Vec<(RunId, Vec<Told>)>,
}

/// News of one run, not written yet.
enum Told {
    Events(Vec<Event>),
    Progress(Value),
}

impl Batch {
    fn of(posts: impl Iterator<Item = Post>) -> Self {
        let mut batch = Self::default();
        let mut rung = HashSet::new();
        let mut places = HashMap::new();
        for post in posts {
            match post {
                Post::Ring(run_id, priority) if rung.insert(run_id) => batch.rings.push((run_id, priority)),
                Post::Ring(..) => {}
                Post::Poke(session, run_id) => batch.pokes.push((session, run_id)),
                Post::Events(run_id, events) => batch.tell(&mut places, run_id, Told::Events(events)),
                Post::Progress(run_id, value) => batch.tell(&mut places, run_id, Told::Progress(value)),
            }
        }
        batch
    }

    fn tell(&mut self, places: &mut HashMap<RunId, usize>, run_id: RunId, told: Told) {
        let place = *places.entry(run_id).or_insert_with(|| {
            self.news.push((run_id, Vec::new()));
            self.news.len() - 1
        });
        let all = &mut self.news[place].1;
        match (all.last_mut(), told) {
            (Some(Told::Events(before)), Told::Events(events)) => before.extend(events),
            (_, told) => all.push(told),
        }
    }
}

impl Told {
    fn write(&self) -> String {
        match self {
            Self::Events(events) => message::write_events(events),
            Self::Progress(progress) => message::write_progress(progress),
        }
    }
}

impl Outgoing {
    /// Sends a batch. When that fails, what it rang for comes back: it may or may not have been heard.
    async fn send(&mut self, batch: Batch) -> Result<(), (Vec<(RunId, Priority)>, redis::RedisError)> {
        let Batch { rings, pokes, news } = batch;
        if self.watched.len() > WATCHED_MAX {
            self.watched.clear();
        }
        let sent = self.send_parts(&rings, &pokes, news).await;
        sent.map_err(|error| (rings, error))
    }

    async fn send_parts(
        &mut self,
        rings: &[(RunId, Priority)],
        pokes: &[(SessionId, RunId)],
        news: Vec<(RunId, Vec<Told>)>,
    ) -> RedisResult<()> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            news.into_iter().partition(|(run_id, _)| self.watched.contains(run_id));
        let mut first = redis::pipe();
        ring(&mut first, rings);
        for (session, run_id) in pokes {
            let name = Channel::Session(*session).name();
            first.cmd("PUBLISH").arg(name).arg(run_id.0.as_bytes()).ignore();
        }
        if !unknown.is_empty() {
            first.cmd("PUBSUB").arg("NUMSUB");
            for (run_id, _) in &unknown {
                first.arg(Channel::Run(*run_id).name());
            }
        }
        let asked = !unknown.is_empty();
        let told = publish(&mut first, &known);
        let mut answers: Vec<redis::Value> = first.query_async(&mut self.connection).await?;
        let heard = answers.split_off(usize::from(asked));
        self.note_who_heard(&told, &heard);
        let Some(counts) = answers.pop() else { return Ok(()) };
        let watched = watched_among(counts)?;
        let news: Vec<_> = unknown.into_iter().filter(|(run_id, _)| watched.contains(run_id)).collect();
        if news.is_empty() {
            return Ok(());
        }
        self.watched.extend(watched);
        let mut second = redis::pipe();
        let told = publish(&mut second, &news);
        let heard: Vec<redis::Value> = second.query_async(&mut self.connection).await?;
        self.note_who_heard(&told, &heard);
        Ok(())
    }

    /// A run that nobody heard of any more is asked about again the next time.
    fn note_who_heard(&mut self, told: &[RunId], heard: &[redis::Value]) {
        for (run_id, count) in told.iter().zip(heard) {
            if matches!(count, redis::Value::Int(0)) {
                self.watched.remove(run_id);
            }
        }
    }
}

fn ring(pipeline: &mut redis::Pipeline, rings: &[(RunId, Priority)]) {
    for priority in Priority::ALL {
        let mut ids = rings.iter().filter(|(_, it)| it == priority).map(|(run_id, _)| run_id).peekable();
        if ids.peek().is_some() {
            pipeline.cmd("RPUSH").arg(message::queue(*priority));
            for run_id in ids {
                pipeline.arg(run_id.0.as_bytes());
            }
            pipeline.ignore();
        }
    }
}

/// Says to which run each message belongs; its answer is how many heard it.
fn publish(pipeline: &mut redis::Pipeline, news: &[(RunId, Vec<Told>)]) -> Vec<RunId> {
    let mut told = Vec::new();
    for (run_id, all) in news {
        for it in all {
            pipeline.cmd("PUBLISH").arg(Channel::Run(*run_id).name()).arg(it.write());
            told.push(*run_id);
        }
    }
    told
}

/// Reads the answer of `PUBSUB NUMSUB`: channel, count, channel, count, …
fn watched_among(counts: redis::Value) -> RedisResult<HashSet<RunId>> {
    let counts: Vec<(String, u64)> = redis::from_redis_value(counts)?;
    let watched = counts.into_iter().filter(|(_, count)| *count > 0);
    Ok(watched
        .filter_map(|(name, _)| match Channel::parse(&name)? {
            Channel::Run(run_id) => Some(run_id),
            Channel::Session(_) => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn run_id(n: u128) -> RunId {
        RunId(Uuid::from_u128(n))
    }

    #[test]
    fn a_burst_becomes_one_ring_per_run_and_one_message_per_batch_of_events() {
        let progress = |n: u32| Post::Progress(run_id(1), json!(n));
        let batch = Batch::of(
            [
                Post::Ring(run_id(1), Priority::Low),
                Post::Events(run_id(1), Vec::new()),
                Post::Events(run_id(2), Vec::new()),
                Post::Events(run_id(1), Vec::new()),
                progress(1),
                progress(2),
                Post::Events(run_id(1), Vec::new()),
                Post::Ring(run_id(1), Priority::Low),
            ]
            .into_iter(),
        );
        assert_eq!(batch.rings, [(run_id(1), Priority::Low)]);
        let shape: Vec<_> = batch.news.iter().map(|(id, told)| (*id, told.len())).collect();
        assert_eq!(shape, [(run_id(1), 4), (run_id(2), 1)]);
    }
}
