//! Schedules: runs that start by themselves, at the times of a cron expression in a time zone.

use std::collections::BTreeMap;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::concurrency::{Group, OnConflict};
use crate::{Priority, Timestamp};

/// Characters of a cron expression: longer ones only say the same in another way.
pub const CRON_CHARS_MAX: usize = 200;
/// The fields of a cron expression, in turn, and what may stand there.
const CRON_FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, or `L` for the last one"),
    ("month", "1 to 12, or `JAN` to `DEC`"),
    ("day of the week", "0 to 7, or `SUN` to `SAT`"),
];
/// Times that nobody was there for are made up for when they are no older than this, unless the schedule says otherwise.
pub const CATCH_UP_DEFAULT: Duration = Duration::from_secs(3_600);

/// What a schedule starts, and when. Read by [`Self::clock`] before it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// `name` or `name@version`.
    pub workflow: String,
    /// Minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// IANA name.
    pub time_zone: String,
    #[serde(default)]
    pub inputs: Map<String, Value>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub priority: Priority,
    #[serde(default)]
    pub overlap: Overlap,
    pub catch_up_ms: u64,
}

/// What becomes of a time that comes while the run before is still under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Nothing starts.
    #[default]
    Skip,
    /// The new run waits until the one before has ended.
    Queue,
    /// The one before is canceled first.
    CancelRunning,
    /// Both run side by side.
    Allow,
}

impl Overlap {
    pub const ALL: &[Overlap] = &[Self::Skip, Self::Queue, Self::CancelRunning, Self::Allow];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::CancelRunning => "cancel_running",
            Self::Allow => "allow",
        }
    }

    /// Whether nothing starts while the run before is under way.
    pub fn skips(self) -> bool {
        self == Self::Skip
    }

    /// The concurrency group in which runs of this schedule take turns; none when they need not.
    pub fn group(self, schedule: &str) -> Option<Group> {
        let on_conflict = match self {
            Self::Queue => OnConflict::Queue,
            Self::CancelRunning => OnConflict::CancelRunning,
            Self::Skip | Self::Allow => return None,
        };
        Some(Group { name: format!("schedule:{schedule}"), max: 1, on_conflict })
    }
}

/// Which schedule started a run, and for which of its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    pub name: String,
    pub at: Timestamp,
}

/// What is to be done about a time that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whether a run starts for it; else too much time has passed since.
    pub starts: bool,
    /// The time after it that counts.
    pub next_at: Option<Timestamp>,
}

impl ScheduleSpec {
    /// # Errors
    /// The field that is wrong, and a sentence.
    pub fn clock(&self) -> Result<CronClock, (&'static str, String)> {
        CronClock::new(&self.cron, &self.time_zone)
    }

