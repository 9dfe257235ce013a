//! Stories about the whole house, one file per subject. Each is told in every mode.

mod serial;
