//! `cargo xtask fleet`, as a person uses it: it comes up, runs a workflow, and leaves nothing behind.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

struct Fleet {
    xtask: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    /// What it printed when it was up.
    said: String,
}

/// More than it takes to see that a command was killed, and to end what it left.
const CLEANED_UP_WITHIN: Duration = Duration::from_secs(30);

/// Built beside xtask; `cargo xtask test` does.
fn windlass() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("windlass")
}

impl Fleet {
    fn start(options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("fleet").arg("--program").arg(windlass()).args(options);
        // As a terminal starts it: Ctrl-C goes to the whole group.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut xtask = command.spawn().unwrap();
        let stdout = BufReader::new(xtask.stdout.take().unwrap());
        let mut stderr = xtask.stderr.take().unwrap();
        // Read all the time, so that nobody waits for us.
        let stderr = Some(std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        }));
        let mut fleet = Self { xtask, stdout, stderr, said: String::new() };
        while !fleet.said.contains("Ctrl-C ends everything") {
            let read = fleet.stdout.read_line(&mut fleet.said).unwrap();
            if read == 0 {
                panic!("it does not come up: {}", fleet.stderr());
            }
        }
        fleet
    }

    /// All of it, once it has ended.
    fn stderr(&mut self) -> String {
        self.stderr.take().unwrap().join().unwrap()
    }

    /// Of every process that it told of.
    fn pids(&self) -> Vec<u32> {
        let after = self.said.split("pid ").skip(1);
        after.map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap()).collect()
    }

    /// What a person would copy: `WINDLASS_SERVER` and the others.
    fn environment(&self) -> Vec<(&str, &str)> {
        let words = self.said.split_whitespace();
        words.filter(|word| word.starts_with("WINDLASS_")).filter_map(|word| word.split_once('=')).collect()
    }

    /// The commands that it says are worth trying, but for the one that never ends.
    fn commands(&self) -> Vec<String> {
        let lines = self.said.lines().map(str::trim).filter(|line| line.starts_with("windlass "));
        lines.filter(|line| !line.starts_with("windlass worker")).map(str::to_owned).collect()
    }

    /// Runs a command as a person would in another terminal, and gives what it printed.
    fn shell(&self, command: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let command = command.replacen("windlass", windlass().to_str().unwrap(), 1);
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &command]).envs(self.environment()).current_dir(root).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ctrl-C, and what it wrote to stderr meanwhile.
    fn interrupt(mut self) -> String {
        let pids = self.pids();
        assert_eq!(pids.len(), 7, "{}", self.said);
        kill("INT", &format!("-{}", self.xtask.id()));
        let logs = self.stderr();
        let status = self.xtask.wait().unwrap();
        assert!(status.success(), "{status}: {logs}");
        assert_eq!(alive(&pids), [0; 0], "{}\n{logs}", self.said);
        logs
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.xtask.kill();
        let _ = self.xtask.wait();
    }
}

/// Those of the processes that still run. Whoever adopted one may be slow to look after what is left of it.
fn alive(pids: &[u32]) -> Vec<u32> {
    let runs = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| !status.contains("State:\tZ"))
    };
    pids.iter().copied().filter(runs).collect()
}

fn kill(signal: &str, target: &str) {
    let status = Command::new("sh").args(["-c", "kill -$0 $1", signal, target]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_fleet_comes_up_runs_a_workflow_and_leaves_nothing_but_the_folder_it_was_given() {
    let folder = std::env::temp_dir().join(format!("windlass-xtask-{}", std::process::id()));
    let options = ["--folder", folder.to_str().unwrap()];

    let fleet = Fleet::start(&options);
    let commands = fleet.commands();
    assert_eq!(commands.len(), 4, "{}", fleet.said);
    for command in commands {
        fleet.shell(&command);
    }
    let logs = fleet.interrupt();
    for line in ["api-2     | ", "worker-3  | ", "postgres  | ", "redis     | "] {
        assert!(logs.contains(line), "no {line:?} in {logs}");
    }

    let fleet = Fleet::start(&options);
    assert!(fleet.shell("windlass runs list").contains("completed"), "the folder keeps what happened");
    // A worker that a person ends is missed, and everything goes on.
    kill("KILL", &fleet.pids()[4].to_string());
    fleet.shell("windlass run continue");
    let logs = fleet.interrupt();
    assert!(logs.contains("worker-3 has ended"), "{logs}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_fleet_whose_command_was_killed_goes_as_well() {
    let fleet = Fleet::start(&[]);
    let pids = fleet.pids();
    assert_eq!(alive(&pids), pids);
    drop(fleet);
    let began = Instant::now();
    while !alive(&pids).is_empty() {
        assert!(began.elapsed() < CLEANED_UP_WITHIN, "{:?} are left", alive(&pids));
        std::thread::sleep(Duration::from_millis(50));
    }
}
