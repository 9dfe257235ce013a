//! A server's process: started, killed, frozen, and watched so that it never outlives its test.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::folder;

/// Longer than any server takes on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Ends the process whose id stands in `$1/pid`, with its children, frozen or not.
macro_rules! end {
    () => {
        r#"
pid=$(cat "$1/pid" 2>/dev/null)
if [ -n "$pid" ]; then
    children=$(grep -ls "^PPid:[[:space:]]*$pid$" /proc/[0-9]*/status | tr -dc '0-9\n')
    kill -KILL $pid $children 2>/dev/null
    rm -f "$1/pid"
fi
"#
    };
}
const END: &str = end!();
/// The same, and removes the folder.
pub(crate) const CLEAN_UP: &str = concat!(end!(), "rm -rf \"$1\"\n");

/// A process in a folder of its own. Both are gone when this is dropped, or when we are.
pub struct Process {
    pub(crate) folder: PathBuf,
    child: Option<Child>,
    watcher: Child,
    /// The watcher cleans up when this closes, for whatever reason.
    alive: Option<ChildStdin>,
}

impl Process {
    /// In a temporary folder of this name.
    pub fn named(name: &str) -> Self {
        Self::watched(folder::fresh(name), CLEAN_UP)
    }

    /// In a fresh folder below this one.
    pub(crate) fn below(parent: &Path, name: &str) -> Self {
        Self::watched(folder::fresh_in(parent, name), CLEAN_UP)
    }

    /// In a folder that outlives it.
    pub(crate) fn keeping(folder: PathBuf) -> Self {
        Self::watched(folder, END)
    }

    fn watched(folder: PathBuf, at_the_end: &str) -> Self {
        let script = format!("read -r nothing\n{at_the_end}");
        let mut watcher = Command::new("sh")
            .args(["-c", &script, "watcher"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Whoever interrupts the tests must not interrupt the one who cleans up.
            .process_group(0)
            .spawn()
            .expect("a shell");
        let alive = watcher.stdin.take();
        Self { folder, child: None, watcher, alive }
    }

    /// Starts the server; `is_ready` is asked until it says yes, or the server has ended.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready in time; with its last words.
    pub fn start(&mut self, command: &mut Command, is_ready: impl Fn() -> bool) -> Result<(), String> {
        let child = spawn(command, &self.folder).map_err(|error| format!("{command:?}: {error}"))?;
        let child = self.child.insert(child);
        wait_until_ready(child, is_ready)
            .map_err(|problem| format!("{problem}\n{}", last_words(&self.folder)))
    }

    /// What it has said so far lies there.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// As far as we know: see [`Process::has_ended`].
    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// How it ended, once it has ended by itself or by somebody else's hand.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.as_mut()?.try_wait().ok().flatten();
        ended.inspect(|_| self.child = None)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Frozen ones, too: this signal cannot be put off.
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// Asks the server to end in its own way, and does not wait.
    pub fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            send(signal, &[child.id()]);
        }
    }

    /// Asks the server to end in its own way, and waits for it.
    pub(crate) fn ask_to_end(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            send(signal, &[child.id()]);
            child.wait().expect("our own child");
        }
    }

    /// The server and its children, as long as it runs.
    pub fn ids(&self) -> Vec<u32> {
        let server = self.child.as_ref().map(Child::id);
        server.into_iter().flat_map(|id| std::iter::once(id).chain(children_of(id))).collect()
    }

    /// Sends a signal to the server and its children.
    pub(crate) fn send_to_all(&self, signal: &str) {
        let processes = self.ids();
        if !processes.is_empty() {
            send(signal, &processes);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.watcher.wait();
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

/// Starts a server whose id and words lie in its folder.
pub(crate) fn spawn(command: &mut Command, folder: &Path) -> io::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
    std::fs::write(folder.join("pid"), child.id().to_string())?;
    Ok(child)
}

pub(crate) fn wait_until_ready(child: &mut Child, is_ready: impl Fn() -> bool) -> Result<(), String> {
    let mut ended = None;
    wait_until(|| {
        ended = child.try_wait().ok().flatten();
        ended.is_some() || is_ready()
    })?;
    match ended {
        Some(status) => Err(format!("the server ended at once: {status}")),
        None => Ok(()),
    }
}

pub(crate) fn wait_until(mut is_ready: impl FnMut() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !is_ready() {
        if began.elapsed() > START_MAX {
            return Err(format!("the server is not ready after {START_MAX:?}"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn last_words(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn send(signal: &str, processes: &[u32]) {
    let processes = processes.iter().map(ToString::to_string);
    let script = r#"kill "-$0" "$@""#;
    // A child may have ended since it was listed.
    let _ = Command::new("sh").args(["-c", script, signal]).args(processes).stderr(Stdio::null()).status();
}

fn children_of(parent: u32) -> Vec<u32> {
    let wanted = format!("PPid:\t{parent}");
    let processes = std::fs::read_dir("/proc").expect("this machine lists its processes");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id: &u32| {
            std::fs::read_to_string(format!("/proc/{id}/status"))
                .is_ok_and(|status| status.lines().any(|line| line == wanted))
        })
        .collect()
}

/// The first of these programs that is installed, on the PATH or in one of the other folders.
pub(crate) fn find(names: &[&str], elsewhere: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain(elsewhere.iter().cloned()).collect();
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|it| it.is_file())
}
