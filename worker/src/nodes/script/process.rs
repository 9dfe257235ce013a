//! One program as a process group: started with limits, talked to, and ended as a whole.
#![expect(unsafe_code, reason = "sessions, limits and signals to groups are the kernel's, not std's")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::FusedFuture as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;
use windlass_model::StepError;

use super::job::Job;
use super::keeper;
use super::limits::Limits;
use super::log::{LiveLog, Log};
use super::room::Room;
use crate::nodes::{canceled, shown};

/// How long a canceled program may tidy up.
pub(super) const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long the pipes of a program that has ended may stay open: its children may still be writing.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// A killed process may take a moment to be gone.
const REAP_TRIES_MAX: u32 = 20;
const REAP_PAUSE: Duration = Duration::from_millis(5);
const READ_BYTES: usize = 16 * 1024;

/// What came of it. Nothing of it is running any more.
pub(super) struct Ran {
    pub(super) ended: Result<(), StepError>,
    pub(super) stdout: Vec<u8>,
    pub(super) log: Log,
    pub(super) room: Room,
}

enum End {
    Exited(io::Result<ExitStatus>),
    Canceled,
    TimedOut(Duration),
    WroteTooMuch(usize),
}

/// Runs a program to its end, which comes at once when this future is dropped.
pub(super) async fn run(
    mut job: Job,
    room: Room,
    cancel: &CancellationToken,
    time_max: Option<Duration>,
    live: LiveLog,
) -> Result<Ran, StepError> {
    let stdin = std::mem::take(&mut job.stdin);
    let stdout_bytes_max = job.limits.output_bytes;
    let started = tokio::task::spawn_blocking(move || Group::start(&job, room)).await;
    let mut group = started.unwrap_or_else(|broken| Err(StepError::new("internal", broken.to_string())))?;
    let mut said = Said {
        stdout: Vec::new(),
        stdout_bytes_max,
        is_too_long: CancellationToken::new(),
        log: Log::default(),
    };
    let is_too_long = said.is_too_long.clone();
    let end = {
        let talk = said.talk(group.pipes()?, &stdin, live).fuse();
        tokio::pin!(talk);
        let out_of_time = out_of_time(time_max);
        tokio::pin!(out_of_time);
        let end = loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break End::Canceled,
                () = is_too_long.cancelled() => break End::WroteTooMuch(stdout_bytes_max),
                time_max = &mut out_of_time => break End::TimedOut(time_max),
                status = group.wait() => break End::Exited(status),
                () = &mut talk => {}
            }
        };
        match &end {
            End::Canceled => group.ask_to_end(&mut talk).await,
            End::Exited(_) if !talk.is_terminated() => {
                let _ = tokio::time::timeout(LEFTOVER_GRACE, &mut talk).await;
            }
            _ => {}
        }
        group.end().await;
        if !talk.is_terminated() {
            // A process that left the group may hold the pipes for ever.
            let _ = tokio::time::timeout(LEFTOVER_GRACE, &mut talk).await;
        }
        match end {
            // It was gone before the last of what it wrote was read.
            End::Exited(_) if is_too_long.is_cancelled() => End::WroteTooMuch(stdout_bytes_max),
            end => end,
        }
    };
    let ended = end.outcome(&said.log);
    let room = group.room.take().ok_or_else(|| StepError::new("internal", "the script's folder is gone"))?;
    Ok(Ran { ended, stdout: said.stdout, log: said.log, room })
}

async fn out_of_time(time_max: Option<Duration>) -> Duration {
    match time_max {
        Some(time_max) => tokio::time::sleep(time_max).await,
        None => std::future::pending().await,
    }
    time_max.unwrap_or_default()
}

