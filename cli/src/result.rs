//! What a run left behind: its outputs, its artifacts, and how it ended.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use windlass_model::Timestamp;

use crate::answers::HowToGoOn;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::live::seconds;
use crate::output::{self, Format, Style, clean, note, text, yaml};
use crate::show_run::partial_end;

/// The log of a step is an artifact of this name; it was shown while it grew.
const LOG: &str = "log";

/// Prints a run that has ended. The exit code says how.
pub async fn show(
    client: &Client,
    run: &Value,
    format: Format,
    how: &HowToGoOn,
    artifacts: Option<&Path>,
) -> Result<Exit> {
    let exit = exit_of(run);
    note(&ending(run));
    match format {
        Format::Table => {
            if let Some(output) = run.get("output").filter(|output| !output.is_null()) {
                output::data(&for_people(output)?)?;
            }
        }
        // Every event was printed as it came.
        Format::Jsonl => {}
        _ => output::object(format, run, &text(run, "/id"), String::new)?,
    }
    match artifacts {
        Some(folder) => write_artifacts(client, run, folder).await?,
        None => name_artifacts(client, run, how),
    }
    Ok(exit)
}

pub fn exit_of(run: &Value) -> Exit {
    if text(run, "/status") == "completed" { Exit::Ok } else { Exit::Failed }
}

/// `completed in 3.2 s`, or how it failed.
fn ending(run: &Value) -> String {
    let style = Style::stderr();
    let time = |pointer| text(run, pointer).parse::<Timestamp>().ok();
    let took =
        time("/created_at").zip(time("/ended_at")).map(|(created, ended)| seconds(created.until(ended)));
    let status = text(run, "/status");
    let mut line = format!("run {}", style.status(&status));
    if let Some(took) = took {
        line.push_str(&format!(" in {took}"));
    }
    let partial = partial_end(run);
    if !partial.is_empty() {
        line.push_str(&format!(" ({})", style.red(&partial)));
    }
    if let Some(error) = run.get("error").filter(|error| !error.is_null()) {
        line.push_str(&format!(": {}: {}", clean(&text(error, "/type")), clean(&text(error, "/message"))));
    }
    line
}

/// Text stands as it is; anything else as YAML, with control characters shown instead of obeyed.
fn for_people(output: &Value) -> Result<String> {
    let text = match output {
        Value::String(text) => text.clone(),
        other => yaml(other)?,
    };
    Ok(text.lines().map(|line| format!("{}\n", clean(line))).collect())
}

struct Found {
    node: String,
    name: String,
    size_bytes: u64,
}

fn find_artifacts(run: &Value) -> Vec<Found> {
    let steps = run.get("steps").and_then(Value::as_array).into_iter().flatten();
    steps
        .flat_map(|step| {
            let artifacts = step.get("artifacts").and_then(Value::as_array).into_iter().flatten();
            artifacts.map(|artifact| Found {
                node: text(step, "/node"),
                name: text(artifact, "/name"),
                size_bytes: artifact.get("size_bytes").and_then(Value::as_u64).unwrap_or(0),
            })
        })
        .collect()
}

fn name_artifacts(client: &Client, run: &Value, how: &HowToGoOn) {
    let id = text(run, "/id");
    let found: Vec<Found> = find_artifacts(run).into_iter().filter(|it| it.name != LOG).collect();
    for Found { node, name, size_bytes } in &found {
        let place = match how {
            HowToGoOn::OnServer(_) => client.artifact_url(&id, node, name),
            HowToGoOn::InFile { .. } | HowToGoOn::Gone { .. } => String::new(),
        };
        note(format!("artifact {}/{}  {size_bytes} bytes  {place}", clean(node), clean(name)).trim_end());
    }
    match how {
        _ if found.is_empty() => {}
        HowToGoOn::OnServer(_) => {}
        HowToGoOn::InFile { file, .. } => {
            note(&format!("they are kept in {}; --artifacts DIR writes them out", file.display()));
        }
        HowToGoOn::Gone { .. } => note("--artifacts DIR writes them out"),
    }
}

async fn write_artifacts(client: &Client, run: &Value, folder: &Path) -> Result<()> {
    let id = text(run, "/id");
    for Found { node, name, .. } in find_artifacts(run) {
        if !is_plain(&node) || !is_plain(&name) {
            let problem =
                format!("artifact `{}/{}` has a name that is no file name", clean(&node), clean(&name));
            return Err(Failure::new(Exit::Failed, problem).into());
        }
        let content = client.get_artifact(&id, &node, &name).await?;
        let path = folder.join(&node).join(&name);
        let written =
            std::fs::create_dir_all(folder.join(&node)).and_then(|()| std::fs::write(&path, content));
        written.with_context(|| format!("{} cannot be written", path.display()))?;
        if name != LOG {
            note(&format!("artifact {}", path.display()));
        }
    }
    Ok(())
}

/// What a server says is a name must not lead out of the folder that the person named.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(part)), None) if part == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_elsewhere_cannot_leave_the_folder() {
        for name in ["notes.md", "a b", "ünïcode"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a/"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
