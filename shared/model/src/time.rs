//! Points in time and spans of it, as the log stores them and as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::workflow::excerpt;

/// Microseconds since 1970-01-01 UTC. Read from the database's clock; RFC 3339 in JSON.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment plus `span`; the far end of time instead of an overflow.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment less `span`; the beginning of time instead of an overflow.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long until `later`, zero when it has passed.
    pub fn until(self, later: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>().map(|at| Self(at.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The longest span a definition or a request may ask for.
pub const SPAN_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Reads `30s`, `5m`, `48h`, `7d`, `1h30m`, or ISO 8601 (`PT30S`, `P7D`). A day is 24 hours.
///
/// # Errors
/// A sentence for people when the text is no duration, is negative, or is longer than [`SPAN_MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let shown = excerpt(text);
    let span: Span =
        text.parse().map_err(|_| format!("`{shown}` is not a duration; write 30s, 5m, 48h, 7d or PT30S"))?;
    let long = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| {
        format!("`{shown}` has months or years, which have no fixed length; write days instead")
    })?;
    let span = Duration::try_from(long).map_err(|_| format!("`{shown}` is negative"))?;
    if span > SPAN_MAX { Err(format!("`{shown}` is longer than ten years")) } else { Ok(span) }
}

/// As [`parse_duration`] reads it, in the largest unit that says it whole: `90m`, `36h`, `250ms`.
pub fn show_duration(span: Duration) -> String {
    const UNITS: &[(u128, &str)] = &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let ms = span.as_millis();
    match UNITS.iter().find(|(unit, _)| ms.is_multiple_of(*unit)) {
        Some(_) if ms == 0 => "0s".to_owned(),
        Some((unit, letter)) => format!("{}{letter}", ms / unit),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_as_it_is_read() {
        for text in ["0s", "250ms", "30s", "90m", "36h", "7d"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in
            [("30s", 30), ("5m", 300), ("48h", 172_800), ("7d", 604_800), ("PT30S", 30), ("1h30m", 5400)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "soon", "-5s", "1y", "99999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_text_that_is_no_duration_is_not_repeated_as_a_whole() {
        let detail = parse_duration(&"x".repeat(1_000_000)).unwrap_err();
        assert!(detail.len() < 200 && detail.contains("is not a duration"), "{detail:.300}");
    }

    #[test]
    fn a_timestamp_survives_json() {
        let at = Timestamp(1_763_000_000_123_456);
        let text = serde_json::to_string(&at).unwrap();
        assert_eq!(text, "\"2025-11-13T02:13:20.123456Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), at);
    }
}
