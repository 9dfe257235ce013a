use std::fmt::Write as _;

use super::table::UsedBy;
use super::*;

fn read(environment: &[(&str, &str)], flags: Flags) -> Result<Settings, SettingsError> {
    Settings::read(environment.iter().map(|(name, value)| ((*name).into(), (*value).into())), flags)
}

fn problems(environment: &[(&str, &str)]) -> Vec<String> {
    read(environment, Vec::new()).expect_err("these settings are wrong").0
}

fn with_file(content: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("windlass.toml");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn every_default_of_the_table_can_be_read() {
    let settings = read(&[], Vec::new()).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7070");
    assert_eq!(settings.database_url.to_string(), "sqlite://.windlass/windlass.db");
    assert_eq!(settings.session_ttl, Duration::from_secs(5));
    assert_eq!(settings.effective.len(), SETTINGS.len());
    assert!(settings.effective.iter().all(|it| it.source == Source::Default));
}

#[test]
fn the_environment_wins_over_a_file_and_a_flag_over_both() {
    let (_folder, path) = with_file("session_ttl = \"9s\"\nworker_max_runs = 7\nstale_after = \"50s\"");
    let environment = [
        ("WINDLASS_CONFIG", path.as_str()),
        ("WINDLASS_SESSION_TTL", "8s"),
        ("WINDLASS_SWEEP_INTERVAL", "2s"),
    ];
    let settings = read(&environment, vec![("stale_after", "40s".into())]).unwrap();
    assert_eq!(settings.session_ttl, Duration::from_secs(8));
    assert_eq!(settings.worker_max_runs, 7);
    assert_eq!(settings.sweep_interval, Duration::from_secs(2));
    assert_eq!(settings.stale_after, Duration::from_secs(40));
    let source = |name| settings.effective.iter().find(|it| it.name == name).unwrap().source.clone();
    assert_eq!(source("sweep_interval"), Source::Environment);
    assert_eq!(source("session_ttl"), Source::Environment);
    assert_eq!(source("worker_max_runs"), Source::File);
    assert_eq!(source("stale_after"), Source::Flag);
    let empty = [("WINDLASS_CONFIG", path.as_str()), ("WINDLASS_SESSION_TTL", "")];
    assert_eq!(
        read(&empty, Vec::new()).unwrap().session_ttl,
        Duration::from_secs(9),
        "empty is as good as none"
    );
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_known_one() {
    assert_eq!(
        problems(&[("WINDLASS_SESION_TTL", "5s")]),
        ["WINDLASS_SESION_TTL is no variable of Windlass; did you mean `WINDLASS_SESSION_TTL`?"]
    );
    assert_eq!(
        problems(&[("WINDLASS_ZZZ", "1")]),
        ["WINDLASS_ZZZ is no variable of Windlass; see docs/configuration.md for those there are"]
    );
    let (_folder, path) = with_file("log_format = \"json\"\negress-allow = \"\"\n");
    assert_eq!(
        problems(&[("WINDLASS_CONFIG", &path)]),
        [format!("{path}:2: `egress-allow` is no setting; did you mean `egress_allow`?")]
    );
}

#[test]
fn a_fleet_is_told_where_to_find_its_database_and_its_redis() {
    let environment = [
        ("WINDLASS_DATABASE_URL", "postgresql://windlass@db:5432/windlass"),
        ("WINDLASS_REDIS_URL", "redis://redis:6379"),
        ("WINDLASS_MIGRATE_ON_START", "yes"),
    ];
    let settings = read(&environment, Vec::new()).unwrap();
    assert_eq!(
        settings.database_url,
        DatabaseUrl::Postgres(Secret("postgresql://windlass@db:5432/windlass".into()))
    );
    assert_eq!(settings.redis_url, Some(Secret("redis://redis:6379".into())));
    assert!(settings.migrate_on_start);
    assert!(!read(&[], Vec::new()).unwrap().migrate_on_start, "only when somebody says so");
}

#[test]
fn every_wrong_value_is_reported_at_once_with_its_place() {
    let found = problems(&[
        ("WINDLASS_LISTEN", "here"),
        ("WINDLASS_SESSION_TTL", "soon"),
        ("WINDLASS_WORKER_MAX_RUNS", "0"),
        ("WINDLASS_SERVER", "localhost"),
        ("WINDLASS_LOG_FORMAT", "xml"),
    ]);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found.iter().all(|problem| problem.starts_with("WINDLASS_")), "{found:#?}");
    for (name, value) in [
        ("WINDLASS_DATABASE_MAX_CONNECTIONS", "6"),
        ("WINDLASS_MIGRATE_ON_START", "maybe"),
        ("WINDLASS_HEALTH_LISTEN", "7071"),
        ("WINDLASS_DATABASE_URL", "postgres://"),
    ] {
        assert!(problems(&[(name, value)])[0].starts_with(name), "{name}");
    }
    let renew = problems(&[("WINDLASS_SESSION_RENEW", "3s")]);
    assert!(renew[0].contains("at most half of session_ttl"), "{renew:?}");
}

#[test]
fn a_broken_file_is_reported_with_its_line() {
    let (_folder, path) = with_file("listen = \"127.0.0.1:1\"\nlog = [1, 2]\n");
    assert!(problems(&[("WINDLASS_CONFIG", &path)])[0].starts_with(&format!("{path}:2: `log` wants")));
    let (_folder, path) = with_file("listen = \"a\"\nlisten = \"b\"\n");
    assert!(problems(&[("WINDLASS_CONFIG", &path)])[0].starts_with(&format!("{path}:2: ")));
    assert!(problems(&[("WINDLASS_CONFIG", "/nowhere/at/all")])[0].contains("/nowhere/at/all"));
}

#[test]
fn a_secret_may_come_from_a_file_but_not_from_two_places() {
    let (folder, _) = with_file("");
    let secret = folder.path().join("url");
    std::fs::write(&secret, "sqlite://from-file.db\n").unwrap();
    let secret = secret.to_str().unwrap();
    let settings = read(&[("WINDLASS_DATABASE_URL_FILE", secret)], Vec::new()).unwrap();
    assert_eq!(settings.database_url.to_string(), "sqlite://from-file.db");
    let both = [("WINDLASS_DATABASE_URL_FILE", secret), ("WINDLASS_DATABASE_URL", "sqlite://a.db")];
    assert!(problems(&both)[0].contains("both set"));
    assert!(problems(&[("WINDLASS_LISTEN_FILE", secret)])[0].contains("is no variable"));
}

#[test]
fn of_a_webhook_only_the_host_is_shown() {
    for (url, shown) in [
        ("http://user:emitpw@h/x?token=abcsecret", "http://***@h/***"),
        ("https://hooks.example/T0/B0/abcsecret", "https://hooks.example/***"),
        ("https://hooks.example?token=abcsecret", "https://hooks.example/***"),
        ("https://hooks.example:8443/", "https://hooks.example:8443/"),
        ("https://hooks.example/abcsecret@x", "https://***"),
        ("https://user:emit/pw@hooks.example/x", "https://***"),
        ("https://user:p@w/x@hooks.example/x", "https://***"),
    ] {
        let settings = read(&[("WINDLASS_EMIT_URL", url)], Vec::new()).unwrap();
        let found = settings.effective.iter().find(|it| it.name == "emit_url").unwrap();
        assert_eq!(found.value, shown, "{url}");
    }
}

#[test]
fn passwords_are_masked_and_never_repeated_in_a_problem() {
    let urls = [
        ("WINDLASS_DATABASE_URL", "postgres://ada:hunter2@db/w?application_name=x"),
        ("WINDLASS_REDIS_URL", "redis://:hunter2@redis:6379/1"),
    ];
    let settings = read(&urls, Vec::new()).unwrap();
    let shown = |name| settings.effective.iter().find(|it| it.name == name).unwrap().value.clone();
    assert_eq!(shown("database_url"), "postgres://ada:***@db/w?application_name=x");
    assert_eq!(shown("redis_url"), "redis://:***@redis:6379/1");
    assert!(!format!("{settings:?} {}", settings.database_url).contains("hunter2"));
    for name in ["WINDLASS_DATABASE_URL", "WINDLASS_REDIS_URL"] {
        for url in ["hunter2", "mysql://ada:hunter2@db", "rediss://:hunter2@redis"] {
            let found = problems(&[(name, url)]);
            assert!(!found[0].contains("hunter2"), "{found:?}");
        }
    }
}

#[test]
fn secrets_of_workflows_are_none_of_our_variables() {
    assert!(read(&[("WINDLASS_SECRET_CRM_TOKEN", "x"), ("OTHER", "y")], Vec::new()).is_ok());
}

/// `docs/configuration.md` is this text. Write it anew with `UPDATE_DOCS=1 cargo test -p windlass-boot`.
#[test]
fn the_configuration_page_is_printed_from_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = configuration_page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == page,
        "docs/configuration.md is not what the table says; set UPDATE_DOCS=1 and test again"
    );
}

