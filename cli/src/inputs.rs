//! Inputs of a run, as they are given on the command line.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value};
use windlass_model::workflow::{Document, Format};

use crate::failure::Failure;

#[derive(Args, Clone, Debug, Default)]
pub struct InputArgs {
    /// One input; the value is JSON when it can be read as JSON, and text otherwise
    #[arg(short, long = "input", value_name = "KEY=VALUE")]
    input: Vec<String>,
    /// A JSON or YAML file with inputs, `-` for standard input; `-i` wins over it
    #[arg(short = 'f', long = "inputs", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl InputArgs {
    /// The inputs as one object.
    pub fn read(&self) -> Result<Value> {
        let mut inputs = match &self.file {
            Some(path) => read_file(path)?,
            None => Map::new(),
        };
        inputs.extend(pairs(&self.input)?);
        Ok(Value::Object(inputs))
    }
}

/// `key=value` pairs; a value is JSON when it can be read as JSON, and text otherwise.
pub fn pairs(pairs: &[String]) -> Result<Map<String, Value>> {
    let read = |pair: &String| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value_of(value))),
        _ => Err(Failure::usage(format!("`{pair}` has no value; write key=value")).into()),
    };
    pairs.iter().map(read).collect()
}

fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn read_file(path: &PathBuf) -> Result<Map<String, Value>> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        text
    } else {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))?
    };
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let format = if is_yaml { Format::Yaml } else { Format::Json };
    let document = Document::parse(&text, format).map_err(|problems| {
        let lines: Vec<String> = problems
            .iter()
            .map(|problem| {
                let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
                format!("{}{line}: {}", path.display(), problem.detail)
            })
            .collect();
        Failure::usage(lines.join("\n"))
    })?;
    match document.spec {
        Value::Object(map) => Ok(map),
        _ => Err(Failure::usage(format!("{} must hold an object of inputs", path.display())).into()),
    }
}

/// `key:value` or `key=value` pairs as an object of texts.
pub fn labels(pairs: &[String]) -> Result<Map<String, Value>> {
    pairs
        .iter()
        .map(|pair| match pair.split_once(['=', ':']) {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), Value::from(value))),
            _ => Err(Failure::usage(format!("`{pair}` is no label; write key=value")).into()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_json_when_they_can_be_and_text_otherwise() {
        let input = ["n=1", "s=hello", "q=\"1\"", "o={\"a\":[true]}", "e=", "url=http://x/?a=b", "v=1.2.3"];
        let args = InputArgs { input: input.map(str::to_owned).to_vec(), file: None };
        assert_eq!(
            args.read().unwrap(),
            json!({"n": 1, "s": "hello", "q": "1", "o": {"a": [true]}, "e": "", "url": "http://x/?a=b", "v": "1.2.3"})
        );
        let nameless = InputArgs { input: vec!["=x".into()], file: None };
        assert!(nameless.read().is_err());
    }
}
