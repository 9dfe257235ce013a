//! Scripts as steps run them, with limits that bite.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use windlass_engine::{Done, Failure, File, Runner};
use windlass_model::StepError;

use super::Script;
use crate::nodes::testing::{error_of, reported, step, watched_step};

async fn run(params: Value) -> Result<Done, Failure> {
    Script.run(step(params)).await
}

async fn output(params: Value) -> Value {
    run(params).await.unwrap().output
}

async fn error(params: Value) -> StepError {
    error_of(run(params).await)
}

fn text(file: &File) -> (&str, &str) {
    (&file.name, str::from_utf8(&file.content).unwrap())
}

/// Waits until something is so that nobody announces, for as long as a busy machine may take.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "never saw {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Alive, and not only waiting for somebody to take note of its death.
fn is_alive(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.trim()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

fn written(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
}

#[tokio::test]
async fn json_goes_in_and_comes_out() {
    let given = json!({ "names": ["Ada", "Grace"], "big": 9_007_199_254_740_993_u64 });
    assert_eq!(output(json!({ "command": ["cat"], "with": given })).await, given);
    assert_eq!(output(json!({ "command": ["cat"] })).await, json!({}));
    assert_eq!(output(json!({ "run": "echo '[1, 2]'" })).await, json!([1, 2]));
    assert_eq!(output(json!({ "run": "echo \" \"" })).await, Value::Null);
}

#[tokio::test]
async fn arguments_reach_the_program_as_they_are() {
    let params = json!({ "command": ["printf", "\"%s;%s;%s\"", "$HOME `id`", 7, true] });
    assert_eq!(output(params).await, json!("$HOME `id`;7;true"));
}

#[tokio::test]
async fn the_environment_is_empty_but_for_what_is_documented() {
    let done = run(json!({ "command": ["env"], "env": { "TOKEN": "t0ken", "LANG": "de_DE.UTF-8" } })).await;
    let error = error_of(done);
    // `env` prints no JSON; what it printed stands in the details, and does not fit there whole.
    assert_eq!(error.kind, "script.output");
    let names = output(json!({
        "env": { "TOKEN": "t0ken" },
        "run": "env | cut -d= -f1 | sort | sed 's/.*/\"&\"/' | paste -sd, | sed 's/.*/[&]/'"
    }));
    let names: Vec<String> = serde_json::from_value(names.await).unwrap();
    let expected = [
        "HOME",
        "LANG",
        "PATH",
        "PWD",
        "TMPDIR",
        "TOKEN",
        "WINDLASS_ARTIFACTS",
        "WINDLASS_ATTEMPT",
        "WINDLASS_IDEMPOTENCY_KEY",
        "WINDLASS_NODE",
        "WINDLASS_RUN_ID",
    ];
    // Shells add PWD, and some of them more of their own.
    let names: Vec<_> =
        names.iter().filter(|name| !["OLDPWD", "SHLVL", "_"].contains(&name.as_str())).collect();
    assert_eq!(names, expected);
    let own = output(
        json!({ "run": "echo \"[\\\"$WINDLASS_NODE\\\", $WINDLASS_ATTEMPT, \\\"$WINDLASS_IDEMPOTENCY_KEY\\\"]\"" }),
    );
    assert_eq!(own.await, json!(["it", 1, "key-1"]));
}

#[tokio::test]
async fn the_worker_hides_its_own_environment_from_scripts_of_its_user() {
    // Root may read everything; what can be checked as anyone is the flag that keeps others out.
    output(json!({ "run": "true" })).await;
    let status = std::fs::metadata("/proc/self/environ").unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&status), 0);
}

