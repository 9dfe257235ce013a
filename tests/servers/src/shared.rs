//! One PostgreSQL server for all tests of this machine, however many processes they run in.
//!
//! Whoever uses it holds a shared lock on a file. The first user starts the server and a watcher, and the
//! watcher ends it a few seconds after the last user has gone.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::postgres::{Installation, url};
use crate::process::{self, CLEAN_UP};
use crate::{Database, free_port};

/// Seconds between two looks of the watcher: test processes follow each other faster than that.
const LOOK_EVERY_SECONDS: u32 = 5;

/// The server, for as long as this process lives.
pub struct SharedPostgres {
    url: String,
    /// Its lock is held until this process ends.
    _users: File,
}

static JOINED: OnceLock<SharedPostgres> = OnceLock::new();

impl SharedPostgres {
    pub(crate) fn join() -> &'static Self {
        JOINED.get_or_init(|| {
            let place = Place::of_this_account();
            let users = place.lock_file("users");
            // Waits while a watcher is ending the server.
            users.lock_shared().expect("files can be locked");
            Self { url: url(place.running_port()), _users: users }
        })
    }

    /// Of the database `postgres`, for its superuser, over TCP. Whoever uses it makes a schema or a database of
    /// their own.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// An empty database, for whoever cannot do with a schema.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn create_database(&self) -> Database {
        Database::create(&self.url)
    }
}

fn number_in(file: &Path) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn is_running(folder: &Path) -> bool {
    let command = number_in(&folder.join("pid")).map(|id| std::fs::read(format!("/proc/{id}/cmdline")));
    let folder = folder.as_os_str().as_encoded_bytes();
    command.is_some_and(|it| it.is_ok_and(|it| it.windows(folder.len()).any(|part| part == folder)))
}

struct Place(PathBuf);

impl Place {
    fn of_this_account() -> Self {
        let account = std::env::var("USER").unwrap_or_default();
        let account: String = account.chars().filter(char::is_ascii_alphanumeric).collect();
        let place = std::env::temp_dir().join(format!("windlass-servers-{account}"));
        std::fs::create_dir_all(&place).expect("the folder for temporary files can be written to");
        Self(place)
    }

    fn lock_file(&self, name: &str) -> File {
        let options = File::options().create(true).truncate(false).write(true).open(self.0.join(name));
        options.expect("the folder for temporary files can be written to")
    }

    /// The port of the server, which is started when there is none. The caller is a user already.
    fn running_port(&self) -> u16 {
        let starting = self.lock_file("starting");
        starting.lock().expect("files can be locked");
        let installation = Installation::find();
        let folder = self.0.join("postgres");
        match number_in(&folder.join("port")) {
            // Busy machines keep one waiting. Others may be using it: only a server that has ended is replaced.
            Some(port) if is_running(&folder) => {
                let port = u16::try_from(port).expect("our own file");
                process::wait_until(|| installation.is_ready(&folder, port))
                    .expect("the shared server answers");
                port
            }
            _ => self.start(&installation, &folder),
        }
        // Dropped, the lock is free for the next.
    }

    fn start(&self, installation: &Installation, folder: &Path) -> u16 {
        // What is left of a server that was killed together with its watcher.
        let _ = Command::new("sh").args(["-c", CLEAN_UP, "sh"]).arg(folder).status();
        std::fs::create_dir_all(folder).expect("the folder for temporary files can be written to");
        installation.prepare(folder);
        let port = free_port();
        let mut server =
            process::spawn(&mut installation.server(folder, port), folder).expect("postgres can be started");
        self.watch(folder);
        if let Err(problem) = process::wait_until_ready(&mut server, || installation.is_ready(folder, port)) {
            panic!("PostgreSQL: {problem}; its log lies in {}", folder.display());
        }
        std::fs::write(folder.join("port"), port.to_string()).expect("our own folder");
        port
    }

    #[expect(
        clippy::zombie_processes,
        reason = "it outlives this process, and whoever adopts it waits for it"
    )]
    fn watch(&self, folder: &Path) {
        let script = format!(
            "while sleep {LOOK_EVERY_SECONDS}; do\n\
             flock --exclusive --nonblock \"$2\" sh -c '{CLEAN_UP}' sh \"$1\" && exit\n\
             done"
        );
        Command::new("sh")
            .args(["-c", &script, "watcher"])
            .arg(folder)
            .arg(self.0.join("users"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
    }
}