    /// What to do at `now` about the time `due`.
    pub fn turn(&self, clock: &CronClock, due: Timestamp, now: Timestamp) -> Turn {
        let span = i64::try_from(self.catch_up_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let oldest = Timestamp(now.0.saturating_sub(span));
        let starts = due >= oldest;
        // Of what was missed, all that is too old is passed over at once.
        Turn { starts, next_at: clock.after(if starts { due } else { Timestamp(oldest.0 - 1) }) }
    }
}

/// The times of a cron expression.
pub struct CronClock {
    cron: Cron,
    zone: TimeZone,
}

impl CronClock {
    fn new(cron: &str, time_zone: &str) -> Result<Self, (&'static str, String)> {
        if cron.chars().count() > CRON_CHARS_MAX {
            return Err(("cron", format!("has more than {CRON_CHARS_MAX} characters")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parses = |text: &str| parser.parse(text).is_ok();
        let cron = parser.parse(cron).map_err(|_| ("cron", misread(cron, parses)))?;
        let zone = TimeZone::get(time_zone)
            .map_err(|_| ("time_zone", "is no IANA time zone such as `Europe/Berlin` or `UTC`".to_owned()))?;
        Ok(Self { cron, zone })
    }

    /// The first time after `at`; none when there is none.
    ///
    /// A time that clocks leap over comes as soon as they have; one that they show twice comes the first time, unless
    /// the expression names every hour, or every few: then it comes each time.
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let at = jiff::Timestamp::from_microsecond(at.0).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&at, false).ok()?;
        Some(Timestamp(next.timestamp().as_microsecond()))
    }

    /// The first few times after `at`.
    pub fn following(&self, at: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.after(at), |at| self.after(*at)).take(count).collect()
    }
}

/// Why a cron expression cannot be read: the parser does not say which of the fields it is.
fn misread(cron: &str, parses: impl Fn(&str) -> bool) -> String {
    let fields: Vec<&str> = cron.split_whitespace().collect();
    if let [word] = fields.as_slice()
        && word.starts_with('@')
    {
        return format!("`{word}` is none of `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`");
    }
    if fields.len() != CRON_FIELDS.len() {
        let names = CRON_FIELDS.map(|(name, _)| name).join(", ");
        return format!("has {} fields instead of five: {names}", fields.len());
    }
    let wrong = CRON_FIELDS.iter().zip(&fields).enumerate().find(|(index, (_, field))| {
        let mut alone = ["*"; CRON_FIELDS.len()];
        alone[*index] = field;
        !parses(&alone.join(" "))
    });
    match wrong {
        Some((_, ((name, range), field))) => format!(
            "`{field}` is no {name}: that is a number from {range}; or `*`, a list, a range or steps of these"
        ),
        None => "is no cron expression".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec(cron: &str, time_zone: &str) -> ScheduleSpec {
        ScheduleSpec {
            workflow: "report".into(),
            cron: cron.into(),
            time_zone: time_zone.into(),
            inputs: Map::new(),
            labels: BTreeMap::new(),
            priority: Priority::default(),
            overlap: Overlap::default(),
            catch_up_ms: 3_600_000,
        }
    }

    fn times(cron: &str, time_zone: &str, after: &str, count: usize) -> Vec<String> {
        let clock = spec(cron, time_zone).clock().unwrap_or_else(|(field, why)| panic!("{field} {why}"));
        let times = clock.following(at(after), count);
        times.into_iter().map(|at| at.to_string().replace(":00.000000Z", "Z")).collect()
    }

    #[test]
    fn times_follow_each_other_by_the_clock_of_the_zone() {
        assert_eq!(
            times("30 9 * * MON-FRI", "Europe/Berlin", "2026-12-04T12:00:00Z", 2),
            ["2026-12-07T08:30Z", "2026-12-08T08:30Z"]
        );
        assert_eq!(
            times("*/20 * * * *", "UTC", "2026-12-04T12:00:00Z", 2),
            ["2026-12-04T12:20Z", "2026-12-04T12:40Z"]
        );
        assert_eq!(times("@daily", "Asia/Kolkata", "2026-12-04T12:00:00Z", 1), ["2026-12-04T18:30Z"]);
    }

    #[test]
    fn a_time_that_clocks_leap_over_comes_right_after_the_leap() {
        // In Berlin, 2027-03-28 02:00 is followed by 03:00.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2027-03-27T00:00:00Z", 3),
            ["2027-03-27T01:30Z", "2027-03-28T01:00Z", "2027-03-29T00:30Z"]
        );
    }

    #[test]
    fn a_time_that_clocks_show_twice_comes_once_and_what_comes_every_hour_comes_each_time() {
        // In Berlin, 2027-10-31 02:59 is followed by 02:00.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2027-10-30T12:00:00Z", 2),
            ["2027-10-31T00:30Z", "2027-11-01T01:30Z"]
        );
        assert_eq!(
            times("30 * * * *", "Europe/Berlin", "2027-10-30T23:45:00Z", 3),
            ["2027-10-31T00:30Z", "2027-10-31T01:30Z", "2027-10-31T02:30Z"]
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (cron, time_zone, field) in [
            ("", "UTC", "cron"),
            ("* * * *", "UTC", "cron"),
            ("0 * * * * *", "UTC", "cron"),
            ("61 * * * *", "UTC", "cron"),
            ("every day", "UTC", "cron"),
            ("* * * * *", "Europe/Atlantis", "time_zone"),
            ("* * * * *", "", "time_zone"),
        ] {
            let refused = spec(cron, time_zone).clock().err().map(|(field, _)| field);
            assert_eq!(refused, Some(field), "{cron:?} {time_zone:?}");
        }
        let never = spec("0 0 30 2 *", "UTC").clock().unwrap_or_else(|(_, why)| panic!("{why}"));
        assert_eq!(never.after(at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn what_was_missed_is_made_up_for_within_the_window_and_passed_over_beyond_it() {
        let spec = spec("0 * * * *", "UTC");
        let clock = spec.clock().unwrap_or_else(|(_, why)| panic!("{why}"));
        let now = at("2026-12-04T12:30:00Z");
        assert_eq!(
            spec.turn(&clock, at("2026-12-04T12:00:00Z"), now),
            Turn { starts: true, next_at: Some(at("2026-12-04T13:00:00Z")) }
        );
        assert_eq!(
            spec.turn(&clock, at("2026-12-04T03:00:00Z"), now),
            Turn { starts: false, next_at: Some(at("2026-12-04T12:00:00Z")) }
        );
        let late = at("2026-12-04T12:00:00Z");
        assert_eq!(
            spec.turn(&clock, at("2026-12-04T11:00:00Z"), late).next_at,
            Some(late),
            "nothing in between is lost"
        );
    }

    #[test]
    fn what_is_no_cron_expression_is_told_by_its_field() {
        for (cron, part) in [
            ("61 * * * *", "`61` is no minute: that is a number from 0 to 59;"),
            ("0 24 * * *", "`24` is no hour: that is a number from 0 to 23;"),
            ("0 0 0 * *", "`0` is no day of the month: that is a number from 1 to 31,"),
            ("0 0 1 JANUARY *", "`JANUARY` is no month"),
            ("0 0 * * 1-9", "`1-9` is no day of the week"),
            ("*/0 * * * *", "`*/0` is no minute"),
            ("* * * * * *", "has 6 fields instead of five: minute, hour,"),
            ("", "has 0 fields"),
            ("daily", "has 1 fields"),
            ("@dayly", "`@dayly` is none of `@hourly`"),
        ] {
            let (field, why) = spec(cron, "UTC").clock().err().unwrap_or_else(|| panic!("{cron} is fine"));
            assert!(field == "cron" && why.contains(part), "{cron}: {why}");
        }
    }
}
