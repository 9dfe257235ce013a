//! Addresses, parameters and headers out of bounds (A26, A30, A31, A32, A42, A44, A46).

use reqwest::Method;
use scenarios::{House, Mode};
use serde_json::json;

use super::Attack;

const RUNS: &str = "/v1/workflow-runs";
const NOBODY: &str = "01890000-0000-7000-8000-000000000000";

fn list(what: &'static str, query: &str) -> Attack {
    Attack::get(what, &format!("{RUNS}?{query}"))
}

fn missing(path: &str) -> Attack {
    Attack::get("something that is not there", path).refused(404, "not_found")
}

fn create() -> Attack {
    Attack::post("", RUNS, "application/json", r#"{"workflow": "nope"}"#)
}

pub(super) fn attacks() -> Vec<Attack> {
    [lists(), cursors(), headers(), places(), commands()].into_iter().flatten().collect()
}

fn lists() -> Vec<Attack> {
    vec![
        list("no items", "limit=0"),
        list("fewer than no items", "limit=-1"),
        list("a limit that is no number", "limit=abc"),
        list("a limit with SQL", "limit=1;drop%20table%20workflow_runs"),
        list("an endless limit", "limit=99999999999999999999"),
        list("the same limit twice", "limit=1&limit=2"),
        list("a status with SQL", "status=completed'%20or%20'1'='1"),
        list("a status that does not exist", "status=done"),
        list("a sort that does not exist", "sort=password"),
        list("a filter that does not exist", "tenant_id=2"),
        list("a label without a value", "label=team"),
        list("a time that is none", "created_after=yesterday"),
        list("a control character", "text=%00"),
        list("a search without end", &format!("text={}", "x".repeat(5_000))),
        list("bytes that are no UTF-8", "text=%ff%fe").refused(400, "malformed_request"),
        Attack::get("a wait without end", &format!("{RUNS}/{NOBODY}?wait=1000h")),
        Attack::get("a wait that is no time", &format!("{RUNS}/{NOBODY}?wait=abc")),
        Attack::get("events before the first", &format!("{RUNS}/{NOBODY}/events?limit=-5")),
    ]
}

fn cursors() -> Vec<Attack> {
    let forged = [
        "abc",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "' or 1=1 --",
        "%00",
        "..%2f..",
        "eyJhIjoxfQ",
    ];
    forged
        .iter()
        .flat_map(|cursor| {
            [RUNS, "/v1/workflows", "/v1/approvals"]
                .map(|path| Attack::get("a forged cursor", &format!("{path}?cursor={cursor}")))
        })
        // A control character is refused before anybody looks at what it stands in.
        .map(
            |attack| {
                if attack.path.ends_with("%00") { attack } else { attack.refused(400, "invalid_cursor") }
            },
        )
        .collect()
}

fn headers() -> Vec<Attack> {
    let header = |name, value: &[u8]| create().header(name, value).refused(400, "invalid_header");
    vec![
        header("Idempotency-Key", &b"x".repeat(256)),
        header("Idempotency-Key", b""),
        header("Idempotency-Key", "schlüssel".as_bytes()),
        header("Idempotency-Key", b"two words"),
        header("X-Windlass-User", b"two words"),
        header("X-Windlass-User", &b"x".repeat(1_000)),
        header("X-Windlass-User", "\u{202e}eve".as_bytes()),
        header("X-Windlass-Roles", b"a,,b"),
        header("X-Windlass-Roles", &b"r,".repeat(500)),
    ]
}

fn places() -> Vec<Attack> {
    let mut attacks: Vec<Attack> =
        ["/v1", "/v2/workflows", "/admin", "/debug/pprof", "/.env", "/.git/config", "/v1/../healthz/x"]
            .into_iter()
            .map(missing)
            .collect();
    attacks.extend([
        missing(&format!("{RUNS}/{NOBODY}")),
        missing(&format!("{RUNS}/{NOBODY}/events")),
        missing(&format!("{RUNS}/{NOBODY}/steps/a/output")),
        missing("/v1/workflows/ghost"),
        missing("/v1/workflows/quick/versions/99"),
        Attack { method: Method::PATCH, ..missing(RUNS) }.refused(405, "method_not_allowed"),
        Attack { method: Method::DELETE, ..missing(RUNS) }.refused(405, "method_not_allowed"),
        Attack { method: Method::PUT, ..missing("/healthz") }.refused(405, "method_not_allowed"),
    ]);
    attacks
}

fn commands() -> Vec<Attack> {
    let command = |verb: &str, body: &str| {
        Attack::post("a command", &format!("{RUNS}/{NOBODY}/{verb}"), "application/json", body.as_bytes())
    };
    vec![
        command("approve", r#"{"node": "a", "attempt": 1, "approved_by": "eve"}"#),
        command("approve", r#"{"node": "a", "attempt": -1}"#),
        command("approve", r#"{"attempt": 1}"#),
        command("cancel", r#"{"status": "completed"}"#),
        command("skip", "{}"),
        command("resume", "[]"),
        command("resume", "{}").refused(404, "not_found"),
    ]
}

/// Names that lead out of the place where artifacts lie, asked for and left behind.
pub(super) async fn withstand_artifact_names(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: files
        type: steps
        on_error: continue
        steps:
          - { id: good, type: script, command: [/bin/sh, -c, 'echo hello > "$WINDLASS_ARTIFACTS/notes [1].html"'] }
          - { id: markup, type: script, command: [/bin/sh, -c, 'touch "$WINDLASS_ARTIFACTS/<b>"'] }
          - { id: link, type: script, command: [/bin/sh, -c, 'ln -s /etc/passwd "$WINDLASS_ARTIFACTS/link"'] }
          - { id: newline, type: script, command: [/bin/sh, -c, 'touch "$WINDLASS_ARTIFACTS/$(printf "a\\nb")"'] }
          - { id: folder, type: script, command: [/bin/sh, -c, 'mkdir "$WINDLASS_ARTIFACTS/folder"'] }
    "#;
    let run = house.run(yaml, json!({})).await;
    house.wait_for(&run, "completed").await;
    for node in ["markup", "link", "newline", "folder"] {
        let step = house.get_step(&run, node).await;
        assert_eq!(step["error"]["type"], "script.artifact", "{step}");
    }
    let base = format!("{RUNS}/{run}/artifacts");
    let climbs = [
        "good/..%2f..%2fetc%2fpasswd",
        "good/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "good/..%5c..%5cx",
        "good/%2fetc%2fpasswd",
        "..%2f..%2fetc/passwd",
        "good/ghost",
        "link/link",
        "good/x%e2%80%aey",
        "good/notes%20",
    ];
    for name in climbs {
        house.get(&format!("{base}/{name}")).await.refused(404, "not_found");
    }
    let nul = house.get(&format!("{base}/good/%00")).await;
    assert!(nul.status == 404 || nul.status == 400 || nul.status == 422, "{nul}");

    let file = house.get(&format!("{base}/good/notes%20%5B1%5D.html")).await;
    assert_eq!((file.status, file.text.as_str()), (200, "hello\n"), "{file}");
    assert!(file.header("content-disposition").starts_with("attachment"), "{:?}", file.headers);
    assert_eq!(file.header("x-content-type-options"), "nosniff");
    assert!(file.header("content-security-policy").contains("sandbox"), "{:?}", file.headers);
    house.close().await;
}

/// What exists but is not asked for rightly must not be told apart from what does not exist.
pub(super) async fn withstand_guessing(mode: Mode) {
    let house = House::open(mode).await;
    let first = house.get(&format!("{RUNS}/{NOBODY}")).await;
    let second = house.get(&format!("{RUNS}/01890000-0000-7000-8000-00000000ffff")).await;
    let strip = |mut body: serde_json::Value| {
        body.as_object_mut().expect("a problem is an object").remove("request_id");
        body
    };
    assert_eq!(strip(first.refused(404, "not_found")), strip(second.refused(404, "not_found")));
    for id in ["1", "0", "-1", "abc", "%27%20or%201=1", "00000000-0000-0000-0000-000000000000"] {
        let answer = house.get(&format!("{RUNS}/{id}")).await;
        assert!(answer.status == 404 || answer.status == 422, "{answer}");
        answer.assert_well_formed_problem();
    }

    // Text that means something elsewhere means nothing here: it is found literally or not at all.
    house.push("{ version: 1, name: quick, type: steps, steps: [ { id: a, type: noop } ] }").await;
    let key = "';drop/**/table/**/workflow_runs;--";
    let body = json!({"workflow": "quick", "labels": {"note": "'; drop table workflow_runs; --"}});
    let run = house.insist(RUNS, key, &body).await.ok();
    house.wait_for(&scenarios::client::id_of(&run), "completed").await;
    let found =
        house.get(&format!("{RUNS}?label=note:%27%3B%20drop%20table%20workflow_runs%3B%20--")).await.ok();
    assert_eq!(found["items"][0]["id"], run["id"]);
    let none = house.get(&format!("{RUNS}?text=%27%20or%201%3D1%20--")).await.ok();
    assert_eq!(none["items"], json!([]));
    house.close().await;
}
