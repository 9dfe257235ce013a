//! The secrets of this process, and hiding them wherever they would show.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

/// Environment variables that begin so are secrets: `WINDLASS_SECRET_TOKEN` is `secrets.TOKEN`.
const VARIABLE_PREFIX: &str = "WINDLASS_SECRET_";
/// Shorter values would hide ordinary words, and are guessed anyway.
const MASKED_BYTES_MIN: usize = 6;
/// What people read instead.
const MASK: &str = "***";
/// What most programs leave as it is when they write a value into a URL.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

static NO_SECRETS: BTreeMap<String, String> = BTreeMap::new();

/// Values that runners may use and nobody should read. Cheap to clone.
#[derive(Clone, Default)]
pub struct Secrets(Option<Arc<Known>>);

struct Known {
    by_name: BTreeMap<String, String>,
    finder: AhoCorasick,
    /// Whether a JSON number could spell a secret.
    any_is_numeric: bool,
}

impl Secrets {
    /// Every variable of the environment that begins with `WINDLASS_SECRET_`.
    pub fn from_env() -> Self {
        let named = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?.strip_prefix(VARIABLE_PREFIX)?.to_owned();
            match value.into_string() {
                Ok(value) if !name.is_empty() => Some((name, value)),
                _ => {
                    tracing::warn!("Ignored {VARIABLE_PREFIX}{name}: it has no name, or is not UTF-8");
                    None
                }
            }
        });
        Self::new(named.collect())
    }

    pub fn new(by_name: BTreeMap<String, String>) -> Self {
        if by_name.is_empty() {
            return Self(None);
        }
        let spellings: BTreeSet<String> = by_name.values().flat_map(|value| spellings(value)).collect();
        let any_is_numeric =
            spellings.iter().any(|text| text.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
        let finder = AhoCorasick::new(&spellings)
            .expect("the automaton holds more patterns than an environment can carry");
        Self(Some(Arc::new(Known { by_name, finder, any_is_numeric })))
    }

    /// Values by name, for the expressions of a runner's params.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        self.0.as_ref().map_or(&NO_SECRETS, |known| &known.by_name)
    }

    /// `text` with `***` for every secret in it, also where it stands in base64, in a URL or in JSON.
    pub fn mask_text(&self, text: &str) -> String {
        self.0.as_ref().map_or_else(|| text.to_owned(), |known| known.mask(text).into_owned())
    }

    /// The same for text that may not be UTF-8, such as a log. Untouched content is not copied.
    pub fn mask_bytes(&self, content: Vec<u8>) -> Vec<u8> {
        let Some(known) = &self.0 else { return content };
        let hidden = known.find(&content);
        if hidden.is_empty() { content } else { replace(&content, &hidden) }
    }

    /// Masks every string of a value, its keys, and numbers that spell a secret.
    pub fn mask_value(&self, value: &mut Value) {
        if let Some(known) = &self.0 {
            known.mask_value(value);
        }
    }
}

impl fmt::Debug for Secrets {
    /// Names only: values have no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")?;
        f.debug_set().entries(self.as_map().keys()).finish()
    }
}

impl Known {
    fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let hidden = self.find(text.as_bytes());
        if hidden.is_empty() {
            return Cow::Borrowed(text);
        }
        let masked = replace(text.as_bytes(), &hidden);
        Cow::Owned(
            String::from_utf8(masked).expect("secrets are whole characters, and so is what they leave"),
        )
    }

    fn mask_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(masked) = self.mask(text) {
                    *text = masked;
                }
            }
            Value::Number(number) if self.any_is_numeric => {
                if let Cow::Owned(masked) = self.mask(&number.to_string()) {
                    *value = Value::String(masked);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item)),
            Value::Object(map) => {
                if map.keys().any(|key| matches!(self.mask(key), Cow::Owned(_))) {
                    let renamed = |(key, value): (String, Value)| (self.mask(&key).into_owned(), value);
                    *map = std::mem::take(map).into_iter().map(renamed).collect::<Map<_, _>>();
                }
                map.values_mut().for_each(|value| self.mask_value(value));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Where secrets stand, in order and apart. Secrets that overlap are hidden as one: the first
    /// match alone would leave the rest of the second to be read.
    fn find(&self, content: &[u8]) -> Vec<Range<usize>> {
        let mut hidden: Vec<Range<usize>> = Vec::new();
        for found in self.finder.find_overlapping_iter(content) {
            let mut range = found.range();
            while let Some(last) = hidden.pop_if(|last| last.end >= range.start) {
                range.start = range.start.min(last.start);
                range.end = range.end.max(last.end);
            }
            hidden.push(range);
        }
        hidden
    }
}

