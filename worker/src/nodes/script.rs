//! `script`: runs a program with JSON on its standard input and takes JSON from its standard output.

mod home;
mod job;
mod keeper;
mod limits;
mod log;
mod process;
mod room;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};
use windlass_engine::{Done, Failure, Runner, StepContext};
use windlass_model::StepError;
use windlass_model::workflow::KindSpec;

use self::job::{Job, Params};
use self::log::LiveLog;
use self::process::Ran;
use self::room::Room;
use super::params;

/// A script that is about to run out of its step's time is ended this much earlier, or a twentieth of
/// it: the engine would drop its log.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(250);
const TIMEOUT_MARGIN_SHARE: u32 = 20;

pub(crate) struct Script;

#[async_trait]
impl Runner for Script {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "script",
            summary: "Runs a program: JSON on standard input, JSON on standard output",
            params: job::schema,
            retry_safe: |_| false,
        }
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let params: Params = params(&mut step)?;
        let room = Room::new()?;
        let job = Job::new(params, &step, &room)?;
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
