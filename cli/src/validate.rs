//! `windlass validate`, `graph` and `schema`: what a definition says, without a server.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use windlass_model::plan::WorkflowKind;
use windlass_model::workflow::{Catalog, Problem, format_schema, graph};

use crate::definitions::{Definition, Source};
use crate::embedded;
use crate::failure::Exit;
use crate::output::{self, Format, OutputArgs, Style, note};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  windlass validate examples/*.yaml
  cat order.yaml | windlass validate -
  windlass validate order.yaml -o json | jq '.[].problems[].detail'

Every problem of a file is reported at once, with the line it stands in.
Exit codes: 0 all valid, 1 at least one is not, 3 a file does not exist.")]
pub struct ValidateArgs {
    /// Definitions: files, or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn validate(args: ValidateArgs) -> Result<Exit> {
    let catalog = embedded::catalog_without_registry();
    let mut reports = Vec::new();
    let mut invalid = 0;
    for path in &args.files {
        let source = Source::read(path)?;
        let checked = source.compile(&catalog);
        invalid += usize::from(checked.is_err());
        match args.output.output {
            Format::Table => tell(&source, &checked)?,
            _ => reports.push(report(&source, &checked)),
        }
    }
    match args.output.output {
        Format::Table => {}
        format => output::list(format, &reports, |report| output::text(report, "/file"), &[])?,
    }
    Ok(if invalid == 0 { Exit::Ok } else { Exit::Failed })
}

fn tell(source: &Source, checked: &Result<Definition, Vec<Problem>>) -> Result<()> {
    let style = Style::stdout();
    match checked {
        Ok(Definition { plan, .. }) => {
            let (count, what) = (plan.main_count(), kind_word(plan.kind));
            let s = if count == 1 { "" } else { "s" };
            output::data(&format!(
                "{} {}: {} ({what}, {count} node{s})",
                style.status("valid"),
                source.name,
                plan.name
            ))
        }
        Err(problems) => {
            note(source.explain(problems).trim_end());
            output::data(&format!(
                "{} {}: {} found",
                style.status("invalid"),
                source.name,
                counted(problems.len())
            ))
        }
    }
}

fn counted(problems: usize) -> String {
    if problems == 1 { "1 problem".into() } else { format!("{problems} problems") }
}

fn kind_word(kind: WorkflowKind) -> &'static str {
    match kind {
        WorkflowKind::Steps => "steps",
        WorkflowKind::Dag => "dag",
        WorkflowKind::Machine => "machine",
    }
}

fn report(source: &Source, checked: &Result<Definition, Vec<Problem>>) -> Value {
    match checked {
        Ok(definition) => {
            json!({ "file": source.name, "valid": true, "name": definition.plan.name, "problems": [] })
        }
        Err(problems) => json!({ "file": source.name, "valid": false, "problems": problems }),
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GraphFormat {
    Mermaid,
    Dot,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  windlass graph order.yaml                               Mermaid, as Markdown pages show it
  windlass graph order.yaml --format dot | dot -Tsvg      a picture, by Graphviz")]
pub struct GraphArgs {
    /// A definition: a file, or `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[arg(long, value_enum, default_value = "mermaid")]
    format: GraphFormat,
}

pub fn graph(args: GraphArgs) -> Result<Exit> {
    let definition = Source::read(&args.file)?.compile_or_explain(&embedded::catalog_without_registry())?;
    output::data(&match args.format {
        GraphFormat::Mermaid => graph::mermaid(&definition.plan),
        GraphFormat::Dot => graph::dot(&definition.plan),
    })?;
    Ok(Exit::Ok)
}

/// `windlass schema`: the JSON Schema of definitions, for editors.
pub fn schema() -> Result<Exit> {
    let catalog: Catalog = embedded::catalog();
    output::data(&serde_json::to_string_pretty(&format_schema(&catalog))?)?;
    Ok(Exit::Ok)
}
