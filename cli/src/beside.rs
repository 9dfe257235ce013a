//! Workflows that a definition calls by the path of a file: `workflow: ./child.yaml`, seen from its own folder.
//!
//! A server knows workflows by their names only. So the path gives way to the name that the file gives itself, and
//! whoever publishes or runs the definition publishes those files first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use windlass_model::workflow::{Catalog, Document};

use crate::definitions::{Definition, Source};

/// Whether what a node calls is a file rather than a published workflow.
fn is_path(workflow: &str) -> bool {
    workflow.starts_with("./") || workflow.starts_with("../")
}

/// The files that `source` calls, and that those call, each after what it calls itself.
///
/// # Errors
/// When one of them cannot be read or is not valid.
pub fn called_by(source: &Source, catalog: &Catalog) -> Result<Vec<(Source, Definition)>> {
    let mut seen: BTreeSet<PathBuf> =
        source.path.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut found = Vec::new();
    gather(source, catalog, &mut seen, &mut found)?;
    Ok(found)
}

fn gather(
    source: &Source,
    catalog: &Catalog,
    seen: &mut BTreeSet<PathBuf>,
    found: &mut Vec<(Source, Definition)>,
) -> Result<()> {
    // What cannot be parsed is reported when it is compiled.
    let Ok(mut document) = Document::parse(&source.text, source.format) else { return Ok(()) };
    for path in paths(source, &mut document) {
        let is_new = path.canonicalize().is_ok_and(|path| seen.insert(path));
        if is_new {
            let called = Source::read(&path)?;
            gather(&called, catalog, seen, found)?;
            let definition = called.compile_or_explain(catalog)?;
            found.push((called, definition));
        }
    }
    Ok(())
}

fn paths(source: &Source, document: &mut Document) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    each_call(&mut document.spec, &mut |workflow| paths.extend(source.beside(workflow)));
    paths
}

/// Puts names in the place of paths, and says whether there were any. A file that is not there, or has no name, is left to
/// be found wanting.
pub fn put_names(source: &Source, document: &mut Document) -> bool {
    let mut put = false;
    each_call(&mut document.spec, &mut |workflow| {
        if let Some(name) = source.beside(workflow).and_then(|path| name_of(&path)) {
            *workflow = name;
            put = true;
        }
    });
    put
}

fn name_of(path: &Path) -> Option<String> {
    let source = Source::read(path).ok()?;
    let document = Document::parse(&source.text, source.format).ok()?;
    document.spec.get("name")?.as_str().map(str::to_owned)
}

impl Source {
    /// The file that a node of this definition calls; none when it calls a published workflow.
    fn beside(&self, workflow: &str) -> Option<PathBuf> {
        let folder =
            self.path.as_deref().map_or(Path::new(""), |path| path.parent().unwrap_or(Path::new("")));
        is_path(workflow).then(|| folder.join(workflow))
    }
}

fn each_call(value: &mut Value, call: &mut impl FnMut(&mut String)) {
    match value {
        Value::Object(map) => {
            if map.get("type").is_some_and(|kind| kind == "workflow")
                && let Some(Value::String(workflow)) = map.get_mut("workflow")
            {
                call(workflow);
            }
            map.values_mut().for_each(|inner| each_call(inner, call));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| each_call(inner, call)),
        _ => {}
    }
}
