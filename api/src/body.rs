//! Reads bodies: what kind they are, and strict JSON that says where it is wrong.

use std::fmt;

use axum::http::{HeaderMap, header};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::problem::{Code, Fault, Problem, Result};

/// Nesting that a body may have: what reads it further on may recurse.
pub(crate) const DEPTH_MAX: usize = 64;

/// What the client says its body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    Yaml,
    Multipart,
}

impl MediaType {
    /// None when the client says nothing.
    ///
    /// # Errors
    /// 415 for what no route takes.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.eq_ignore_ascii_case("charset").then(|| value.trim_matches('"').to_ascii_lowercase())
        });
        let is_utf8 = charset.is_none_or(|charset| charset == "utf-8" || charset == "utf8");
        let kind = match essence.as_str() {
            "application/json" => Some(Self::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Some(Self::Yaml),
            "multipart/form-data" => Some(Self::Multipart),
            _ => None,
        };
        kind.filter(|_| is_utf8).map(Some).ok_or_else(|| refuse_media_type("application/json"))
    }
}

pub(crate) fn refuse_media_type(wanted: &str) -> Problem {
    Problem::new(
        Code::UnsupportedMediaType,
        format!("Send the body as {wanted}, in UTF-8, with that Content-Type."),
    )
}

/// Refuses a body that is packed: its bytes would be taken for what they are not.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<()> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut packed = encodings.filter(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    match packed.next() {
        None => Ok(()),
        Some(_) => Err(Problem::new(
            Code::UnsupportedMediaType,
            "Send the body as it is, without a Content-Encoding: it would not be unpacked.",
        )),
    }
}

/// Reads the text of a definition, whose own parser looks at everything else.
pub(crate) fn read_text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(bytes, error.valid_up_to());
        misplaced(Code::MalformedRequest, "The body is not valid UTF-8.", line, column)
    })
}

/// Reads JSON more strictly than its grammar asks, because what we keep must mean the same to everyone.
///
/// Refused are: keys given twice, NUL characters, lone surrogates, a byte order mark, nesting beyond
/// [`DEPTH_MAX`], and integers that do not fit 64 bits.
pub(crate) fn read_json(bytes: &[u8]) -> Result<Value> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(malformed("The body begins with a byte order mark.", 1, 1));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(bytes, error.valid_up_to());
        malformed("The body is not valid UTF-8.", line, column)
    })?;
    scan(bytes)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        let line = u32::try_from(error.line()).unwrap_or(u32::MAX);
        let column = column_in_chars(text, error.line(), error.column());
        // Its sentence ends with the position, which we tell apart.
        let sentence = error.to_string();
        let sentence = sentence.rsplit_once(" at line ").map_or(sentence.as_str(), |(what, _)| what);
        malformed(&format!("The body is not acceptable JSON: {sentence}."), line, column)
    })
}

/// Turns JSON into what a route takes.
pub(crate) fn shape<T: DeserializeOwned>(value: Value) -> Result<T> {
    // A list of the right values in the right order would be taken for an object.
    if !value.is_object() {
        return Err(Problem::body("", "must be an object"));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = pointer_of(error.path());
        Problem::body(pointer, sentence_of(&error.inner().to_string()))
    })
}

/// In the words of JSON; those of the deserializer are Rust's.
fn sentence_of(text: &str) -> String {
    if text.starts_with("UUID parsing failed") {
        return "wrong value: expected an id such as 01890000-0000-7000-8000-000000000000".to_owned();
    }
    let kinds = [("invalid type: ", "wrong type: "), ("invalid value: ", "wrong value: ")];
    let said = kinds.into_iter().find_map(|(theirs, ours)| Some((ours, text.strip_prefix(theirs)?)));
    let Some((what, (found, expected))) =
        said.and_then(|(what, rest)| Some((what, rest.rsplit_once(", expected ")?)))
    else {
        return text.to_owned();
    };
    format!("{what}{}, expected {}", found_in_json(found), expected_of_json(expected))
}