#[tokio::test]
async fn names_that_belong_to_windlass_or_to_nobody_are_refused() {
    for name in ["WINDLASS_RUN_ID", "1A", "A-B", "", "A=B", "A\nB"] {
        assert_eq!(
            error(json!({ "run": "true", "env": { name: "x" } })).await.kind,
            "schema.input",
            "{name:?}"
        );
    }
    for params in [
        json!({}),
        json!({ "command": [], "with": 1 }),
        json!({ "command": ["a"], "run": "b" }),
        json!({ "command": ["a", { "b": 1 }] }),
        json!({ "command": ["a\u{0}b"] }),
        json!({ "run": "true", "limits": { "memory": "much" } }),
        json!({ "run": "true", "unknown": 1 }),
    ] {
        assert_eq!(error(params.clone()).await.kind, "schema.input", "{params}");
    }
}

#[tokio::test]
async fn a_script_works_in_a_fresh_folder_that_is_removed() {
    let script = "pwd > place; ls -a | wc -l >&2; test \"$(pwd -P)\" = \"$(cd \"$HOME\" && pwd -P)\"; \
                  touch \"$TMPDIR/x\"; printf '\"%s\"' \"$(cat place)\"";
    let done = run(json!({ "run": script })).await.unwrap();
    assert!(!Path::new(done.output.as_str().unwrap()).exists());
    assert_eq!(text(&done.files[0]), ("log", "3\n"));
}

#[tokio::test]
async fn it_works_elsewhere_when_the_definition_says_so() {
    assert_eq!(output(json!({ "run": "printf '\"%s\"' \"$(pwd -P)\"", "cwd": "/usr" })).await, json!("/usr"));
    let gone = error(json!({ "run": "true", "cwd": "/nowhere/at/all" })).await;
    assert_eq!(gone.kind, "script.not_found");
}

#[tokio::test]
async fn standard_error_is_kept_and_shown_line_by_line() {
    let (step, mut news) =
        watched_step(json!({ "run": "echo one >&2; printf 'two \\033[1m\\377' >&2; echo 1" })).await;
    let done = Script.run(step).await.unwrap();
    assert_eq!(done.files[0].name, "log");
    assert_eq!(done.files[0].content, b"one\ntwo \x1b[1m\xff");
    assert_eq!(reported(&mut news), [json!({ "line": "one" }), json!({ "line": "two \u{1b}[1m" })]);
}

#[tokio::test]
async fn a_failure_says_the_exit_code_and_the_last_words() {
    let failure =
        run(json!({ "run": "echo reading >&2; echo no such order >&2; exit 3" })).await.unwrap_err();
    assert_eq!(failure.error.kind, "script.exit_3");
    assert_eq!(failure.error.message, "exit code 3: reading\nno such order");
    assert_eq!(failure.error.details.unwrap()["exit_code"], 3);
    assert_eq!(text(&failure.files[0]), ("log", "reading\nno such order\n"));
    assert_eq!(error(json!({ "run": "false; echo 1" })).await.kind, "script.exit_1");
    assert_eq!(
        error(json!({ "run": "kill -s USR1 $$" })).await.kind,
        format!("script.signal_{}", libc::SIGUSR1)
    );
}

#[tokio::test]
async fn what_is_no_program_does_not_start() {
    assert_eq!(error(json!({ "command": ["no-such-program-anywhere"] })).await.kind, "script.not_found");
    assert_eq!(error(json!({ "command": ["/etc/passwd"] })).await.kind, "script.not_executable");
    let long = "x".repeat(4 << 20);
    assert_eq!(error(json!({ "command": ["true", long] })).await.kind, "script.not_started");
    let message = error(json!({ "command": [long] })).await.message;
    assert!(message.len() < 200 && message.contains("`… 4194304 bytes …` did not start"), "{message:.300}");
}

#[tokio::test]
async fn output_that_is_not_one_json_value_is_an_error() {
    for script in
        ["echo hello", "echo 1; echo 2", "echo '{\"a\":'", "printf '\"\\377\"'", "printf '\\377\\376'"]
    {
        assert_eq!(error(json!({ "run": script })).await.kind, "script.output", "{script}");
    }
}

#[tokio::test]
async fn input_larger_than_a_pipe_goes_in_while_output_comes_out() {
    let given = Value::from("x".repeat(3 << 20));
    assert_eq!(output(json!({ "command": ["cat"], "with": given })).await, given);
}

