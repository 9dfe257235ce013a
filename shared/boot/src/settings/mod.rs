//! The settings of a process: from environment, file and flags to checked values.

mod read;
pub mod table;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

pub use table::{SETTINGS, Setting, UsedBy};
pub use values::{DatabaseUrl, LogFormat, Secret};

use values::Values;

/// What a process was told, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub database_url: DatabaseUrl,
    pub database_max_connections: usize,
    pub migrate_on_start: bool,
    pub redis_url: Option<Secret>,
    pub health_listen: SocketAddr,
    pub egress_allow: String,
    pub emit_url: Option<Secret>,
    pub cors_origins: Vec<String>,
    pub hosts: Vec<String>,
    pub cursor_key: Option<Secret>,
    pub worker_max_runs: usize,
    pub session_ttl: Duration,
    pub session_renew: Duration,
    pub sweep_interval: Duration,
    pub stale_after: Duration,
    pub drain_timeout: Duration,
    pub child_depth_max: usize,
    pub open_runs_max: Option<usize>,
    pub log: Option<String>,
    pub log_format: LogFormat,
    pub server: String,
    pub user: Option<String>,
    pub roles: Vec<String>,
    /// Every setting with its value as people may see it, in the order of the table.
    pub effective: Vec<Effective>,
}

/// One setting as it holds in this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effective {
    pub name: &'static str,
    /// Secrets are masked.
    pub value: String,
    pub source: Source,
}

/// Where a value came from. Later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Default,
    File,
    Environment,
    Flag,
}

impl Source {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }
}

/// Everything that is wrong with the settings, at once.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct SettingsError(pub Vec<String>);

/// Values given on the command line, by the name of their setting.
pub type Flags = Vec<(&'static str, String)>;

impl Settings {
    /// Reads the configuration file if one is named, the environment of this process, and flags; later ones win.
    ///
    /// # Errors
    /// Unknown names, with the nearest known one; values that cannot be read, and where they stand.
    pub fn load(flags: Flags) -> Result<Self, SettingsError> {
        Self::read(
            std::env::vars_os().filter_map(|(name, value)| {
                // What is not UTF-8 cannot be one of ours.
                Some((name.into_string().ok()?, value.into_string().ok()?))
            }),
            flags,
        )
    }

    /// Like [`Settings::load`], from an environment given as values.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn read(
        environment: impl IntoIterator<Item = (String, String)>,
        flags: Flags,
    ) -> Result<Self, SettingsError> {
        let mut problems = Vec::new();
        let mut from_environment = Values::default();
        read::environment(environment, &mut from_environment, &mut problems);
        let mut values = Values::default();
        let config = flags.iter().find(|(name, _)| *name == "config").map(|(_, path)| path.clone());
        if let Some(path) = config.or_else(|| from_environment.given("config").map(str::to_owned)) {
            read::file(&PathBuf::from(path), &mut values, &mut problems);
        }
        values.prefer(from_environment);
        for (name, value) in flags {
            values.set(name, value, Source::Flag);
        }
        let settings = Self::from_values(&values, &mut problems);
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(SettingsError(problems)),
        }
    }

    fn from_values(values: &Values, problems: &mut Vec<String>) -> Option<Self> {
        let listen = values.parse("listen", problems, values::address);
        let database_url = values.parse("database_url", problems, DatabaseUrl::parse);
        let database_max_connections =
            values.parse("database_max_connections", problems, values::connections);
        let migrate_on_start = values.parse("migrate_on_start", problems, values::yes_or_no);
        let redis_url =
            values.given("redis_url").and_then(|_| values.parse("redis_url", problems, values::redis_url));
        let health_listen = values.parse("health_listen", problems, values::address);
        let worker_max_runs = values.parse("worker_max_runs", problems, values::count);
        let session_ttl = values.parse("session_ttl", problems, values::duration);
        let session_renew = values.parse("session_renew", problems, values::duration);
        let sweep_interval = values.parse("sweep_interval", problems, values::duration);
        let stale_after = values.parse("stale_after", problems, values::duration);
        let drain_timeout = values.parse("drain_timeout", problems, windlass_model::time::parse_duration);
        let child_depth_max = values.parse("child_depth_max", problems, values::count);
        let open_runs_max = values
            .given("open_runs_max")
            .and_then(|_| values.parse("open_runs_max", problems, values::count));
        let hosts = values.parse("hosts", problems, values::hosts);
        let log_format = values.parse("log_format", problems, LogFormat::parse);
        let server = values.parse("server", problems, values::server_url);
        let emit_url =
            values.given("emit_url").and_then(|_| values.parse("emit_url", problems, values::secret_url));
        if let (Some(ttl), Some(renew)) = (session_ttl, session_renew)
            && renew * 2 > ttl
        {
            problems.push(format!(
                "session_renew ({renew:?}) must be at most half of session_ttl ({ttl:?}), \
                 or one late renewal loses every run"
            ));
        }
        Some(Self {
            listen: listen?,
            database_url: database_url?,
            database_max_connections: database_max_connections?,
            migrate_on_start: migrate_on_start?,
            redis_url,
            health_listen: health_listen?,
            egress_allow: values.text("egress_allow").to_owned(),
            emit_url,
            cors_origins: values::list(values.text("cors_origins")),
            hosts: hosts?,
            cursor_key: values.given("cursor_key").map(|key| Secret(key.to_owned())),
            worker_max_runs: worker_max_runs?,
            session_ttl: session_ttl?,
            session_renew: session_renew?,
            sweep_interval: sweep_interval?,
            stale_after: stale_after?,
            drain_timeout: drain_timeout?,
            child_depth_max: child_depth_max?,
            open_runs_max,
            log: values.given("log").map(str::to_owned),
            log_format: log_format?,
            server: server?,
            user: values.given("user").map(str::to_owned),
            roles: values::list(values.text("roles")),
            effective: values.effective(),
        })
    }
}

#[cfg(test)]
mod tests;
