//! Answers what a run asks: approvals, and steps that failed for good.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use windlass_boot::shutdown::Signals;

use crate::client::{Client, Identity, Refusal};
use crate::failure::{Exit, Failure};
use crate::output::{Style, clean, note, text, yaml};
use crate::prompt::{Person, Reply};
use crate::show_run::step_label;

/// More of what is shown would push the question off the screen.
const SHOWN_LINES_MAX: usize = 60;
/// Runs that are asked whether they ask: those further down have their turn when others have ended.
const RUNS_LOOKED_AT_MAX: usize = 100;

/// Where somebody else, or the same person later, can bring a run on.
#[derive(Clone, Debug)]
pub enum HowToGoOn {
    /// The run lives on a server, given by this value of `--server`.
    OnServer(Option<String>),
    /// This process ends, but the run stays in a file.
    InFile { file: PathBuf, server: String },
    /// The run is gone with this process.
    Gone { server: String },
}

impl HowToGoOn {
    /// What other commands need to reach the run while it goes on, such as ` --server http://…`.
    pub fn server_flag(&self) -> String {
        match self {
            Self::OnServer(None) => String::new(),
            Self::OnServer(Some(server)) | Self::InFile { server, .. } | Self::Gone { server } => {
                format!(" --server {server}")
            }
        }
    }

    /// The run belongs to this process alone: nobody else can be asked, and names prove nothing.
    fn is_ours(&self) -> bool {
        !matches!(self, Self::OnServer(_))
    }

    /// `command` is what would move the run, such as `approve ID NODE`.
    fn hint(&self, command: &str) -> String {
        match self {
            Self::OnServer(_) => format!("go on with: windlass runs {command}{}", self.server_flag()),
            Self::InFile { file, .. } => format!(
                "the run is kept: start `windlass dev --db {}`, then: windlass runs {command}",
                file.display()
            ),
            Self::Gone { .. } => {
                "run it again on a terminal to be asked, or with --db FILE to keep it for later".to_owned()
            }
        }
    }
}

/// How soon a person hears that what they are asked has ended without them.
const GATE_GLANCE_INTERVAL: Duration = Duration::from_millis(500);

/// A run, a node of it, and an attempt.
type Gate = (String, String, u64);

/// Answers for the person, or asks them.
pub struct Answers {
    client: Client,
    run_id: String,
    /// The run that asks: that one, or one that it has started.
    asking: String,
    yes: bool,
    how: HowToGoOn,
    person: Option<Person>,
    /// Gates whose answer was refused: asking again would not help.
    given_up: BTreeSet<Gate>,
    shown: BTreeSet<Gate>,
    style: Style,
}

impl Answers {
    pub fn new(client: Client, run_id: String, yes: bool, how: HowToGoOn) -> Self {
        Self {
            client,
            asking: run_id.clone(),
            run_id,
            yes,
            how,
            person: Person::at_terminal(),
            given_up: BTreeSet::new(),
            shown: BTreeSet::new(),
            style: Style::stderr(),
        }
    }

    /// Answers whatever the run asks now, or one that it has started. An exit code when nobody here can.
    pub async fn answer(&mut self, signals: &mut Signals) -> Result<Option<Exit>> {
        while let Some(run) = self.who_asks().await? {
            self.asking = text(&run, "/id");
            if let Some(step) = self.open_gate(&run) {
                if let Some(exit) = self.at_gate(&run, step, signals).await? {
                    return Ok(Some(exit));
                }
            } else if let Next::GoOn = self.at_pause(&run, signals).await? {
                break;
            }
        }
        Ok(None)
    }

    pub async fn is_asked(&self) -> Result<bool> {
        Ok(self.who_asks().await?.is_some())
    }

    /// The run, or one below it that a step waits for, with a gate or a pause.
    async fn who_asks(&self) -> Result<Option<Value>> {
        let mut open = VecDeque::from([self.run_id.clone()]);
        let mut looked_at = 0;
        while let Some(id) = open.pop_front().filter(|_| looked_at < RUNS_LOOKED_AT_MAX) {
            looked_at += 1;
            let run = self.client.get_run(&id, None).await?;
            if self.open_gate(&run).is_some() || text(&run, "/status") == "paused" {
                return Ok(Some(run));
            }
            let children = steps(&run).filter(|step| text(step, "/waiting_on/on") == "child");
            open.extend(children.map(|step| text(step, "/waiting_on/run_id")));
        }
        Ok(None)
    }

    // ---- approvals -----------------------------------------------------------------------------

