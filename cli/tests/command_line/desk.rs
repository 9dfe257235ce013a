//! Starts the built binary as a person would, in a folder of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder to work in; every command runs there, without any setting of the machine.
pub struct Desk {
    folder: tempfile::TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file can be written");
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("WINDLASS_") || name == "RUST_LOG" || name == "USER" {
                command.env_remove(name);
            }
        }
        command.env("NO_COLOR", "1").env("COLUMNS", "100");
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().expect("the binary can be started"))
    }

    /// Starts `windlass dev` on a free port, with its database in this folder.
    pub fn dev(&self, more: &[&str]) -> Server {
        self.dev_logging_to(Stdio::piped(), more)
    }

    pub fn dev_logging_to(&self, log: Stdio, more: &[&str]) -> Server {
        let port: &[&str] = if more.contains(&"--port") { &[] } else { &["--port", "0"] };
        let args = [&["dev", "--db", "dev.db"], port, more].concat();
        let mut command = self.command(&args);
        let mut child =
            command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        let Some(url) = first.strip_prefix("listening on ") else {
            let output = Ended::from(child.wait_with_output().expect("it has ended"));
            panic!("the first line is `{first}`: {output:?}");
        };
        Server { url: url.to_owned(), child }
    }
}

impl Ended {
    pub fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("output is UTF-8"),
            err: String::from_utf8(output.stderr).expect("output is UTF-8"),
        }
    }
}

/// A running `windlass dev`.
pub struct Server {
    pub url: String,
    pub child: Child,
}

impl Server {
    /// Asks it to end, and waits.
    pub fn stop(mut self) -> i32 {
        signal(&self.child, "TERM");
        self.child.wait().expect("it can be waited for").code().unwrap_or(-1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(kill.expect("there is a kill").success());
}

/// Looks again and again; nothing that is waited for takes this long.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not happen in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Text with what differs from run to run taken out: ids, times, spans, sizes of folders.
pub fn steady(text: &str, folder: &Path) -> String {
    let text = text.replace(&folder.display().to_string(), "FOLDER");
    let words = text.split_inclusive([' ', '\n']).map(|word| {
        let bare = word.trim_end_matches([' ', '\n', ',', ')']);
        let is_id = bare.len() == 36 && bare.matches('-').count() == 4;
        let is_span = bare.contains('.') && bare.parse::<f64>().is_ok();
        match (is_id, is_span) {
            (true, _) => word.replace(bare, "ID"),
            (_, true) => word.replace(bare, "0.00"),
            _ => word.to_owned(),
        }
    });
    words.collect()
}

/// Types `answers` into a terminal that runs this command, one line per question, as each question comes.
pub fn at_a_terminal(desk: &Desk, args: &[&str], dialogue: &[(&str, &str)]) -> Ended {
    at_a_terminal_while(desk, args, dialogue, |_| ())
}

/// `meanwhile` happens once a question was read, before its answer is typed; it is told which question.
pub fn at_a_terminal_while(
    desk: &Desk,
    args: &[&str],
    dialogue: &[(&str, &str)],
    mut meanwhile: impl FnMut(usize),
) -> Ended {
    let quoted: Vec<String> = [env!("CARGO_BIN_EXE_windlass")]
        .iter()
        .chain(args)
        .map(|arg| format!("'{}'", arg.replace('\'', "'\\''")))
        .collect();
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &quoted.join(" "), "/dev/null"]);
    command.current_dir(desk.folder.path()).env("NO_COLOR", "1").env("TERM", "xterm");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("every Debian has the program `script`");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut stdout = child.stdout.take().expect("it is piped");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = std::io::Read::read(&mut stdout, &mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut seen = Vec::new();
    let mut from = 0;
    let until = Instant::now() + Duration::from_secs(60);
    for (number, (question, answer)) in dialogue.iter().enumerate() {
        loop {
            let text = String::from_utf8_lossy(&seen[from..]).into_owned();
            if let Some(at) = text.find(question) {
                from += at + question.len();
                meanwhile(number);
                writeln!(stdin, "{answer}").expect("it listens");
                break;
            }
            match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => seen.extend(bytes),
                Err(_) => panic!("`{question}` was not asked: {}", String::from_utf8_lossy(&seen)),
            }
        }
    }
    while let Ok(bytes) = receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
        seen.extend(bytes);
    }
    let code = child.wait().expect("it can be waited for").code().unwrap_or(-1);
    Ended { code, out: String::from_utf8_lossy(&seen).into_owned(), err: String::new() }
}