fn found_in_json(found: &str) -> String {
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        "unit value" => "null".to_owned(),
        _ => found.replacen("integer `", "number `", 1).replacen("floating point `", "number `", 1),
    }
}

fn expected_of_json(expected: &str) -> String {
    let whole = |most: u64| format!("a whole number from 0 to {most}");
    match expected {
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "u64" | "usize" => whole(u64::MAX),
        "a map" => "an object".to_owned(),
        "a sequence" => "a list".to_owned(),
        structure if structure.starts_with("struct ") => "an object".to_owned(),
        other => other.to_owned(),
    }
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{}", escape(key)),
        Segment::Enum { variant } => format!("{pointer}/{}", escape(variant)),
        Segment::Unknown => pointer,
    })
}

/// One reference token of a JSON pointer.
pub(crate) fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

fn malformed(detail: &str, line: u32, column: u32) -> Problem {
    misplaced(Code::MalformedJson, detail, line, column)
}

fn misplaced(code: Code, detail: &str, line: u32, column: u32) -> Problem {
    let fault =
        Fault { detail: detail.to_owned(), line: Some(line), column: Some(column), ..Fault::default() };
    Problem::new(code, detail.to_owned()).with(fault)
}

/// Checks what must hold before anything recurses over the text, and what a parser would round silently.
fn scan(bytes: &[u8]) -> Result<()> {
    let refuse = |what: String, at: usize| {
        let (line, column) = position(bytes, at);
        Err(malformed(&what, line, column))
    };
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return refuse(format!("The body is nested deeper than {DEPTH_MAX} levels."), at);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let end = end_of_number(bytes, at);
                if !fits(&bytes[at..end]) {
                    return refuse("The body holds an integer that does not fit 64 bits.".to_owned(), at);
                }
                at = end - 1;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    bytes[start..].iter().position(|byte| !is_part(byte)).map_or(bytes.len(), |length| start + length)
}

fn fits(number: &[u8]) -> bool {
    let text = std::str::from_utf8(number).unwrap_or_default();
    let is_integer = !text.contains(['.', 'e', 'E']);
    !is_integer || text.len() < 19 || text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()
}