fn configuration_page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Printed by a test from shared/boot/src/settings/table.rs. Change that table, then run\n     \
         UPDATE_DOCS=1 cargo test -p windlass-boot -->\n\n\
         A setting comes from a variable of the environment, from a TOML file, or from a flag. Where two of\n\
         them give the same setting, the environment wins over the file, and a flag wins over both.\n\
         `windlass config view` prints what holds and where each value came from, with secrets masked.\n\n\
         - **Environment**: `WINDLASS_` and the name in capitals, such as `WINDLASS_SESSION_TTL=2s`.\n\
         - **File**: `--config FILE` or `WINDLASS_CONFIG`; the names as they stand here, such as \
         `session_ttl = \"2s\"`.\n  Lists may be written as such: `egress_allow = [\"10.0.0.0/8\", \"crm.internal\"]`.\n\
         - **Flags**: see `windlass dev --help`, `windlass api --help` and `windlass worker --help`.\n\n\
         A name that is not in this table is refused, with the nearest one that is. Durations are written\n\
         `30s`, `5m`, `48h`, `7d` or in ISO 8601. An empty value is as good as none.\n",
    );
    let sections = [
        (
            "Servers",
            "`windlass dev`, `api`, `worker` and `migrate`, and `windlass run` with a file.",
            [UsedBy::Both, UsedBy::Server],
        ),
        ("Clients", "Commands that talk to a server.", [UsedBy::Client, UsedBy::Client]),
    ];
    for (title, who, used_by) in sections {
        write!(page, "\n## {title}\n\n{who}\n\n| setting | default | unit | what it is for |\n| --- | --- | --- | --- |\n")
            .unwrap();
        for setting in SETTINGS.iter().filter(|setting| used_by.contains(&setting.used_by)) {
            let default =
                if setting.default.is_empty() { "none".into() } else { format!("`{}`", setting.default) };
            let file =
                if setting.secret { format!(" Or `{}_FILE`.", setting.variable()) } else { String::new() };
            writeln!(page, "| `{}` | {default} | {} | {}{file} |", setting.name, setting.unit, setting.about)
                .unwrap();
        }
    }
    page.push_str(
        "\n## Secrets\n\n\
         A variable ending in `_FILE`, where the table offers one, names a file whose content is the value; a\n\
         line break at its end is left out. Setting both is refused.\n\n\
         `WINDLASS_SECRET_<NAME>` is a secret of workflows: expressions in a step's own keys read it as\n\
         `secrets.NAME`. Its value is masked in outputs, errors and logs.\n\n\
         ## Other variables\n\n\
         `NO_COLOR` turns colors off. `RUST_LOG` is read when `WINDLASS_LOG` is not set.\n",
    );
    page
}
