//! Values as PostgreSQL writes them on the wire.

use std::time::Duration;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::{Oid, PgInterval};
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};
use windlass_model::Timestamp;

/// Microseconds from 1970 to 2000, where PostgreSQL's time begins.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The ends of PostgreSQL's time: 4714 BC and 294276 AD.
const FIRST_MICROS: i64 = -211_813_488_000_000_000;
const LAST_MICROS: i64 = 9_223_371_331_199_999_999;

const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMPTZ_ARRAY: Oid = Oid(1185);

/// Added to or taken from any time that occurs, this stays inside PostgreSQL's time.
const SPAN_MAX: Duration = Duration::from_secs(1_000 * 366 * 24 * 60 * 60);

/// A point in time, as `timestamptz`; what lies outside of PostgreSQL's time becomes its nearest end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct At(pub(crate) Timestamp);

impl From<Timestamp> for At {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl From<At> for Timestamp {
    fn from(at: At) -> Self {
        at.0
    }
}

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl PgHasArrayType for At {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY)
    }
}

impl Encode<'_, Postgres> for At {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.0.0.saturating_sub(EPOCH_MICROS).clamp(FIRST_MICROS, LAST_MICROS);
        Encode::<Postgres>::encode(micros, buffer)
    }
}

impl Decode<'_, Postgres> for At {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        // Always binary: only prepared statements are read from.
        let micros = <i64 as Decode<Postgres>>::decode(value)?;
        Ok(Self(Timestamp(micros.saturating_add(EPOCH_MICROS))))
    }
}

/// A span of time, cut to one that can be added to any time.
pub(crate) fn span(span: Duration) -> PgInterval {
    let micros = span.min(SPAN_MAX).as_micros();
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(micros).unwrap_or(i64::MAX) }
}

/// How long a difference of two times is; zero when it is negative.
pub(crate) fn duration(span: &PgInterval) -> Duration {
    const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
    let micros = i64::from(span.days).saturating_mul(DAY_MICROS).saturating_add(span.microseconds);
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Counters begin at one and a run is ended long before they would pass this; what is larger matches no row.
pub(crate) fn int4(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_come_back_and_do_not_overflow() {
        let day = Duration::from_micros(86_400_000_001);
        assert_eq!(duration(&span(day)), day);
        assert_eq!(
            duration(&PgInterval { months: 0, days: 2, microseconds: -1 }),
            2 * day - Duration::from_micros(3)
        );
        assert_eq!(duration(&PgInterval { months: 0, days: 0, microseconds: -1 }), Duration::ZERO);
        assert_eq!(duration(&span(Duration::MAX)), SPAN_MAX);
    }
}
