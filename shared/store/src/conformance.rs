//! One suite that defines the port; every store must pass all of it.
