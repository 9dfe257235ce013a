//! Which runs go first when there is not room for all.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    pub const ALL: &[Priority] = &[Self::High, Self::Normal, Self::Low];

    /// Whom to look for first in this turn. Six of eight turns begin with what is urgent, one with what is normal, and
    /// one with what is not urgent at all: it comes later, and it comes.
    pub fn order_of_turn(turn: u64) -> [Priority; 3] {
        match turn % 8 {
            3 => [Self::Normal, Self::High, Self::Low],
            7 => [Self::Low, Self::High, Self::Normal],
            _ => [Self::High, Self::Normal, Self::Low],
        }
    }

    /// What rows keep: smaller goes first.
    pub fn rank(self) -> i16 {
        self as i16
    }

    pub fn from_rank(rank: i16) -> Self {
        Self::ALL.get(rank as usize).copied().unwrap_or_default()
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}
