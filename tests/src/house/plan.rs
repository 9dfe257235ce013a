//! What a house is built of.

use servers::{Postgres, Redis};

use super::House;
use super::ground::{Database, Ground, Servers};
use super::process::Role;

/// How the house is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One process: door and hands together, on SQLite.
    Embedded,
    /// Several processes, over a PostgreSQL database and a Redis of their own.
    Fleet,
}

/// Leases as the tests want them: short, so that a death is noticed soon.
const SETTINGS: &[(&str, &str)] = &[
    ("WINDLASS_LISTEN", "127.0.0.1:0"),
    ("WINDLASS_HEALTH_LISTEN", "127.0.0.1:0"),
    ("WINDLASS_EGRESS_ALLOW", "127.0.0.1/32"),
    ("WINDLASS_SESSION_TTL", "2s"),
    ("WINDLASS_SESSION_RENEW", "500ms"),
    ("WINDLASS_SWEEP_INTERVAL", "200ms"),
    ("WINDLASS_STALE_AFTER", "4s"),
];
/// The least of which every one has another beside it; more would make two cores slow, not stories better.
const APIS: usize = 2;
const WORKERS: usize = 2;

/// A house before it is built. [`House::open`] builds what most stories need.
pub struct Plan {
    mode: Mode,
    settings: Vec<(String, String)>,
    apis: usize,
    workers: usize,
    own_postgres: bool,
    migrated: bool,
}

impl Plan {
    pub fn of(mode: Mode) -> Self {
        let plan = Self {
            mode,
            settings: vec![],
            apis: APIS,
            workers: WORKERS,
            own_postgres: false,
            migrated: true,
        };
        plan.with(SETTINGS)
    }

    /// Settings for every process; they win over those that all tests share.
    #[must_use]
    pub fn with(mut self, settings: &[(&str, &str)]) -> Self {
        self.settings.extend(own(settings));
        self
    }

    /// So many `windlass api` in a fleet.
    #[must_use]
    pub fn apis(self, apis: usize) -> Self {
        Self { apis, ..self }
    }

    /// So many `windlass worker` in a fleet.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// A PostgreSQL that the story may stop, kill and freeze. It takes a second or two to start.
    #[must_use]
    pub fn own_postgres(self) -> Self {
        Self { own_postgres: true, ..self }
    }

    /// A database that knows nothing of Windlass yet, in a fleet.
    #[must_use]
    pub fn without_schema(self) -> Self {
        Self { migrated: false, ..self }
    }

    /// Builds it, starts its processes, and waits until they listen.
    pub async fn open(self) -> House {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let ground = match self.mode {
            Mode::Embedded => Ground::Sqlite(folder.path().join("windlass.db")),
            Mode::Fleet => {
                let database = match self.own_postgres {
                    true => Database::OnItsOwnServer(Postgres::start()),
                    false => Database::OnTheSharedServer(Postgres::shared().create_database()),
                };
                Ground::Servers(Box::new(Servers { database, redis: Redis::start() }))
            }
        };
        let mut house = House::on(ground, folder, self.settings);
        if self.mode == Mode::Embedded {
            house.plan_process(Role::Dev, &[]);
        } else {
            if self.migrated {
                house.ask(&["migrate"]).succeeded();
            }
            (0..self.apis).for_each(|_| drop(house.plan_process(Role::Api, &[])));
            (0..self.workers).for_each(|_| drop(house.plan_process(Role::Worker, &[])));
        }
        house.rise().await;
        house
    }
}

pub(super) fn own(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
