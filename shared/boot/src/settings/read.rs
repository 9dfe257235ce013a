//! Reads the environment and the configuration file, and refuses names that nobody knows.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Spanned, Value};

use super::table::{FILE_SUFFIX, PREFIX, SECRET_PREFIX, SETTINGS};
use super::values::Values;
use super::{Setting, Source};

/// Below this likeness a suggestion would be a guess.
const LIKENESS_MIN: f64 = 0.75;
/// The longest value a file named by a `…_FILE` variable may hold, in bytes.
const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;

/// Takes every `WINDLASS_…` variable.
pub(super) fn environment(
    variables: impl IntoIterator<Item = (String, String)>,
    values: &mut Values,
    problems: &mut Vec<String>,
) {
    let ours: BTreeMap<String, String> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !name.starts_with(SECRET_PREFIX))
        .collect();
    for (variable, value) in &ours {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == *variable) {
            values.set(setting.name, value.clone(), Source::Environment);
        } else if let Some(setting) = secret_setting_of_file(variable) {
            if ours.contains_key(&setting.variable()) {
                problems
                    .push(format!("{} and {variable} are both set; keep one of them", setting.variable()));
                continue;
            }
            match read_secret(Path::new(value)) {
                Ok(secret) => values.set(setting.name, secret, Source::Environment),
                Err(problem) => problems.push(format!("{variable}: {problem}")),
            }
        } else {
            let name = variable[PREFIX.len()..].to_lowercase();
            let hint = hint(&name, |setting| setting.variable());
            problems.push(format!("{variable} is no variable of Windlass{hint}"));
        }
    }
}

fn secret_setting_of_file(variable: &str) -> Option<&'static Setting> {
    let name = variable.strip_suffix(FILE_SUFFIX)?;
    SETTINGS.iter().find(|setting| setting.secret && setting.variable() == name)
}

fn read_secret(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if text.len() > SECRET_FILE_BYTES_MAX {
        return Err(format!("{} is longer than {SECRET_FILE_BYTES_MAX} bytes", path.display()));
    }
    // Editors end a file with a line break that is no part of the secret.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Takes every key of a TOML file.
pub(super) fn file(path: &Path, values: &mut Values, problems: &mut Vec<String>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("the configuration file {}: {error}", path.display()));
            return;
        }
    };
    let table: BTreeMap<Spanned<String>, Spanned<Value>> = match toml::from_str(&text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_at(&text, span.start));
            problems.push(format!("{}:{line}: {}", path.display(), error.message()));
            return;
        }
    };
    for (key, value) in table {
        let line = line_at(&text, key.span().start);
        let place = format!("{}:{line}", path.display());
        let key = key.into_inner();
        match Setting::find(&key).filter(|setting| setting.name != "config") {
            None => {
                let hint = hint(&key, |setting| setting.name.to_owned());
                problems.push(format!("{place}: `{key}` is no setting{hint}"));
            }
            Some(setting) => match plain_text(value.into_inner()) {
                Some(text) => values.set(setting.name, text, Source::File),
                None => problems.push(format!("{place}: `{key}` wants a text, a number, or a list of texts")),
            },
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn plain_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Integer(number) => Some(number.to_string()),
        Value::Array(items) => {
            let texts: Option<Vec<String>> =
                items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}

/// What to say after an unknown name: which one was probably meant.
fn hint(name: &str, show: impl Fn(&Setting) -> String) -> String {
    let likeness = |setting: &&Setting| strsim::jaro_winkler(name, setting.name);
    SETTINGS
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|setting| likeness(setting) >= LIKENESS_MIN)
        .map_or_else(
            || "; see docs/configuration.md for those there are".to_owned(),
            |setting| format!("; did you mean `{}`?", show(setting)),
        )
}
