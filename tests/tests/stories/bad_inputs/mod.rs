//! Attacks, each with the answer it must get.

mod bodies;
mod callees;
mod definitions;
mod expressions;
mod parameters;
mod wire;

use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderValue;
use scenarios::{House, Mode, in_every_mode};
use serde_json::json;

in_every_mode!(
    bodies_that_are_no_bodies,
    definitions_that_are_none,
    tools_that_are_none,
    parameters_and_headers_out_of_bounds,
    expressions_that_reach_too_far_or_take_too_long,
    artifact_names_that_climb,
    bytes_that_no_client_would_send,
    a_page_of_another_origin_may_do_nothing,
    what_is_hidden_looks_like_what_does_not_exist,
    a_host_header_changes_no_answer,
);

/// One request, and what must come of it.
struct Attack {
    what: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
}

/// A refusal that takes longer is itself an attack that worked. Debug builds on busy cores are slow.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// What a process may keep in memory of all attacks of one story together.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

impl Attack {
    fn post(what: &'static str, path: &str, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            what,
            method: Method::POST,
            path: path.to_owned(),
            headers: vec![("Content-Type", content_type.into())],
            body: body.into(),
            status: 422,
            code: "invalid_body",
        }
    }

    fn get(what: &'static str, path: &str) -> Self {
        let path = path.to_owned();
        let (status, code) = (422, "invalid_parameter");
        Self { what, method: Method::GET, path, headers: Vec::new(), body: Vec::new(), status, code }
    }

    fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn refused(mut self, status: u16, code: &'static str) -> Self {
        (self.status, self.code) = (status, code);
        self
    }

    /// What is wrong with the answer, or nothing.
    async fn strike(&self, house: &House) -> Option<String> {
        let mut request = house.request(self.method.clone(), &self.path).body(self.body.clone());
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(value).expect("a client can send it");
            request = request.header(*name, value);
        }
        let began = Instant::now();
        let answer = match house.send(request).await {
            Ok(answer) => answer,
            Err(error) => return Some(format!("{}: no answer: {error:?}", self.what)),
        };
        let took = began.elapsed();
        if (answer.status, answer.code()) != (self.status, self.code) {
            return Some(format!("{}: expected {} {}: {answer}", self.what, self.status, self.code));
        }
        answer.assert_well_formed_problem();
        (took > REFUSED_WITHIN).then(|| format!("{}: refused after {took:?}", self.what))
    }
}

/// Lets every attack strike, and expects a house that stands as before.
async fn withstand(mode: Mode, attacks: Vec<Attack>, at_least: usize) {
    assert!(attacks.len() >= at_least, "only {} attacks", attacks.len());
    let house = House::open(mode).await;
    house.push("{ version: 1, name: quick, type: steps, steps: [ { id: a, type: noop } ] }").await;
    let run = house.start("quick", json!({})).await;
    house.wait_for(&run, "completed").await;
    let (runs, memory) = (house.all_runs().await, house.memory());
    let mut failed = Vec::new();
    for attack in &attacks {
        failed.extend(attack.strike(&house).await);
    }
    assert!(failed.is_empty(), "{} of {} attacks:\n{}", failed.len(), attacks.len(), failed.join("\n"));
    assert_eq!(house.all_runs().await, runs, "an attack made a run");
    let workflows = house.get("/v1/workflows").await.ok();
    assert_eq!(workflows["items"].as_array().map(Vec::len), Some(1), "an attack published something");
    let growth = house.growth_since(&memory);
    assert!(growth < GROWTH_BYTES_MAX, "{} MiB more than before", growth >> 20);
    house.get("/readyz").await.ok();
    house.close().await;
}

async fn bodies_that_are_no_bodies(mode: Mode) {
    withstand(mode, bodies::attacks(), 25).await;
}

async fn definitions_that_are_none(mode: Mode) {
    withstand(mode, definitions::attacks(), 30).await;
}

async fn tools_that_are_none(mode: Mode) {
    withstand(mode, callees::attacks(), 30).await;
}

async fn parameters_and_headers_out_of_bounds(mode: Mode) {
    withstand(mode, parameters::attacks(), 25).await;
}

async fn expressions_that_reach_too_far_or_take_too_long(mode: Mode) {
    expressions::withstand(mode).await;
}

async fn artifact_names_that_climb(mode: Mode) {
    parameters::withstand_artifact_names(mode).await;
}

async fn bytes_that_no_client_would_send(mode: Mode) {
    wire::withstand(mode).await;
}

async fn a_page_of_another_origin_may_do_nothing(mode: Mode) {
    wire::withstand_other_origins(mode).await;
}

async fn what_is_hidden_looks_like_what_does_not_exist(mode: Mode) {
    parameters::withstand_guessing(mode).await;
}

async fn a_host_header_changes_no_answer(mode: Mode) {
    wire::withstand_foreign_hosts(mode).await;
}
