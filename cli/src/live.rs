//! The live view of a run: a line per step as it ends, and below them what runs right now.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::Value;
use unicode_width::UnicodeWidthStr;
use windlass_model::Timestamp;

use crate::output::{Style, clean, shorten, text};
use crate::show_run::{sendable, states};
use crate::watch::News;

/// How often the lower part is drawn anew on a terminal.
pub const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Steps that are shown side by side; further ones are counted.
const ACTIVE_SHOWN_MAX: usize = 12;
/// Lines of one step's log that are shown; the log is kept as an artifact anyway.
const LOG_LINES_SHOWN_MAX: u32 = 200;
const SPINNER: &[&str] = &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// A longer name of a step is cut in the view.
const NODE_WIDTH_MAX: usize = 32;
/// Assumed when a terminal does not tell its width.
const WIDTH_DEFAULT: usize = 100;

/// Draws to standard error. On a terminal the active steps are redrawn in place; elsewhere lines only follow.
pub struct Live {
    kinds: BTreeMap<String, String>,
    node_width: usize,
    kind_width: usize,
    steps: BTreeMap<String, Step>,
    screen: Option<Screen>,
    style: Style,
    /// Where signals and approvals can be sent, for the lines that say what is waited for.
    pub run_id: String,
    pub server_flag: String,
}

#[derive(Default)]
struct Step {
    attempt: u64,
    started_at: Option<Timestamp>,
    /// When this process learned that it runs: for the seconds that tick on the screen.
    seen_at: Option<Instant>,
    waiting: Option<String>,
    log_lines: u32,
}

/// The part of the terminal that is drawn again and again.
#[derive(Default)]
struct Screen {
    lines: usize,
    turn: usize,
}

impl Live {
    /// A view of the run as `GET /v1/workflow-runs/{id}` describes it.
    pub fn new(run: &Value, server_flag: String) -> Self {
        let kinds: BTreeMap<String, String> = run
            .get("steps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|step| (text(step, "/node"), text(step, "/kind")))
            .collect();
        let is_terminal = std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        Self {
            node_width: kinds.keys().map(|node| node.width()).max().unwrap_or(0).min(NODE_WIDTH_MAX),
            kind_width: kinds.values().map(|kind| kind.width()).max().unwrap_or(0),
            kinds,
            steps: BTreeMap::new(),
            screen: is_terminal.then(Screen::default),
            style: Style::stderr(),
            run_id: text(run, "/id"),
            server_flag,
        }
    }

    pub fn take(&mut self, news: &News) {
        match news {
            News::Event(envelope) => self.event(envelope),
            News::Progress(message) => self.progress(message),
            News::Lost(why) => {
                let line =
                    self.style.dim(&format!("  the connection is lost ({}); trying again", clean(why)));
                self.print(&[line]);
            }
        }
    }

    /// Time has passed: the spinner turns and the seconds tick.
    pub fn tick(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.turn += 1;
            self.print(&[]);
        }
    }

