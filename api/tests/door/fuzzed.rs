//! Cursors and event ids that went a little wrong.

use axum::http::{HeaderValue, Method, header};
use tokio::runtime::Runtime;

use crate::fuzz::Fuzz;
use crate::house::{House, RUNS, quick, request};

const WORDS: &[&str] =
    &["-1", "0", "4294967295", "4294967296", ".", "..", "=", "-_", "%00", "\u{0}", "é", " ", "+", "e3"];

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_cursor_that_went_wrong_opens_nothing() {
    let runtime = runtime();
    let house = House::new();
    let cursor = runtime.block_on(async {
        for _ in 0..3 {
            house.start(&quick("it")).await;
        }
        let page = house.get(&format!("{RUNS}?limit=1")).await.ok();
        page["next_cursor"].as_str().expect("there are more").to_owned()
    });
    Fuzz::new("cursors", [cursor.clone().into_bytes()], WORDS).play(|input| {
        let encoded: String = input.iter().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("{RUNS}?limit=1&cursor={encoded}");
        let answer = runtime.block_on(house.get(&path));
        let is_own = input == cursor.as_bytes();
        assert_eq!(answer.status.is_success(), is_own, "{}", answer.text);
        assert!(answer.status.as_u16() < 500, "{}", answer.text);
    });
}

#[test]
fn an_event_id_that_went_wrong_is_refused_or_is_a_place_in_the_log() {
    let runtime = runtime();
    let house = House::new();
    let run = runtime.block_on(house.run(&quick("it")));
    let paths = [
        format!("{RUNS}/{run}/events"),
        format!("/v1/events?run={run}"),
        format!("/v1/events?run={run}&run={run}"),
    ];
    let seeds = ["0", "3", "1.2"].map(|id| id.as_bytes().to_vec());
    Fuzz::new("event-ids", seeds, WORDS).play(|input| {
        // Whatever else there may be in a header never reaches the door.
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        let numbers: Option<Vec<u32>> =
            value.to_str().ok().and_then(|text| text.split('.').map(|part| part.parse().ok()).collect());
        for (path, runs) in paths.iter().zip([1, 1, 2]) {
            let mut request = request(Method::GET, path);
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
            request.headers_mut().insert("last-event-id", value.clone());
            let status = runtime.block_on(house.open(request)).status();
            assert!(status.is_success() || status.as_u16() == 400, "{path}: {status}");
            let is_place = numbers.as_ref().is_some_and(|numbers| numbers.len() == runs);
            assert!(is_place || !status.is_success(), "{path}: {status}");
        }
    });
}
