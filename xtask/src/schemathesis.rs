//! `schemathesis`: a fresh server, and thousands of generated requests against its OpenAPI document.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::report::{Ending, Report, say};
use crate::{Usage, setup, shell};

/// Pinned: with the seed, it decides which requests are sent.
const PACKAGE: &str = "schemathesis==4.32.5";

/// As many requests as issue and README promise.
const CASES_DEFAULT: u32 = 2_000;

/// A server that says nothing for this long will not come up any more.
const SERVER_START_MAX: Duration = Duration::from_secs(60);

/// How long the server may take to drain.
const SERVER_STOP_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    cases: u32,
    seed: u32,
}

impl Default for Options {
    fn default() -> Self {
        // A fixed seed: CI that fails by luck teaches people to press "again".
        Self { cases: CASES_DEFAULT, seed: 1 }
    }
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let field = match *argument {
                "--cases" => &mut options.cases,
                "--seed" => &mut options.seed,
                other => bail!(Usage(format!("`{other}` is not an option of schemathesis"))),
            };
            let value = rest.next().and_then(|it| it.parse().ok());
            *field = value.with_context(|| Usage(format!("{argument} wants a number")))?;
        }
        Ok(options)
    }
}

pub(crate) fn step(report: &mut Report, options: &Options) {
    report.step("schemathesis", || run(options));
}

fn run(options: &Options) -> Result<Ending> {
    let folder = shell::target_folder()?.join("schemathesis");
    let program = match setup::python_package(&folder, PACKAGE) {
        Ok(venv) => venv.join("bin/schemathesis"),
        Err(error) => return Ok(Ending::Skipped(format!("{error:#}"))),
    };
    shell::run(shell::cargo(["build", "--package", "windlass"]))?;
    let server = Server::start(&folder)?;
    let tested = requests(&program, &server.url, options);
    let database = server.stop()?;
    let note = tested?;
    shell::run(shell::command(&windlass()?, [Path::new("doctor"), Path::new("--db"), &database]))
        .context("the database after all those requests")?;
    Ok(Ending::PassedWith(note))
}

/// Passes with growing seeds until enough requests were sent; each pass brings hundreds at least.
const PASSES_MAX: u32 = 5;

/// What every answer must be: no 5xx, and as the document says: status, content type, body.
const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// Longer than the longest wait that a request may ask the server for.
const REQUEST_TIMEOUT_SECONDS: &str = "75";

/// Sends the requests; an answer that breaks a check, a broken connection or a hang fails.
fn requests(program: &Path, url: &str, options: &Options) -> Result<String> {
    let operations = operation_count(url)?;
    // Per operation and pass; phases other than fuzzing choose their own number and double it, about.
    let examples = options.cases.div_ceil(operations * 2).max(1).to_string();
    let schema = format!("{url}/openapi.json");
    let mut generated = 0;
    for pass in 0..PASSES_MAX {
        let seed = (options.seed + pass).to_string();
        // One worker: CPython 3.11 loses count of its own recursion when threads share a parser.
        let arguments = [
            "run",
            &schema,
            "--phases",
            "examples,coverage,fuzzing,stateful",
            "--checks",
            CHECKS,
            "--workers",
            "1",
            "--max-examples",
            &examples,
            "--seed",
            &seed,
            "--request-timeout",
            REQUEST_TIMEOUT_SECONDS,
            "--continue-on-failure",
            "--no-color",
        ];
        let mut cases = None;
        let passed = shell::watch(shell::command(&program.to_string_lossy(), arguments), |line| {
            cases = cases_in(line).or(cases);
        })?;
        generated += cases.context("schemathesis did not say how many cases it generated")?;
        if !passed {
            bail!("failures above; repeat with --cases {} --seed {seed}", options.cases);
        }
        if generated >= options.cases {
            return Ok(format!("{generated} cases over {operations} operations, none broke a promise"));
        }
    }
    bail!("only {generated} cases were generated, {} were asked for", options.cases)
}

