//! Stories that only a fleet can tell: what its processes and servers do without each other.

mod alike;
mod deaths;
mod emptied;
mod roles;
mod spread;

use scenarios::House;

const NOOP: &str = "{ version: 1, name: quick, type: steps, steps: [ { id: a, type: noop } ] }";

/// A step that takes this many seconds, and may be repeated.
fn slow(seconds: u32) -> String {
    format!(
        "{{ version: 1, name: slow, type: steps, steps: [ \
         {{ id: slow, type: script, command: [sleep, '{seconds}'], retry_safe: true }} ] }}"
    )
}

/// How often the run was taken, lost a step, and got one done.
async fn taken_lost_done(house: &House, run: &str) -> [usize; 3] {
    let log = house.events(run).await;
    ["run.engine_taken", "step.lost", "step.succeeded"].map(|kind| log.count(kind))
}
