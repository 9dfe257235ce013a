//! Every workflow under `examples/` runs, and does what its header says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scenarios::house::program;
use serde_json::{Value, json};
use tempfile::TempDir;

/// All of them; a test below finds one that is missing here.
const EXAMPLES: &[&str] = &[
    "agents.yaml",
    "continue.yaml",
    "course-outline.yaml",
    "error-routing.yaml",
    "every-keyword.yaml",
    "fail-fast.yaml",
    "fan-out-fan-in.yaml",
    "flaky-http.yaml",
    "hybrid.yaml",
    "large-map.yaml",
    "long-wait.yaml",
    "loop.yaml",
    "map.yaml",
    "one-at-a-time.yaml",
    "order-machine.yaml",
    "parallel.yaml",
    "refund-batch.yaml",
    "release-notes/workflow.yaml",
    "saga.yaml",
    "serial-approval.yaml",
    "sub-workflows/order.yaml",
    "sub-workflows/parcel.yaml",
    "switch-branches.yaml",
    "tools.yaml",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package lies inside the workspace")
        .join("examples")
}

/// What a run of an example came to.
struct Ran {
    exit_code: Option<i32>,
    run: Value,
    artifacts: BTreeMap<String, String>,
}

impl Ran {
    fn status(&self) -> &str {
        self.run["status"].as_str().unwrap_or_default()
    }

    fn step(&self, node: &str) -> &Value {
        let steps = self.run["steps"].as_array().expect("a run has steps");
        steps
            .iter()
            .find(|step| step["node"] == node)
            .unwrap_or_else(|| panic!("no step {node} in {}", self.run))
    }

    /// Statuses of all steps by node.
    fn steps(&self) -> BTreeMap<&str, &str> {
        let steps = self.run["steps"].as_array().expect("a run has steps");
        steps
            .iter()
            .map(|step| (step["node"].as_str().unwrap_or(""), step["status"].as_str().unwrap_or("")))
            .collect()
    }
}

/// `windlass run examples/NAME ARGUMENT…`, with the run as JSON and its artifacts in a folder.
fn run(name: &str, arguments: &[&str]) -> Ran {
    run_in(&folder(), name, arguments)
}

fn run_in(place: &Path, name: &str, arguments: &[&str]) -> Ran {
    let artifacts = TempDir::new().expect("a temporary folder can be made");
    let mut command = program();
    command.arg("run").arg(folder().join(name)).args(arguments);
    command.args(["--output", "json", "--artifacts"]).arg(artifacts.path());
    let output =
        command.current_dir(place).stdin(Stdio::null()).output().expect("the program can be started");
    let told = String::from_utf8_lossy(&output.stderr);
    let run = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{name} printed no run ({error}): {}\n{told}", String::from_utf8_lossy(&output.stdout))
    });
    Ran { exit_code: output.status.code(), run, artifacts: texts(artifacts.path()) }
}

/// The events of a run that nobody is there to bring to its end, and the exit code.
fn events(place: &Path, name: &str, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut command = program();
    command.arg("run").arg(folder().join(name)).args(arguments).args(["--output", "jsonl"]);
    let output =
        command.current_dir(place).stdin(Stdio::null()).output().expect("the program can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("one event per line"));
    let events = events.map(|line| if line["event"].is_object() { line["event"].clone() } else { line });
    (output.status.code(), events.collect())
}

/// The events of one type.
fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// Files under a folder, by name.
fn texts(folder: &Path) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder can be read").flatten() {
        if entry.path().is_dir() {
            texts.extend(self::texts(&entry.path()));
        } else {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            texts.insert(entry.file_name().to_string_lossy().into_owned(), text);
        }
    }
    texts
}

// ---- release notes ---------------------------------------------------------------------------------

/// A repository whose log has what makes logs difficult.
fn repository() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder can be made");
    git(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
    for subject in [
        "engine: Renew the session while a node runs",
        "No area here",
        r#"api: Say "no" to C:\paths, 100% of them"#,
        "engine: Zeitzonen für Ägypten, 日本",
        "engine, store: Two areas: one change",
        "docs: $(touch /tmp/never) `id` ${HOME} ${{ secrets.KEY }}",
    ] {
        git(folder.path(), &["commit", "--quiet", "--allow-empty", "--message", subject]);
    }
    folder
}

