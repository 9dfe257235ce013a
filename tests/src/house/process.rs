//! One process of a house: started, asked to end, killed, frozen, and spoken to alone.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout};

use super::program::program_that_outlives_a_full_disk;
use crate::{Client, PATIENCE, eventually};

/// Lines of a process' own log that a failed story shows.
const LOG_LINES_SHOWN: usize = 60;

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything at once.
    Dev,
    Api,
    Worker,
}

impl Role {
    /// How the program is told.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }
}

/// A process, up or not. Cheap to clone: clones mean the same one.
///
/// It is a [`Client`] that speaks to this process alone; a worker answers only how it fares.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    name: String,
    role: Role,
    settings: Vec<(String, String)>,
    /// Where its log is written, and where it works.
    folder: PathBuf,
    client: Client,
    /// Whoever speaks with the house as a whole.
    house: Client,
    child: Mutex<Option<Child>>,
}

impl Deref for Process {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0.client
    }
}

impl Process {
    pub(super) fn new(
        name: String,
        role: Role,
        settings: Vec<(String, String)>,
        folder: &Path,
        house: &Client,
    ) -> Self {
        let (client, house, folder) = (house.of_one_process(), house.clone(), folder.to_path_buf());
        Self(Arc::new(Inner { name, role, settings, folder, client, house, child: Mutex::default() }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn role(&self) -> Role {
        self.0.role
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.child.lock().expect("no panic while holding it")
    }

    pub fn is_up(&self) -> bool {
        self.child().is_some()
    }

    pub fn pid(&self) -> u32 {
        self.child().as_ref().and_then(Child::id).unwrap_or_else(|| panic!("{} is not up", self.name()))
    }

    // ---- life and death ------------------------------------------------------------------------

    /// Starts it and waits until it listens, on a port that is free now.
    pub async fn rise(&self) {
        let stdout = self.spawn(&[]);
        self.until_it_listens(stdout).await;
    }

    /// As [`Self::rise`]; it ends by itself when it comes to this point for the n-th time, and perhaps before it listens.
    pub async fn rise_to_die_at(&self, point: &str, time: u64) {
        let stdout = self.spawn(&[("DEATH_POINT", &format!("{point}#{time}"))]);
        if let Some(address) = tokio::time::timeout(PATIENCE, read_address(stdout)).await.ok().flatten() {
            self.0.client.doors().open(self.name(), &address);
            self.open_door();
        }
    }

    /// Waits until it has ended by itself.
    pub async fn until_dead(&self) {
        eventually(&format!("the end of {}", self.name()), || async {
            let mut child = self.child();
            let ended = child.as_mut().expect("it was up").try_wait().expect("a child can be waited for");
            ended.map(|_| *child = None)
        })
        .await;
        self.close_door();
    }

    async fn until_it_listens(&self, stdout: ChildStdout) {
        let address = tokio::time::timeout(PATIENCE, read_address(stdout)).await.ok().flatten();
        let Some(address) = address else { panic!("{} does not come up:\n{}", self.name(), self.log()) };
        self.0.client.doors().open(self.name(), &address);
        self.open_door();
    }

    /// Starts it and kills it after a moment, wherever its start has come to by then.
    pub async fn rise_and_die(&self, after: Duration) {
        let _unread = self.spawn(&[]);
        tokio::time::sleep(after).await;
        self.kill().await;
    }

    fn spawn(&self, more: &[(&str, &str)]) -> ChildStdout {
        let Inner { name, role, settings, folder, .. } = &*self.0;
        let mut command = program_that_outlives_a_full_disk();
        command
            .arg(role.word())
            .envs(settings.iter().cloned())
            .envs(more.iter().copied())
            .current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(self.log_file());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().expect("the program can be started");
        let stdout = child.stdout.take().expect("it was asked for");
        let before = self.child().replace(child);
        assert!(before.is_none(), "{name} is up already");
        stdout
    }

    /// `kill -9`, and nothing is left of it.
    pub async fn kill(&self) {
        let mut child = self.take();
        child.start_kill().expect("a child can be killed");
        child.wait().await.expect("a child can be waited for");
    }

    /// SIGTERM; waits for its end. Returns the exit code.
    pub async fn stop(&self) -> Option<i32> {
        self.ask_to_stop();
        self.ended().await
    }

    /// SIGTERM, and nothing else.
    pub fn ask_to_stop(&self) {
        self.close_door();
        self.signal_process("TERM");
    }

    /// Waits for the end of a process that was asked to stop. Returns the exit code.
    pub async fn ended(&self) -> Option<i32> {
        let mut child = self.take();
        match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(status) => status.expect("a child can be waited for").code(),
            Err(_) => panic!("{} does not stop:\n{}", self.name(), self.log()),
        }
    }

    fn take(&self) -> Child {
        self.close_door();
        self.child().take().unwrap_or_else(|| panic!("{} is not up", self.name()))
    }

    /// Holds it still, as a suspended laptop or a stalled machine would.
    pub fn freeze(&self) {
        self.close_door();
        self.signal_process("STOP");
    }

    pub fn thaw(&self) {
        self.signal_process("CONT");
        self.open_door();
    }

    /// Lets no file of this process grow beyond so many bytes, `None` for any size again: a disk that is full.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.pid().to_string();
        let status =
            Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:unlimited")]).status();
        assert!(status.is_ok_and(|it| it.success()), "the files of {} cannot be limited", self.name());
    }

    fn signal_process(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.pid());
        let status = Command::new("/bin/sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}");
    }

    /// Whoever speaks with the house finds this process from now on, if it is there for them.
    fn open_door(&self) {
        if self.role() != Role::Worker {
            self.0.house.doors().open(self.name(), &self.address());
        }
    }

    fn close_door(&self) {
        self.0.house.doors().close(self.name());
    }

    // ---- how it fares --------------------------------------------------------------------------

    /// Waits until it says that it makes progress.
    pub async fn until_ready(&self) {
        self.until_readiness_is(true).await;
    }

    /// Waits until it says that it makes none.
    pub async fn until_unready(&self) {
        self.until_readiness_is(false).await;
    }

    async fn until_readiness_is(&self, ready: bool) {
        eventually(&format!("readiness of {} to be {ready}", self.name()), || async {
            let answer = self.get("/readyz").await;
            assert!(answer.is_ok() || answer.status == 503, "{answer}");
            (answer.is_ok() == ready).then_some(())
        })
        .await;
    }

    fn log_path(&self) -> PathBuf {
        self.0.folder.join(format!("{}.log", self.name()))
    }

    fn log_file(&self) -> File {
        File::options().create(true).append(true).open(self.log_path()).expect("the log can be written")
    }

    /// Everything that it has said about itself, in all its lives.
    pub fn log(&self) -> String {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The end of its log, for people.
    pub(super) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
        format!("---- {} ----\n{shown}\n", self.name())
    }
}

/// Reads the output until an address stands there, then goes on reading so that the pipe never fills.
async fn read_address(stdout: ChildStdout) -> Option<String> {
    let mut lines = BufReader::new(stdout).lines();
    loop {
        let line = lines.next_line().await.ok()??;
        if let Some(address) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(address.to_owned());
        }
    }
}
