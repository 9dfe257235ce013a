//! What happened, line by line: kept when somebody wants to read it, digested always.

use std::fmt::Arguments;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;

/// The same digest means the same run.
pub(crate) struct Trace(Mutex<Inner>);

struct Inner {
    hasher: DefaultHasher,
    /// None: only the digest is wanted.
    lines: Option<Vec<String>>,
    length: u64,
}

impl Trace {
    pub(crate) fn new(keeps_lines: bool) -> Self {
        let lines = keeps_lines.then(Vec::new);
        Self(Mutex::new(Inner { hasher: DefaultHasher::new(), lines, length: 0 }))
    }

    pub(crate) fn note(&self, at: Duration, line: Arguments<'_>) {
        let mut inner = self.0.lock().expect("one thread");
        let text = line.to_string();
        at.hash(&mut inner.hasher);
        text.hash(&mut inner.hasher);
        inner.length += 1;
        if let Some(lines) = &mut inner.lines {
            lines.push(format!("{:>10.3} {text}", at.as_secs_f64()));
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.0.lock().expect("one thread").hasher.finish()
    }

    pub(crate) fn take_lines(&self) -> Vec<String> {
        self.0.lock().expect("one thread").lines.take().unwrap_or_default()
    }
}
