//! What travels through Redis: names of lists and channels, ids as 16 bytes, news as text.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;
use windlass_model::{
    Actor, Attempt, Epoch, Event, EventBody, EventSeq, NodeIndex, Priority, Ring, RunId, SessionId, TenantId,
    Timestamp,
};

use crate::News;

/// Begins the channel of a run; its id follows.
const RUN: &str = "windlass:r:";
/// Begins the channel of a worker's session; its id follows.
const SESSION: &str = "windlass:s:";

/// Begins a message of committed events.
const EVENTS: char = 'e';
/// Begins a message of progress.
const PROGRESS: char = 'p';

/// Lists of each priority. Tenants that share one wait in one line; all others take turns. Redis looks at three times
/// as many lists for each batch of rings, which costs it some microseconds.
const SHARES: u16 = 16;

/// A list in which runs wait for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    priority: Priority,
    share: u16,
}

impl Queue {
    pub(super) fn of(ring: &Ring) -> Self {
        let share = ring.tenant.0.rem_euclid(i32::from(SHARES)) as u16;
        Self { priority: ring.priority, share }
    }

    /// All of them, in the order in which they are looked through in this turn.
    pub(super) fn in_turn(turn: u64) -> impl Iterator<Item = Self> {
        let first = (turn % u64::from(SHARES)) as u16;
        // Turns of the priorities come after a whole round of the shares, so that each pair meets.
        let order = Priority::order_of_turn(turn / u64::from(SHARES) + turn);
        order.into_iter().flat_map(move |priority| {
            (0..SHARES).map(move |n| Self { priority, share: (first + n) % SHARES })
        })
    }

    pub(super) fn name(self) -> String {
        format!("windlass:q:{}:{}", self.priority.as_str(), self.share)
    }
}

/// A channel that somebody listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    Run(RunId),
    Session(SessionId),
}

impl Channel {
    pub(super) fn name(self) -> String {
        match self {
            Self::Run(run_id) => format!("{RUN}{}", run_id.0.simple()),
            Self::Session(session) => format!("{SESSION}{}", session.0.simple()),
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some(id) = name.strip_prefix(RUN) {
            return id.parse().map(Self::Run).ok();
        }
        name.strip_prefix(SESSION)?.parse().map(Self::Session).ok()
    }
}

const RUN_ID_BYTES: usize = 16;
const RING_BYTES: usize = RUN_ID_BYTES + 4 + 1;

/// Run, tenant, priority.
pub(super) fn write_ring(ring: &Ring) -> [u8; RING_BYTES] {
    let mut bytes = [0; RING_BYTES];
    bytes[..RUN_ID_BYTES].copy_from_slice(ring.run_id.0.as_bytes());
    bytes[RUN_ID_BYTES..RING_BYTES - 1].copy_from_slice(&ring.tenant.0.to_be_bytes());
    bytes[RING_BYTES - 1] = ring.priority.rank() as u8;
    bytes
}

/// None for garbage: anybody may write to a Redis.
pub(super) fn read_ring(bytes: &[u8]) -> Option<Ring> {
    let bytes: &[u8; RING_BYTES] = bytes.try_into().ok()?;
    let (run_id, rest) = bytes.split_first_chunk::<RUN_ID_BYTES>()?;
    let (tenant, rest) = rest.split_first_chunk::<4>()?;
    Some(Ring {
        run_id: RunId(Uuid::from_bytes(*run_id)),
        tenant: TenantId(i32::from_be_bytes(*tenant)),
        priority: Priority::from_rank(rest[0].into()),
    })
}

/// Events as rows keep them: `e[[seq,at,code,node,item,attempt,epoch,actor,data],…]`.
pub(super) fn write_events(events: &[Event]) -> String {
    let mut text = String::with_capacity(events.len() * 128);
    text.push(EVENTS);
    for (n, event) in events.iter().enumerate() {
        text.push(if n == 0 { '[' } else { ',' });
        write_event(event, &mut text).expect("a String takes everything");
    }
    text.push(']');
    text
}

fn write_event(event: &Event, text: &mut String) -> std::fmt::Result {
    let optional = |number: Option<u32>| number.map_or_else(|| "null".to_owned(), |it| it.to_string());
    let node = optional(event.node.map(|node| node.0.into()));
    let attempt = optional(event.attempt.map(u32::from));
    let (item, epoch) = (optional(event.item), optional(event.epoch.map(|epoch| epoch.0)));
    let actor = event
        .actor
        .as_ref()
        .map_or_else(|| "null".to_owned(), |actor| Value::from(actor.to_string()).to_string());
    let (seq, at, code, data) = (event.seq, event.at.0, event.body.code(), event.body.data());
    write!(text, "[{seq},{at},{code},{node},{item},{attempt},{epoch},{actor},{data}]")
}

pub(super) fn write_progress(progress: &Value) -> String {
    format!("{PROGRESS}{progress}")
}

#[derive(Deserialize)]
struct Received<'a>(
    u32,
    i64,
    i16,
    Option<u16>,
    Option<u32>,
    Option<Attempt>,
    Option<u32>,
    Option<String>,
    #[serde(borrow)] &'a RawValue,
);

