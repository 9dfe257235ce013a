//! Everything that goes out, on one connection: what gathers while a batch is on its way makes up the next.
//!
//! Messages are built for watched runs only. Redis itself knows who watches what, so each batch asks for its runs, all
//! at once; a run that is known to be watched is not asked about again until somebody tells that nobody heard.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};
use serde_json::Value;
use tokio::sync::mpsc;
use windlass_model::{Event, Ring, RunId, SessionId};

use super::Shared;
use super::message::{self, Channel, Queue};
use super::patience::Patience;

/// Posts that make up one batch.
const BATCH_MAX: usize = 512;
/// A Redis that takes longer is as good as away, until it answers again.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Runs known to be watched; beyond that all are forgotten, and asked about again.
const WATCHED_MAX: usize = 10_000;

/// Something to send.
pub(super) enum Post {
    Ring(Ring),
    Poke(SessionId, Ring),
    Events(RunId, Vec<Event>),
    Progress(RunId, Value),
    /// Whoever has nothing to send does not hear that Redis is away: another connection has.
    Ping,
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
                Ok(refused) => {
                    patience.rewarded();
                    keep(&shared, refused);
                }
                Err((unheard, error)) => {
                    tracing::warn!(%error, "Redis is away; everything goes on, slower");
                    set_connected(&shared, false);
                    keep(&shared, unheard);
                    break;
                }
            }
        }
        // What came before everybody knew. Others will find the rest in the database.
        while let Ok(post) = posts.try_recv() {
            if let Post::Ring(ring) = post {
                shared.keep(ring);
            }
        }
    }
}

fn set_connected(shared: &Shared, connected: bool) {
    shared.sends.store(connected, Ordering::Relaxed);
    metrics::gauge!("windlass_redis_connected").set(f64::from(u8::from(connected)));
}

fn keep(shared: &Shared, rings: Vec<Ring>) {
    rings.into_iter().for_each(|ring| shared.keep(ring));
}

struct Outgoing {
    connection: MultiplexedConnection,
    /// Runs that somebody heard of when we last published.
    watched: HashSet<RunId>,
}

/// Posts, sorted by what Redis is told.
#[derive(Default)]
struct Batch {
    asks: bool,
    rings: Vec<Ring>,
    pokes: Vec<(SessionId, Ring)>,
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
                Post::Ring(ring) if rung.insert(ring.run_id) => batch.rings.push(ring),
                Post::Ring(..) => {}
                Post::Poke(session, ring) => batch.pokes.push((session, ring)),
                Post::Events(run_id, events) => batch.tell(&mut places, run_id, Told::Events(events)),
                Post::Progress(run_id, value) => batch.tell(&mut places, run_id, Told::Progress(value)),
                Post::Ping => batch.asks = true,
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
    /// Sends a batch, and gives back the rings that Redis would not take.
    ///
    /// # Errors
    /// When there is no answer; then all rings come back: they may or may not have been heard.
    async fn send(&mut self, batch: Batch) -> Result<Vec<Ring>, (Vec<Ring>, RedisError)> {
        let Batch { asks, rings, pokes, news } = batch;
        if self.watched.len() > WATCHED_MAX {
            self.watched.clear();
        }
        match self.send_parts(asks, &rings, &pokes, news).await {
            Ok(refused) => Ok(rings.into_iter().filter(|ring| refused.contains(&Queue::of(ring))).collect()),
            Err(error) => Err((rings, error)),
        }
    }

