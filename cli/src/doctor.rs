//! `windlass doctor`: examines a database, without changing it, while a server may be at work on it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use windlass_boot::{DatabaseUrl, Settings};
use windlass_model::payload::Digest;
use windlass_model::present::machine::machine_view;
use windlass_model::state::Step;
use windlass_model::{Event, EventSeq, Payload, Plan, RunState, RunStatus};
use windlass_store::{ApprovalFilter, Damage, PlanError, Plans, Projection, RunRow, Store};

use crate::client::settings_failure;
use crate::embedded;
use crate::failure::{Exit, Failure};
use crate::output::{self, Column, Format, OutputArgs, Style, note, text};

/// Rows read at once.
const PAGE: u32 = 500;
/// A report longer than this helps nobody; the count still tells.
const FINDINGS_MAX: usize = 1_000;
/// A run that a live server moves while it is looked at is looked at again, at most this often.
const LOOKS_MAX: u32 = 5;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  windlass doctor                                the database that `windlass dev` uses here
  windlass doctor --db backup.db -o json

It only reads, so servers may be at work on the same database. It checks that every log is gapless, \
that every row is what its log says, that nothing refers to what is not there, that nothing is left \
behind, that messages leave, and that every run can be woken by something.

Exit codes: 0 nothing found, 1 something found, 3 no such database.")]
pub struct DoctorArgs {
    /// The database file [default: .windlass/windlass.db]
    #[arg(long, value_name = "FILE", conflicts_with = "database_url")]
    db: Option<PathBuf>,
    /// The database, as a URL [env: WINDLASS_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What an examination found.
#[derive(Debug, Default, Serialize)]
struct Report {
    database: String,
    runs: u64,
    events: u64,
    duration_ms: u128,
    /// The first of them, when there are very many.
    findings: Vec<Damage>,
    findings_total: usize,
}

pub async fn doctor(args: DoctorArgs) -> Result<Exit> {
    let url = args.db.as_ref().map(|file| format!("sqlite://{}", file.display())).or(args.database_url);
    let flags = url.map(|url| ("database_url", url)).into_iter().collect();
    let settings = Settings::load(flags).map_err(settings_failure)?;
    if let DatabaseUrl::Sqlite(path) = &settings.database_url
        && !path.is_file()
    {
        let problem = format!("there is no database at {}", path.display());
        return Err(Failure::new(Exit::NotFound, problem).hint("name one with --db FILE").into());
    }
    let store = windlass_boot::open_store_to_examine(&settings).await?;
    let began = Instant::now();
    let database = settings.database_url.to_string().trim_start_matches("sqlite://").to_owned();
    let mut report = Report { database, ..Report::default() };
    Examination::new(store).examine(&mut report).await?;
    report.duration_ms = began.elapsed().as_millis();
    show(&report, args.output.output)?;
    Ok(if report.findings_total == 0 { Exit::Ok } else { Exit::Failed })
}

fn show(report: &Report, format: Format) -> Result<()> {
    let value = serde_json::to_value(report)?;
    let findings = value["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    match format {
        Format::Table => {
            if !findings.is_empty() {
                output::data(&output::table(findings, COLUMNS))?;
            }
            let style = Style::stderr();
            let found = match report.findings_total {
                0 => style.status("valid").replace("valid", "nothing wrong"),
                1 => style.red("1 finding"),
                count => style.red(&format!("{count} findings")),
            };
            let Report { runs, events, duration_ms, database, .. } = report;
            note(&format!("{database}: {found} in {runs} runs with {events} events ({duration_ms} ms)"));
            Ok(())
        }
        Format::Jsonl | Format::Id => output::list(format, findings, |it| text(it, "/subject"), COLUMNS),
        _ => output::object(format, &value, "", String::new),
    }
}

const COLUMNS: &[Column] = &[
    Column { title: "FOUND", cell: |it| text(it, "/kind") },
    Column { title: "WHERE", cell: |it| text(it, "/subject") },
    Column { title: "DETAILS", cell: |it| text(it, "/detail") },
];

struct Examination {
    store: Arc<dyn Store>,
    plans: Plans,
}

impl Examination {
    fn new(store: Arc<dyn Store>) -> Self {
        let plans = Plans::new(store.clone(), Arc::new(embedded::catalog()));
        Self { store, plans }
    }

