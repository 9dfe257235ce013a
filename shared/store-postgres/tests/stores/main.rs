//! The store against real servers: one that all tests share, and private ones to do harm to.

mod conformance;
mod groups;
mod hands;
mod harm;
mod liveness;
mod migrations;
mod partitions;
mod plans;
mod relays;
mod subject;
