//! One Windlass process under measurement.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What a process says before its address when it listens.
const READY_WORD: &str = "http://";

/// What a process is told when it starts, so that it can be started again.
#[derive(Clone)]
pub(crate) struct Orders {
    /// The role comes first: `dev`, `api` or `worker`.
    pub(crate) arguments: Vec<String>,
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Where it stands, and where its log lies.
    pub(crate) folder: PathBuf,
}

impl Orders {
    fn command(&self) -> Result<Command> {
        let log = self.folder.join(format!("{}.log", self.arguments[0]));
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(path()?);
        command
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env("WINDLASS_LOG", "warn")
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(log);
        Ok(command)
    }

    fn last_words(&self) -> String {
        std::fs::read_to_string(self.folder.join(format!("{}.log", self.arguments[0]))).unwrap_or_default()
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Result<()> {
        let status = self.command()?.stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{} ended with {status}: {}", self.arguments[0], self.last_words());
        Ok(())
    }
}

pub(crate) struct Program {
    orders: Orders,
    process: Child,
    /// `127.0.0.1:port`; a worker's is that of its health.
    pub(crate) address: String,
}

impl Program {
    /// Starts it and waits until it listens.
    pub(crate) fn start(orders: Orders) -> Result<Self> {
        let mut process =
            orders.command()?.stdout(Stdio::piped()).spawn().context("the program cannot be started")?;
        let mut lines = BufReader::new(process.stdout.take().context("it was asked for")?).lines();
        let address = loop {
            let Some(line) = lines.next() else {
                bail!("{} ended: {}", orders.arguments[0], orders.last_words())
            };
            if let Some((_, address)) = line?.split_once(READY_WORD) {
                break address.split_whitespace().next().unwrap_or_default().to_owned();
            }
        };
        // Nobody must ever wait for a reader of this pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { orders, process, address })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again as it was, after it was killed.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        *self = Self::start(self.orders.clone())?;
        Ok(())
    }

    /// Ends it in peace.
    pub(crate) fn stop(mut self) -> Result<()> {
        let kill = format!("kill -TERM {}", self.id());
        Command::new("/bin/sh").args(["-c", &kill]).status()?;
        let status = self.process.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.orders.arguments[0]);
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone after `stop`; a failed round leaves nothing behind.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program beside this one: `target/release/windlass`.
fn path() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.with_file_name("windlass");
    ensure!(
        program.is_file(),
        "{} is missing: build it with `cargo build --release -p windlass -p bench`",
        program.display()
    );
    Ok(program)
}
