//! Concurrency groups: how many runs of one name may be under way, and what becomes of one that is too many.

use serde::{Deserialize, Serialize};

use crate::workflow::expression::Template;
use crate::{Priority, RunId};

/// Characters that the name of a group may have.
pub const GROUP_CHARS_MAX: usize = 200;
/// Places that a group may have.
pub const PLACES_MAX: u32 = 1_000;

/// What a definition says about its runs.
#[derive(Debug)]
pub struct ConcurrencySpec {
    /// Gives the name of a run's group.
    pub group: Template,
    pub max: u32,
    pub on_conflict: OnConflict,
}

/// What becomes of a new run when its group is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// It waits for its turn.
    #[default]
    Queue,
    /// There is no new run.
    Reject,
    /// Older runs of the group are canceled, and it begins when they have ended.
    CancelRunning,
}

impl OnConflict {
    pub const ALL: &[OnConflict] = &[Self::Queue, Self::Reject, Self::CancelRunning];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Reject => "reject",
            Self::CancelRunning => "cancel_running",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.as_str() == text)
    }
}

/// The group of one run. Runs of all workflows of a tenant that give the same name share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub name: String,
    /// How many may be under way.
    pub max: u32,
    pub on_conflict: OnConflict,
}

/// Where a run stands in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// No engine has asked for it yet.
    #[default]
    Unasked,
    /// There was none, and the run waits for it.
    Awaited,
    Held,
}

/// A run that has a place in a group, or waits for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub run_id: RunId,
    pub priority: Priority,
    pub group: Group,
    pub has_place: bool,
}

impl Member {
    /// Who has a place comes first; of those that wait the most urgent, and of those the oldest.
    pub fn turn(&self) -> (bool, Priority, RunId) {
        (!self.has_place, self.priority, self.run_id)
    }
}

/// How many of those that wait get a place now. All members, in turn.
///
/// Each counts by what its own definition allows: nobody overtakes one that has to wait.
pub fn admitted(members: &[Member]) -> usize {
    let held = members.iter().take_while(|member| member.has_place).count();
    let fits = |(place, member): &(usize, &Member)| *place < member.group.max as usize;
    members.iter().enumerate().skip(held).take_while(fits).count()
}

/// Runs that must end before the newest that cancels others may begin. None when nobody does.
pub fn in_the_way(members: &[Member]) -> Vec<RunId> {
    let cancels =
        |member: &&Member| !member.has_place && member.group.on_conflict == OnConflict::CancelRunning;
    let newest = members.iter().filter(cancels).map(|member| member.run_id).max();
    let older = members.iter().map(|member| member.run_id).filter(|run_id| Some(*run_id) < newest);
    older.collect()
}

/// Why a text cannot be the name of a group.
///
/// # Errors
/// A sentence.
pub fn check_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if length == 0 || length > GROUP_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(format!(
            "a group has a name of 1 to {GROUP_CHARS_MAX} characters, none of them control: {name:.60?}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn member(n: u128, has_place: bool, max: u32, on_conflict: OnConflict) -> Member {
        let group = Group { name: "g".into(), max, on_conflict };
        Member { run_id: RunId(Uuid::from_u128(n)), priority: Priority::Normal, group, has_place }
    }

    #[test]
    fn as_many_get_in_as_there_are_places_and_nobody_overtakes() {
        use OnConflict::Queue;
        let of = |held: &[u128], waiting: &[(u128, u32)]| {
            let held = held.iter().map(|n| member(*n, true, 1, Queue));
            let all: Vec<_> =
                held.chain(waiting.iter().map(|(n, max)| member(*n, false, *max, Queue))).collect();
            admitted(&all)
        };
        assert_eq!(of(&[], &[(1, 1), (2, 1)]), 1);
        assert_eq!(of(&[1], &[(2, 1)]), 0);
        assert_eq!(of(&[1], &[(2, 3), (3, 3), (4, 3)]), 2);
        assert_eq!(of(&[1], &[(2, 1), (3, 5)]), 0, "the second may not begin, so the third waits as well");
    }

    #[test]
    fn everything_older_than_the_newest_that_cancels_is_in_its_way() {
        use OnConflict::{CancelRunning, Queue};
        let ids = |members: &[Member]| -> Vec<u128> {
            in_the_way(members).into_iter().map(|run_id| run_id.0.as_u128()).collect()
        };
        assert!(ids(&[member(1, true, 1, Queue), member(2, false, 1, Queue)]).is_empty());
        let crowd = [
            member(1, true, 1, Queue),
            member(2, false, 1, CancelRunning),
            member(3, false, 1, CancelRunning),
            member(4, false, 1, Queue),
        ];
        assert_eq!(ids(&crowd), [1, 2]);
    }
}
