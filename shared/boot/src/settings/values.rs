//! Values by name with their source, and how each sort of text is read.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use windlass_model::time::parse_duration;

use super::table::SETTINGS;
use super::{Effective, Setting, Source};

/// What secrets look like wherever settings are shown.
const MASK: &str = "***";

/// What was given, by name. The last one to set a value wins.
#[derive(Default)]
pub(super) struct Values(BTreeMap<&'static str, (String, Source)>);

impl Values {
    pub(super) fn set(&mut self, name: &'static str, value: String, source: Source) {
        self.0.insert(name, (value, source));
    }

    /// Takes what was given elsewhere, in place of what was given here. An empty value is none.
    pub(super) fn prefer(&mut self, others: Values) {
        self.0.extend(others.0.into_iter().filter(|(_, (value, _))| !value.is_empty()));
    }

    /// The value when somebody gave one that is not empty.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value, or the setting's default.
    pub(super) fn text(&self, name: &str) -> &str {
        self.given(name).unwrap_or_else(|| {
            Setting::find(name).expect("settings are asked for by the names of the table").default
        })
    }

    fn source(&self, name: &str) -> Source {
        match self.given(name) {
            Some(_) => self.0[name].1.clone(),
            None => Source::Default,
        }
    }

    pub(super) fn parse<T>(
        &self,
        name: &'static str,
        problems: &mut Vec<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(self.text(name)) {
            Ok(value) => Some(value),
            Err(problem) => {
                problems.push(format!("{}: {problem}", self.place(name)));
                None
            }
        }
    }

    /// How a person would find the value: the variable, the key in the file, or the flag.
    fn place(&self, name: &str) -> String {
        let setting = Setting::find(name).expect("settings are asked for by the names of the table");
        match self.source(name) {
            Source::Environment => setting.variable(),
            Source::File => format!("{name} in the configuration file"),
            Source::Flag | Source::Default => name.to_owned(),
        }
    }

    pub(super) fn effective(&self) -> Vec<Effective> {
        let shown = |setting: &Setting| {
            let value = self.text(setting.name);
            if setting.secret { mask(value) } else { value.to_owned() }
        };
        SETTINGS
            .iter()
            .map(|setting| Effective {
                name: setting.name,
                value: shown(setting),
                source: self.source(setting.name),
            })
            .collect()
    }
}

/// A URL keeps everything but its password, and the address of a webhook its host alone; any other secret keeps
/// nothing.
fn mask(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return if value.is_empty() { String::new() } else { MASK.to_owned() };
    };
    if ["http", "https"].contains(&scheme) {
        return mask_webhook(scheme, rest);
    }
    // The password may hold an `@` that somebody forgot to encode: look for the last one.
    match rest.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            format!("{scheme}://{user}:{MASK}@{host}")
        }
        None => value.to_owned(),
    }
}

/// Login, path and query of a webhook are what lets one in.
fn mask_webhook(scheme: &str, rest: &str) -> String {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    // It may be a password with a `/` that somebody forgot to encode: where the host begins nobody can say.
    if tail.contains('@') {
        return format!("{scheme}://{MASK}");
    }
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{MASK}@{host}"),
        None => authority.to_owned(),
    };
    let tail = if tail.len() > 1 { format!("/{MASK}") } else { tail.to_owned() };
    format!("{scheme}://{host}{tail}")
}

/// Which database, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    Sqlite(PathBuf),
    /// The whole address, which may hold a password.
    Postgres(Secret),
}

impl DatabaseUrl {
    /// # Errors
    /// A sentence for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("sqlite", "")) => Err("sqlite:// lacks a path; write sqlite://windlass.db".into()),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", "")) => {
                Err("postgres:// lacks a host; write postgres://user:password@host/name".into())
            }
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(Secret(text.to_owned()))),
            Some((scheme, _)) => Err(format!(
                "`{scheme}://` is no database of ours; write sqlite://windlass.db or postgres://host/name"
            )),
            None => Err(format!("`{}` is no URL; write sqlite:// and the path of the file", mask(text))),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => f.write_str(&mask(&url.0)),
        }
    }
}

/// A value that nobody shall read in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is neither text nor json")),
        }
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    // The one name that everybody writes; others would need a resolver.
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric
        .parse()
        .map_err(|_| format!("`{text}` is no address with a port; write 127.0.0.1:7070 or [::1]:7070"))
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is not a whole number above zero")),
        Ok(number) => Ok(number),
    }
}

/// Writes, creates, claims, the sweep and signs of life have connections of their own, whatever else goes on.
const CONNECTIONS_MIN: usize = 10;

pub(super) fn connections(text: &str) -> Result<usize, String> {
    match count(text)? {
        few @ 0..CONNECTIONS_MIN => {
            Err(format!("{few} connections are too few; {CONNECTIONS_MIN} are needed"))
        }
        number => Ok(number),
    }
}

pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("`{text}` is neither yes nor no")),
    }
}

/// It may hold a password, and is not repeated when it is wrong.
pub(super) fn redis_url(text: &str) -> Result<Secret, String> {
    match text.split_once("://") {
        Some(("redis" | "valkey" | "redis+unix" | "unix", rest)) if !rest.is_empty() => {
            Ok(Secret(text.to_owned()))
        }
        Some(("rediss" | "valkeys", _)) => {
            Err("there is no TLS to Redis yet; write redis://host:6379, in a network of your own".into())
        }
        _ => Err("this is no address of a Redis; write it like redis://redis.internal:6379".into()),
    }
}

/// A span that something is done by again and again: never zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err(format!("`{text}` is no time at all")),
        span => Ok(span),
    }
}

pub(super) fn server_url(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(format!("`{text}` is no address; write it like http://127.0.0.1:7070")),
    }
}

/// A URL that may hold a password or a token: it is not repeated when it is wrong.
pub(super) fn secret_url(text: &str) -> Result<Secret, String> {
    match text.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(Secret(text.to_owned())),
        _ => Err("this is no address; write it like https://hooks.example/windlass".into()),
    }
}

pub(super) fn hosts(text: &str) -> Result<Vec<String>, String> {
    let hosts = list(text);
    match hosts.iter().find(|host| host.contains(['/', ':', ' '])) {
        Some(host) => {
            Err(format!("`{host}` is no name; write it like windlass.example, without scheme and port"))
        }
        None => Ok(hosts),
    }
}

pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