#[tokio::test]
async fn a_program_need_not_read_its_input() {
    let given = Value::from("x".repeat(3 << 20));
    assert_eq!(output(json!({ "run": "echo 1", "with": given })).await, json!(1));
    assert_eq!(output(json!({ "run": "exec 0<&-; sleep 0.1; echo 2", "with": given })).await, json!(2));
}

#[tokio::test]
async fn endless_output_ends_at_the_limit() {
    let failure = run(json!({ "command": ["yes"], "limits": { "output": "64KiB" } })).await.unwrap_err();
    assert_eq!(failure.error.kind, "limit.output");
    assert_eq!(error(json!({ "command": ["yes"] })).await.kind, "limit.output");
    // The end of this one is still in the pipe when the program has ended, and is blank.
    let blank = json!({ "run": "printf 1; printf '%30000s' ' '", "limits": { "output": "20KiB" } });
    assert_eq!(error(blank).await.kind, "limit.output");
}

#[tokio::test]
async fn a_memory_hog_is_refused_memory() {
    // awk doubles a string until it gets no more.
    let hog = "BEGIN { s = \"0123456789abcdef\"; for (i = 0; i < 24; i++) s = s s; print length(s) }";
    let limited = error(json!({ "command": ["awk", hog], "limits": { "memory": "64MiB" } })).await;
    assert!(limited.kind.starts_with("script."), "{limited:?}");
    assert_eq!(output(json!({ "command": ["awk", hog] })).await, json!(16 << 24));
}

#[tokio::test]
async fn endless_reckoning_ends_at_the_limit() {
    let spin = json!({ "command": ["awk", "BEGIN { while (1) n++ }"], "limits": { "cpu": "1s" } });
    assert_eq!(error(spin).await.kind, "limit.cpu");
}

#[tokio::test]
async fn a_file_that_grows_for_ever_ends_at_the_limit() {
    let write =
        json!({ "command": ["dd", "if=/dev/zero", "of=big", "bs=64k"], "limits": { "file": "1MiB" } });
    assert_eq!(error(write).await.kind, "limit.file");
}

#[tokio::test]
#[expect(unsafe_code, reason = "std opens nothing that a new program would inherit")]
async fn a_script_has_a_session_of_its_own_and_no_descriptors_of_the_worker() {
    // SAFETY: a system call without pointers.
    let inherited = unsafe { libc::dup(2) };
    let script = format!("test \"$(cut -d' ' -f6 /proc/$$/stat)\" = $$; test ! -e /proc/$$/fd/{inherited}");
    assert_eq!(output(json!({ "run": script })).await, Value::Null);
    let limits = output(json!({ "run": "echo \"[$(ulimit -c), $(ulimit -n)]\"" })).await;
    assert_eq!(limits, json!([0, 1024]));
}

#[tokio::test]
async fn files_in_the_artifacts_folder_are_kept() {
    let script =
        "cd \"$WINDLASS_ARTIFACTS\"; echo '# Notes' > notes.md; printf '\\000\\377' > raw; echo said >&2";
    let files = run(json!({ "run": script })).await.unwrap().files;
    let shown: Vec<_> =
        files.iter().map(|file| (&*file.name, &*file.media_type, file.content.as_slice())).collect();
    assert_eq!(
        shown,
        [
            ("log", "text/plain", &b"said\n"[..]),
            ("notes.md", "text/markdown", b"# Notes\n"),
            ("raw", "application/octet-stream", b"\0\xff"),
        ]
    );
    let link = error(json!({ "run": "ln -s /etc/passwd \"$WINDLASS_ARTIFACTS/passwd\"" })).await;
    assert_eq!(link.kind, "script.artifact");
}