    async fn examine(&self, report: &mut Report) -> Result<()> {
        let limit = u32::try_from(FINDINGS_MAX).unwrap_or(u32::MAX);
        for damage in self.store.find_damage(limit).await? {
            report.add(damage);
        }
        let mut after = None;
        loop {
            let rows = self.store.scan_runs(after, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.id);
            for row in &rows {
                report.runs += 1;
                self.examine_run(row, report).await?;
            }
        }
    }

    /// A live server may write between two reads: only what stays wrong is a finding.
    async fn examine_run(&self, row: &RunRow, report: &mut Report) -> Result<()> {
        let mut looks = 1;
        loop {
            let (findings, events) = self.look_at(row).await?;
            let moved = match self.store.get_run(row.tenant, row.id).await? {
                Some(now) => now.version != row.version || now.lease_owner.is_some(),
                None => true,
            };
            if findings.is_empty() || !moved || looks == LOOKS_MAX {
                report.events += events;
                findings.into_iter().for_each(|damage| report.add(damage));
                return Ok(());
            }
            looks += 1;
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    async fn look_at(&self, row: &RunRow) -> Result<(Vec<Damage>, u64)> {
        let subject = row.id.to_string();
        let found =
            |kind: &str, detail: String| vec![Damage { kind: kind.into(), subject: subject.clone(), detail }];
        let plan = match self.plans.get(row.version_id).await {
            Ok(plan) => plan,
            Err(PlanError::Store(error)) => return Err(error.into()),
            Err(error) => return Ok((found("unreadable_definition", error.to_string()), 0)),
        };
        let record = match self.store.load_run(row.tenant, row.id).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok((found("vanished", "the run was listed and cannot be read".into()), 0)),
            Err(windlass_store::StoreError::Damaged(detail)) => {
                return Ok((found("unreadable_log", detail), 0));
            }
            Err(error) => return Err(error.into()),
        };
        let until = record.row.next_seq;
        let log = match self.read_log(&record.row, until).await {
            Ok(log) => log,
            Err(windlass_store::StoreError::Damaged(detail)) => {
                return Ok((found("unreadable_log", detail), 0));
            }
            Err(error) => return Err(error.into()),
        };
        let events = log.len() as u64;
        let state = match RunState::fold(&plan, row.id, None, &log) {
            Ok(state) => state,
            Err(error) => return Ok((found("broken_log", error.to_string()), events)),
        };
        let mut findings = compare(&subject, &record.row, &plan, &state);
        if let Some(snapshot) = record.snapshot {
            match RunState::fold(&plan, row.id, Some(snapshot), &record.events) {
                Ok(from_snapshot) if without_values(&from_snapshot) == without_values(&state) => {}
                Ok(_) => findings
                    .extend(found("snapshot_differs", "the snapshot is not the fold of the log".into())),
                Err(error) => findings.extend(found("snapshot_differs", error.to_string())),
            }
        }
        findings.extend(self.check_gates(&subject, row, &plan, &state).await?);
        findings.extend(self.check_blobs(&subject, row, &state).await?);
        Ok((findings, events))
    }

    /// The whole log before `until`, in pages.
    async fn read_log(
        &self,
        row: &RunRow,
        until: EventSeq,
    ) -> Result<Vec<Event>, windlass_store::StoreError> {
        let mut log = Vec::new();
        loop {
            let after = log.last().map_or(EventSeq::default(), |event: &Event| event.seq);
            let page = self.store.read_events(row.tenant, row.id, after, PAGE).await?.unwrap_or_default();
            let is_last = page.len() < PAGE as usize;
            log.extend(page.into_iter().filter(|event| event.seq < until));
            if is_last || log.last().is_some_and(|event| event.seq.next() == until) {
                return Ok(log);
            }
        }
    }

    /// The inbox shows a gate exactly while it is open.
    async fn check_gates(
        &self,
        subject: &str,
        row: &RunRow,
        plan: &Plan,
        state: &RunState,
    ) -> Result<Vec<Damage>> {
        let filter = ApprovalFilter { decided: Some(false), run_id: Some(row.id) };
        let listed: BTreeSet<(String, u16)> = self
            .store
            .list_approvals(row.tenant, &filter, None, PAGE)
            .await?
            .into_iter()
            .map(|it| (it.node, it.attempt))
            .collect();
        let is_open = |step: &&(&windlass_model::plan::Node, &Step)| {
            // A step that was skipped while it waited keeps its gate, undecided.
            !state.is_terminal()
                && !step.1.status.is_settled()
                && step.1.gate.as_ref().is_some_and(|gate| gate.outcome.is_none())
        };
        let steps: Vec<_> = plan.nodes.iter().zip(&state.steps).collect();
        let open: BTreeSet<(String, u16)> = steps
            .iter()
            .filter(is_open)
            .filter_map(|(node, step)| Some((node.id.clone(), step.gate.as_ref()?.attempt)))
            .collect();
        let wrong = |(node, attempt): &(String, u16), detail: &str| Damage {
            kind: "approvals_differ".into(),
            subject: subject.to_owned(),
            detail: format!("step `{node}`, attempt {attempt}: {detail}"),
        };
        let missing =
            open.difference(&listed).map(|gate| wrong(gate, "open by its log, missing in the inbox"));
        let stale =
            listed.difference(&open).map(|gate| wrong(gate, "open in the inbox, not open by its log"));
        Ok(missing.chain(stale).collect())
    }

    /// What the log refers to is what it was. That it is there at all, the store has looked for.
    async fn check_blobs(&self, subject: &str, row: &RunRow, state: &RunState) -> Result<Vec<Damage>> {
        let mut findings = Vec::new();
        for digest in referenced(state) {
            let found = self.store.get_blob(row.tenant, &digest).await?;
            if found.is_some_and(|content| Digest::of(&content) != digest) {
                let detail = format!("the content of blob {digest} is not what it was");
                findings.push(Damage { kind: "damaged_blob".into(), subject: subject.to_owned(), detail });
            }
        }
        Ok(findings)
    }
}

impl Report {
    fn add(&mut self, damage: Damage) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(damage);
        }
    }
}

