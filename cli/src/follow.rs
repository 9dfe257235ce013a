//! Stays with a run until it ends: shows its news, passes on what is asked, and heeds Ctrl-C.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use windlass_boot::shutdown::{Signals, exit_code};

use crate::answers::Answers;
use crate::client::{Client, Refusal};
use crate::failure::Exit;
use crate::live::{Live, REDRAW_INTERVAL};
use crate::output::{self, text};
use crate::show_run::sendable;
use crate::watch::News;

/// How soon a person hears what a run below asks, or where a machine has come to a stand.
const GLANCE_INTERVAL: Duration = Duration::from_millis(500);

/// What Ctrl-C means while a run is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ctrl {
    /// The run is canceled; pressed again, this process leaves.
    CancelsRun,
    /// This process stops watching; the run goes on.
    Leaves,
}

pub struct Follow {
    client: Client,
    run_id: String,
    live: Live,
    signals: Signals,
    pub ctrl_c: Ctrl,
    /// Events also go to standard output, one JSON object per line.
    pub prints_events: bool,
    /// Who answers when the run asks; nobody when it is only watched.
    pub answers: Option<Answers>,
    pub after: u32,
    presses: u32,
    /// Runs that this one waits for. What they ask stands in their logs, and not in this one's.
    children: BTreeSet<String>,
    /// The machine has moved since somebody looked where it stands.
    has_moved: bool,
}

impl Follow {
    pub fn new(client: Client, run: &Value, server_flag: String, signals: Signals) -> Self {
        Self {
            client,
            run_id: text(run, "/id"),
            live: Live::new(run, server_flag),
            signals,
            ctrl_c: Ctrl::Leaves,
            prints_events: false,
            answers: None,
            after: 0,
            presses: 0,
            children: BTreeSet::new(),
            has_moved: false,
        }
    }

    /// Returns when the run has ended, or with an exit code when nobody here can bring it to its end.
    pub async fn follow_to_the_end(&mut self) -> Result<Option<Exit>> {
        let mut news = self.client.watch_run(&self.run_id, self.after);
        let mut clock = tokio::time::interval(REDRAW_INTERVAL);
        let mut glance = tokio::time::interval(GLANCE_INTERVAL);
        glance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                next = news.recv() => match next {
                    None => return Ok(None),
                    Some(next) => {
                        let had_moved = self.has_moved;
                        if let Some(exit) = self.take(next?).await? {
                            return Ok(Some(exit));
                        }
                        // What only passes through a state does not stand there.
                        if self.has_moved && !had_moved {
                            glance.reset();
                        }
                    }
                },
                _ = clock.tick() => self.live.tick(),
                _ = glance.tick(), if self.has_moved || !self.children.is_empty() => {
                    self.look_at_machine().await;
                    if !self.children.is_empty()
                        && let Some(answers) = &self.answers
                        && answers.is_asked().await?
                        && let Some(exit) = self.answer().await?
                    {
                        return Ok(Some(exit));
                    }
                }
                signal = self.signals.next() => self.interrupted(signal).await?,
            }
        }
    }

    async fn take(&mut self, news: News) -> Result<Option<Exit>> {
        self.live.take(&news);
        let News::Event(envelope) = news else { return Ok(None) };
        if self.prints_events {
            output::data(&envelope.to_string())?;
        }
        let child = || text(&envelope, "/event/run_id");
        match News::kind(&envelope) {
            "machine.transitioned" => self.has_moved = true,
            "child.started" => drop(self.children.insert(child())),
            "child.finished" => drop(self.children.remove(&child())),
            "approval.requested" | "run.paused" | "run.quarantined" => return self.answer().await,
            _ => {}
        }
        Ok(None)
    }

    /// A machine that has come to a stand says so in no event: it was parked.
    async fn look_at_machine(&mut self) {
        if !self.has_moved {
            return;
        }
        // A server that is away for a moment is asked again; the stream of news says what is to be said about it.
        let Ok(machine) = self.client.get_machine(&self.run_id).await else { return };
        self.has_moved = false;
        let is_idle = |it: &Value| it.get("invoked").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if let Some(machine) = machine.filter(|it| is_idle(it) && sendable(it).next().is_some()) {
            self.live.stands(&machine);
        }
    }

    async fn answer(&mut self) -> Result<Option<Exit>> {
        match &mut self.answers {
            Some(answers) if self.presses == 0 => {
                self.live.hide();
                answers.answer(&mut self.signals).await
            }
            _ => Ok(None),
        }
    }

    async fn interrupted(&mut self, signal: i32) -> Result<()> {
        self.presses += 1;
        if self.ctrl_c == Ctrl::Leaves || self.presses > 1 {
            self.live.hide();
            std::process::exit(exit_code(signal));
        }
        self.live.say("■ canceling the run; press Ctrl-C again to leave at once");
        match self.client.command(&self.run_id, "cancel", &json!({})).await {
            Ok(_) => Ok(()),
            // It ended, or was canceled, in the same moment.
            Err(error) if error.downcast_ref::<Refusal>().is_some_and(|it| it.exit() == Exit::Conflict) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
