//! Starts the real program in as many processes as a mode has, and is unkind to them.

mod ground;
mod holdings;
mod plan;
mod process;
mod program;

use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::iter;
use servers::{Postgres, Redis, RedisHoldings};
use tempfile::TempDir;

pub use self::ground::Locked;
use self::ground::{Database, Ground};
pub use self::holdings::{Child, Holdings, whoever_works_below};
pub use self::plan::{Mode, Plan};
pub use self::process::{Process, Role};
pub use self::program::{program, program_path};
use crate::{Client, Sink, check};

/// Waits out a lease: whoever was frozen this long has lost what it held.
pub const LEASE_IS_OVER: Duration = Duration::from_millis(2_600);
/// Runs that are read back and checked when a house closes; the newest ones.
const CHECKED_RUNS_MAX: usize = 1_000;
const CHECKS_AT_ONCE: usize = 4;

/// A Windlass of its own: processes, a database, and a client to speak with them.
///
/// A story ends with [`House::close`]; a house that is dropped open fails its story.
pub struct House {
    client: Client,
    settings: Vec<(String, String)>,
    /// Before what they stand on: it is taken away last.
    processes: Vec<Process>,
    ground: Ground,
    folder: TempDir,
    closed: bool,
    /// Where everything is kept that is left, when its story fails.
    bundle: Option<PathBuf>,
}

impl Deref for House {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

impl Said {
    /// # Panics
    /// Unless it ended well.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.text);
        self.text
    }
}

impl House {
    pub async fn open(mode: Mode) -> Self {
        Plan::of(mode).open().await
    }

    /// A house with settings of its own; they win over those that all tests share.
    pub async fn open_with(mode: Mode, settings: &[(&str, &str)]) -> Self {
        Plan::of(mode).with(settings).open().await
    }

    fn on(ground: Ground, folder: TempDir, settings: Vec<(String, String)>) -> Self {
        let settings = settings.into_iter().chain(ground.settings()).collect();
        Self {
            client: Client::new(),
            settings,
            processes: Vec::new(),
            ground,
            folder,
            closed: false,
            bundle: None,
        }
    }

    /// A handle that other tasks can keep.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    // ---- what it consists of -------------------------------------------------------------------

    /// Every process, up or not.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Whoever answers clients; the one process of an embedded house does.
    pub fn apis(&self) -> Vec<Process> {
        self.all_but(Role::Worker)
    }

    /// Whoever moves runs; the one process of an embedded house does.
    pub fn workers(&self) -> Vec<Process> {
        self.all_but(Role::Api)
    }

    fn all_but(&self, role: Role) -> Vec<Process> {
        self.processes.iter().filter(|it| it.role() != role).cloned().collect()
    }

    /// One more, with settings of its own: another way to the database, for one.
    pub async fn add_api(&mut self, settings: &[(&str, &str)]) -> Process {
        self.add(Role::Api, settings).await
    }

    /// One more, as [`Self::add_api`].
    pub async fn add_worker(&mut self, settings: &[(&str, &str)]) -> Process {
        self.add(Role::Worker, settings).await
    }

    async fn add(&mut self, role: Role, settings: &[(&str, &str)]) -> Process {
        let process = self.plan_process(role, settings);
        process.rise().await;
        process
    }

    fn plan_process(&mut self, role: Role, settings: &[(&str, &str)]) -> Process {
        let number = self.processes.iter().filter(|it| it.role() == role).count() + 1;
        let name = format!("{}-{number}", role.word());
        let settings = self.settings.iter().cloned().chain(plan::own(settings)).collect();
        let process = Process::new(name, role, settings, self.folder(), &self.client);
        self.processes.push(process.clone());
        process
    }

