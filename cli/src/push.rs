//! Publishes a definition, and explains in its own lines what a server finds wrong with it.

use anyhow::Result;
use serde_json::Value;
use windlass_model::workflow::Problem;

use crate::client::{Client, Refusal};
use crate::definitions::Source;
use crate::embedded;
use crate::failure::{Exit, Failure};
use crate::output::text;

/// Publishes one definition under its own name. Returns the line that says what became of it.
pub async fn push(client: &Client, source: &Source, tags: &[String]) -> Result<String> {
    let definition = source.compile_or_explain(&embedded::catalog_without_registry())?;
    let published = client
        .push_workflow(&source.text, &definition.document.spec, tags)
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