#[tokio::test]
async fn a_cancel_lets_the_program_tidy_up() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let script =
        "trap 'echo tidy > \"$MARK\"; exit 0' TERM; echo ready > \"$MARK\"; while :; do sleep 0.05; done";
    let step = step(json!({ "run": script, "env": { "MARK": mark } }));
    let cancel = step.cancel.clone();
    let running = tokio::spawn(async move { Script.run(step).await });
    until("the script", || written(&mark).is_some()).await;
    cancel.cancel();
    assert_eq!(error_of(running.await.unwrap()).kind, "canceled");
    assert_eq!(written(&mark).as_deref(), Some("tidy\n"));
}

#[tokio::test]
async fn a_program_that_ignores_a_cancel_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let script = "trap '' TERM; sleep 300 & echo $! > \"$MARK\"; while :; do sleep 300; done";
    let step = step(json!({ "run": script, "env": { "MARK": mark } }));
    let cancel = step.cancel.clone();
    let running = tokio::spawn(async move { Script.run(step).await });
    until("the script", || written(&mark).is_some()).await;
    let canceled_at = Instant::now();
    cancel.cancel();
    assert_eq!(error_of(running.await.unwrap()).kind, "canceled");
    assert!(canceled_at.elapsed() >= super::process::CANCEL_GRACE);
    let child = written(&mark).unwrap();
    until("the end of its child", || !is_alive(&child)).await;
}

#[tokio::test]
async fn a_step_that_is_dropped_takes_its_processes_and_its_folder_along() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let script = "trap '' TERM; sleep 300 & echo $! $$ \"$HOME\" > \"$MARK\"; wait";
    let step = step(json!({ "run": script, "env": { "MARK": mark } }));
    let running = tokio::spawn(async move { Script.run(step).await });
    until("the script", || written(&mark).is_some()).await;
    running.abort();
    let line = written(&mark).unwrap();
    let [child, leader, home] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
    until("the end of its child", || !is_alive(child)).await;
    // Not even a zombie is left of the process that was ours.
    until("the end of the script", || !Path::new(&format!("/proc/{leader}")).exists()).await;
    until("the end of its folder", || !Path::new(home).exists()).await;
}

#[tokio::test]
async fn children_do_not_outlive_a_script_that_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    // The child holds standard output open, which is no reason to wait for it.
    let script = "sleep 300 & echo $! > \"$MARK\"; echo 1";
    let started = Instant::now();
    assert_eq!(output(json!({ "run": script, "env": { "MARK": mark } })).await, json!(1));
    assert!(started.elapsed() < Duration::from_secs(60));
    let child = written(&mark).unwrap();
    until("the end of its child", || !is_alive(&child)).await;
}

#[tokio::test]
async fn what_a_child_still_writes_when_the_script_ends_is_read() {
    assert_eq!(output(json!({ "run": "(sleep 0.1; echo 7) &" })).await, json!(7));
}

#[tokio::test]
async fn a_script_out_of_time_leaves_its_log() {
    let mut step = step(json!({ "run": "echo begun >&2; sleep 300" }));
    step.timeout = Some(Duration::from_secs(1));
    let failure = Script.run(step).await.unwrap_err();
    assert_eq!(failure.error.kind, "timeout");
    assert_eq!(text(&failure.files[0]), ("log", "begun\n"));
}

/// Not a test of its own: the worker that the next test kills.
#[tokio::test]
#[ignore = "the other end of a_worker_that_is_killed_leaves_no_orphans"]
async fn a_worker_to_be_killed() {
    let mark = std::env::var("TEST_MARK").expect("the other test sets it");
    let script = "sleep 300 & echo $! $$ \"$HOME\" > \"$MARK\"; wait";
    let _ = run(json!({ "run": script, "env": { "MARK": mark } })).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_leaves_no_orphans() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let mut worker = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "nodes::script::tests::a_worker_to_be_killed"])
        .env("TEST_MARK", &mark)
        .env("TMPDIR", folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the script", || written(&mark).is_some()).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    let line = written(&mark).unwrap();
    let [child, leader, home] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
    for process in [child, leader] {
        until("the end of the orphans", || !is_alive(process)).await;
    }
    until("the end of their folder", || !Path::new(home).exists()).await;
}
