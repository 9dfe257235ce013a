//! Counts what one evaluation reads and makes, and stops it at a limit.
//!
//! minijinja's fuel counts instructions, but one instruction or filter may touch any amount of data.
//! Filters, views and conversions of ours all charge this meter. It lives in a thread-local because
//! minijinja hands no state of ours to the objects it iterates over; an evaluation never leaves its thread.

use std::cell::Cell;

use minijinja::{Error, ErrorKind};

/// What one evaluation may touch: bytes of text, and [`ELEMENT`] for each element of a container.
///
/// Twice the longest value a step may have, so that comparing or searching one is always possible.
const UNITS_MAX: i64 = 16 * 1024 * 1024;
/// Price of one element, near the memory that it takes.
pub(super) const ELEMENT: usize = 32;

thread_local! {
    static LEFT: Cell<i64> = const { Cell::new(0) };
}

/// Runs one evaluation with a full meter.
pub(super) fn run<T>(evaluate: impl FnOnce() -> T) -> T {
    LEFT.set(UNITS_MAX);
    evaluate()
}

pub(super) fn charge(units: usize) -> Result<(), Error> {
    let left = LEFT.get().saturating_sub(i64::try_from(units).unwrap_or(i64::MAX));
    LEFT.set(left);
    if left < 0 { Err(exhausted()) } else { Ok(()) }
}

pub(super) fn is_exhausted() -> bool {
    LEFT.get() < 0
}

pub(super) fn exhausted() -> Error {
    Error::new(ErrorKind::InvalidOperation, "it reads or makes more than an expression may")
}
