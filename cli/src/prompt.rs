//! Asks the person at the terminal, without keeping anything else from going on.

use std::io::{BufRead, IsTerminal, Write};

use tokio::sync::mpsc;
use windlass_boot::shutdown::Signals;

/// The person at the keyboard.
pub struct Person {
    lines: mpsc::UnboundedReceiver<String>,
}

/// What came back.
pub enum Reply {
    Line(String),
    /// Ctrl-C, or the end of the input.
    Gone,
}

impl Person {
    /// None when nobody could read a question or answer it.
    pub fn at_terminal() -> Option<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return None;
        }
        let (sender, lines) = mpsc::unbounded_channel();
        // A thread of its own, never waited for: a blocked read must not keep the process from ending.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Some(Self { lines })
    }

    /// Asks for one line.
    pub async fn ask(&mut self, question: &str, signals: &mut Signals) -> Reply {
        // What was typed before the question was no answer to it.
        while self.lines.try_recv().is_ok() {}
        let mut out = std::io::stderr().lock();
        let _ = write!(out, "{question} ").and_then(|()| out.flush());
        drop(out);
        tokio::select! {
            line = self.lines.recv() => line.map_or(Reply::Gone, |line| Reply::Line(line.trim().to_owned())),
            _ = signals.next() => Reply::Gone,
        }
    }

    /// Asks until the answer begins with one of `letters`.
    pub async fn choose(&mut self, question: &str, letters: &[char], signals: &mut Signals) -> Option<char> {
        loop {
            let Reply::Line(line) = self.ask(question, signals).await else { return None };
            let letter = line.chars().next().map(|letter| letter.to_ascii_lowercase());
            if let Some(letter) = letter.filter(|letter| letters.contains(letter)) {
                return Some(letter);
            }
        }
    }
}