/// What a message says. [`News::Missed`] when it cannot be understood: a newer Windlass may have sent it.
pub(super) fn read_news(message: &[u8]) -> Vec<News> {
    let news = match std::str::from_utf8(message).unwrap_or_default() {
        text if text.starts_with(EVENTS) => read_events(&text[1..]),
        text if text.starts_with(PROGRESS) => {
            serde_json::from_str(&text[1..]).ok().map(|progress| vec![News::Progress(Arc::new(progress))])
        }
        _ => None,
    };
    news.unwrap_or_else(|| vec![News::Missed])
}

fn read_events(text: &str) -> Option<Vec<News>> {
    let received: Vec<Received<'_>> = serde_json::from_str(text).ok()?;
    received.into_iter().map(|it| Some(News::Event(Arc::new(read_event(it)?)))).collect()
}

fn read_event(received: Received<'_>) -> Option<Event> {
    let Received(seq, at, code, node, item, attempt, epoch, actor, data) = received;
    Some(Event {
        seq: EventSeq(seq),
        at: Timestamp(at),
        node: node.map(NodeIndex),
        item,
        attempt,
        epoch: epoch.map(Epoch),
        actor: actor.as_deref().map(Actor::from),
        body: EventBody::from_stored(code, data.get()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use windlass_model::Payload;
    use windlass_model::event::{RunResumed, StepSucceeded};

    use super::*;

    fn event(seq: u32, body: impl Into<EventBody>) -> Event {
        Event {
            seq: EventSeq(seq),
            at: Timestamp(1_700_000_000_000_000),
            node: None,
            item: None,
            attempt: None,
            epoch: None,
            actor: None,
            body: body.into(),
        }
    }

    fn as_events(news: Vec<News>) -> Vec<Event> {
        let as_event = |news| match news {
            News::Event(event) => (*event).clone(),
            other => panic!("{other:?} is no event"),
        };
        news.into_iter().map(as_event).collect()
    }

    #[test]
    fn events_arrive_as_they_were_sent() {
        let output = Payload::new(json!({"text": "quotes \" and \u{1F980} and \n", "n": 1.5}));
        let mut first = event(7, StepSucceeded { output, artifacts: Vec::new() });
        (first.node, first.attempt, first.epoch) = (Some(NodeIndex(3)), Some(2), Some(Epoch(9)));
        (first.item, first.actor) = (Some(4), Some(Actor::user("ada \"the\" first")));
        let events = vec![first, event(8, RunResumed {})];
        assert_eq!(as_events(read_news(write_events(&events).as_bytes())), events);
    }

    #[test]
    fn progress_arrives_as_it_was_sent() {
        let progress = json!({"line": "é\n", "done": 3});
        let news = read_news(write_progress(&progress).as_bytes());
        assert!(matches!(&news[..], [News::Progress(it)] if **it == progress), "{news:?}");
    }

    #[test]
    fn what_cannot_be_understood_counts_as_missed() {
        let newer = format!("{EVENTS}[[1,0,9999,null,null,null,null,null,{{}}]]");
        for message in ["", "e", "e{}", "x[]", "p{", newer.as_str(), "e[[1,0,4]]"] {
            let news = read_news(message.as_bytes());
            assert!(matches!(&news[..], [News::Missed]), "{message}: {news:?}");
        }
        assert!(matches!(&read_news(&[0xff, 0xfe])[..], [News::Missed]));
    }

    #[test]
    fn channels_are_known_by_their_names() {
        let id = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00ff);
        for channel in [Channel::Run(RunId(id)), Channel::Session(SessionId(id))] {
            assert_eq!(Channel::parse(&channel.name()), Some(channel));
        }
        for garbage in ["windlass:r:short", "other", "windlass:s:", "?", ""] {
            assert_eq!(Channel::parse(garbage), None);
        }
    }
}
