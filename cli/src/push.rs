//! Publishes a definition, and explains in its own lines what a server finds wrong with it.

use anyhow::Result;
use serde_json::Value;
use windlass_model::workflow::Problem;

use crate::beside;
use crate::client::{Client, Refusal};
use crate::definitions::{Definition, Source};
use crate::embedded;
use crate::failure::{Exit, Failure};
use crate::output::text;

/// Publishes a definition under its own name, and before it those that it calls by their files. Returns a line for each
/// that says what became of it.
pub async fn push(client: &Client, source: &Source, tags: &[String]) -> Result<String> {
    let mut lines = push_called(client, source, tags).await?;
    let definition = source.compile_or_explain(&embedded::catalog_without_registry())?;
    lines.push(push_one(client, source, &definition, tags).await?);
    Ok(lines.join("\n"))
}

/// Publishes the definitions that this one calls by their files.
pub async fn push_called(client: &Client, source: &Source, tags: &[String]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (called, definition) in beside::called_by(source, &embedded::catalog_without_registry())? {
        lines.push(push_one(client, &called, &definition, tags).await?);
    }
    Ok(lines)
}

async fn push_one(
    client: &Client,
    source: &Source,
    definition: &Definition,
    tags: &[String],
) -> Result<String> {
    let written = (!definition.calls_files).then_some(source.text.as_str());
    let published = client
        .push_workflow(written, &definition.document.spec, tags)
        .await
        .map_err(|error| in_own_lines(error, source))?;
    let is = |key: &str| published.get(key).and_then(Value::as_bool).unwrap_or(false);
    let verb = match (is("created"), is("new_version")) {
        (true, _) => "created",
        (false, true) => "updated",
        (false, false) => "unchanged",
    };
    Ok(format!("{verb} {}@{} from {}", text(&published, "/name"), text(&published, "/version"), source.name))
}

/// A server of another version may find problems that this binary does not know.
fn in_own_lines(error: anyhow::Error, source: &Source) -> anyhow::Error {
    let Some(refusal) = error.downcast_ref::<Refusal>().filter(|it| it.problem.code == "invalid_workflow")
    else {
        return error;
    };
    let problems: Vec<Problem> = refusal
        .problem
        .errors
        .iter()
        .map(|entry| Problem {
            code: "invalid",
            pointer: entry.pointer.clone(),
            detail: entry.detail.clone(),
            line: entry.line,
            column: entry.column,
        })
        .collect();
    let text = format!("{} is not valid for this server\n\n{}", source.name, source.explain(&problems));
    Failure::new(Exit::Failed, text.trim_end().to_owned()).into()
}
