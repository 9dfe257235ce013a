//! `await_file`: waits until a file is there, and says how long it is.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use windlass_engine::{Done, Failure, Runner, StepContext};
use windlass_model::StepError;
use windlass_model::workflow::KindSpec;

use super::params;

/// Often enough for people, seldom enough for a disk on a network.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) struct AwaitFile;

/// The kind's own keys, as they are after their expressions were evaluated.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    path: PathBuf,
    #[serde(default)]
    bytes_min: u64,
}

#[async_trait]
impl Runner for AwaitFile {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "await_file",
            summary: "Waits until a file is there",
            params: || {
                json!({
                    "type": "object",
                    "properties": {
                        "path": { "description": "An absolute path", "type": "string", "pattern": "^/" },
                        "bytes_min": { "description": "What it must have at least", "type": "integer", "minimum": 0 }
                    },
                    "required": ["path"],
                    "additionalProperties": false
                })
            },
            // Looking twice does no harm.
            retry_safe: |_| true,
        }
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let Params { path, bytes_min } = params(&mut step)?;
        if !path.is_absolute() {
            return Err(StepError::new("schema.input", "`path` must be absolute").into());
        }
        loop {
            match tokio::fs::metadata(&path).await {
                Ok(found) if found.is_dir() => {
                    return Err(StepError::new("await_file.folder", "there is a folder of that name").into());
                }
                Ok(found) if found.len() >= bytes_min => {
                    return Ok(Done::new(json!({ "bytes": found.len() })));
                }
                Ok(found) => step.progress.report(json!({ "bytes": found.len(), "of": bytes_min })),
                Err(_) => {}
            }
            tokio::select! {
                // The run was canceled: what is returned now is not looked at.
                () = step.cancel.cancelled() => return Err(StepError::new("canceled", "canceled").into()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}
