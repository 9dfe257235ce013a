//! Log files of several processes, shown together as they grow.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use crate::report::say;

/// Names are filled up to this, so that lines stand below each other.
const NAME_WIDTH: usize = 9;

#[derive(Default)]
pub(crate) struct Logs(Vec<Log>);

struct Log {
    name: String,
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not written yet.
    begun: String,
}

impl Logs {
    /// From its beginning; the file may come later.
    pub(crate) fn follow(&mut self, name: &str, path: PathBuf) {
        self.0.push(Log { name: name.to_owned(), path, file: None, begun: String::new() });
    }

    /// Writes what is new to standard error, each line after the name of who said it.
    pub(crate) fn show(&mut self) {
        for log in &mut self.0 {
            for line in log.new_lines() {
                say(&format!("{:<NAME_WIDTH$} | {line}", log.name));
            }
        }
    }
}

impl Log {
    fn new_lines(&mut self) -> Vec<String> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            // What could be read before an error is shown; the rest comes next time.
            let _ = file.read_to_end(&mut bytes);
        }
        self.begun += &String::from_utf8_lossy(&bytes);
        let end = self.begun.rfind('\n').map_or(0, |at| at + 1);
        self.begun.drain(..end).collect::<String>().lines().map(str::to_owned).collect()
    }
}
