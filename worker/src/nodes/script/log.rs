//! A script's standard error: kept as its log, and shown line by line while it runs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::json;
use windlass_engine::{File, Progress};

use crate::nodes::artifact::LOG_NAME;

/// What is kept of the beginning of a log, and as much of its end.
const KEPT_BYTES_MAX: usize = 512 * 1024;
/// What is shown of one line.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// Faster than anyone reads; what comes more often is left to the kept log.
const LINES_SHOWN_MAX: u32 = 50;
const LINES_SHOWN_EVERY: Duration = Duration::from_secs(1);
/// What an error's message shows of the end.
const LAST_LINES_MAX: usize = 10;
const LAST_BYTES_MAX: usize = 2 * 1024;

/// The beginning and the end of what was written; the middle of a very long log is left out.
#[derive(Default)]
pub(super) struct Log {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out_bytes: u64,
}

impl Log {
    pub(super) fn write(&mut self, mut content: &[u8]) {
        let room = KEPT_BYTES_MAX - self.head.len();
        let (first, rest) = content.split_at(room.min(content.len()));
        self.head.extend_from_slice(first);
        content = rest;
        self.tail.extend(content);
        let excess = self.tail.len().saturating_sub(KEPT_BYTES_MAX);
        self.tail.drain(..excess);
        self.left_out_bytes += excess as u64;
    }

    /// None when nothing was written.
    pub(super) fn file(self) -> Option<File> {
        let Self { head: mut content, tail, left_out_bytes } = self;
        if left_out_bytes > 0 {
            content.extend_from_slice(format!("\n[{left_out_bytes} bytes left out]\n").as_bytes());
        }
        content.extend(tail);
        let file = File { name: LOG_NAME.to_owned(), media_type: "text/plain".to_owned(), content };
        (!file.content.is_empty()).then_some(file)
    }

    /// The last lines, for a message.
    pub(super) fn end(&self) -> String {
        let last: Vec<u8> = if self.tail.is_empty() {
            self.head[self.head.len().saturating_sub(LAST_BYTES_MAX)..].to_vec()
        } else {
            self.tail.range(self.tail.len().saturating_sub(LAST_BYTES_MAX)..).copied().collect()
        };
        let text = String::from_utf8_lossy(&last);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES_MAX)..].join("\n")
    }
}

/// Shows lines to whoever watches the run, not too many at once.
pub(super) struct LiveLog {
    progress: Progress,
    line: Vec<u8>,
    since: Instant,
    shown: u32,
    skipped: u64,
}

impl LiveLog {
    pub(super) fn new(progress: Progress, now: Instant) -> Self {
        Self { progress, line: Vec::new(), since: now, shown: 0, skipped: 0 }
    }

    pub(super) fn write(&mut self, content: &[u8], now: Instant) {
        for piece in content.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if is_ended {
                self.show(now);
            }
        }
    }

    /// Shows a last line that has no end.
    pub(super) fn finish(&mut self, now: Instant) {
        if !self.line.is_empty() {
            self.show(now);
        }
    }

    fn show(&mut self, now: Instant) {
        let line = std::mem::take(&mut self.line);
        if now.duration_since(self.since) >= LINES_SHOWN_EVERY {
            self.since = now;
            self.shown = 0;
        }
        if self.shown == LINES_SHOWN_MAX {
            self.skipped += 1;
            return;
        }
        self.shown += 1;
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
        let mut news = json!({ "line": text.trim_end_matches('\u{fffd}') });
        if self.skipped > 0 {
            news["skipped_lines"] = std::mem::take(&mut self.skipped).into();
        }
        self.progress.report(news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::testing::{reported, watched_step};

    #[test]
    fn a_very_long_log_keeps_its_beginning_and_its_end() {
        let mut log = Log::default();
        log.write(b"first line\n");
        for _ in 0..64 {
            log.write(&[b'x'; 65_536]);
        }
        log.write(b"\nlast line\n");
        assert_eq!(log.end().lines().last(), Some("last line"));
        let content = String::from_utf8(log.file().unwrap().content).unwrap();
        assert!(content.starts_with("first line\n") && content.ends_with("\nlast line\n"));
        assert!(content.contains("bytes left out]"));
        assert!(content.len() < 2 * KEPT_BYTES_MAX + 100);
    }

    #[test]
    fn a_message_shows_the_last_lines_only() {
        let mut log = Log::default();
        log.write((0..100).map(|n| format!("line {n}\n")).collect::<String>().as_bytes());
        assert_eq!(log.end().lines().count(), LAST_LINES_MAX);
        assert!(log.end().ends_with("line 99"));
        assert_eq!(Log::default().end(), "");
        assert_eq!(Log::default().file(), None);
    }

    #[tokio::test]
    async fn lines_are_shown_whole_shortened_and_not_too_often() {
        let (step, mut news) = watched_step(json!({})).await;
        let start = Instant::now();
        let mut live = LiveLog::new(step.progress, start);
        live.write(b"one\r\ntw", start);
        live.write(b"o\nraw \xff byte\n", start);
        live.write(&[b'x'; LINE_BYTES_MAX + 5], start);
        live.finish(start);
        let lines: Vec<_> =
            reported(&mut news).iter().map(|it| it["line"].as_str().unwrap().to_owned()).collect();
        assert_eq!(lines[..3], ["one", "two", "raw \u{fffd} byte"]);
        assert_eq!(lines[3].len(), LINE_BYTES_MAX);

        live.write("much\n".repeat(200).as_bytes(), start);
        assert_eq!(reported(&mut news).len(), LINES_SHOWN_MAX as usize - 4);
        live.write(b"later\n", start + LINES_SHOWN_EVERY);
        assert_eq!(reported(&mut news), [json!({ "line": "later", "skipped_lines": 154 })]);
    }
}