    fn open_gate<'a>(&self, run: &'a Value) -> Option<&'a Value> {
        steps(run).find(|step| match step.pointer("/waiting_on/gate") {
            Some(gate) => !self.given_up.contains(&gate_of(&text(run, "/id"), &text(step, "/node"), gate)),
            None => false,
        })
    }

    async fn at_gate(&mut self, run: &Value, step: &Value, signals: &mut Signals) -> Result<Option<Exit>> {
        let node = text(step, "/node");
        let gate = step["waiting_on"]["gate"].clone();
        // With --yes and several approvers it comes by more than once.
        if self.shown.insert(gate_of(&self.asking, &node, &gate)) || !self.yes {
            note(&format!("? {}{} waits for an approval", self.style.bold(&clean(&node)), self.whose(run)));
            self.show_gate(&gate);
        }
        if self.yes {
            self.decide(&node, &gate, "approve", None).await?;
            return Ok(None);
        }
        let Some(person) = &mut self.person else {
            return Err(Failure::usage(format!(
                "step `{node}` waits for an approval, and there is no terminal to ask at"
            ))
            .hint(format!(
                "--yes approves without asking\n{}",
                self.how.hint(&format!("approve {} {node}", self.asking))
            ))
            .into());
        };
        let chosen = tokio::select! {
            chosen = person.choose("  approve? [y]es, [n]o:", &['y', 'n'], signals) => chosen,
            () = gate_ends(&self.client, &self.asking, &node, attempt(&gate)) => {
                note("\n  nobody is asked any more: this approval has ended");
                return Ok(None);
            }
        };
        let verb = match chosen {
            Some('y') => "approve",
            Some(_) => "reject",
            None => return self.cancel().await,
        };
        let comment = match person.ask("  comment (may be empty):", signals).await {
            Reply::Line(comment) => Some(comment).filter(|comment| !comment.is_empty()),
            Reply::Gone => return self.cancel().await,
        };
        self.decide_with_form(&node, &gate, verb, comment, signals).await?;
        Ok(None)
    }

    /// Said of a run that somebody else than the person has started.
    fn whose(&self, run: &Value) -> String {
        match self.asking == self.run_id {
            true => String::new(),
            false => format!(" of run {} of {}", self.asking, clean(&text(run, "/workflow"))),
        }
    }

    fn show_gate(&self, gate: &Value) {
        if let Some(show) = gate.get("show").filter(|show| !show.is_null()) {
            let shown = yaml(show).unwrap_or_else(|_| show.to_string());
            for line in shown.lines().take(SHOWN_LINES_MAX) {
                note(&format!("    {}", clean(line)));
            }
            if shown.lines().count() > SHOWN_LINES_MAX {
                let rest = shown.lines().count() - SHOWN_LINES_MAX;
                note(&self.style.dim(&format!("    … and {rest} more lines")));
            }
        }
        let list = |key: &str| {
            let items = gate.get(key).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        };
        let (may, granted) = (list("any_of"), list("granted_by"));
        if !may.is_empty() {
            note(&self.style.dim(&format!("    may approve: {}", clean(&may))));
        }
        if !granted.is_empty() {
            let min = gate.get("min").and_then(Value::as_u64).unwrap_or(1);
            note(&self.style.dim(&format!("    approved by {} so far, of {min} people", clean(&granted))));
        }
        let expires_at = text(gate, "/expires_at");
        if !expires_at.is_empty() {
            note(&self.style.dim(&format!("    until {expires_at}")));
        }
    }

    async fn decide_with_form(
        &mut self,
        node: &str,
        gate: &Value,
        verb: &str,
        comment: Option<String>,
        signals: &mut Signals,
    ) -> Result<()> {
        let mut form = None;
        loop {
            let body = verdict(node, gate, comment.as_deref(), form.as_ref());
            let Err(error) = self.as_somebody(gate).command(&self.asking, verb, &body).await else {
                return Ok(());
            };
            note(&format!("  {} {error}", self.style.red("refused:")));
            let Some(person) = self.person.as_mut().filter(|_| is_about_form(&error)) else {
                return self.give_up(node, gate, error);
            };
            match person.ask("  the form, as JSON:", signals).await {
                Reply::Line(line) => form = serde_json::from_str(&line).ok().or(Some(Value::String(line))),
                Reply::Gone => return self.give_up(node, gate, error),
            }
        }
    }

    async fn decide(&mut self, node: &str, gate: &Value, verb: &str, comment: Option<&str>) -> Result<()> {
        let body = verdict(node, gate, comment, None);
        match self.as_somebody(gate).command(&self.asking, verb, &body).await {
            Ok(_) => Ok(()),
            Err(error) if is_about_form(&error) => {
                let why = format!("step `{node}` asks for a form, which --yes cannot fill in: {error}");
                let hint = self.how.hint(&format!("approve {} {node} --form JSON", self.asking));
                Err(Failure::usage(why).hint(hint).into())
            }
            Err(error) => {
                note(&format!("  {} {error}", self.style.red("refused:")));
                self.give_up(node, gate, error)
            }
        }
    }

    /// A refusal may only mean that somebody else was faster: go on and see. Anything else is an error.
    fn give_up(&mut self, node: &str, gate: &Value, error: anyhow::Error) -> Result<()> {
        if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.exit() == Exit::Conflict) {
            self.given_up.insert(gate_of(&self.asking, node, gate));
            return Ok(());
        }
        Err(error)
    }

    /// On a server, oneself. In a process of one's own, whoever the gate asks for: names prove nothing there.
    fn as_somebody(&self, gate: &Value) -> Client {
        if !self.how.is_ours() {
            return self.client.clone();
        }
        self.client.with_identity(stand_in(gate, self.client.identity()))
    }

    // ---- pauses --------------------------------------------------------------------------------

    async fn at_pause(&mut self, run: &Value, signals: &mut Signals) -> Result<Next> {
        let reason = text(run, "/paused_reason");
        let whose = self.whose(run);
        let paused: Vec<&Value> = steps(run).filter(|step| text(step, "/status") == "paused").collect();
        for step in &paused {
            let (node, attempt) = (step_label(step), text(step, "/attempt"));
            let (kind, message) = (text(step, "/error/type"), text(step, "/error/message"));
            let why = if kind.is_empty() {
                "its outcome is unknown".to_owned()
            } else {
                format!("{kind}: {message}")
            };
            note(&format!(
                "! {}{} needs you (attempt {attempt}): {}",
                self.style.bold(&clean(&node)),
                whose,
                clean(&why)
            ));
        }
        let Some(person) = &mut self.person else {
            return Err(self.nobody_decides(&reason, paused.first().copied()).into());
        };
        // What is being undone is ending already, and refuses a cancel.
        let may_cancel = reason != "compensation_failed";
        let (question, letters) = questions(!paused.is_empty(), may_cancel);
        if paused.is_empty() {
            note(&format!("! the run{whose} is paused: {}", clean(&reason)));
        }
        let chosen = person.choose(question, letters, signals).await;
        let step = paused.first().copied().unwrap_or(&Value::Null);
        let named = json!({ "node": text(step, "/node"), "item": step["item"] });
        match chosen {
            Some('r') if paused.is_empty() => self.command(&self.asking, "resume", &json!({})).await,
            Some('r') => self.command(&self.asking, "retry", &named).await,
            Some('s') => self.command(&self.asking, "skip", &named).await,
            Some(_) => self.command(&self.run_id, "cancel", &json!({})).await,
            None if may_cancel => self.cancel().await.map(|_| Next::GoOn),
            None => Err(self.nobody_decides(&reason, paused.first().copied()).into()),
        }
    }

    fn nobody_decides(&self, reason: &str, step: Option<&Value>) -> Failure {
        let (what, command) = match step {
            Some(step) => {
                let label = step_label(step);
                // Brackets mean something to a shell.
                let quoted = if label.contains('[') { format!("'{label}'") } else { label.clone() };
                (format!("step `{label}` needs a person"), format!("retry {} {quoted}", self.asking))
            }
            None => ("the run needs a person".to_owned(), format!("resume {}", self.asking)),
        };
        let why = if self.person.is_some() { "nobody decides" } else { "there is no terminal to ask at" };
        Failure::new(Exit::Failed, format!("{what} ({reason}), and {why}")).hint(self.how.hint(&command))
    }

    /// A command that may come too late. Whatever came of it, the run is looked at again: it may still be paused.
    async fn command(&self, run_id: &str, command: &str, body: &Value) -> Result<Next> {
        let Err(error) = self.client.command(run_id, command, body).await else {
            return Ok(if command == "cancel" { Next::GoOn } else { Next::AskAgain });
        };
        note(&format!("  {} {error}", self.style.red("refused:")));
        match error.downcast_ref::<Refusal>() {
            Some(refusal) if refusal.exit() == Exit::Conflict => Ok(Next::AskAgain),
            _ => Err(error),
        }
    }

    async fn cancel(&self) -> Result<Option<Exit>> {
        self.command(&self.run_id, "cancel", &json!({})).await?;
        Ok(None)
    }
}