    /// The worker that took the run last.
    pub async fn holder_of(&self, run: &str) -> Process {
        let log = self.events(run).await;
        let taken = log.0.iter().rfind(|event| event.is("run.engine_taken")).expect("somebody has taken it");
        let session = taken.body["session"].as_str().expect("an engine has a session").to_owned();
        let mut workers = self.workers().into_iter();
        workers.find(|it| it.log().contains(&session)).expect("it is one of ours")
    }

    /// # Panics
    /// Unless the house is a fleet.
    pub fn redis(&mut self) -> &mut Redis {
        match &mut self.ground {
            Ground::Servers(servers) => &mut servers.redis,
            Ground::Sqlite(_) => panic!("an embedded house has no Redis"),
        }
    }

    /// What Redis holds at this moment.
    ///
    /// # Panics
    /// As [`Self::redis`].
    pub fn redis_holdings(&self) -> RedisHoldings {
        match &self.ground {
            Ground::Servers(servers) => servers.redis.holdings(),
            Ground::Sqlite(_) => panic!("an embedded house has no Redis"),
        }
    }

    /// # Panics
    /// Unless the house has one to itself: see [`Plan::own_postgres`].
    pub fn postgres(&mut self) -> &mut Postgres {
        match &mut self.ground {
            Ground::Servers(servers) => match &mut servers.database {
                Database::OnItsOwnServer(postgres) => postgres,
                Database::OnTheSharedServer(_) => panic!("the house shares its PostgreSQL with others"),
            },
            Ground::Sqlite(_) => panic!("an embedded house has no PostgreSQL"),
        }
    }

    /// What a process must be told to find the database.
    pub fn database_url(&self) -> &str {
        let mut settings = self.settings.iter();
        &settings.find(|(name, _)| name == "WINDLASS_DATABASE_URL").expect("every house has one").1
    }

    /// Where the processes work, and write their logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything that outlives the processes, with a name for messages: files, logs, what servers keep. Binary
    /// values may be written in hexadecimal.
    pub fn remains(&self) -> Vec<(String, Vec<u8>)> {
        let files = std::fs::read_dir(self.folder()).expect("the folder is there");
        let paths = files.map(|file| file.expect("the folder can be read").path()).filter(|it| it.is_file());
        let read =
            |path: PathBuf| (path.display().to_string(), std::fs::read(&path).expect("the file can be read"));
        let dump = self.ground.dump().map(|text| ("the database".to_owned(), text.into_bytes()));
        paths.map(read).chain(dump).collect()
    }

    /// Bytes of memory that each process has in use.
    pub fn memory(&self) -> Vec<u64> {
        self.up().map(Process::resident_bytes).collect()
    }