fn replace(content: &[u8], hidden: &[Range<usize>]) -> Vec<u8> {
    let mut masked = Vec::with_capacity(content.len());
    let mut shown_to = 0;
    for range in hidden {
        masked.extend_from_slice(&content[shown_to..range.start]);
        masked.extend_from_slice(MASK.as_bytes());
        shown_to = range.end;
    }
    masked.extend_from_slice(&content[shown_to..]);
    masked
}

/// How a secret may stand in a text: as it is, line by line, and as programs rewrite it.
fn spellings(secret: &str) -> Vec<String> {
    let mut spellings = vec![secret.to_owned()];
    // Keys in PEM are printed line by line; a value read from a file ends in a line break.
    spellings.extend(secret.lines().map(|line| line.trim().to_owned()));
    for line in spellings.clone() {
        let quoted = Value::from(line.as_str()).to_string();
        spellings.push(quoted[1..quoted.len() - 1].to_owned());
        let in_url = utf8_percent_encode(&line, UNRESERVED).to_string();
        spellings.push(in_url.replace("%20", "+"));
        spellings.push(in_url);
        spellings.push(utf8_percent_encode(&line, NON_ALPHANUMERIC).to_string());
        if line.len() >= MASKED_BYTES_MIN {
            spellings.extend(in_base64(&line));
        }
    }
    spellings.retain(|text| text.len() >= MASKED_BYTES_MIN);
    spellings
}

/// A secret in base64, alone and in the middle of something longer, such as `user:password`.
fn in_base64(secret: &str) -> Vec<String> {
    let mut spellings: Vec<_> =
        [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|engine| engine.encode(secret)).into();
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret.as_bytes());
        // Characters that also depend on the neighbours' bits are left out at both ends.
        let first = (before * 8).div_ceil(6);
        let end = bytes.len() * 8 / 6;
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            spellings.push(text[first..end].to_owned());
        }
    }
    spellings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        Secrets::new(
            values.iter().enumerate().map(|(n, value)| (format!("S{n}"), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn a_secret_is_hidden_as_it_is_in_base64_in_urls_and_in_json() {
        let secret = "p@ss w/rd\"9";
        let secrets = secrets(&[secret]);
        let spelled = [
            secret.to_owned(),
            STANDARD.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            "p%40ss+w%2Frd%229".to_owned(),
            json!(secret).to_string().trim_matches('"').to_owned(),
        ];
        for text in spelled {
            assert_eq!(secrets.mask_text(&format!("<{text}>")), "<***>", "{text}");
        }
    }

    #[test]
    fn basic_authentication_gives_no_password_away() {
        let secrets = secrets(&["correct horse"]);
        for user in ["a", "ad", "ada", "adam"] {
            let header = STANDARD.encode(format!("{user}:correct horse"));
            let masked = secrets.mask_text(&header);
            let shown = masked.replace(MASK, "");
            assert!(masked.contains(MASK) && shown.len() <= user.len() * 4 / 3 + 6, "{header} -> {masked}");
        }
    }

    #[test]
    fn secrets_that_overlap_are_hidden_whole() {
        let secrets = secrets(&["abcdefgh", "efghijkl", "efgh-long-tail"]);
        assert_eq!(secrets.mask_text("1 abcdefghijkl 2 abcdefgh-long-tail 3"), "1 *** 2 *** 3");
    }

    #[test]
    fn every_line_of_a_key_is_hidden() {
        let secrets = secrets(&["-----BEGIN KEY-----\nMIIEabcdef\n-----END KEY-----\n", "trailing\n"]);
        assert_eq!(secrets.mask_text("got MIIEabcdef and trailing!"), "got *** and ***!");
    }

    #[test]
    fn values_are_masked_in_strings_keys_and_numbers() {
        let secrets = secrets(&["hunter22", "12345678"]);
        let mut value = json!({"a": ["x hunter22 y", 12_345_678, 12], "hunter22": {"b": null}});
        secrets.mask_value(&mut value);
        assert_eq!(value, json!({"a": ["x *** y", "***", 12], "***": {"b": null}}));
        assert_eq!(secrets.mask_bytes(b"\xffhunter22\xff".to_vec()), b"\xff***\xff");
    }

    #[test]
    fn short_values_and_other_text_stay() {
        let secrets = secrets(&["short", ""]);
        assert_eq!(secrets.mask_text("in short: nothing"), "in short: nothing");
        assert_eq!(Secrets::default().mask_text("anything"), "anything");
    }

    #[test]
    fn debug_shows_names_only() {
        let shown = format!("{:?}", secrets(&["hunter22"]));
        assert!(shown.contains("S0") && !shown.contains("hunter22"), "{shown}");
    }
}