    /// Takes the lower part off the screen, so that something else can be written.
    pub fn hide(&mut self) {
        if let Some(screen) = &mut self.screen {
            let clear = screen.clear();
            let mut out = std::io::stderr().lock();
            let _ = out.write_all(clear.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// Writes a line above what is drawn.
    pub fn say(&mut self, line: &str) {
        self.print(&[line.to_owned()]);
    }

    /// Where a machine stands that does nothing by itself, and how each event is sent that it has a way for.
    pub fn stands(&mut self, machine: &Value) {
        let states = states(machine);
        let (id, server) = (self.run_id.clone(), self.server_flag.clone());
        let mut lines = vec![format!("◆ {}", self.style.bold(&clean(&states)))];
        for event in sendable(machine) {
            let name = text(event, "/name");
            let wants_payload = event.pointer("/schema/required").is_some();
            let payload = if wants_payload { " --payload JSON" } else { "" };
            let what = format!("    waits for `{name}`: windlass runs signal {id} {name}{payload}{server}");
            lines.push(clean(&what).into_owned());
        }
        self.print(&lines);
    }

    // ---- what happened -------------------------------------------------------------------------

    fn event(&mut self, envelope: &Value) {
        let kind = News::kind(envelope).to_owned();
        let event = &envelope["event"];
        let at = text(envelope, "/at").parse().ok();
        let mut node = text(event, "/node");
        if node.is_empty() {
            return self.run_event(&kind, event);
        }
        if let Some(item) = event.get("item") {
            node = format!("{node}[{item}]");
        }
        let attempt = event.get("attempt").and_then(Value::as_u64).unwrap_or(0);
        // What undoes a step goes the same way as any other.
        let kind = kind.strip_prefix("compensation.").map_or(kind.clone(), |verb| format!("step.{verb}"));
        match kind.as_str() {
            "step.started" => self.begins(&node, attempt, at),
            "step.waiting" => self.waits(&node, attempt, at, &self.what_for(event)),
            "child.started" => {
                let what = format!("run {} of {}", text(event, "/run_id"), text(event, "/workflow"));
                self.waits(&node, attempt, at, &what);
            }
            "child.cancel_requested" => self.remark(&node, "its run is asked to stop"),
            "approval.requested" => self.waits(&node, attempt, at, "an approval"),
            "approval.granted" => self.decided(&node, event, "approved"),
            "approval.rejected" => self.decided(&node, event, "rejected"),
            "approval.expired" => self.remark(&node, "nobody decided in time"),
            "step.retry_scheduled" => self.retries(&node, event, at),
            "step.succeeded" => self.ends(&node, "✓", "succeeded", at, None),
            "step.failed" => self.ends(&node, "✗", "failed", at, Some(error_text(event))),
            "step.timed_out" => self.ends(&node, "✗", "timed_out", at, Some(error_text(event))),
            "step.canceled" => self.ends(&node, "■", "canceled", at, None),
            "step.lost" => self.ends(&node, "✗", "lost", at, Some(lost_text(event))),
            "step.skipped" => {
                let why = format!("reason: {}", text(event, "/reason"));
                self.ends(&node, "↷", "skipped", at, Some(why));
            }
            // A loop finds its rounds one by one, and each is shown itself.
            "items.planned" if self.kinds.get(&node).is_some_and(|kind| kind == "map") => {
                let count = event.get("count").and_then(Value::as_u64).unwrap_or(0);
                self.waits(&node, attempt, at, &format!("its items, {count} of them"));
            }
            "step.paused" => self.remark(&node, "waits for a person to decide"),
            "error.routed" => {
                let (action, rule) = (text(event, "/action"), text(event, "/rule"));
                self.remark(&node, &format!("{action}, as {rule} says"));
            }
            _ => {}
        }
    }

    fn run_event(&mut self, kind: &str, event: &Value) {
        let reason = text(event, "/reason");
        let line = match kind {
            "run.paused" | "run.quarantined" => {
                let reason = if reason.is_empty() { "quarantined" } else { &reason };
                format!("‖ {} run  reason: {}", self.style.status("paused"), clean(reason))
            }
            "run.resumed" => "▸ run resumed".to_owned(),
            "compensation.planned" => {
                let steps = event.get("steps").and_then(Value::as_array).into_iter().flatten();
                let steps: Vec<&str> = steps.filter_map(Value::as_str).collect();
                format!("↶ {} run: {}", self.style.status("compensating"), clean(&steps.join(", ")))
            }
            "run.cancel_requested" => format!("■ {} run", self.style.status("canceling")),
            "signal.received" => format!("▸ signal `{}` received", clean(&text(event, "/name"))),
            _ => return,
        };
        self.print(&[line]);
    }

    fn begins(&mut self, node: &str, attempt: u64, at: Option<Timestamp>) {
        let step = self.steps.entry(node.to_owned()).or_default();
        *step = Step { attempt, started_at: at, seen_at: Some(Instant::now()), ..Step::default() };
        match self.screen {
            Some(_) => self.print(&[]),
            None => self.step_line(node, "▸", "running", None),
        }
    }

    fn waits(&mut self, node: &str, attempt: u64, at: Option<Timestamp>, what: &str) {
        let step = self.steps.entry(node.to_owned()).or_default();
        step.attempt = attempt;
        step.started_at = at;
        step.waiting = Some(what.to_owned());
        self.step_line(node, "…", "waiting", Some(format!("for {what}")));
    }

    fn what_for(&self, event: &Value) -> String {
        let until = text(event, "/until");
        let until = if until.is_empty() { until } else { format!(" until {}", short_time(&until)) };
        match event.get("on").and_then(Value::as_str) {
            Some("signal") => {
                let name = text(event, "/name");
                let (id, server) = (&self.run_id, &self.server_flag);
                format!("signal `{name}`{until}: windlass runs signal {id} {name}{server}")
            }
            _ => format!("its time{until}"),
        }
    }

    fn retries(&mut self, node: &str, event: &Value, now: Option<Timestamp>) {
        let at: Option<Timestamp> = text(event, "/at").parse().ok();
        let delay = now.zip(at).map_or(Duration::ZERO, |(now, at)| now.until(at));
        let step = self.steps.entry(node.to_owned()).or_default();
        step.waiting = Some("its next attempt".to_owned());
        self.step_line(node, "↻", "waiting", Some(format!("next attempt in {}", seconds(delay))));
    }

    fn decided(&mut self, node: &str, event: &Value, verb: &str) {
        let comment = text(event, "/comment");
        let comment = if comment.is_empty() { comment } else { format!(": {comment}") };
        self.remark(node, &format!("{verb} by {}{comment}", text(event, "/actor/id")));
    }

    fn ends(&mut self, node: &str, mark: &str, status: &str, at: Option<Timestamp>, why: Option<String>) {
        let step = self.steps.remove(node).unwrap_or_default();
        let took = step.started_at.zip(at).map(|(started, ended)| seconds(started.until(ended)));
        let tries = (step.attempt > 1).then(|| format!("attempt {}", step.attempt));
        let details: Vec<String> = took.into_iter().chain(tries).chain(why).collect();
        self.step_line(node, mark, status, (!details.is_empty()).then(|| details.join("  ")));
    }

    fn progress(&mut self, message: &Value) {
        let node = text(message, "/node");
        let progress = message.get("progress").unwrap_or(&Value::Null);
        let line = match progress.get("line").and_then(Value::as_str) {
            Some(line) => line.to_owned(),
            None => progress.to_string(),
        };
        let step = self.steps.entry(node.clone()).or_default();
        step.log_lines += 1;
        match step.log_lines {
            shown if shown <= LOG_LINES_SHOWN_MAX => self.remark(&node, &line),
            shown if shown == LOG_LINES_SHOWN_MAX + 1 => {
                self.remark(&node, "… more lines are in the step's log")
            }
            _ => {}
        }
    }

    // ---- how it looks --------------------------------------------------------------------------

    fn step_line(&mut self, node: &str, mark: &str, status: &str, details: Option<String>) {
        let details = details.map(|details| format!("  {}", clean(&details))).unwrap_or_default();
        let status = pad(&self.style.status(status), status.width(), "succeeded".len());
        self.print(&[format!("{mark} {}  {status}{details}", self.name(node)).trim_end().to_owned()]);
    }

    /// Something that was said about a step, below its name.
    fn remark(&mut self, node: &str, remark: &str) {
        let several = self.steps.len() > 1;
        let whose = if several { format!("{} ", clean(node)) } else { String::new() };
        let line = self.style.dim(&format!("    {whose}│ {}", clean(remark)));
        self.print(&[line]);
    }

    fn name(&self, node: &str) -> String {
        let kind = self.kinds.get(node).map_or("", String::as_str);
        let shown = shorten(&clean(node), NODE_WIDTH_MAX);
        let name = pad(&self.style.bold(&shown), shown.width(), self.node_width);
        format!("{name}  {}", pad(&self.style.dim(kind), kind.width(), self.kind_width))
    }

    fn active_lines(&self, turn: usize) -> Vec<String> {
        let width = terminal_size::terminal_size_of(std::io::stderr())
            .map_or(WIDTH_DEFAULT, |(width, _)| usize::from(width.0));
        let running: Vec<_> = self.steps.iter().filter(|(_, step)| step.waiting.is_none()).collect();
        let mut lines: Vec<String> = running
            .iter()
            .take(ACTIVE_SHOWN_MAX)
            .map(|(node, step)| {
                let elapsed = step.seen_at.map_or(Duration::ZERO, |seen_at| seen_at.elapsed());
                let tries =
                    if step.attempt > 1 { format!("  attempt {}", step.attempt) } else { String::new() };
                let spinner = SPINNER[turn % SPINNER.len()];
                let kind = self.kinds.get(*node).map_or("", String::as_str);
                let name = shorten(&clean(node), NODE_WIDTH_MAX);
                let name = pad(&name, name.width(), self.node_width);
                let kind = pad(kind, kind.width(), self.kind_width);
                // A line that wraps would be counted as one and leave a trace.
                shorten(
                    &format!("{spinner} {name}  {kind}  running    {}{tries}", seconds(elapsed)),
                    width.max(20) - 1,
                )
            })
            .collect();
        if running.len() > ACTIVE_SHOWN_MAX {
            lines.push(format!("  and {} more", running.len() - ACTIVE_SHOWN_MAX));
        }
        lines
    }

    /// Writes lines that stay, then draws what runs below them.
    fn print(&mut self, lines: &[String]) {
        let active = self.screen.as_ref().map(|screen| self.active_lines(screen.turn)).unwrap_or_default();
        let mut frame = self.screen.as_mut().map(Screen::clear).unwrap_or_default();
        for line in lines.iter().chain(&active) {
            frame.push_str(line);
            frame.push('\n');
        }
        if let Some(screen) = &mut self.screen {
            screen.lines = active.len();
        }
        if !frame.is_empty() {
            let mut out = std::io::stderr().lock();
            let _ = out.write_all(frame.as_bytes()).and_then(|()| out.flush());
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.hide();
    }
}

impl Screen {
    fn clear(&mut self) -> String {
        match std::mem::take(&mut self.lines) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }
}

fn pad(painted: &str, width: usize, wanted: usize) -> String {
    format!("{painted}{}", " ".repeat(wanted.saturating_sub(width)))
}

/// `0.31 s`, `12.4 s`, `3 min 20 s`
pub fn seconds(span: Duration) -> String {
    match span.as_secs() {
        0..10 => format!("{:.2} s", span.as_secs_f64()),
        10..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{} min {} s", span.as_secs() / 60, span.as_secs() % 60),
        hours => format!("{} h {} min", hours / 3600, hours % 3600 / 60),
    }
}

fn short_time(text: &str) -> String {
    text.get(..19).map_or_else(|| text.to_owned(), |it| format!("{}Z", it.replace('T', " ")))
}

fn error_text(event: &Value) -> String {
    let message = text(event, "/error/message");
    let follows = match event.pointer("/then/do").and_then(Value::as_str) {
        Some("continue") => "  (the run goes on)",
        Some("fail") => "  (the run fails)",
        _ => "",
    };
    format!("{}: {message}{follows}", text(event, "/error/type"))
}

fn lost_text(event: &Value) -> String {
    let retry = event.get("retry").and_then(Value::as_bool).unwrap_or(false);
    let follows = if retry { "it is repeated" } else { "a person decides" };
    format!("its engine stopped, so its outcome is unknown; {follows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_people_read_them() {
        let spans = [(0.314, "0.31 s"), (12.44, "12.4 s"), (200.0, "3 min 20 s"), (7260.0, "2 h 1 min")];
        for (span, written) in spans {
            assert_eq!(seconds(Duration::from_secs_f64(span)), written);
        }
    }
}
