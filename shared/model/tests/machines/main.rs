//! State machines: facts about them, properties of random ones, and the same ones run by XState.

mod drive;
mod facts;
mod generate;
mod properties;
mod xstate;
