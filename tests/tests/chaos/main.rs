//! A fleet of real processes, real servers, and everything that a bad day brings.

#![expect(clippy::print_stderr, reason = "what was measured is told to whoever reads the output")]

mod commit_unknown;
mod crowds;
mod outages;
mod points;
mod rest;
mod rolling;
mod silent;
mod storm;