    /// How much more the process uses that has grown most since.
    pub fn growth_since(&self, before: &[u64]) -> u64 {
        let now = self.memory();
        assert_eq!(now.len(), before.len(), "the same processes are up");
        now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).max().unwrap_or_default()
    }

    // ---- life and death ------------------------------------------------------------------------

    fn up(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|it| it.is_up())
    }

    /// Starts all processes that are not up, and waits until they listen.
    pub async fn rise(&mut self) {
        join_all(self.processes.iter().filter(|it| !it.is_up()).map(Process::rise)).await;
    }

    /// kill -9 of every process at once, and nothing is left of them.
    pub async fn kill(&mut self) {
        join_all(self.up().map(Process::kill)).await;
    }

    /// kill -9, and up again on the same database.
    pub async fn kill_and_rise(&mut self) {
        self.kill().await;
        self.rise().await;
    }

    /// SIGTERM to every process at once; waits for the drain. Returns the exit code, one that is not 0 if any.
    pub async fn stop(&mut self) -> Option<i32> {
        let codes = join_all(self.up().map(Process::stop)).await;
        codes.into_iter().find(|code| *code != Some(0)).unwrap_or(Some(0))
    }

    /// Holds every process still, as a suspended laptop or a stalled machine would.
    pub fn freeze(&self) {
        self.up().for_each(Process::freeze);
    }

    pub fn thaw(&self) {
        self.up().for_each(Process::thaw);
    }

    /// Waits until every process says that it makes progress.
    pub async fn until_ready(&self) {
        join_all(self.up().map(Process::until_ready)).await;
    }

    /// The last lines of what the processes said about themselves.
    fn last_words(&self) -> String {
        self.processes.iter().map(Process::last_words).collect()
    }

    // ---- the program, once ---------------------------------------------------------------------

    /// The program, told what the processes of this house are told.
    pub fn windlass(&self, words: &[&str]) -> Command {
        let mut command = program();
        command.args(words).envs(self.settings.iter().cloned()).current_dir(self.folder());
        command
    }

    /// Runs the program to its end.
    pub fn ask(&self, words: &[&str]) -> Said {
        let output = self.windlass(words).output().expect("the program can be started");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Said { code: output.status.code(), text: text.into_owned() }
    }

    /// Should the story fail, everything that outlives the processes is kept there.
    pub fn keeps_a_bundle_in(&mut self, folder: Option<PathBuf>) {
        self.bundle = folder;
    }

    /// Adds a line to what has happened to the house.
    pub fn note(&self, line: &str) {
        let history = self.folder().join("history.log");
        let history = std::fs::File::options().create(true).append(true).open(history);
        writeln!(history.expect("our own folder"), "{line}").expect("our own folder");
    }

    fn keep_bundle(&self) {
        let Some(folder) = &self.bundle else { return };
        std::fs::create_dir_all(folder).expect("the folder for what is left can be made");
        for (name, content) in self.remains() {
            let name = Path::new(&name).file_name().map_or(name.clone().into(), |it| it.to_owned());
            std::fs::write(folder.join(name), content).expect("what is left can be kept");
        }
    }

    /// Does something to the database by hand.
    pub fn sql(&self, sql: &str) {
        self.ground.run_sql(sql);
    }

    /// What a statement answers: see [`servers::run_sql`].
    ///
    /// # Panics
    /// Unless the house is a fleet.
    pub fn query(&self, sql: &str) -> String {
        assert!(matches!(self.ground, Ground::Servers(_)), "an embedded house has no PostgreSQL");
        servers::run_sql(self.database_url(), sql)
    }

    /// Keeps the house waiting for tables, in SQLite for whatever it writes, until the answer is dropped.
    pub fn lock(&self, tables: &[&str]) -> Locked {
        self.ground.lock(tables)
    }

    // ---- the end -------------------------------------------------------------------------------

    /// Checks every run, stops the house gracefully, and lets the doctor look at the database.
    pub async fn close(self) {
        self.close_with(&[]).await;
    }

    /// As [`Self::close`], and holds what arrived at the sinks against the logs.
    pub async fn close_with(mut self, sinks: &[&Sink]) {
        self.check(sinks).await;
        let code = self.stop().await;
        assert_eq!(code, Some(0), "the house did not stop in peace:\n{}", self.last_words());
        self.ask(&["doctor"]).succeeded();
        self.closed = true;
    }

    /// Leaves a house, whose processes have stopped, with a database that is beyond repair.
    pub fn leave(mut self) {
        assert_eq!(self.up().count(), 0, "somebody is still at work");
        self.closed = true;
    }

    /// # Panics
    /// With everything that is wrong with the newest runs.
    pub async fn check(&self, sinks: &[&Sink]) {
        let mut runs = self.all_runs().await;
        runs.truncate(CHECKED_RUNS_MAX);
        let checks = runs.iter().map(|run| check::run_over_http(&self.client, run, sinks));
        let found: Vec<Vec<String>> = iter(checks).buffer_unordered(CHECKS_AT_ONCE).collect().await;
        let found = found.concat();
        assert!(found.is_empty(), "the checker found:\n{}", found.join("\n"));
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.last_words());
            // A server that does not answer has nothing to tell; the story's own failure says more.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.keep_bundle()));
        } else {
            assert!(self.closed, "a story ends with house.close()");
        }
    }
}
