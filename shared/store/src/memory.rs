//! The store of the simulator and of unit tests: everything in memory, nothing survives.
