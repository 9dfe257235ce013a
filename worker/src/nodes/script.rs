//! `script`: runs a program with JSON on its standard input and takes JSON from its standard output.

mod keeper;
mod limits;
mod log;
mod process;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_engine::{Done, Failure, Runner, StepContext};
use windlass_model::StepError;
use windlass_model::workflow::KindSpec;

use self::limits::{Limits, LimitsAsked};
use self::log::LiveLog;
use self::process::{Job, Ran};
use self::room::Room;
use super::{invalid, params};

/// A script that is about to run out of its step's time is ended this much earlier, or a twentieth of
/// it: the engine would drop its log.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(250);
const TIMEOUT_MARGIN_SHARE: u32 = 20;
/// Where to look for programs when the worker itself was not told.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

pub(crate) struct Script;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    command: Option<Vec<Value>>,
    run: Option<String>,
    with: Option<Value>,
    #[serde(default)]
    env: BTreeMap<String, Value>,
    cwd: Option<PathBuf>,
    #[serde(default)]
    limits: LimitsAsked,
}

#[async_trait]
impl Runner for Script {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "script",
            summary: "Runs a program: JSON on standard input, JSON on standard output",
            params: schema,
            retry_safe: |_| false,
        }
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let params: Params = params(&mut step)?;
        let room = Room::new()?;
        let job = job(params, &step, &room)?;
        let margin = |timeout: Duration| TIMEOUT_MARGIN.min(timeout / TIMEOUT_MARGIN_SHARE);
        let time_max = step.timeout.map(|timeout| timeout - margin(timeout));
        let live = LiveLog::new(step.progress, Instant::now());
        let Ran { ended, stdout, log, room } = process::run(job, room, &step.cancel, time_max, live).await?;
        let mut files: Vec<_> = log.file().into_iter().collect();
        let artifacts = tokio::task::spawn_blocking(move || room.artifacts()).await;
        let output = ended.and_then(|()| output(&stdout));
        let artifacts =
            artifacts.unwrap_or_else(|broken| Err(StepError::new("internal", broken.to_string())));
        match (output, artifacts) {
            (Ok(output), Ok(artifacts)) => {
                files.extend(artifacts);
                Ok(Done { output, files, emit: None })
            }
            (Err(error), _) | (Ok(_), Err(error)) => Err(Failure { error, files }),
        }
    }
}

fn output(stdout: &[u8]) -> Result<Value, StepError> {
    if stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(stdout).map_err(|error| {
        let head = String::from_utf8_lossy(&stdout[..stdout.len().min(200)]).into_owned();
        let sentence =
            format!("standard output is not one JSON value: {error}; write messages to standard error");
        StepError::new("script.output", sentence).with_details(json!({ "stdout": head }))
    })
}

fn job(params: Params, step: &StepContext, room: &Room) -> Result<Job, StepError> {
    let (program, arguments) = match (params.command, params.run) {
        (Some(command), None) => {
            let mut words = command.iter().map(word).collect::<Result<Vec<_>, _>>()?.into_iter();
            (words.next().ok_or_else(|| invalid("`command` names no program"))?, words.collect())
        }
        // -e: a line that fails fails the script, instead of being passed over.
        (None, Some(text)) => ("/bin/sh".to_owned(), vec!["-ec".to_owned(), text]),
        _ => return Err(invalid("a script has either `command` or `run`")),
    };
    // A relative path is meant from where Windlass was started, as on any command line.
    let folder = match params.cwd {
        Some(cwd) => std::path::absolute(cwd).map_err(|error| invalid(format!("`cwd`: {error}")))?,
        None => room.work(),
    };
    let mut environment: BTreeMap<OsString, OsString> = BTreeMap::from([
        ("PATH".into(), std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into())),
        ("HOME".into(), room.work().into()),
        ("TMPDIR".into(), room.temporary().into()),
        ("LANG".into(), "C.UTF-8".into()),
        ("WINDLASS_RUN_ID".into(), step.run_id.to_string().into()),
        ("WINDLASS_NODE".into(), step.node.clone().into()),
        ("WINDLASS_ATTEMPT".into(), step.attempt.to_string().into()),
        ("WINDLASS_IDEMPOTENCY_KEY".into(), step.idempotency_key.clone().into()),
        ("WINDLASS_ARTIFACTS".into(), room.kept().into()),
    ]);
    for (name, value) in &params.env {
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !is_name || name.starts_with("WINDLASS_") {
            return Err(invalid(format!("`env` may not set `{}`", name.escape_debug())));
        }
        environment.insert(name.into(), word(value)?.into());
    }
    let stdin = params.with.unwrap_or_else(|| json!({})).to_string().into_bytes();
    let limits = Limits::new(&params.limits).map_err(invalid)?;
    Ok(Job { program, arguments, environment, folder, stdin, limits })
}

fn word(value: &Value) -> Result<String, StepError> {
    match value {
        Value::String(text) if text.contains('\0') => Err(invalid("`command` and `env` cannot hold NUL")),
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(invalid("`command` and `env` hold text, numbers and booleans; pass more by `with`")),
    }
}

fn schema() -> Value {
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    json!({
        "type": "object",
        "properties": {
            "command": { "description": "A program and its arguments; no shell reads them",
                         "type": "array", "items": scalar, "minItems": 1 },
            "run": { "description": "Text for /bin/sh -e; hand values over by `env` or `with`", "type": "string",
                     "minLength": 1 },
            "with": { "description": "JSON for the program's standard input; {} when absent" },
            "env": { "description": "Variables on top of an otherwise empty environment",
                     "type": "object", "additionalProperties": scalar },
            "cwd": { "description": "A path, from where Windlass was started; a fresh folder when absent",
                     "type": "string" },
            "limits": limits::schema()
        },
        "oneOf": [{ "required": ["command"] }, { "required": ["run"] }],
        "additionalProperties": false
    })
}
