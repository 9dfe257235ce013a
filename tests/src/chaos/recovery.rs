//! How long a run stands still when its worker has died.

use jiff::{SignedDuration, Timestamp};

use crate::Log;

/// After a time in which nobody could recover, everyone needs a moment to come back.
const GRACE: SignedDuration = SignedDuration::from_secs(3);

/// A worker's session, and when it was killed.
pub(super) struct Death {
    pub(super) session: String,
    pub(super) at: Timestamp,
}

#[derive(Default)]
pub(super) struct Deaths {
    pub(super) died: Vec<Death>,
    /// Without a database, or while somebody stands still that could have helped.
    outages: Vec<(Timestamp, Timestamp)>,
}

/// From the death of a worker until another one goes on with what was in its hands.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    pub count: usize,
    pub median: SignedDuration,
    pub worst: SignedDuration,
}

impl Deaths {
    /// From then until now.
    pub(super) fn nobody_could_recover(&mut self, from: Timestamp) {
        self.outages.push((from, Timestamp::now() + GRACE));
    }

    /// Of runs that were held by somebody who died, as far as nothing else was in the way: neither an outage nor an
    /// heir that is slow for reasons of its own.
    pub(super) fn recovery(&self, logs: &[Log], is_slow: impl Fn(&str) -> bool) -> Option<Recovery> {
        let mut spans = Vec::new();
        for log in logs {
            let mut holder = None;
            for (place, event) in log.0.iter().enumerate().filter(|(_, event)| event.is("run.engine_taken")) {
                let session = event.body["session"].as_str().expect("an engine has a session");
                let before = holder.replace(session);
                let was_in_flight = log.0.get(place + 1).is_some_and(|next| next.is("step.lost"));
                let death = self.died.iter().find(|death| before == Some(death.session.as_str()));
                // Whoever had lost the run before it died is no case for this.
                let Some(death) = death.filter(|death| was_in_flight && death.at <= event.at) else {
                    continue;
                };
                let is_disturbed = self.outages.iter().any(|(from, to)| *from < event.at && *to > death.at);
                if !is_disturbed && !is_slow(session) {
                    spans.push(event.at.duration_since(death.at));
                }
            }
        }
        spans.sort_unstable();
        let worst = *spans.last()?;
        Some(Recovery { count: spans.len(), median: spans[spans.len() / 2], worst })
    }
}