enum Next {
    AskAgain,
    GoOn,
}

/// What a person is asked at a pause, and the letters that answer it.
fn questions(at_step: bool, may_cancel: bool) -> (&'static str, &'static [char]) {
    match (at_step, may_cancel) {
        (true, true) => ("  [r]etry, [s]kip, [c]ancel the run:", &['r', 's', 'c']),
        (true, false) => ("  [r]etry, [s]kip:", &['r', 's']),
        (false, true) => ("  [r]esume, [c]ancel:", &['r', 'c']),
        (false, false) => ("  [r]esume:", &['r']),
    }
}

fn steps(run: &Value) -> impl Iterator<Item = &Value> {
    run.get("steps").and_then(Value::as_array).into_iter().flatten()
}

fn gate_of(run_id: &str, node: &str, gate: &Value) -> Gate {
    (run_id.to_owned(), node.to_owned(), attempt(gate))
}

fn attempt(gate: &Value) -> u64 {
    gate.get("attempt").and_then(Value::as_u64).unwrap_or(1)
}

fn is_about_form(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.problem.code == "invalid_payload")
}

/// Returns when a gate is no longer open: it has expired, somebody else has decided, or the run was canceled.
async fn gate_ends(client: &Client, run_id: &str, node: &str, of_attempt: u64) {
    loop {
        tokio::time::sleep(GATE_GLANCE_INTERVAL).await;
        // A server that is away for a moment has decided nothing.
        let Ok(run) = client.get_run(run_id, None).await else { continue };
        let is_it = |step: &&Value| text(step, "/node") == node;
        let gate = steps(&run).find(is_it).and_then(|step| step.pointer("/waiting_on/gate"));
        if gate.map(attempt) != Some(of_attempt) {
            return;
        }
    }
}

