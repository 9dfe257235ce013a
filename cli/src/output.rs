//! What goes to standard output and standard error, and how it looks.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;
use unicode_width::UnicodeWidthStr;

/// A longer cell would push the rest of its row off the screen.
const CELL_WIDTH_MAX: usize = 60;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    // No doc comments here: they would turn every `--help` into a page about formats.
    Table,
    Json,
    Jsonl,
    Yaml,
    Id,
}

#[derive(Args, Clone, Copy, Debug)]
pub struct OutputArgs {
    /// How results are printed; `id` prints only ids, for the next command in a pipe
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    pub output: Format,
}

/// Writes data to standard output. A reader that has seen enough ends the command, quietly and in good order.
pub fn data(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written =
        out.write_all(text.as_bytes()).and_then(|()| match text.ends_with('\n') || text.is_empty() {
            true => out.flush(),
            false => out.write_all(b"\n").and_then(|()| out.flush()),
        });
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::quiet().into()),
        other => Ok(other?),
    }
}

/// Says something to the person, on standard error. That nobody listens is no error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints one object; `table` is how people see it.
pub fn object(format: Format, value: &Value, id: &str, table: impl FnOnce() -> String) -> Result<()> {
    match format {
        Format::Table => data(&table()),
        Format::Json => data(&serde_json::to_string_pretty(value)?),
        Format::Jsonl => data(&value.to_string()),
        Format::Yaml => data(&yaml(value)?),
        Format::Id => data(id),
    }
}

/// One column of a table over JSON objects.
pub struct Column {
    pub title: &'static str,
    pub cell: fn(&Value) -> String,
}

/// Prints a list of objects; `id` finds what names each of them.
pub fn list(format: Format, items: &[Value], id: fn(&Value) -> String, columns: &[Column]) -> Result<()> {
    let lines =
        |line: &dyn Fn(&Value) -> String| items.iter().map(|item| line(item) + "\n").collect::<String>();
    match format {
        Format::Table => data(&table(items, columns)),
        Format::Json => data(&serde_json::to_string_pretty(items)?),
        Format::Jsonl => data(&lines(&Value::to_string)),
        Format::Yaml => data(&yaml(&items)?),
        Format::Id => data(&lines(&id)),
    }
}

/// Columns side by side, titles first, status words in color when standard output is a terminal.
pub fn table(items: &[Value], columns: &[Column]) -> String {
    let style = Style::stdout();
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            columns.iter().map(|column| shorten(&clean(&(column.cell)(item)), CELL_WIDTH_MAX)).collect()
        })
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            rows.iter().map(|row| row[at].width()).chain([column.title.len()]).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    push_row(&mut text, &titles, &widths, |cell| style.dim(cell));
    for row in &rows {
        push_row(&mut text, row, &widths, |cell| style.status(cell));
    }
    text
}

fn push_row(text: &mut String, row: &[String], widths: &[usize], paint: impl Fn(&str) -> String) {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        line.push_str(&paint(cell));
        // Padding comes after the color codes, which have no width.
        line.push_str(&" ".repeat(width - cell.width() + 2));
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

pub fn yaml(value: &impl Serialize) -> Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}

/// The text at a JSON pointer, empty when there is none; whole seconds for times.
pub fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// `2026-11-20 14:52:03` (UTC) of a time in JSON.
pub fn time(value: &Value, pointer: &str) -> String {
    let text = text(value, pointer);
    match text.split_once('T') {
        Some((day, rest)) => format!("{day} {}", rest.get(..8).unwrap_or(rest)),
        None => text,
    }
}

/// What a step or a stranger wrote, made harmless to a terminal: control characters are shown, not obeyed.
pub fn clean(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() && !is_direction_override(c);
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|c| match c {
            '\t' => "    ".to_owned(),
            c if harmless(c) => c.to_string(),
            c => c.escape_unicode().to_string(),
        })
        .collect::<String>()
        .into()
}

/// Characters that make text read otherwise than it is.
fn is_direction_override(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text, or its beginning and `…` when it is wider than `width`.
pub fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        let next = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if short.width() + next + 1 > width {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

/// Colors, when the stream is a terminal and nobody asked for none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    color: bool,
}

impl Style {
    pub fn stdout() -> Self {
        Self { color: std::io::stdout().is_terminal() && color_wanted() }
    }

    pub fn stderr() -> Self {
        Self { color: std::io::stderr().is_terminal() && color_wanted() }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// A status word in the color of its meaning; any other text as it is.
    pub fn status(self, word: &str) -> String {
        match word {
            "completed" | "succeeded" | "granted" | "valid" => self.paint("32", word),
            "failed" | "canceled" | "rejected" | "lost" | "timed_out" | "invalid" => self.paint("31", word),
            "paused" | "expired" => self.paint("33", word),
            "running" | "canceling" | "compensating" => self.paint("36", word),
            "queued" | "waiting" | "pending" | "skipped" => self.paint("2", word),
            _ => word.to_owned(),
        }
    }
}

fn color_wanted() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_wrote_cannot_steer_the_terminal() {
        assert_eq!(clean("plain ✓"), "plain ✓");
        assert_eq!(clean("\x1b[2Jgone\r\n"), "\\u{1b}[2Jgone\\u{d}\\u{a}");
        assert_eq!(clean("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(clean("a\tb"), "a    b");
    }

    #[test]
    fn text_is_shortened_by_its_width_on_screen() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdefg", 6), "abcde…");
        assert_eq!(shorten("日本語", 5), "日本…");
    }

    #[test]
    fn columns_line_up_under_their_titles() {
        let items = [serde_json::json!({"a": "x", "b": 1}), serde_json::json!({"a": "long one", "b": null})];
        let columns = [
            Column { title: "A", cell: |it| text(it, "/a") },
            Column { title: "B", cell: |it| text(it, "/b") },
        ];
        assert_eq!(table(&items, &columns), "A         B\nx         1\nlong one\n");
    }
}
