//! `windlass doctor`: examines a database while servers may be at work on it, and mends what can be mended safely.

mod compare;
mod examine;
mod look;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use windlass_boot::{DatabaseUrl, Settings};
use windlass_store::{Damage, Store};

use self::examine::Examination;
use crate::client::settings_failure;
use crate::failure::{Exit, Failure};
use crate::output::{self, Column, Format, OutputArgs, Style, note, text};

/// A report longer than this helps nobody; the count still tells.
const FINDINGS_MAX: usize = 1_000;
/// Repairs that are listed.
const HISTORY_MAX: u32 = 1_000;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  windlass doctor                                the database that `windlass dev` uses here
  windlass doctor --db backup.db -o json
  windlass doctor --repair                       and mend what follows from the logs

Without --repair it only reads. Servers may be at work on the same PostgreSQL either way; a SQLite file is mended when \
no server has it open. It checks that every log is gapless, that every row, fold and gate is what its log says, that \
nothing refers to what is not there, that nothing is left behind, that messages leave, that children and their parents \
agree, and that every run can be woken by something.

What is mended: rows, folds, gates and calls of children are written anew from their log; rows and content of nobody \
are removed; messages that were given up are due again. A run that has not ended gets the event `run.repaired`, and \
--history lists all repairs. A log is never changed.

Exit codes: 0 nothing found, or all of it mended; 1 something is left; 3 no such database.")]
pub struct DoctorArgs {
    /// The database file [default: .windlass/windlass.db]
    #[arg(long, value_name = "FILE", conflicts_with = "database_url")]
    db: Option<PathBuf>,
    /// The database, as a URL [env: WINDLASS_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Mend what can be mended safely
    #[arg(long)]
    repair: bool,
    /// List what was mended, newest first, and look for nothing
    #[arg(long, conflicts_with = "repair")]
    history: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// It needs a person who knows what has happened.
    ByHand,
    /// `--repair` would mend it.
    Repairable,
    Repaired,
    /// The database refused, or somebody was faster again and again.
    Refused,
}

#[derive(Clone, Debug, Serialize)]
struct Finding {
    #[serde(flatten)]
    damage: Damage,
    repair: Fate,
}

/// What an examination found.
#[derive(Debug, Default, Serialize)]
struct Report {
    database: String,
    runs: u64,
    events: u64,
    duration_ms: u128,
    /// The first of them, when there are very many.
    findings: Vec<Finding>,
    findings_total: usize,
    repaired_total: usize,
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
    let store: Arc<dyn Store> = if args.repair {
        windlass_boot::open_store(&settings, false).await?
    } else {
        windlass_boot::open_store_to_examine(&settings).await?
    };
    if args.history {
        return history(&*store, args.output.output).await;
    }
    let began = Instant::now();
    let database = settings.database_url.to_string().trim_start_matches("sqlite://").to_owned();
    let mut report = Report { database, ..Report::default() };
    Examination::new(store, args.repair).examine(&mut report).await?;
    report.duration_ms = began.elapsed().as_millis();
    show(&report, args.output.output)?;
    Ok(if report.findings_total == report.repaired_total { Exit::Ok } else { Exit::Failed })
}

async fn history(store: &dyn Store, format: Format) -> Result<Exit> {
    let repairs = serde_json::to_value(store.list_repairs(HISTORY_MAX).await?)?;
    let repairs = repairs.as_array().map(Vec::as_slice).unwrap_or_default();
    output::list(format, repairs, |it| text(it, "/subject"), HISTORY_COLUMNS)?;
    Ok(Exit::Ok)
}

fn show(report: &Report, format: Format) -> Result<()> {
    let value = serde_json::to_value(report)?;
    let findings = value["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    match format {
        Format::Table => {
            if !findings.is_empty() {
                output::data(&output::table(findings, COLUMNS))?;
            }
            note(&summary(report));
            Ok(())
        }
        Format::Jsonl | Format::Id => output::list(format, findings, |it| text(it, "/subject"), COLUMNS),
        _ => output::object(format, &value, "", String::new),
    }
}

fn summary(report: &Report) -> String {
    let style = Style::stderr();
    let found = match report.findings_total {
        0 => style.status("valid").replace("valid", "nothing wrong"),
        1 => style.red("1 finding"),
        count => style.red(&format!("{count} findings")),
    };
    let repaired = match report.repaired_total {
        0 => String::new(),
        count => format!(", {count} of them repaired,"),
    };
    let Report { runs, events, duration_ms, database, .. } = report;
    let (runs, events) = (counted(*runs, "run"), counted(*events, "event"));
    format!("{database}: {found}{repaired} in {runs} with {events} ({duration_ms} ms)")
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

const COLUMNS: &[Column] = &[
    Column { title: "FOUND", cell: |it| text(it, "/kind") },
    Column { title: "WHERE", cell: |it| text(it, "/subject") },
    Column { title: "REPAIR", cell: |it| text(it, "/repair").replace('_', " ") },
    Column { title: "DETAILS", cell: |it| text(it, "/detail") },
];

const HISTORY_COLUMNS: &[Column] = &[
    Column { title: "AT", cell: |it: &Value| text(it, "/at") },
    Column { title: "BY", cell: |it| text(it, "/actor") },
    Column { title: "FOUND", cell: |it| text(it, "/kind") },
    Column { title: "WHERE", cell: |it| text(it, "/subject") },
    Column { title: "DETAILS", cell: |it| text(it, "/detail") },
];

impl Report {
    fn add(&mut self, damage: Damage, repair: Fate) {
        self.findings_total += 1;
        self.repaired_total += usize::from(repair == Fate::Repaired);
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { damage, repair });
        }
    }

    /// What was found about a run before it was looked at has this fate as well.
    fn settle(&mut self, subject: &str, fate: Fate) {
        let open = self.findings.iter_mut().filter(|it| it.damage.subject == subject);
        for finding in open.filter(|it| compare::follows_from_log(&it.damage.kind)) {
            self.repaired_total += usize::from(fate == Fate::Repaired && finding.repair != fate);
            finding.repair = fate;
        }
    }
}