fn position(bytes: &[u8], at: usize) -> (u32, u32) {
    let before = &bytes[..at.min(bytes.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

fn column_in_chars(text: &str, line: usize, column_in_bytes: usize) -> u32 {
    let line = text.split('\n').nth(line.saturating_sub(1)).unwrap_or_default().as_bytes();
    let before = &line[..column_in_bytes.min(line.len())];
    u32::try_from(String::from_utf8_lossy(before).chars().count().max(1)).unwrap_or(u32::MAX)
}

/// Reads any JSON value; refuses keys given twice and NUL characters.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn without_nul<E: serde::de::Error>(text: String) -> Result<String, E> {
    if text.contains('\0') { Err(E::custom("a NUL character in a string")) } else { Ok(text) }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        without_nul(value.to_owned()).map(Value::String)
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        without_nul(value).map(Value::String)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let key = without_nul(key)?;
            if map.contains_key(&key) {
                let shown: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format_args!("the key {shown:?} is given twice")));
            }
            let value = entries.next_value_seed(Self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn refusal(text: &[u8]) -> (String, u32, u32) {
        let problem = read_json(text).unwrap_err();
        assert_eq!(problem.code(), Code::MalformedJson);
        let fault = problem.faults()[0].clone();
        (fault.detail, fault.line.unwrap(), fault.column.unwrap())
    }

    #[test]
    fn good_json_keeps_its_values_and_the_order_of_its_keys() {
        let text =
            r#"{"z": [1, -2, 1.5, 18446744073709551615, -9223372036854775808], "a": {"é": null, "t": true}}"#;
        let value = read_json(text.as_bytes()).unwrap();
        assert_eq!(value.to_string(), text.replace(": ", ":").replace(", ", ","));
    }

    #[test]
    fn what_must_not_be_is_refused_with_its_position() {
        let nested = "[".repeat(100_000);
        for (text, what, line, column) in [
            (&b"{\"a\": 1,\n \"a\": 2}"[..], "twice", 2, 4),
            (b"{\"a\": \"x\\u0000y\"}", "NUL", 1, 16),
            (b"{\"a\\u0000\": 1}", "NUL", 1, 10),
            (b"\"\\ud800\"", "surrogate|hex escape", 1, 8),
            (b"\xef\xbb\xbf{}", "byte order mark", 1, 1),
            (b"{\"a\": \"\xff\"}", "UTF-8", 1, 8),
            (b"[1,\n  NaN]", "expected", 2, 3),
            (b"[18446744073709551616]", "64 bits", 1, 2),
            (b"[-9223372036854775809]", "64 bits", 1, 2),
            (b"[1e999]", "out of range", 1, 6),
            (b"{} {}", "trailing", 1, 4),
            (b"", "EOF", 1, 1),
            (nested.as_bytes(), "deeper", 1, 65),
        ] {
            let (detail, at_line, at_column) = refusal(text);
            let shown = String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
            assert!(what.split('|').any(|part| detail.contains(part)), "{shown}: {detail}");
            assert_eq!((at_line, at_column), (line, column), "{shown}: {detail}");
        }
    }

    #[test]
    fn brackets_and_digits_inside_strings_are_text() {
        let text = format!(r#"{{"a": "{}", "b": "\"99999999999999999999999"}}"#, "[".repeat(200));
        assert!(read_json(text.as_bytes()).is_ok());
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "list")]
        _list: Vec<Inner>,
        #[serde(default, rename = "id")]
        _id: Option<uuid::Uuid>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "n")]
        _n: u8,
    }

    #[test]
    fn a_wrong_shape_is_told_with_its_pointer() {
        for (value, pointer, part) in [
            (
                json!({"list": [{"n": 1}, {"n": "x"}]}),
                "/list/1/n",
                "wrong type: string \"x\", expected a whole number from 0 to 255",
            ),
            (
                json!({"list": [{"n": 256}]}),
                "/list/0/n",
                "wrong value: number `256`, expected a whole number",
            ),
            (json!({"list": [{"n": 1.5}]}), "/list/0/n", "wrong type: number `1.5`, expected a whole number"),
            (json!({"list": [{"n": [1]}]}), "/list/0/n", "wrong type: a list, expected a whole number"),
            (json!({"list": {}}), "/list", "wrong type: an object, expected a list"),
            (json!({"list": null}), "/list", "wrong type: null, expected a list"),
            (json!({"list": ["x"]}), "/list/0", "expected an object"),
            (json!({"list": [], "id": "x"}), "/id", "expected an id such as"),
            (json!({"list": [{"n": 1, "bog/us": 2}]}), "/list/0/bog~1us", "unknown field"),
            (json!({"list": [], "status": 1}), "/status", "unknown field"),
            (json!({}), "", "missing field `list`"),
            (json!([]), "", ""),
        ] {
            let problem = shape::<Outer>(value.clone()).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidBody);
            assert_eq!(problem.faults()[0].pointer.as_deref(), Some(pointer), "{value}");
            assert!(problem.faults()[0].detail.contains(part), "{value}: {:?}", problem.faults());
        }
    }

    #[test]
    fn a_media_type_is_read_without_its_parameters() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            MediaType::of(&headers)
        };
        assert_eq!(of("Application/JSON; charset=UTF-8").unwrap(), Some(MediaType::Json));
        assert_eq!(of("text/yaml").unwrap(), Some(MediaType::Yaml));
        assert_eq!(MediaType::of(&HeaderMap::new()).unwrap(), None);
        for text in ["text/plain", "application/json; charset=latin1", "application/x-www-form-urlencoded"] {
            assert_eq!(of(text).unwrap_err().code(), Code::UnsupportedMediaType, "{text}");
        }
    }
}