/// The row against the fold of its log, and whether anything can wake the run.
fn compare(subject: &str, row: &RunRow, plan: &Plan, state: &RunState) -> Vec<Damage> {
    let mut findings = Vec::new();
    let mut find = |kind: &str, detail: String| {
        findings.push(Damage { kind: kind.into(), subject: subject.to_owned(), detail });
    };
    if row.next_seq != state.last_seq.next() {
        find(
            "log_differs",
            format!("the row expects event {} next, the log ends at {}", row.next_seq, state.last_seq),
        );
    }
    let held = row.lease_owner.is_some();
    let should = Projection::of(state, held);
    let is = Projection {
        status: row.status,
        paused_reason: row.paused_reason,
        wake_at: row.wake_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        error: row.error.clone(),
    };
    for (name, is, should) in differences(&is, &should) {
        // A claim calls a run running before its engine has looked at it.
        let just_claimed = held && state.just_taken && matches!(name, "status" | "started_at");
        if !just_claimed {
            find("row_differs", format!("{name} is {is}, its log says {should}"));
        }
    }
    let waits = state.status(false) == RunStatus::Waiting;
    let by_somebody =
        state.steps.iter().any(|step| step.gate.as_ref().is_some_and(|gate| gate.outcome.is_none()))
            || !state.listening.is_empty()
            || machine_view(plan, state).is_some_and(|machine| !machine.events.is_empty());
    if waits && !by_somebody && state.wake_at().is_none() {
        find("nothing_wakes", "the run waits, but for no time, no person and no signal".into());
    }
    findings
}

fn differences(is: &Projection, should: &Projection) -> Vec<(&'static str, String, String)> {
    let row = |it: &Projection| {
        json!({
            "status": it.status, "paused_reason": it.paused_reason, "wake_at": it.wake_at,
            "started_at": it.started_at, "ended_at": it.ended_at, "error": it.error,
        })
    };
    let (is, should) = (row(is), row(should));
    ["status", "paused_reason", "wake_at", "started_at", "ended_at", "error"]
        .into_iter()
        .filter(|name| is[name] != should[name])
        .map(|name| (name, is[name].to_string(), should[name].to_string()))
        .collect()
}

/// A value at hand and a reference to it are the same thing.
fn without_values(state: &RunState) -> Value {
    serde_json::to_value(state).unwrap_or_default()
}

fn referenced(state: &RunState) -> BTreeSet<Digest> {
    let of_payload = |payload: &Payload| match payload {
        Payload::Blob { blob, .. } => Some(blob.digest.clone()),
        Payload::Inline(_) => None,
    };
    let of_steps = state.all_steps().flat_map(|(_, step)| {
        let artifacts = step.artifacts.iter().map(|artifact| artifact.blob.digest.clone());
        artifacts.chain(of_payload(&step.output))
    });
    let of_lists = state.fans.values().filter_map(|fan| of_payload(&fan.each));
    of_steps.chain(of_lists).chain(of_payload(&state.inputs)).chain(of_payload(&state.output)).collect()
}
