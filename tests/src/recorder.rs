//! A script step that leaves a line in a file each time it really runs.

use std::path::PathBuf;

use tempfile::TempDir;

/// The file, and the step that writes to it.
pub struct Recorder {
    folder: TempDir,
}

/// One time that the script ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub run: String,
    pub node: String,
    pub attempt: u64,
    pub key: String,
}

impl Recorder {
    pub fn open() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    /// Where the lines go; not there before the first.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("lines")
    }

    /// The keys of a node that records itself: `{ id: a, <keys> }`.
    pub fn keys(&self) -> String {
        let path = self.path();
        let line = r"$WINDLASS_RUN_ID $WINDLASS_NODE $WINDLASS_ATTEMPT $WINDLASS_IDEMPOTENCY_KEY";
        format!("type: script, command: [/bin/sh, -c, 'echo \"{line}\" >> {}']", path.display())
    }

    pub fn lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        text.lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let [run, node, attempt, key] = words[..] else { panic!("a torn line: {line}") };
                Line {
                    run: run.to_owned(),
                    node: node.to_owned(),
                    attempt: attempt.parse().expect("the attempt is a number"),
                    key: key.to_owned(),
                }
            })
            .collect()
    }

    /// How often this node of this run ran.
    pub fn count(&self, run: &str, node: &str) -> usize {
        self.lines().iter().filter(|line| line.run == run && line.node == node).count()
    }
}