    /// Says which of the lists took no rings.
    async fn send_parts(
        &mut self,
        asks: bool,
        rings: &[Ring],
        pokes: &[(SessionId, Ring)],
        news: Vec<(RunId, Vec<Told>)>,
    ) -> RedisResult<Vec<Queue>> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            news.into_iter().partition(|(run_id, _)| self.watched.contains(run_id));
        let mut letter = Letter::default();
        if asks {
            letter.ping();
        }
        letter.ring(rings);
        letter.poke(pokes);
        letter.ask_who_watches(&unknown);
        letter.tell(&known);
        let answers = self.post(letter).await?;
        let watched = match answers.watched {
            Some(counts) => watched_among(counts)?,
            // It would not say: then everybody is told.
            None => unknown.iter().map(|(run_id, _)| *run_id).collect(),
        };
        let news: Vec<_> = unknown.into_iter().filter(|(run_id, _)| watched.contains(run_id)).collect();
        if !news.is_empty() {
            self.watched.extend(watched);
            let mut letter = Letter::default();
            letter.tell(&news);
            self.post(letter).await?;
        }
        Ok(answers.refused)
    }

    async fn post(&mut self, letter: Letter) -> RedisResult<Answers> {
        let Letter { mut pipeline, parts } = letter;
        let mut answers = Answers::default();
        if parts.is_empty() {
            return Ok(answers);
        }
        // One list that is no list, or a Redis that is full, must not keep the rest from being heard.
        pipeline.ignore_errors();
        let answered: Vec<RedisResult<redis::Value>> = pipeline.query_async(&mut self.connection).await?;
        for (part, answer) in parts.into_iter().zip(answered) {
            if let Err(error) = &answer {
                tracing::debug!(%error, "Redis refused");
            }
            match (part, answer) {
                (Part::Rings(queue), Err(_)) => answers.refused.push(queue),
                (Part::WhoWatches, counts) => answers.watched = counts.ok(),
                // Nobody heard: the next time it is asked about again.
                (Part::News(run_id), Ok(redis::Value::Int(0))) => drop(self.watched.remove(&run_id)),
                _ => {}
            }
        }
        Ok(answers)
    }
}

/// Commands, and what each of them is for.
#[derive(Default)]
struct Letter {
    pipeline: redis::Pipeline,
    parts: Vec<Part>,
}

enum Part {
    Ping,
    Rings(Queue),
    Poke,
    WhoWatches,
    News(RunId),
}

#[derive(Default)]
struct Answers {
    refused: Vec<Queue>,
    watched: Option<redis::Value>,
}

impl Letter {
    fn ping(&mut self) {
        self.pipeline.cmd("PING");
        self.parts.push(Part::Ping);
    }

    fn ring(&mut self, rings: &[Ring]) {
        let mut by_queue: Vec<(Queue, Vec<&Ring>)> = Vec::new();
        for ring in rings {
            let queue = Queue::of(ring);
            match by_queue.iter_mut().find(|(it, _)| *it == queue) {
                Some((_, all)) => all.push(ring),
                None => by_queue.push((queue, vec![ring])),
            }
        }
        for (queue, rings) in by_queue {
            self.pipeline.cmd("RPUSH").arg(queue.name());
            for ring in rings {
                self.pipeline.arg(&message::write_ring(ring)[..]);
            }
            self.parts.push(Part::Rings(queue));
        }
    }

    fn poke(&mut self, pokes: &[(SessionId, Ring)]) {
        for (session, ring) in pokes {
            let channel = Channel::Session(*session).name();
            self.pipeline.cmd("PUBLISH").arg(channel).arg(&message::write_ring(ring)[..]);
            self.parts.push(Part::Poke);
        }
    }

    fn ask_who_watches(&mut self, news: &[(RunId, Vec<Told>)]) {
        if !news.is_empty() {
            self.pipeline.cmd("PUBSUB").arg("NUMSUB");
            for (run_id, _) in news {
                self.pipeline.arg(Channel::Run(*run_id).name());
            }
            self.parts.push(Part::WhoWatches);
        }
    }

    fn tell(&mut self, news: &[(RunId, Vec<Told>)]) {
        for (run_id, all) in news {
            for told in all {
                self.pipeline.cmd("PUBLISH").arg(Channel::Run(*run_id).name()).arg(told.write());
                self.parts.push(Part::News(*run_id));
            }
        }
    }
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
    use windlass_model::{Priority, TenantId};

    use super::*;

    fn run_id(n: u128) -> RunId {
        RunId(Uuid::from_u128(n))
    }

    #[test]
    fn a_burst_becomes_one_ring_per_run_and_one_message_per_batch_of_events() {
        let progress = |n: u32| Post::Progress(run_id(1), json!(n));
        let ring = Ring { run_id: run_id(1), tenant: TenantId(1), priority: Priority::Low };
        let batch = Batch::of(
            [
                Post::Ring(ring),
                Post::Events(run_id(1), Vec::new()),
                Post::Events(run_id(2), Vec::new()),
                Post::Events(run_id(1), Vec::new()),
                progress(1),
                progress(2),
                Post::Events(run_id(1), Vec::new()),
                Post::Ring(ring),
            ]
            .into_iter(),
        );
        assert_eq!(batch.rings, [ring]);
        let shape: Vec<_> = batch.news.iter().map(|(id, told)| (*id, told.len())).collect();
        assert_eq!(shape, [(run_id(1), 4), (run_id(2), 1)]);
    }
}
