//! What people see when they use the built binary.

mod desk;
mod doctor;
mod offline;
mod run;
mod serve;