impl End {
    fn outcome(self, log: &Log) -> Result<(), StepError> {
        let limit = |name: &str, sentence: &str| Err(StepError::new(format!("limit.{name}"), sentence));
        let status = match self {
            End::Canceled => return Err(canceled()),
            End::TimedOut(time_max) => {
                return Err(StepError::new("timeout", format!("the program ran longer than {time_max:?}")));
            }
            End::WroteTooMuch(max) => {
                return limit("output", &format!("standard output has more than {max} bytes"));
            }
            End::Exited(Err(error)) => return Err(StepError::new("internal", error.to_string())),
            End::Exited(Ok(status)) => status,
        };
        let last_lines = log.end();
        let said = if last_lines.is_empty() { String::new() } else { format!(": {last_lines}") };
        let error = match (status.code(), status.signal()) {
            (Some(0), _) => return Ok(()),
            (_, Some(libc::SIGXCPU)) => {
                return limit("cpu", "the program used more processor time than it may");
            }
            (_, Some(libc::SIGXFSZ)) => return limit("file", "the program wrote a larger file than it may"),
            (Some(code), _) => {
                StepError::new(format!("script.exit_{code}"), format!("exit code {code}{said}"))
                    .with_details(json!({ "exit_code": code, "stderr": last_lines }))
            }
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                StepError::new(format!("script.signal_{signal}"), format!("ended by signal {signal}{said}"))
                    .with_details(json!({ "signal": signal, "stderr": last_lines }))
            }
        };
        Err(error)
    }
}

type Pipes = (ChildStdin, ChildStdout, ChildStderr);

/// What a program says on its two pipes.
struct Said {
    stdout: Vec<u8>,
    stdout_bytes_max: usize,
    is_too_long: CancellationToken,
    log: Log,
}

impl Said {
    /// Writes standard input and reads both outputs, all at once: each could wait for the others.
    async fn talk(&mut self, (mut stdin, mut stdout, mut stderr): Pipes, input: &[u8], mut live: LiveLog) {
        let Self { stdout: taken, stdout_bytes_max, is_too_long, log } = self;
        let write = async move {
            // A program need not read what it is given.
            let _ = stdin.write_all(input).await;
        };
        let read = async {
            let mut chunk = vec![0; READ_BYTES];
            while let Ok(length @ 1..) = stdout.read(&mut chunk).await {
                if taken.len() + length > *stdout_bytes_max {
                    is_too_long.cancel();
                    return;
                }
                taken.extend_from_slice(&chunk[..length]);
            }
        };
        let follow = async {
            let mut chunk = vec![0; READ_BYTES];
            while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
                log.write(&chunk[..length]);
                live.write(&chunk[..length], Instant::now());
            }
            live.finish(Instant::now());
        };
        tokio::join!(write, read, follow);
    }
}

/// A program and all it started, unless they left its session. Dropping it ends them.
struct Group {
    /// Number of the group, and of its first process.
    number: libc::pid_t,
    /// Taken, like the room, when dropped before its end.
    child: Option<Child>,
    room: Option<Room>,
}

