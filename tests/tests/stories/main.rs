//! Stories about the whole house, one file per subject. Each is told in every mode.

mod approvals;
mod bad_inputs;
mod cancel;
mod commands;
mod creating;
mod dag;
mod drain;
mod emits;
mod errors;
mod hang_ups;
mod health;
mod interruptions;
mod kills;
mod machines;
mod parked;
mod payloads;
mod retries;
mod routing;
mod sagas;
mod secrets;
mod serial;
mod signals;
mod streams;
mod timeouts;
mod waits;
mod workflows;
