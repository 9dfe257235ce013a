//! Typed identifiers, so that one cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id!(
    /// A run. UUIDv7: sorts by creation time.
    RunId
);
uuid_id!(
    /// One start of one worker process. Never reused across restarts.
    SessionId
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// Who owns a row. Every row and every query carries one.
    TenantId(i32)
);
number_id!(
    /// Position of an event in its run's log: 1, 2, 3, … without gaps.
    EventSeq(u32)
);
number_id!(
    /// Fencing token of a run: one more at every claim.
    Epoch(u32)
);
number_id!(
    /// Compare-and-set token of a run row: one more at every write.
    RunVersion(u32)
);
number_id!(
    /// Position of a node in its compiled [`crate::Plan`]. What events and rows carry instead of the name.
    NodeIndex(u16)
);
number_id!(
    /// Position of a state in its machine, in document order; 0 is the machine itself.
    StateIndex(u16)
);
number_id!(
    /// A stored definition that runs can be pinned to (row id of `workflow_versions`).
    VersionId(i64)
);

impl TenantId {
    /// The one tenant that exists until authentication arrives.
    pub const DEFAULT: TenantId = TenantId(1);
}

impl EventSeq {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl NodeIndex {
    pub fn at(self) -> usize {
        usize::from(self.0)
    }
}

impl StateIndex {
    pub const ROOT: StateIndex = StateIndex(0);

    pub fn at(self) -> usize {
        usize::from(self.0)
    }
}

/// Which step: its node, and inside a fan-out the item that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "StoredKey", into = "StoredKey")]
pub struct StepKey {
    pub node: NodeIndex,
    pub item: Option<u32>,
}

impl StepKey {
    /// The step of another node that is for the same item.
    #[must_use]
    pub fn beside(self, node: NodeIndex) -> Self {
        Self { node, ..self }
    }
}

impl From<NodeIndex> for StepKey {
    fn from(node: NodeIndex) -> Self {
        Self { node, item: None }
    }
}

impl From<StepKey> for NodeIndex {
    fn from(key: StepKey) -> Self {
        key.node
    }
}

/// A number alone where there is no item, as most keys are.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredKey {
    Node(NodeIndex),
    Item(NodeIndex, u32),
}

impl From<StoredKey> for StepKey {
    fn from(stored: StoredKey) -> Self {
        match stored {
            StoredKey::Node(node) => node.into(),
            StoredKey::Item(node, item) => Self { node, item: Some(item) },
        }
    }
}

impl From<StepKey> for StoredKey {
    fn from(key: StepKey) -> Self {
        match key.item {
            None => Self::Node(key.node),
            Some(item) => Self::Item(key.node, item),
        }
    }
}

/// A step attempt: 1, 2, 3, … per step.
pub type Attempt = u16;