fn git(folder: &Path, arguments: &[&str]) {
    let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"];
    let status = Command::new("git").args(who).args(arguments).current_dir(folder).status();
    assert!(status.expect("git can be started").success(), "git {arguments:?}");
}

/// Lines of the notes without the hashes, which differ each time.
fn without_hashes(notes: &str) -> Vec<&str> {
    notes.lines().map(|line| line.rsplit_once(" (").map_or(line, |(text, _)| text)).collect()
}

const NOTES: &[&str] = &[
    "# Release notes",
    "",
    "## api",
    "",
    r#"- Say "no" to C:\paths, 100% of them"#,
    "",
    "## docs",
    "",
    "- $(touch /tmp/never) `id` ${HOME} ${{ secrets.KEY }}",
    "",
    "## engine",
    "",
    "- Zeitzonen für Ägypten, 日本",
    "- Renew the session while a node runs",
    "",
    "## engine, store",
    "",
    "- Two areas: one change",
    "",
    "## other",
    "",
    "- No area here",
];

#[test]
fn release_notes_are_grouped_approved_and_written_as_an_artifact() {
    let repository = repository();
    let path = format!("repository={}", repository.path().display());
    let ran = run("release-notes/workflow.yaml", &["--yes", "-i", &path]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(
        ran.run["output"],
        json!({ "commits": 6, "areas": ["api", "docs", "engine", "engine, store", "other"] })
    );
    assert_eq!(without_hashes(&ran.artifacts["release-notes.md"]), NOTES);
}

#[test]
fn release_notes_are_about_the_folder_one_stands_in() {
    let repository = repository();
    let ran =
        run_in(repository.path(), "release-notes/workflow.yaml", &["--yes", "-i", "range=HEAD~2..HEAD"]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(ran.run["output"], json!({ "commits": 2, "areas": ["docs", "engine, store"] }));
}

#[test]
fn release_notes_of_a_range_that_git_does_not_know_pause_for_a_person() {
    let repository = repository();
    let arguments = ["--yes", "-i", "range=v8..v9"];
    let (exit_code, events) = events(repository.path(), "release-notes/workflow.yaml", &arguments);
    assert_eq!(exit_code, Some(1));
    assert_eq!(of_type(&events, "step.failed")[0]["error"]["type"], "script.exit_1", "{events:?}");
    assert_eq!(of_type(&events, "run.paused")[0]["reason"], "step_failed");
    assert!(of_type(&events, "approval.requested").is_empty());
}

// ---- graphs ----------------------------------------------------------------------------------------

#[test]
fn fan_out_fan_in_adds_up_what_three_branches_found_side_by_side() {
    let ran = run("fan-out-fan-in.yaml", &["-i", "numbers=[1, 2, 3, 4, 5, 6, 7]"]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(ran.run["output"], json!({ "count": 7, "sum": 28 }));
    let last_start = ["first", "second", "third"].map(|node| ran.step(node)["started_at"].as_str().unwrap());
    let first_end = ["first", "second", "third"].map(|node| ran.step(node)["ended_at"].as_str().unwrap());
    assert!(last_start.iter().max() < first_end.iter().min(), "they ran one after another: {}", ran.run);
}

#[test]
fn large_map_is_dealt_out_and_comes_together_in_order() {
    let ran = run("large-map.yaml", &[]);
    assert_eq!((ran.status(), ran.step("squares.slice")["kind"].as_str()), ("completed", Some("slice")));
    assert_eq!(ran.run["output"], json!({"count": 500, "last": 249_001, "sum": 41_541_750}));
}

#[test]
fn map_measures_each_word_and_leaves_a_hole_for_what_is_none() {
    let ran = run("map.yaml", &[]);
    assert_eq!((ran.exit_code, ran.status()), (Some(3), "completed"), "{}", ran.run);
    assert_eq!(ran.run["output"], json!({ "lengths": [8, null, 7, 5], "sum": 20 }));
    assert_eq!(ran.run["outcome"], "partial_failure");
    let items = &ran.step("measure")["items"];
    assert_eq!((&items["failed"], &items["failed_items"][0]["index"]), (&json!(1), &json!(1)));
    assert_eq!(items["failed_items"][0]["error"]["type"], "script.exit_65");
}

#[test]
fn parallel_checks_all_sides_at_once_and_packs_part_by_part() {
    let ran = run("parallel.yaml", &[]);
    assert_eq!(ran.exit_code, Some(0), "{}", ran.run);
    let checks = json!({"words": true, "size": {"count": 2, "fits": true}, "weather": "calm"});
    let boxes = json!(["a box with anvil, 1 of 2", "a box with feather, 2 of 2"]);
    assert_eq!(ran.run["output"], json!({"checks": checks, "boxes": boxes}));
    let ran = run("parallel.yaml", &["-i", r#"parts=["anvil", "?"]"#]);
    assert_eq!(ran.steps()["pack"], "skipped");
}

#[test]
fn hybrid_haggles_when_the_quote_is_too_high_and_leaves_when_that_does_not_help() {
    assert_eq!(run("hybrid.yaml", &["-i", "budget=200"]).run["output"], json!({"price": 120, "rounds": 0}));
    assert_eq!(run("hybrid.yaml", &[]).run["output"], json!({"price": 100, "rounds": 2}));
    assert_eq!(run("hybrid.yaml", &["-i", "budget=45"]).run["output"], json!({"price": null}));
}

#[test]
fn course_outline_is_edited_until_it_is_good_and_has_a_gap_where_the_writer_refused() {
    let ran = run("course-outline.yaml", &["--yes"]);
    assert_eq!((ran.exit_code, &ran.run["output"]["written"]), (Some(0), &json!([1, 3, 4])), "{}", ran.run);
}

#[test]
fn refund_batch_opens_by_itself_below_the_limit_and_undoes_what_cannot_be_booked() {
    let ran = run("refund-batch.yaml", &["-i", "limit=1000"]);
    assert_eq!(ran.run["output"], json!({"refund_id": "R-7", "total": 250}));
    let ran = run("refund-batch.yaml", &["-i", "limit=1000", "-i", "books=closed"]);
    assert_eq!((ran.status(), ran.steps()["refund.compensate"]), ("failed", "succeeded"));
}

#[test]
fn order_machine_is_charged_at_the_third_try() {
    let ran = run("order-machine.yaml", &["-i", "auto=true"]);
    assert_eq!(ran.run["output"], json!({"charge": "ch_12", "tries": 3}));
}

#[test]
fn every_keyword_does_what_it_says() {
    let ran = run("every-keyword.yaml", &[]);
    let talk = json!({"heard": 2, "began": true});
    assert_eq!((&ran.run["output"]["rounds"], &ran.run["output"]["talk"]), (&json!(3), &talk), "{}", ran.run);
}

#[test]
fn loop_goes_round_until_it_has_what_it_wants_and_the_judges_agree() {
    let ran = run("loop.yaml", &[]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(ran.run["output"], json!({ "tosses": 4, "won": true }));
    assert_eq!(ran.step("verdict")["output"], json!({ "value": true, "votes": 3, "of": 3 }));
}

#[test]
fn one_at_a_time_runs_in_the_group_that_its_inputs_name() {
    let ran = run("one-at-a-time.yaml", &["-i", "stage=live"]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(ran.run["concurrency"]["group"], "deploy-live");
    assert_eq!(ran.run["output"]["stage"], "live");
}

#[test]
fn switch_branches_takes_one_way_and_skips_the_others() {
    for (amount, taken) in [("amount=40", "automatic"), ("amount=400", "clerk"), ("amount=4000", "board")] {
        let ran = run("switch-branches.yaml", &["-i", amount]);
        assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
        assert_eq!(ran.run["output"], json!({ "decided_by": taken }));
        for way in ["automatic", "clerk", "board"] {
            let expected = if way == taken { "succeeded" } else { "skipped" };
            assert_eq!(ran.step(way)["status"], expected, "{amount}: {way}");
        }
    }
}

#[test]
fn fail_fast_stops_what_runs_beside_the_failure() {
    let ran = run("fail-fast.yaml", &[]);
    assert_eq!((ran.exit_code, ran.status()), (Some(1), "failed"), "{}", ran.run);
    assert_eq!(ran.run["error"]["type"], "script.exit_3");
    assert_eq!(
        (&ran.step("check")["status"], &ran.step("slow")["status"]),
        (&json!("failed"), &json!("canceled"))
    );
    assert_ne!(ran.step("publish")["status"], "succeeded");
}

// ---- serial runs -----------------------------------------------------------------------------------

#[test]
fn continue_goes_on_with_an_output_in_place_of_the_failed_step() {
    let ran = run("continue.yaml", &[]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    let expected = BTreeMap::from([("weather", "failed"), ("umbrella", "skipped"), ("greet", "succeeded")]);
    assert_eq!(ran.steps(), expected);
    assert_eq!(ran.run["output"], json!({ "text": "Good morning. The sky: unknown." }));
}

#[test]
fn error_routing_takes_each_failure_another_way() {
    let ran = run("error-routing.yaml", &[]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    let expected = BTreeMap::from([
        ("busy", "succeeded"),
        ("nice-note", "failed"),
        ("price", "succeeded"),
        ("price.fallback", "succeeded"),
        ("proofread", "skipped"),
        ("rate", "succeeded"),
        ("sum", "succeeded"),
        ("translate", "skipped"),
    ]);
    assert_eq!(ran.steps(), expected);
    assert_eq!(ran.step("busy")["attempt"], 3);
    assert_eq!(ran.step("price.fallback")["replaces"], "price");
    assert_eq!(ran.run["output"], json!({ "amount": 12, "told": false, "proofread": "skipped" }));
}

#[test]
fn saga_gives_back_what_was_booked_last_one_first() {
    let ran = run("saga.yaml", &[]);
    assert_eq!((ran.exit_code, ran.status()), (Some(1), "failed"), "{}", ran.run);
    assert_eq!(ran.run["error"]["type"], "script.exit_9");
    let undone = json!(["hotel.compensate", "flight.compensate"]);
    let compensation = &ran.run["compensation"];
    assert_eq!((&compensation["steps"], &compensation["outcome"]), (&undone, &json!("succeeded")));
    assert_eq!(ran.step("hotel.compensate")["attempt"], 2);
    assert_eq!(ran.step("hotel.compensate")["output"], "H-200 was given back");
    assert_eq!(ran.step("flight.compensate")["output"], "F-100 was given back");
}

#[test]
fn tools_book_what_is_there_and_say_by_name_why_not() {
    for (many, booking, status) in [("many=3", "B-3", "succeeded"), ("many=300", "none", "failed")] {
        let ran = run("tools.yaml", &["-i", "sku=apple", "-i", many]);
        assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
        assert_eq!(ran.run["output"], json!({ "booking": booking }));
        assert_eq!(ran.step("book")["status"], status);
    }
}

#[test]
fn agents_are_asked_again_when_they_have_no_time_and_not_when_they_refuse() {
    let ran = run("agents.yaml", &["-i", "topic=harvest"]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(ran.run["output"], json!({ "text": "All is well with the harvest.", "score": 9 }));
    assert_eq!(ran.step("draft")["attempt"], 2);

    let ran = run("agents.yaml", &["-i", "topic=nothing"]);
    assert_eq!((ran.exit_code, ran.status()), (Some(1), "failed"), "{}", ran.run);
    assert_eq!(ran.run["error"]["type"], "agent.refused");
}

#[test]
fn long_wait_sleeps_and_goes_on_when_no_signal_comes() {
    let ran = run("long-wait.yaml", &["-i", "pause=1s"]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(ran.run["output"]["result"], "reminder");
    assert_eq!(ran.step("payment")["error"]["type"], "timeout");
}

#[test]
fn serial_approval_publishes_what_was_approved() {
    let ran = run("serial-approval.yaml", &["--yes", "-i", "title=Hello"]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(ran.run["output"], json!({ "published": "HELLO: it can be read from today." }));
}

#[test]
fn serial_approval_publishes_nothing_when_nobody_is_there_to_ask() {
    let ran = program()
        .arg("run")
        .arg(folder().join("serial-approval.yaml"))
        .stdin(Stdio::null())
        .output()
        .expect("the program can be started");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{told}");
    assert!(told.contains("--yes"), "it does not say how to go on: {told}");
    assert!(!String::from_utf8_lossy(&ran.stdout).contains("published"));
}

// ---- http ------------------------------------------------------------------------------------------

/// A server on loopback that says 503 `failures` times, then 200; with the number of requests it got.
fn flaky_server(failures: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/", listener.local_addr().expect("it listens"));
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = BufReader::new(stream.try_clone().expect("sockets can be cloned")).lines();
            // An empty line ends the head of a request; a connection that sends none is not one.
            if !head.by_ref().any(|line| line.is_ok_and(|line| line.is_empty())) {
                continue;
            }
            let (status, body) = match counter.fetch_add(1, Ordering::SeqCst) < failures {
                true => ("503 Service Unavailable", "later"),
                false => ("200 OK", "here you are"),
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    (url, requests)
}

#[test]
fn flaky_http_is_tried_again_until_it_answers() {
    let (url, requests) = flaky_server(2);
    let ran = run("flaky-http.yaml", &["-i", &format!("url={url}"), "--egress-allow", "127.0.0.1/32"]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(ran.run["output"], json!({ "status": 200 }));
    let outcomes: Vec<&Value> =
        ran.step("fetch")["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "failed", "succeeded"]);
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[test]
fn flaky_http_pauses_red_when_all_attempts_are_used_up() {
    let (url, requests) = flaky_server(usize::MAX);
    let arguments = ["-i", &format!("url={url}"), "--egress-allow", "127.0.0.1/32"];
    let (exit_code, events) = events(&folder(), "flaky-http.yaml", &arguments);
    assert_eq!((exit_code, requests.load(Ordering::SeqCst)), (Some(1), 4));
    let failures = of_type(&events, "step.failed");
    assert!(failures.len() == 4 && failures.iter().all(|it| it["error"]["type"] == "http.503"), "{events:?}");
    assert_eq!(of_type(&events, "step.retry_scheduled").len(), 3);
    assert_eq!(of_type(&events, "run.paused")[0]["reason"], "step_failed");
}

#[test]
fn flaky_http_does_not_call_this_machine_unless_it_is_allowed() {
    let (url, requests) = flaky_server(0);
    let (exit_code, events) = events(&folder(), "flaky-http.yaml", &["-i", &format!("url={url}")]);
    assert_eq!((exit_code, requests.load(Ordering::SeqCst)), (Some(1), 0));
    let failures = of_type(&events, "step.failed");
    assert!(failures.len() == 1 && failures[0]["error"]["type"] == "egress_blocked", "{events:?}");
}

// ---- sub-workflows ---------------------------------------------------------------------------------

#[test]
fn an_order_is_packed_by_runs_of_the_workflow_beside_it() {
    let ran = run("sub-workflows/order.yaml", &[]);
    assert_eq!((ran.exit_code, ran.status()), (Some(0), "completed"), "{}", ran.run);
    assert_eq!(ran.run["output"]["parcels"], json!([{ "content": "feather + scarf", "carrier": "post" }]));
    assert_eq!(ran.steps()["heavy"], "skipped");
    assert!(ran.step("light")["child_run_id"].is_string());

    let ran = run("sub-workflows/order.yaml", &["-i", "heavy=[\"anvil\"]"]);
    let parcels = ran.run["output"]["parcels"].as_array().unwrap();
    assert_eq!(parcels[1], json!({ "content": "anvil", "carrier": "freight" }));
}

#[test]
fn a_parcel_is_packed_by_itself() {
    let ran = run("sub-workflows/parcel.yaml", &["-i", "items=[\"scarf\"]"]);
    assert_eq!(ran.run["output"], json!({ "content": "scarf", "carrier": "post" }));
}

// ---- the collection --------------------------------------------------------------------------------

#[test]
fn every_example_is_run_here_and_listed_in_their_readme() {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder()];
    while let Some(place) = folders.pop() {
        for entry in std::fs::read_dir(place).expect("examples can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "yaml") {
                found.insert(
                    path.strip_prefix(folder()).expect("it lies there").to_string_lossy().into_owned(),
                );
            }
        }
    }
    assert_eq!(found, EXAMPLES.iter().map(|name| (*name).to_owned()).collect());
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let this = include_str!("examples.rs");
    for name in EXAMPLES {
        assert!(readme.contains(&format!("({name})")), "examples/README.md does not list {name}");
        assert!(this.contains(&format!("\"{name}\", &[")), "no test runs {name}");
    }
}

#[test]
fn every_example_says_what_it_shows_and_how_to_run_it() {
    for name in EXAMPLES {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        let header: String =
            text.lines().take_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n");
        assert!(header.contains("It shows:"), "{name} does not say what it shows");
        assert!(
            header.contains(&format!("windlass run examples/{name}")),
            "{name} does not say how to run it"
        );
    }
}

/// Commands that have commands of their own.
const NOUNS: &[&str] = &["workflow", "runs", "approvals", "config"];

#[test]
fn documents_and_examples_name_only_commands_that_windlass_has() {
    let root = folder().parent().expect("examples lie in the workspace").to_path_buf();
    let mut texts: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/config.example.toml"]
            .iter()
            .map(|name| root.join(name))
            .collect();
    texts.extend(EXAMPLES.iter().map(|name| folder().join(name)));
    texts.push(folder().join("README.md"));
    let mut commands = BTreeSet::new();
    for text in texts {
        let text =
            std::fs::read_to_string(&text).unwrap_or_else(|error| panic!("{}: {error}", text.display()));
        // In a code span, or at the beginning of a line of code or of a comment.
        let spans = text.split('`').skip(1).step_by(2);
        let lines = text.lines().map(|line| line.trim_start_matches(['#', ' ', '$']));
        let said = spans.chain(lines).filter_map(|code| code.strip_prefix("windlass "));
        commands
            .extend(said.filter_map(|rest| command_of(&rest.split_whitespace().take(2).collect::<Vec<_>>())));
    }
    assert!(commands.contains(&vec!["runs".to_owned(), "start".to_owned()]), "{commands:?}");
    for command in commands {
        let known = program().args(&command).arg("--help").output().expect("the program can be started");
        assert!(known.status.success(), "there is no `windlass {}`", command.join(" "));
    }
}

/// `["runs", "start"]` of `runs start NAME`, none of what is no command.
fn command_of(words: &[&str]) -> Option<Vec<String>> {
    let word = |at: usize| {
        let text: String = words.get(at)?.chars().take_while(char::is_ascii_lowercase).collect();
        (text.len() > 1).then_some(text)
    };
    let first = word(0)?;
    let second = if NOUNS.contains(&first.as_str()) { word(1) } else { None };
    Some(std::iter::once(first).chain(second).collect())
}

#[test]
fn every_example_is_valid_and_can_be_drawn() {
    let files: Vec<PathBuf> = EXAMPLES.iter().map(|name| folder().join(name)).collect();
    let checked = program().arg("validate").args(&files).output().expect("the program can be started");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    for file in files {
        let drawn = program().arg("graph").arg(&file).output().expect("the program can be started");
        let picture = String::from_utf8_lossy(&drawn.stdout).into_owned();
        assert!(
            drawn.status.success()
                && ["flowchart", "stateDiagram"].iter().any(|word| picture.starts_with(word)),
            "{}: {picture}",
            file.display()
        );
    }
}
