//! What to run, read from a node's keys.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use windlass_engine::StepContext;
use windlass_model::StepError;

use super::limits::{self, Limits, LimitsAsked};
use super::room::Room;
use crate::nodes::{invalid, shown};

/// Where to look for programs when the worker itself was not told.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// A script's keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    command: Option<Vec<Value>>,
    run: Option<String>,
    with: Option<Value>,
    #[serde(default)]
    env: BTreeMap<String, Value>,
    cwd: Option<PathBuf>,
    #[serde(default)]
    limits: LimitsAsked,
}

/// A program, ready to be started.
pub(super) struct Job {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<OsString, OsString>,
    pub(super) folder: PathBuf,
    pub(super) stdin: Vec<u8>,
    pub(super) limits: Limits,
}

impl Job {
    pub(super) fn new(params: Params, step: &StepContext, room: &Room) -> Result<Self, StepError> {
        let (program, arguments) = program(params.command.as_deref(), params.run)?;
        // A relative path starts where the worker was started.
        let folder = params.cwd.map_or_else(|| Ok(room.work()), std::path::absolute);
        Ok(Self {
            program,
            arguments,
            environment: environment(&params.env, step, room)?,
            folder: folder.map_err(|error| invalid(format!("`cwd`: {error}")))?,
            stdin: params.with.unwrap_or_else(|| json!({})).to_string().into_bytes(),
            limits: Limits::new(&params.limits).map_err(invalid)?,
        })
    }
}

fn program(command: Option<&[Value]>, run: Option<String>) -> Result<(String, Vec<String>), StepError> {
    match (command, run) {
        (Some(command), None) => {
            let mut words = command.iter().map(word).collect::<Result<Vec<_>, _>>()?.into_iter();
            Ok((words.next().ok_or_else(|| invalid("`command` names no program"))?, words.collect()))
        }
        // -e: a line that fails fails the script, instead of being passed over.
        (None, Some(text)) => Ok(("/bin/sh".to_owned(), vec!["-ec".to_owned(), text])),
        _ => Err(invalid("a script has either `command` or `run`")),
    }
}

/// All that the program gets to see of where it runs.
fn environment(
    asked: &BTreeMap<String, Value>,
    step: &StepContext,
    room: &Room,
) -> Result<BTreeMap<OsString, OsString>, StepError> {
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
    for (name, value) in asked {
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !is_name || name.starts_with("WINDLASS_") {
            return Err(invalid(format!("`env` may not set `{}`", shown(name).escape_debug())));
        }
        environment.insert(name.into(), word(value)?.into());
    }
    Ok(environment)
}

fn word(value: &Value) -> Result<String, StepError> {
    match value {
        Value::String(text) if text.contains('\0') => Err(invalid("`command` and `env` cannot hold NUL")),
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(invalid("`command` and `env` hold text, numbers and booleans; pass more by `with`")),
    }
}

pub(super) fn schema() -> Value {
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
