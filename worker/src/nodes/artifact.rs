//! What a file must be to become an artifact of a step.

use windlass_model::StepError;

/// Files that one step may keep.
pub(crate) const COUNT_MAX: usize = 100;
/// What the files of one step may weigh together: they travel to the store in one commit.
pub(crate) const BYTES_MAX: usize = 32 * 1024 * 1024;
const NAME_BYTES_MAX: usize = 128;
/// The name under which a step's log is kept.
pub(crate) const LOG_NAME: &str = "log";

/// Counts the files of one step against the limits.
#[derive(Default)]
pub(crate) struct Room {
    count: usize,
    bytes: usize,
}

impl Room {
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), StepError> {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let sentence = if self.count > COUNT_MAX {
            format!("a step may keep {COUNT_MAX} files")
        } else if self.bytes > BYTES_MAX {
            format!("the files of a step may have {} MiB together", BYTES_MAX >> 20)
        } else {
            return Ok(());
        };
        Err(StepError::new("limit.artifacts", sentence))
    }

    /// What the next file may weigh.
    pub(crate) fn bytes_left(&self) -> usize {
        BYTES_MAX.saturating_sub(self.bytes)
    }
}

/// Lets plain file names pass: nothing that a file system, a header or a reader could take for more.
///
/// # Errors
/// A sentence for people.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_alphanumeric() || " ._-+@()[],=~#&!".contains(c);
    let problem = if name.is_empty() || name.len() > NAME_BYTES_MAX {
        format!("must have 1 to {NAME_BYTES_MAX} bytes")
    } else if name == LOG_NAME {
        "is kept for the step's own log".to_owned()
    } else if !name.chars().all(is_plain) {
        "may hold letters, digits, spaces and `._-+@()[],=~#&!` only".to_owned()
    } else if name.starts_with(['.', ' ']) || name.ends_with(['.', ' ']) {
        "must not begin or end with a dot or a space".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(NAME_BYTES_MAX).flat_map(char::escape_debug).collect();
    Err(format!("the file name `{shown}` {problem}"))
}

/// By the name's extension; what is unknown is offered for download only.
pub(crate) fn media_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "json" => "application/json",
        "jsonl" | "ndjson" => "application/x-ndjson",
        "yaml" | "yml" => "application/yaml",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_pass() {
        for name in ["notes.md", "a", "Bericht für März (2).pdf", "x_1-2+3@4.tar.gz", "日本.txt"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_could_be_taken_for_more_are_refused() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in [
            "",
            ".",
            "..",
            "../../etc/passwd",
            "/etc/passwd",
            "a/b",
            "..\\x",
            "a\\b",
            "nul\0",
            "a\nb",
            "a\rb",
            "%2e%2e%2f",
            "report\u{202e}fdp.exe",
            "trailing.",
            "trailing ",
            ".hidden",
            "\"quoted\"",
            "a;b",
            "log",
            &long,
        ] {
            let sentence = check_name(name).unwrap_err();
            assert!(!sentence.chars().any(char::is_control), "{name:?}");
        }
    }

    #[test]
    fn files_are_counted_and_weighed() {
        let mut room = Room::default();
        for _ in 0..COUNT_MAX {
            room.take(1).unwrap();
        }
        assert_eq!(room.take(1).unwrap_err().kind, "limit.artifacts");
        let mut room = Room::default();
        room.take(BYTES_MAX).unwrap();
        assert_eq!(room.bytes_left(), 0);
        assert_eq!(room.take(1).unwrap_err().kind, "limit.artifacts");
    }
}
