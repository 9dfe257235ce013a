//! Who caused something.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The author of a command or an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// A person or a client, as the API identified them.
    User {
        id: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        roles: Vec<String>,
    },
    /// A part of Windlass: `engine`, `sweep`, `doctor`.
    System { id: String },
}

impl Actor {
    pub fn user(id: impl Into<String>) -> Self {
        Self::User { id: id.into(), roles: Vec::new() }
    }

    pub fn system(id: impl Into<String>) -> Self {
        Self::System { id: id.into() }
    }

    pub fn engine() -> Self {
        Self::system("engine")
    }

    pub fn id(&self) -> &str {
        match self {
            Self::User { id, .. } | Self::System { id } => id,
        }
    }

    /// As the log keeps it: roles decide whether somebody may, and are no part of what was done.
    #[must_use]
    pub fn kept(&self) -> Self {
        match self {
            Self::User { id, .. } => Self::user(id),
            Self::System { id } => Self::system(id),
        }
    }

    /// Whether an approver entry (`user:ada`, `role:editor`) names this actor.
    pub fn matches(&self, entry: &str) -> bool {
        match (self, entry.split_once(':')) {
            (Self::User { id, .. }, Some(("user", name))) => id == name,
            (Self::User { roles, .. }, Some(("role", name))) => roles.iter().any(|role| role == name),
            _ => false,
        }
    }
}

/// `user:ada` or `system:engine`: the form that rows keep.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { id, .. } => write!(f, "user:{id}"),
            Self::System { id } => write!(f, "system:{id}"),
        }
    }
}

impl From<&str> for Actor {
    /// Reads the form that [`fmt::Display`] writes.
    fn from(text: &str) -> Self {
        match text.split_once(':') {
            Some(("system", id)) => Self::system(id),
            Some(("user", id)) => Self::user(id),
            _ => Self::user(text),
        }
    }
}
