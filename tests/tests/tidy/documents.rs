//! Documents: every link leads somewhere, every name exists, every decision is listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{TextFile, nothing, read, root, text_files};

/// Beginnings of names that only events have.
const EVENT_FAMILIES: &[&str] = &["run", "step", "approval", "signal", "timer", "child", "compensation"];
/// Names of the same shape that are something else: fields that expressions and logs read, messages of streams, errors.
const NOT_EVENTS: &[&str] = &[
    "run.id",
    "run.workflow",
    "run.created_at",
    "run.scheduled_at",
    "run.event",
    "run.progress",
    "run.output",
    "run.status",
    "step.cancel",
    "step.params",
    "step.idempotency_key",
    "step.timeout",
    "step.progress",
    "run.md",
    "run.rs",
    "run.inputs",
    "run.requester",
    "child.failed",
    "child.canceled",
];

fn documents() -> Vec<TextFile> {
    text_files().into_iter().filter(|file| file.path.ends_with(".md")).collect()
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let documents = documents();
    let mut found = Vec::new();
    for document in &documents {
        for link in links(&document.text) {
            if let Err(why) = follow(&document.path, link) {
                found.push(format!("{}: {link}: {why}", document.path));
            }
        }
    }
    nothing(&found, "These links lead nowhere:");
}

/// Targets of `[text](target)`, code blocks aside.
fn links(text: &str) -> Vec<&str> {
    prose(text)
        .flat_map(|line| line.match_indices("](").map(|(at, _)| &line[at + 2..]))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| !["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)))
        .collect()
}

/// Lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

fn follow(from: &str, link: &str) -> Result<(), String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let target = if path.is_empty() { PathBuf::from(from) } else { flat(&folder.join(path)) };
    let file = root().join(&target);
    if !file.exists() {
        return Err(format!("{} does not exist", target.display()));
    }
    match anchor {
        Some(anchor) if target.extension().is_some_and(|it| it == "md") => {
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            let known: Vec<String> = headings(&text);
            if known.iter().any(|it| it == anchor) {
                Ok(())
            } else {
                Err(format!("no heading makes #{anchor}"))
            }
        }
        _ => Ok(()),
    }
}

/// `a/b/../c` as `a/c`.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(flat.pop()),
            Component::CurDir => {}
            other => flat.push(other),
        }
    }
    flat
}

/// Anchors as the usual renderers make them of headings.
fn headings(text: &str) -> Vec<String> {
    prose(text)
        .filter_map(|line| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()))
        .map(|heading| {
            let kept = heading.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_event_that_a_document_names_exists() {
    let events = event_names();
    let mut found = Vec::new();
    for document in documents() {
        for name in code_spans(&document.text).flat_map(dotted_names) {
            let family = name.split('.').next().unwrap_or_default();
            if EVENT_FAMILIES.contains(&family) && !events.contains(name) && !NOT_EVENTS.contains(&name) {
                found.push(format!("{}: {name}", document.path));
            }
        }
    }
    nothing(&found, "No event has these names (shared/model/src/event.rs):");
}

/// As declared: `20 "step.started" StepStarted,`. What happens to a step happens to what undoes one, too.
fn event_names() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = read("shared/model/src/event.rs")
        .lines()
        .filter_map(|line| {
            let (code, rest) = line.trim().split_once(' ')?;
            code.parse::<i16>().ok()?;
            Some(rest.strip_prefix('"')?.split_once('"')?.0.to_owned())
        })
        .collect();
    let undoing = names.iter().filter_map(|name| name.strip_prefix("step."));
    names.append(&mut undoing.map(|verb| format!("compensation.{verb}")).collect());
    assert!(names.contains("run.created") && names.len() > 20, "event.rs declares {names:?}");
    names
}

/// What stands between backticks, outside code blocks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// `a.b_c` in a text, where nothing else is attached to it.
fn dotted_names(text: &str) -> Vec<&str> {
    text.split(|it: char| !(it.is_ascii_alphanumeric() || "._-/*".contains(it)))
        .filter(|word| {
            word.split_once('.').is_some_and(|(family, name)| {
                let fits = |part: &str| {
                    !part.is_empty() && part.chars().all(|it| it.is_ascii_lowercase() || it == '_')
                };
                fits(family) && fits(name)
            })
        })
        .collect()
}

#[test]
fn every_decision_is_listed_and_says_what_it_must() {
    let list = read("docs/decisions/README.md");
    let mut numbers = BTreeSet::new();
    let mut found = Vec::new();
    for record in text_files().iter().filter(|file| file.path.starts_with("docs/decisions/0")) {
        let name = record.path.trim_start_matches("docs/decisions/");
        let number = &name[..4];
        if !numbers.insert(number.to_owned()) {
            found.push(format!("{name}: {number} is taken twice"));
        }
        if !list.contains(&format!("({name})")) {
            found.push(format!("{name} is not in docs/decisions/README.md"));
        }
        for part in ["Context", "Decision", "Consequence", "How to undo"] {
            if !record.text.contains(part) {
                found.push(format!("{name} does not say `{part}`"));
            }
        }
    }
    assert!(!numbers.is_empty(), "there are decisions");
    nothing(&found, "A decision that cannot be found, or undone, is none:");
}

#[test]
fn the_example_configuration_shows_every_setting_with_its_default() {
    // As printed from the settings themselves: | `listen` | `127.0.0.1:7070` | … |
    let documented: BTreeMap<String, String> = read("docs/configuration.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().trim_matches('`'));
            let (name, default) = (cells.next()?, cells.next()?);
            Some((name.to_owned(), if default == "none" { String::new() } else { default.to_owned() }))
        })
        .filter(|(name, _)| name != "config")
        .collect();
    assert!(documented.len() > 5, "docs/configuration.md is read: {documented:?}");
    let shown: BTreeMap<String, String> = read("deploy/config.example.toml")
        .lines()
        .filter_map(|line| line.strip_prefix("# ")?.split_once(" = "))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect();
    assert_eq!(shown, documented);
}

#[test]
fn documents_name_only_words_that_xtask_knows() {
    let help = read("xtask/src/main.rs");
    let mut found = Vec::new();
    for document in documents() {
        for (_, rest) in document
            .text
            .match_indices("cargo xtask ")
            .map(|(at, text)| (at, &document.text[at + text.len()..]))
        {
            let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            if !word.is_empty() && !help.contains(&format!("\"{word}\" =>")) {
                found.push(format!("{}: cargo xtask {word}", document.path));
            }
        }
    }
    nothing(&found, "xtask has no such words:");
}

#[test]
fn these_checks_see_what_they_look_for() {
    assert_eq!(links("see [a](b.md#c), [d](https://e)\n```\n[f](g)\n```\n[h](#i)"), ["b.md#c", "#i"]);
    assert!(follow("docs/decisions/README.md", "../../README.md#what-you-can-rely-on").is_ok());
    assert!(follow("README.md", "docs/no-such.md").is_err());
    assert!(follow("README.md", "README.md#no-such-heading").is_err());
    let spans: Vec<&str> =
        code_spans("`step.begun` and `nodes.a.b`, `x.rs`").flat_map(dotted_names).collect();
    assert_eq!(spans, ["step.begun", "x.rs"]);
}
