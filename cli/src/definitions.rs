//! Definitions on disk: read them, check them, and show what is wrong where it stands.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use windlass_model::Plan;
use windlass_model::workflow::{Catalog, Document, Format, Problem, compile};

use crate::beside;
use crate::failure::{Exit, Failure};
use crate::output::{Style, clean, shorten};

/// The part of an offending line that is shown.
const LINE_WIDTH_MAX: usize = 160;
/// A larger file is no definition; the parser's own limit is below this.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The text of one definition and where it came from.
pub struct Source {
    /// As people name it; `standard input` for `-`.
    pub name: String,
    pub text: String,
    pub format: Format,
    /// Where it was read from, unless that was standard input.
    pub path: Option<PathBuf>,
}

/// A definition that is valid.
pub struct Definition {
    pub document: Document,
    pub plan: Plan,
    /// It calls workflows by the paths of their files, of which the document has the names.
    pub calls_files: bool,
}

impl Source {
    /// Reads a file, or standard input for `-`. A name ending in `.json` holds JSON; all others YAML.
    pub fn read(path: &Path) -> Result<Self> {
        let (name, bytes) = if path == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
            ("standard input".to_owned(), bytes)
        } else {
            (path.display().to_string(), read_file(path)?)
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let line =
                error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
            Failure::new(Exit::Failed, format!("{name}:{line}: this is no UTF-8 text"))
        })?;
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let format = if is_json { Format::Json } else { Format::Yaml };
        let path = (path != Path::new("-")).then(|| path.to_owned());
        Ok(Self { name, text, format, path })
    }

    /// # Errors
    /// Every problem of the definition.
    pub fn compile(&self, catalog: &Catalog) -> Result<Definition, Vec<Problem>> {
        let mut document = Document::parse(&self.text, self.format)?;
        let calls_files = beside::put_names(self, &mut document);
        let plan = compile(&document, catalog)?;
        Ok(Definition { document, plan, calls_files })
    }

    /// Like [`Source::compile`], with the problems as a failure for people.
    pub fn compile_or_explain(&self, catalog: &Catalog) -> Result<Definition> {
        self.compile(catalog).map_err(|problems| self.refusal(&problems).into())
    }

    /// Its problems as a failure for people.
    pub fn refusal(&self, problems: &[Problem]) -> Failure {
        let count = match problems.len() {
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        let text = format!("{} is not valid: {count}\n\n{}", self.name, self.explain(problems));
        Failure::new(Exit::Failed, text.trim_end().to_owned())
    }

    /// Each problem with its place and the line it stands in.
    pub fn explain(&self, problems: &[Problem]) -> String {
        let mut text = String::new();
        for problem in problems {
            self.explain_one(problem, &mut text);
        }
        text
    }

    fn explain_one(&self, problem: &Problem, text: &mut String) {
        let style = Style::stderr();
        let place = match (problem.line, problem.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", self.name),
            (Some(line), None) => format!("{}:{line}", self.name),
            _ => format!(
                "{} at {}",
                self.name,
                if problem.pointer.is_empty() { "/" } else { &problem.pointer }
            ),
        };
        let detail = clean(&problem.detail);
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{} {}: {detail}", style.bold(&clean(&place)), style.red(problem.code));
        if let Some(number) = problem.line
            && let Some(line) = self.text.lines().nth(number as usize - 1)
        {
            let margin = " ".repeat(number.to_string().len());
            let shown = shorten(&clean(line), LINE_WIDTH_MAX);
            let _ = writeln!(text, " {margin} {}", style.dim("|"));
            let _ = writeln!(text, " {number} {} {shown}", style.dim("|"));
            if let Some(column) = problem.column {
                // Columns count characters; tabs and others are shown wider than they are counted.
                let before: String = line.chars().take(column as usize - 1).collect();
                let indent = unicode_width::UnicodeWidthStr::width(&*clean(&before));
                if indent < LINE_WIDTH_MAX {
                    let _ = writeln!(
                        text,
                        " {margin} {} {}{}",
                        style.dim("|"),
                        " ".repeat(indent),
                        style.red("^")
                    );
                }
            }
            text.push('\n');
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let failure = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format!("{} cannot be read: {error}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(failure)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failure)?;
    Ok(bytes)
}

/// Whether a name on the command line means a file rather than a published workflow.
pub fn looks_like_file(target: &str) -> bool {
    let path = Path::new(target);
    target == "-" || is_definition(path) || target.contains(std::path::MAIN_SEPARATOR) || path.is_file()
}

fn is_definition(path: &Path) -> bool {
    path.extension().and_then(|it| it.to_str()).is_some_and(|it| matches!(it, "yaml" | "yml" | "json"))
}

/// The definitions directly in a folder, each with the time it was last written.
pub fn in_folder(folder: &Path) -> std::io::Result<Vec<(PathBuf, SystemTime)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() && is_definition(&entry.path()) {
            found.push((entry.path(), metadata.modified()?));
        }
    }
    found.sort();
    Ok(found)
}