/// The body of approve and reject, naming exactly what was shown.
pub fn verdict(node: &str, gate: &Value, comment: Option<&str>, form: Option<&Value>) -> Value {
    let mut body = json!({ "node": node, "attempt": attempt(gate) });
    let digest = text(gate, "/digest");
    if !digest.is_empty() {
        body["digest"] = digest.into();
    }
    if let Some(comment) = comment {
        body["comment"] = comment.into();
    }
    if let Some(form) = form {
        body["form"] = form.clone();
    }
    body
}

/// Somebody whom this gate accepts and who has not approved yet.
fn stand_in(gate: &Value, own: &Identity) -> Identity {
    let list =
        |key: &str| gate.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let granted: BTreeSet<&str> = list("granted_by").collect();
    let is_free = |name: &str| !granted.contains(name);
    let asked_by_name =
        list("any_of").filter_map(|entry| entry.strip_prefix("user:")).find(|name| is_free(name));
    let roles: Vec<String> = own
        .roles
        .iter()
        .map(String::as_str)
        .chain(list("any_of").filter_map(|entry| entry.strip_prefix("role:")))
        .map(str::to_owned)
        .collect();
    let asks_roles =
        list("any_of").any(|entry| entry.starts_with("role:")) || list("any_of").next().is_none();
    let user = match (asked_by_name, asks_roles) {
        (Some(name), false) => name.to_owned(),
        _ => {
            let base = own.user.clone().or_else(|| std::env::var("USER").ok()).filter(|name| is_plain(name));
            let base = base.unwrap_or_else(|| "you".to_owned());
            let others = (2..).map(|n| format!("{base}-{n}"));
            std::iter::once(base.clone()).chain(others).find(|name| is_free(name)).unwrap_or(base)
        }
    };
    Identity { user: Some(user), roles }
}

/// What a header can carry.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(user: &str) -> Identity {
        Identity { user: Some(user.into()), roles: Vec::new() }
    }

    #[test]
    fn a_stand_in_is_somebody_the_gate_accepts_and_never_the_same_twice() {
        let gate = json!({"any_of": ["user:ada", "user:bob"], "granted_by": ["ada"]});
        assert_eq!(stand_in(&gate, &named("me")), named("bob"));
        let gate = json!({"any_of": ["role:editor"], "granted_by": ["me"]});
        let expected = Identity { user: Some("me-2".into()), roles: vec!["editor".into()] };
        assert_eq!(stand_in(&gate, &named("me")), expected);
        assert_eq!(stand_in(&json!({"any_of": [], "granted_by": []}), &named("me")), named("me"));
    }

    #[test]
    fn a_verdict_names_the_attempt_and_what_was_shown() {
        let gate = json!({"attempt": 2, "digest": "abc"});
        let body = verdict("ask", &gate, Some("fine"), Some(&json!({"note": 1})));
        let expected =
            json!({"node": "ask", "attempt": 2, "digest": "abc", "comment": "fine", "form": {"note": 1}});
        assert_eq!(body, expected);
    }
}
