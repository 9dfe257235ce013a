//! Every setting there is: its name, default, unit, and what it is for.

/// One row of the table that settings are read by and that `docs/configuration.md` is printed from.
#[derive(Debug)]
pub struct Setting {
    /// The key in a configuration file. The variable is `WINDLASS_` and this in capitals.
    pub name: &'static str,
    /// As it would be written; empty means none.
    pub default: &'static str,
    pub unit: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Its value may be a secret: it can come from a file, and is masked wherever it is shown.
    pub secret: bool,
    pub used_by: UsedBy,
}

/// Who reads a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsedBy {
    /// `windlass dev`, `api`, `worker` and `migrate`, and `windlass run` with a file.
    Server,
    /// Commands that talk to a server.
    Client,
    Both,
}

/// The first part of every variable.
pub const PREFIX: &str = "WINDLASS_";
/// Variables that hold secrets for workflows: `WINDLASS_SECRET_<NAME>` is `secrets.NAME` in expressions.
pub const SECRET_PREFIX: &str = "WINDLASS_SECRET_";
/// Ending of the variable that names a file with a secret's value.
pub const FILE_SUFFIX: &str = "_FILE";

impl Setting {
    /// `WINDLASS_SESSION_TTL` for `session_ttl`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_uppercase())
    }

    pub fn find(name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

const fn server(
    name: &'static str,
    default: &'static str,
    unit: &'static str,
    about: &'static str,
) -> Setting {
    Setting { name, default, unit, about, secret: false, used_by: UsedBy::Server }
}

const fn client(
    name: &'static str,
    default: &'static str,
    unit: &'static str,
    about: &'static str,
) -> Setting {
    Setting { name, default, unit, about, secret: false, used_by: UsedBy::Client }
}

/// In the order in which people meet them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        used_by: UsedBy::Both,
        ..server("config", "", "path", "A TOML file with settings, under the names of this table.")
    },
    server(
        "listen",
        "127.0.0.1:7070",
        "address:port",
        "Where the HTTP API listens; port 0 picks a free one.",
    ),
    Setting {
        secret: true,
        ..server(
            "database_url",
            "sqlite://.windlass/windlass.db",
            "URL",
            "The database: sqlite:// and a path, or postgres://user:password@host/name for several processes.",
        )
    },
    server(
        "database_max_connections",
        "15",
        "connections",
        "How many connections to PostgreSQL one process opens at the most; at least 10.",
    ),
    server(
        "migrate_on_start",
        "no",
        "yes or no",
        "Whether api and worker bring an older PostgreSQL schema up to date; if not, they refuse to start.",
    ),
    Setting {
        secret: true,
        ..server(
            "redis_url",
            "",
            "URL",
            "Redis 7 or Valkey, through which api and worker tell each other news: redis://host:6379.",
        )
    },
    server(
        "egress_allow",
        "",
        "CIDRs or hosts, comma separated",
        "Private and loopback targets that http nodes may call; all others of that sort are refused.",
    ),
    Setting {
        secret: true,
        ..server(
            "emit_url",
            "",
            "URL",
            "Where the events of emit nodes are posted; without it they stand in the logs of their runs alone.",
        )
    },
    server(
        "cors_origins",
        "",
        "origins, comma separated",
        "Web pages of these origins may use the API, such as https://console.example; none otherwise.",
    ),
    server(
        "hosts",
        "",
        "names, comma separated",
        "Names under which requests may reach the API, beside addresses and localhost, or `*`; without it any, and none when it listens for this machine alone.",
    ),
    Setting {
        secret: true,
        ..server(
            "cursor_key",
            "",
            "text",
            "Signs the cursors of lists; the same at every process of one database.",
        )
    },
    server(
        "health_listen",
        "127.0.0.1:7071",
        "address:port",
        "Where a worker answers /healthz, /readyz and /metrics; port 0 picks a free one.",
    ),
    server("worker_max_runs", "320", "runs", "How many runs one worker holds in memory at the same time."),
    server("session_ttl", "5s", "duration", "How long a worker counts as alive after its last sign of life."),
    server(
        "session_renew",
        "1s",
        "duration",
        "How often a worker gives a sign of life; at most half of session_ttl.",
    ),
    server("sweep_interval", "1s", "duration", "How often a worker looks for abandoned and due runs."),
    server(
        "stale_after",
        "60s",
        "duration",
        "A held run without any activity for this long is taken over; steps that report progress are active.",
    ),
    server(
        "drain_timeout",
        "30s",
        "duration",
        "How long a stopping worker lets steps in flight finish before it gives them up.",
    ),
    server(
        "child_depth_max",
        "8",
        "levels",
        "How many runs may stand above one that a workflow node starts; one level more fails as limit.depth.",
    ),
    server(
        "open_runs_max",
        "",
        "runs",
        "How many runs of one tenant may be open before a new one is refused with 429 quota; no limit when unset.",
    ),
    server(
        "log",
        "",
        "filter",
        "Which logs are written, such as info or windlass_worker=debug; RUST_LOG when unset.",
    ),
    server("log_format", "text", "text or json", "How logs are written, always to standard error."),
    client("server", "http://127.0.0.1:7070", "URL", "The server that client commands talk to."),
    client("user", "", "name", "Who you say you are to the server; a claim until authentication arrives."),
    client(
        "roles",
        "",
        "names, comma separated",
        "Which roles you say you have; a claim until authentication arrives.",
    ),
];
