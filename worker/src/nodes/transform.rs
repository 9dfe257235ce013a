//! `transform`: makes a value, and files, out of other values.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use windlass_engine::{Done, Failure, File, Runner, StepContext};
use windlass_model::workflow::KindSpec;

use super::{artifact, invalid, params};

pub(crate) struct Transform;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default)]
    output: Value,
    #[serde(default)]
    artifacts: Map<String, Value>,
}

#[async_trait]
impl Runner for Transform {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "transform",
            summary: "Makes a value out of other values",
            params: || {
                json!({
                    "type": "object",
                    "properties": {
                        "output": { "description": "Any JSON with expressions: the node's output" },
                        "artifacts": {
                            "description": "Files to keep, by name: text as it is, anything else as JSON",
                            "type": "object",
                            "maxProperties": artifact::COUNT_MAX
                        }
                    },
                    "anyOf": [{ "required": ["output"] }, { "required": ["artifacts"] }],
                    "additionalProperties": false
                })
            },
            retry_safe: |_| true,
        }
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let Params { output, artifacts } = params(&mut step)?;
        let mut files = Vec::with_capacity(artifacts.len());
        let mut room = artifact::Room::default();
        for (name, value) in artifacts {
            artifact::check_name(&name).map_err(invalid)?;
            let content = match value {
                Value::String(text) => text.into_bytes(),
                other => format!("{other:#}\n").into_bytes(),
            };
            room.take(content.len())?;
            files.push(File { media_type: artifact::media_type(&name).to_owned(), name, content });
        }
        Ok(Done { output, files, emit: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::testing::{error_of, step};

    #[tokio::test]
    async fn it_gives_the_value_that_its_expressions_made() {
        let done = Transform.run(step(json!({ "output": { "sum": 3, "names": ["a"] } }))).await.unwrap();
        assert_eq!(done, Done::new(json!({ "sum": 3, "names": ["a"] })));
    }

    #[tokio::test]
    async fn artifacts_are_text_as_it_is_or_json() {
        let params =
            json!({ "output": 1, "artifacts": { "notes.md": "# Notes\n", "data.json": { "a": [1] } } });
        let files = Transform.run(step(params)).await.unwrap().files;
        let shown: Vec<_> = files
            .iter()
            .map(|file| (&*file.name, &*file.media_type, str::from_utf8(&file.content).unwrap()))
            .collect();
        assert_eq!(
            shown,
            [
                ("notes.md", "text/markdown", "# Notes\n"),
                ("data.json", "application/json", "{\n  \"a\": [\n    1\n  ]\n}\n"),
            ]
        );
    }

    #[tokio::test]
    async fn a_file_name_that_is_a_path_is_refused() {
        let error = error_of(Transform.run(step(json!({ "artifacts": { "../../etc/passwd": "x" } }))).await);
        assert_eq!(error.kind, "schema.input");
    }
}
