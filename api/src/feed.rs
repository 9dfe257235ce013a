//! One run's events as they happen: from the log first, then hot, and from the log again after any gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use windlass_bus::{News, Subscription};
use windlass_model::{Event, EventSeq, Plan, RunId, TenantId, planted, present};

use crate::app::{Shared, promptly};
use crate::problem::{Code, Problem, Result};

/// Events read from the log at once.
const LOG_PAGE: u32 = 200;
/// Hot news may be lost without a trace; the log is looked at this often anyway.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// While the database is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Then the stream ends, and the client comes back when it likes.
const FAILURES_MAX: u32 = 20;

/// What watchers get.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Event {
        seq: EventSeq,
        envelope: String,
    },
    /// Not history: has no seq and is never sent again.
    Progress(Arc<Value>),
}

/// A run's events after some seq, each once, in order.
pub(crate) struct Feed {
    app: Shared,
    tenant: TenantId,
    run_id: RunId,
    plan: Arc<Plan>,
    /// None when the run had ended before.
    news: Option<Subscription>,
    /// The last seq that was given out.
    sent: EventSeq,
    page: VecDeque<Event>,
    /// The log may hold more than was read.
    behind: bool,
    ended: bool,
    look_at: Instant,
    failures: u32,
}

impl Feed {
    /// Opens a run's events after `after`. None when the run has ended and everything was seen.
    pub(crate) async fn open(
        app: Shared,
        tenant: TenantId,
        run_id: RunId,
        after: EventSeq,
    ) -> Result<Option<Self>> {
        let row = app.get_run(tenant, run_id).await?;
        let last = row.next_seq.0.saturating_sub(1);
        if after.0 > last {
            return Err(event_id_ahead(after, last));
        }
        let has_ended = row.status.is_terminal();
        if has_ended && after.0 == last {
            return Ok(None);
        }
        let plan = app.plans.get(row.version_id).await?;
        // Before the log is read: what is committed in between is in the log, in the news, or in both.
        let news = if has_ended { None } else { Some(app.bus.subscribe(run_id).await) };
        Ok(Some(Self {
            app,
            tenant,
            run_id,
            plan,
            news,
            sent: after,
            page: VecDeque::new(),
            behind: true,
            ended: false,
            look_at: Instant::now() + LOOK_EVERY,
            failures: 0,
        }))
    }

    /// The next frame; none after the run's last event. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        while !self.ended {
            if let Some(event) = self.page.pop_front() {
                return Some(self.pass_on(&event));
            }
            if self.behind {
                self.read_log().await;
            } else if let Some(frame) = self.listen().await {
                return Some(frame);
            }
        }
        None
    }

    async fn read_log(&mut self) {
        match promptly(self.app.store.read_events(self.tenant, self.run_id, self.sent, LOG_PAGE)).await {
            Ok(Ok(Some(events))) => {
                self.behind = events.len() == LOG_PAGE as usize;
                self.page = events.into();
                self.failures = 0;
                // An ended run has nothing more to say.
                self.ended = self.page.is_empty() && self.news.is_none();
            }
            Ok(Ok(None)) => self.ended = true,
            Ok(Err(_)) | Err(_) => {
                self.failures += 1;
                self.ended = self.failures > FAILURES_MAX;
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Waits for news. None when they give nothing to pass on.
    async fn listen(&mut self) -> Option<Frame> {
        let Some(news) = &mut self.news else {
            self.behind = true;
            return None;
        };
        match tokio::time::timeout_at(self.look_at, news.recv()).await {
            Ok(Ok(News::Event(event))) if event.seq <= self.sent && !planted("stream_repeats") => None,
            Ok(Ok(News::Event(event)))
                if event.seq == self.sent.next()
                    || planted("stream_repeats")
                    || planted("stream_skips_gaps") =>
            {
                Some(self.pass_on(&event))
            }
            Ok(Ok(News::Progress(progress))) => Some(Frame::Progress(progress)),
            Ok(Ok(News::Event(_) | News::Missed) | Err(RecvError::Lagged(_))) => {
                self.behind = true;
                None
            }
            Ok(Err(RecvError::Closed)) => {
                self.news = Some(self.app.bus.subscribe(self.run_id).await);
                self.behind = true;
                None
            }
            Err(_) => {
                self.look_at = Instant::now() + LOOK_EVERY;
                self.behind = !planted("stream_trusts_the_wire");
                None
            }
        }
    }

    fn pass_on(&mut self, event: &Event) -> Frame {
        self.sent = event.seq;
        self.ended = event.body.is_terminal();
        let envelope = present::envelope(&self.plan, self.run_id, event).to_string();
        Frame::Event { seq: event.seq, envelope }
    }
}

fn event_id_ahead(after: EventSeq, last: u32) -> Problem {
    Problem::new(
        Code::EventIdAhead,
        format!("The last event of this run is {last}; {after} does not exist yet."),
    )
}

/// Reads an event id: the number of an event, or 0 for the beginning.
pub(crate) fn read_event_id(text: &str) -> Result<EventSeq> {
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().map(EventSeq).ok_or_else(|| {
        let shown: String = text.chars().take(32).collect();
        Problem::new(
            Code::InvalidCursor,
            format!("{shown:?} is not an event id; it must be a whole number below 2^32."),
        )
    })
}
