//! `fleet`: APIs, workers, a PostgreSQL and a Redis on this machine, for a person to play with.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use servers::{Postgres, Process, Redis, free_port};

use crate::interrupt::Interrupt;
use crate::logs::Logs;
use crate::report::{print, say};
use crate::{Usage, setup, shell};

const APIS: usize = 2;
const WORKERS: usize = 3;
/// How long new lines of the logs may wait to be shown.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Where the database lies, and stays.
    folder: Option<PathBuf>,
    /// The first of as many ports as there are processes.
    ports: Option<u16>,
    /// Instead of one that is built first.
    program: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value =
                || rest.next().ok_or_else(|| anyhow!(Usage(format!("{argument} wants a value after it"))));
            match *argument {
                "--folder" => options.folder = Some(std::path::absolute(value()?)?),
                "--program" => options.program = Some(std::path::absolute(value()?)?),
                "--ports" => {
                    let first = value()?;
                    let port = first.parse().map_err(|_| anyhow!(Usage(format!("`{first}` is no port"))))?;
                    options.ports = Some(port);
                }
                other => bail!(Usage(format!("`{other}` is not an option of fleet"))),
            }
        }
        Ok(options)
    }
}

/// Starts a fleet, shows what it says, and ends it when somebody interrupts. Returns whether all went well.
pub(crate) fn run(options: &Options) -> Result<bool> {
    setup::servers()?;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => {
            shell::run(shell::cargo(["build", "--package", "windlass"]))?;
            shell::target_folder()?.join("debug").join("windlass")
        }
    };
    let mut interrupt = Interrupt::listen()?;
    let mut fleet = Fleet::start(&program, options)?;
    print(&fleet.description(&program));
    while !interrupt.came_within(LOOK_EVERY) {
        fleet.show_news();
    }
    say("Ending: steps in flight may finish first; once more ends everything at once.");
    Ok(fleet.end(&mut interrupt))
}

struct Fleet {
    logs: Logs,
    /// Before the servers that they lean on.
    members: Vec<Member>,
    redis: Redis,
    postgres: Postgres,
}

/// An API or a worker.
struct Member {
    name: String,
    url: String,
    process: Process,
}

/// The ports to use, one after the other.
struct Ports {
    next: Option<u16>,
}

impl Ports {
    fn take(&mut self) -> Result<u16> {
        let Some(port) = self.next else { return Ok(free_port()) };
        self.next = Some(port.checked_add(1).context("there are no ports beyond 65535")?);
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            bail!("somebody listens on port {port} already; --ports NUMBER names others");
        }
        Ok(port)
    }
}

impl Fleet {
    fn start(program: &Path, options: &Options) -> Result<Self> {
        let mut ports = Ports { next: options.ports };
        let member_ports: Vec<u16> = (0..APIS + WORKERS).map(|_| ports.take()).collect::<Result<_>>()?;
        let (postgres_port, redis_port) = (ports.take()?, ports.take()?);
        let postgres = match &options.folder {
            Some(folder) => Postgres::start_keeping(&folder.join("postgres"), postgres_port),
            None => Postgres::start_at(postgres_port),
        };
        let redis = Redis::start_at(redis_port);
        let mut logs = Logs::default();
        logs.follow("postgres", postgres.log());
        logs.follow("redis", redis.log());
        let mut fleet = Self { logs, members: Vec::new(), redis, postgres };
        shell::run(fleet.windlass(program, "migrate"))?;
        for (n, port) in member_ports.into_iter().enumerate() {
            match n.checked_sub(APIS) {
                None => fleet.add(program, "api", n + 1, port)?,
                Some(n) => fleet.add(program, "worker", n + 1, port)?,
            }
        }
        Ok(fleet)
    }

    fn windlass(&self, program: &Path, word: &str) -> Command {
        let mut command = Command::new(program);
        command.arg(word);
        command.env("WINDLASS_DATABASE_URL", self.postgres.url()).env("WINDLASS_REDIS_URL", self.redis.url());
        command
    }

    fn add(&mut self, program: &Path, role: &str, number: usize, port: u16) -> Result<()> {
        let name = format!("{role}-{number}");
        let mut process = Process::named(&name);
        let mut command = self.windlass(program, role);
        let flag = if role == "api" { "--listen" } else { "--health-listen" };
        command.arg(flag).arg(format!("127.0.0.1:{port}"));
        self.logs.follow(&name, process.log());
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        process.start(&mut command, listens).map_err(|problem| anyhow!("{name}: {problem}"))?;
        self.members.push(Member { name, url: format!("http://127.0.0.1:{port}"), process });
        Ok(())
    }

    /// What there is, and what to try with it.
    fn description(&self, program: &Path) -> String {
        let mut text = String::from("\nThe fleet is up.\n\n");
        let pid = |ids: Vec<u32>| ids.first().map_or_else(String::new, |id| format!("   pid {id}"));
        for Member { name, url, process } in &self.members {
            let address =
                if name.starts_with("api") { format!("{url}/docs") } else { format!("{url}/readyz") };
            text += &format!("  {name:<10} {address}{}\n", pid(process.ids()));
        }
        let (postgres, redis) = (self.postgres.url(), self.redis.url());
        text += &format!("  postgres   {postgres}{}\n", pid(self.postgres.process_ids()));
        text += &format!("  redis      {redis}{}\n", pid(self.redis.process_ids()));
        let (server, program) = (&self.members[0].url, program.display());
        let last = self.members.last().and_then(|it| it.process.ids().first().copied()).unwrap_or_default();
        text += &format!(
            "\nIn another terminal:\n\n  \
             alias windlass={program}\n  \
             export WINDLASS_SERVER={server} WINDLASS_DATABASE_URL={postgres} WINDLASS_REDIS_URL={redis}\n  \
             windlass workflow push examples/*.yaml\n  \
             windlass run fan-out-fan-in                      # on the fleet, live\n  \
             windlass runs list\n  \
             windlass doctor                                  # is the database sound?\n  \
             windlass worker --health-listen 127.0.0.1:0      # one more\n  \
             kill -9 {last:<6}                                   # a worker dies; the others take its runs\n\n\
             Ctrl-C ends everything.\n\n"
        );
        text
    }

    fn show_news(&mut self) {
        self.logs.show();
        for Member { name, process, .. } in &mut self.members {
            if let Some(status) = process.has_ended() {
                say(&format!("{name} has ended: {status}"));
            }
        }
    }

    /// APIs and workers first, by their own way; at once when somebody interrupts again.
    fn end(mut self, interrupt: &mut Interrupt) -> bool {
        self.members.iter().for_each(|it| it.process.signal("TERM"));
        let mut all_well = true;
        while self.members.iter().any(|it| it.process.is_up()) {
            self.logs.show();
            for Member { name, process, .. } in &mut self.members {
                if let Some(status) = process.has_ended().filter(|status| !status.success()) {
                    say(&format!("{name} ended badly: {status}"));
                    all_well = false;
                }
            }
            if interrupt.came_within(LOOK_EVERY) {
                break;
            }
        }
        self.postgres.stop();
        self.logs.show();
        all_well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_mistakes_named() {
        assert_eq!(Options::parse(&[]).unwrap(), Options::default());
        let options = Options::parse(&["--folder", "/data", "--ports", "7100"]).unwrap();
        assert_eq!((options.folder, options.ports), (Some(PathBuf::from("/data")), Some(7100)));
        for wrong in [&["--ports", "many"][..], &["--folder"], &["--fast"]] {
            assert!(Options::parse(wrong).unwrap_err().is::<Usage>(), "{wrong:?}");
        }
    }
}
