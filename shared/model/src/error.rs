//! Why a step or a run failed, as data.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A failure that retries, error rules and people can tell apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepError {
    /// Dotted lower case: `timeout`, `http.503`, `script.exit_2`, `expression`, `limit.output`, `internal`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence for people. No event has one of more than [`MESSAGE_BYTES_MAX`].
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

/// The longest message of an event. Whoever writes one may repeat what a definition, a person or another machine said, at any length,
/// and it stands in several events, in states and in lists.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Failures that are noticed when the deed is, or may be, done: its answer broke off or is not what it must be.
const AFTER_THE_DEED: &[&str] =
    &["canceled", "http.response", "internal", "limit.output", "limit.response", "schema.output"];

impl StepError {
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), details: None }
    }

    /// How a run fails whose time is over.
    pub(crate) fn past_deadline() -> Self {
        Self::new("timeout", "the run did not end before its deadline")
    }

    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Whether the deed may have been done although the attempt failed.
    pub fn may_follow_the_deed(&self) -> bool {
        AFTER_THE_DEED.contains(&self.kind.as_str())
    }

    /// Whether `pattern` names this error: exactly, by a prefix (`http.*`), by class (`http.5xx`), or `*`.
    pub fn matches(&self, pattern: &str) -> bool {
        if pattern == "*" || pattern == self.kind {
            return true;
        }
        if let Some(prefix) = pattern.strip_suffix('*') {
            return self.kind.starts_with(prefix);
        }
        // `http.5xx` stands for every code of that hundred.
        match (pattern.strip_suffix("xx"), self.kind.len() == pattern.len()) {
            (Some(prefix), true) => {
                self.kind.starts_with(prefix)
                    && self.kind.bytes().skip(prefix.len()).all(|b| b.is_ascii_digit())
            }
            _ => false,
        }
    }
}

/// Puts an ellipsis in the place of what is too long. Not before secrets are masked: half of one would pass.
pub(crate) fn shorten(message: &mut String) {
    const ELLIPSIS: char = '…';
    if message.len() > MESSAGE_BYTES_MAX {
        let room = MESSAGE_BYTES_MAX - ELLIPSIS.len_utf8();
        let end = (0..=room).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
        message.truncate(end);
        message.push(ELLIPSIS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_its_bound_between_two_characters() {
        for (text, kept) in [("x", MESSAGE_BYTES_MAX - 3), ("ü", MESSAGE_BYTES_MAX - 4)] {
            let mut message = text.repeat(1_000_000);
            shorten(&mut message);
            assert_eq!(message, text.repeat(kept / text.len()) + "…");
        }
        let mut whole = "x".repeat(MESSAGE_BYTES_MAX);
        shorten(&mut whole);
        assert_eq!(whole, "x".repeat(MESSAGE_BYTES_MAX));
    }

    #[test]
    fn patterns_name_errors_exactly_by_prefix_and_by_class() {
        let error = StepError::new("http.503", "");
        for pattern in ["*", "http.503", "http.*", "http.5xx"] {
            assert!(error.matches(pattern), "{pattern}");
        }
        for pattern in ["http.4xx", "http.50", "timeout", "http", "", "xx"] {
            assert!(!error.matches(pattern), "{pattern}");
        }
    }
}