impl Group {
    /// Blocks until the program has begun.
    fn start(job: &Job, room: Room) -> Result<Self, StepError> {
        if !job.folder.is_dir() {
            return Err(StepError::new("script.not_found", "`cwd` is no folder"));
        }
        hide_the_worker();
        let mut command = Command::new(&job.program);
        command
            .args(&job.arguments)
            .env_clear()
            .envs(&job.environment)
            .current_dir(&job.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let limits = job.limits;
        let wire = keeper::wire();
        // SAFETY: between fork and exec `become_script` makes system calls only; it allocates nothing
        // and takes no lock that another thread of the worker could have held.
        unsafe { command.pre_exec(move || become_script(limits, wire.as_ref())) };
        let child = command.spawn().map_err(|error| not_started(&job.program, &error))?;
        let number = child.id().and_then(|id| id.try_into().ok()).unwrap_or_default();
        Ok(Self { number, child: Some(child), room: Some(room) })
    }

    fn pipes(&mut self) -> Result<Pipes, StepError> {
        let pipes = self
            .child
            .as_mut()
            .and_then(|child| Some((child.stdin.take()?, child.stdout.take()?, child.stderr.take()?)));
        pipes.ok_or_else(|| StepError::new("internal", "the program has no pipes"))
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        match &mut self.child {
            Some(child) => child.wait().await,
            None => Err(io::Error::other("the program is over already")),
        }
    }

    async fn ask_to_end(&mut self, talk: &mut (impl Future<Output = ()> + Unpin)) {
        self.signal(libc::SIGTERM);
        let ended = async {
            tokio::select! {
                _ = self.wait() => {}
                // Its last words are read meanwhile; there being no more does not end the wait.
                () = async { talk.await; std::future::pending().await } => {}
            }
        };
        let _ = tokio::time::timeout(CANCEL_GRACE, ended).await;
    }

    /// Kills what is left. The group's number cannot have been given away yet: it stays taken while a
    /// member lives, and numbers come around again only after all others.
    async fn end(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.wait().await;
        self.child = None;
        settle(self.number).await;
    }

    fn signal(&self, signal: libc::c_int) {
        if self.number > 1 {
            // SAFETY: a system call without pointers; a group that is gone is an error that means nothing.
            unsafe { libc::kill(-self.number, signal) };
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.signal(libc::SIGKILL);
        // Somebody has to take note of the death, and the folder is in use until then.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (number, room) = (self.number, self.room.take());
            runtime.spawn(async move {
                let _ = child.wait().await;
                settle(number).await;
                drop(tokio::task::spawn_blocking(move || drop(room)));
            });
        }
    }
}

/// Takes note of the other deaths in a group, for a worker that is process 1 of a container and so
/// inherits orphans. Anywhere else there is nothing to wait for.
async fn settle(group: libc::pid_t) {
    keeper::forget(group);
    for _ in 0..REAP_TRIES_MAX {
        // SAFETY: the null pointer says that the status is not wanted.
        let died = unsafe { libc::waitpid(-group, std::ptr::null_mut(), libc::WNOHANG) };
        match died {
            -1 => return,
            0 => tokio::time::sleep(REAP_PAUSE).await,
            _ => {}
        }
    }
}

/// Runs in the new process, before the program takes its place.
fn become_script(limits: Limits, wire: Option<&OwnedFd>) -> io::Result<()> {
    // SAFETY: system calls, with pointers to locals that outlive them.
    unsafe {
        // A session has no terminal, and its group takes every child that does not mean to leave.
        checked(libc::setsid())?;
        if let Some(wire) = wire {
            let mut line = [0; 16];
            let line = keeper::announcement(libc::getpid(), &mut line)?;
            if libc::write(wire.as_raw_fd(), line.as_ptr().cast(), line.len()) == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        // Whatever the worker inherited is no business of the script's. Kernels before 5.9 cannot.
        #[cfg(target_os = "linux")]
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    let cpu_s = limits.cpu.as_secs();
    // Memory that is only reserved does not count on Linux: runtimes reserve a lot of it.
    let memory = if cfg!(target_os = "linux") { libc::RLIMIT_DATA } else { libc::RLIMIT_AS };
    restrict(memory, limits.memory_bytes, limits.memory_bytes)?;
    // The first signal can be told from others; the second cannot be ignored.
    restrict(libc::RLIMIT_CPU, cpu_s, cpu_s + 1)?;
    restrict(libc::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes)?;
    restrict(libc::RLIMIT_NOFILE, limits.open_files, limits.open_files)?;
    restrict(libc::RLIMIT_CORE, 0, 0)?;
    match limits.processes {
        Some(processes) => restrict(libc::RLIMIT_NPROC, processes, processes),
        None => Ok(()),
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = libc::c_int;

/// Lowers a limit, and leaves one alone that is lower already.
fn restrict(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a local that outlives both calls.
    unsafe {
        checked(libc::getrlimit(resource, &raw mut limit))?;
        limit.rlim_max = limit.rlim_max.min(hard);
        limit.rlim_cur = limit.rlim_max.min(soft);
        checked(libc::setrlimit(resource, &raw const limit))
    }
}

fn checked(returned: libc::c_int) -> io::Result<()> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps scripts of the same user from reading the worker's environment and memory, where secrets are.
fn hide_the_worker() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(target_os = "linux")]
        // SAFETY: a system call without pointers.
        unsafe {
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)
        };
    });
}

fn not_started(program: &str, error: &io::Error) -> StepError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => "script.not_found",
        io::ErrorKind::PermissionDenied => "script.not_executable",
        _ => "script.not_started",
    };
    StepError::new(kind, format!("`{}` did not start: {error}", shown(program).escape_debug()))
}
