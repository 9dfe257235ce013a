//! How a command ends: its exit code, and what it says when it could not do what was asked.

use std::fmt;
use std::process::ExitCode;

use crate::client::Refusal;

/// Exit codes that scripts may rely on. 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// The run failed or was canceled, a definition is not valid, or something else went wrong.
    Failed = 1,
    /// The command cannot be understood, or the request is not valid.
    Usage = 2,
    NotFound = 3,
    /// Not allowed.
    Forbidden = 4,
    /// The run or the workflow is not in a state that allows this.
    Conflict = 5,
    /// What was waited for did not come in time.
    TimedOut = 124,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do its work: what happened, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Nothing went wrong and nothing more is to be said: the command just ends.
    pub fn quiet() -> Self {
        Self::new(Exit::Ok, "")
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What an error of a command means: its exit code, and the text for people.
pub fn explain(error: &anyhow::Error) -> (Exit, String) {
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    let mut text = format!("{error:#}");
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
        for line in hint.lines() {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    let refusal = error.chain().find_map(|cause| cause.downcast_ref::<Refusal>());
    let exit = match (failure, refusal) {
        (Some(failure), _) => failure.exit,
        (None, Some(refusal)) => refusal.exit(),
        (None, None) => Exit::Failed,
    };
    (exit, text)
}