/// `1234 generated, 1234 passed` in schemathesis' own summary.
fn cases_in(line: &str) -> Option<u32> {
    let (number, rest) = line.trim().split_once(' ')?;
    rest.starts_with("generated").then(|| number.parse().ok())?
}

fn operation_count(url: &str) -> Result<u32> {
    const METHODS: &[&str] = &["get", "put", "post", "delete", "patch", "head", "options"];
    let document: serde_json::Value = serde_json::from_str(&http_get(url, "/openapi.json")?)?;
    let paths = document["paths"].as_object().context("the OpenAPI document has no paths")?;
    let operations = paths
        .values()
        .filter_map(serde_json::Value::as_object)
        .flat_map(|path| path.keys())
        .filter(|key| METHODS.contains(&key.as_str()));
    u32::try_from(operations.count()).ok().filter(|count| *count > 0).context("the OpenAPI document is empty")
}

/// One plain request: not worth a dependency.
fn http_get(url: &str, path: &str) -> Result<String> {
    use std::io::{Read, Write};

    let address = url.strip_prefix("http://").context("the server speaks http")?;
    let mut stream = std::net::TcpStream::connect(address)?;
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => bail!("{path} answered {}", answer.lines().next().unwrap_or("nothing")),
    }
}

fn windlass() -> Result<String> {
    Ok(shell::target_folder()?.join("debug/windlass").to_string_lossy().into_owned())
}

/// A `windlass dev` of our own, on a fresh database.
struct Server {
    process: Child,
    url: String,
    database: PathBuf,
}

impl Server {
    fn start(folder: &Path) -> Result<Self> {
        let home = folder.join("server");
        if home.exists() {
            std::fs::remove_dir_all(&home)?;
        }
        std::fs::create_dir_all(&home)?;
        let database = home.join("windlass.db");
        let log = home.join("server.log");
        let mut process = Command::new(windlass()?)
            .args([Path::new("dev"), Path::new("--port"), Path::new("0"), Path::new("--db"), &database])
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("starting windlass dev")?;
        say(&format!("windlass dev writes its log to {}", log.display()));
        let stdout = process.stdout.take().context("stdout is piped")?;
        let (sender, receiver) = std::sync::mpsc::channel();
        // Reads on for as long as the server lives, so that it never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once("listening on ") {
                    let _ = sender.send(url.trim().to_owned());
                }
            }
        });
        let mut server = Self { process, url: String::new(), database };
        server.url =
            receiver.recv_timeout(SERVER_START_MAX).context("windlass dev did not say where it listens")?;
        Ok(server)
    }

    /// Asks the server to drain, and fails when it was already gone or leaves badly.
    fn stop(mut self) -> Result<PathBuf> {
        if let Some(status) = self.process.try_wait()? {
            bail!("windlass dev ended during the test with {status}");
        }
        shell::run(shell::command("kill", ["-TERM", &self.process.id().to_string()]))?;
        let began = Instant::now();
        while began.elapsed() < SERVER_STOP_MAX {
            if let Some(status) = self.process.try_wait()? {
                if !status.success() {
                    bail!("windlass dev ended with {status}");
                }
                return Ok(self.database.clone());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("windlass dev did not end within {SERVER_STOP_MAX:?} after SIGTERM")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_numbers_with_names() {
        assert_eq!(Options::parse(&[]).unwrap(), Options { cases: CASES_DEFAULT, seed: 1 });
        assert_eq!(
            Options::parse(&["--seed", "7", "--cases", "20"]).unwrap(),
            Options { cases: 20, seed: 7 }
        );
        assert!(Options::parse(&["--cases", "many"]).is_err());
        assert!(Options::parse(&["--speed", "7"]).unwrap_err().is::<Usage>());
    }

    #[test]
    fn the_number_of_cases_is_read_from_the_summary() {
        assert_eq!(cases_in("  2104 generated, 2104 passed"), Some(2104));
        assert_eq!(cases_in("Test cases:"), None);
    }
}
