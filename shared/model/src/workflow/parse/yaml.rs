//! Reads the YAML that is safe to read: JSON's values, no tags, no merge keys, nothing ambiguous.

use std::borrow::Cow;
use std::collections::BTreeMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

use super::positions::{At, Spot};
use super::{DEPTH_MAX, DOCUMENT_BYTES_MAX, NUMBER_RANGE, Problem, Reading, Stopped, exact_integer};
use crate::workflow::excerpt;

/// A definition that names one of its parts again and again is written by a program, or is a bomb.
const ALIASES_MAX: usize = 100;
const ANCHORS_MAX: usize = 100;

pub(super) fn read(text: &str) -> Result<(Value, Spot), Vec<Problem>> {
    let mut builder = Builder {
        text,
        reading: Reading::new(),
        open: Vec::new(),
        root: None,
        anchors: BTreeMap::new(),
        aliases: 0,
        alias_bytes: 0,
        documents: 0,
    };
    let read = builder.document();
    builder.reading.finish(read)
}

struct Builder<'a> {
    text: &'a str,
    reading: Reading,
    /// Collections that have begun and not ended, outermost first.
    open: Vec<Open>,
    root: Option<(Value, Spot)>,
    anchors: BTreeMap<usize, Anchored>,
    aliases: usize,
    alias_bytes: usize,
    documents: usize,
}

struct Open {
    at: At,
    anchor: usize,
    body: Body,
    children: Vec<Spot>,
}

enum Body {
    List(Vec<Value>),
    Map { map: Map<String, Value>, key: Option<Key> },
}

struct Key {
    text: String,
    at: At,
    /// Its value is read and thrown away: the key was refused.
    is_refused: bool,
}

struct Anchored {
    value: Value,
    spot: Spot,
    values: usize,
    bytes: usize,
}

impl Builder<'_> {
    fn document(&mut self) -> Result<(Value, Spot), Stopped> {
        let options = granit_parser::options! {
            // One more than a document may have, so that our own sentence is the one people read.
            flow_nesting_limit: DEPTH_MAX + 1,
            block_nesting_limit: DEPTH_MAX + 1,
        };
        for next in Parser::new_from_str_with_options(self.text, options) {
            match next {
                Ok((event, span)) => self.event(event, span)?,
                Err(error) => {
                    let at = at(error.marker());
                    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
                        return self.reading.too_deep(at);
                    }
                    return self.reading.stop("syntax", at, error.info());
                }
            }
        }
        match self.root.take() {
            Some(root) => Ok(root),
            None => self.reading.stop("empty_document", At { line: 1, column: 1 }, "the document is empty"),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stopped> {
        let here = at(&span.start);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.reading.stop("many_documents", here, "a file holds one definition");
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), &span)?;
                self.scalar(text, style, anchor, here)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), &span)?;
                self.begin(Body::List(Vec::new()), anchor, here)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), &span)?;
                self.begin(Body::Map { map: Map::new(), key: None }, anchor, here)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(id) => self.alias(id, here)?,
            // Comments, and the marks of stream and document ends, carry no value.
            _ => {}
        }
        Ok(())
    }

    fn refuse_tag(&mut self, is_tagged: bool, span: &Span) -> Result<(), Stopped> {
        if !is_tagged {
            return Ok(());
        }
        let here = at(&span.tag_start.unwrap_or(span.start));
        let tag = span.tag_span().and_then(|tag| tag.slice(self.text)).unwrap_or("!tag");
        let tag = excerpt(tag).into_owned();
        self.reading.note("yaml_tag", here, format!("tags such as `{tag}` are not read; leave it out"))
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        here: At,
    ) -> Result<(), Stopped> {
        self.reading.check_text(&text, here)?;
        let is_plain = matches!(style, ScalarStyle::Plain);
        if self.wants_key() {
            return self.key(text.into_owned(), is_plain, anchor, here);
        }
        self.reading.count(1, here)?;
        let value = if is_plain { self.plain(&text, here)? } else { Value::String(text.into_owned()) };
        self.place(value, Spot::leaf(here), anchor, here)
    }

    fn plain(&mut self, text: &str, here: At) -> Result<Value, Stopped> {
        match resolve(text) {
            Ok(value) => Ok(value),
            Err((code, detail)) => {
                self.reading.note(code, here, detail)?;
                Ok(Value::Null)
            }
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { body: Body::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, text: String, is_plain: bool, anchor: usize, here: At) -> Result<(), Stopped> {
        let mut is_refused = true;
        if anchor != 0 {
            self.reading.note("yaml_limit", here, "an anchor on a key is not read; leave it out")?;
        } else if is_plain && text == "<<" {
            self.reading.note("merge_key", here, "merge keys (`<<`) are not read; write the keys out")?;
        } else if is_plain && text.is_empty() {
            self.reading.note("bad_key", here, "this key is empty")?;
        } else {
            is_refused = false;
        }
        if let Some(Open { body: Body::Map { map, key }, .. }) = self.open.last_mut() {
            if !is_refused && map.contains_key(&text) {
                is_refused = true;
                self.reading.duplicate(&text, here)?;
            }
            *key = Some(Key { text, at: here, is_refused });
        }
        Ok(())
    }

    fn begin(&mut self, body: Body, anchor: usize, here: At) -> Result<(), Stopped> {
        if self.wants_key() {
            return self.reading.stop("bad_key", here, "a key is text, not a list or a mapping");
        }
        if self.open.len() >= DEPTH_MAX {
            return self.reading.too_deep(here);
        }
        self.reading.count(1, here)?;
        self.open.push(Open { at: here, anchor, body, children: Vec::new() });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stopped> {
        let Some(Open { at, anchor, body, children }) = self.open.pop() else { return Ok(()) };
        let value = match body {
            Body::List(list) => Value::Array(list),
            Body::Map { map, .. } => Value::Object(map),
        };
        self.place(value, Spot { at, key_at: None, children }, anchor, at)
    }

    fn alias(&mut self, id: usize, here: At) -> Result<(), Stopped> {
        if self.wants_key() {
            return self.reading.stop("bad_key", here, "a key is text, not an alias");
        }
        self.aliases += 1;
        if self.aliases > ALIASES_MAX {
            return self.reading.stop("yaml_limit", here, format!("more than {ALIASES_MAX} aliases"));
        }
        let Some(anchored) = self.anchors.get(&id) else {
            return self.reading.stop("yaml_limit", here, "this alias stands inside what it names");
        };
        self.alias_bytes += anchored.bytes;
        if self.alias_bytes > DOCUMENT_BYTES_MAX {
            let detail = format!("aliases written out need more than {DOCUMENT_BYTES_MAX} bytes");
            return self.reading.stop("yaml_limit", here, detail);
        }
        let (values, depth) = (anchored.values, depth(&anchored.value));
        if self.reading.values + values > super::VALUES_MAX {
            let detail = format!("aliases written out make more than {} values", super::VALUES_MAX);
            return self.reading.stop("yaml_limit", here, detail);
        }
        if self.open.len() + depth > DEPTH_MAX {
            return self.reading.too_deep(here);
        }
        self.reading.count(values, here)?;
        let value = anchored.value.clone();
        let spot = Spot { at: here, ..anchored.spot.clone() };
        self.place(value, spot, 0, here)
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, value: Value, spot: Spot, anchor: usize, here: At) -> Result<(), Stopped> {
        if anchor != 0 {
            if self.anchors.len() >= ANCHORS_MAX {
                return self.reading.stop("yaml_limit", here, format!("more than {ANCHORS_MAX} anchors"));
            }
            let (values, bytes) = size(&value);
            let anchored = Anchored { value: value.clone(), spot: spot.clone(), values, bytes };
            // Nested anchors keep copies of one another: they count like aliases.
            self.reading.count(values, here)?;
            self.anchors.insert(anchor, anchored);
        }
        match self.open.last_mut() {
            None => self.root = Some((value, spot)),
            Some(Open { body: Body::List(list), children, .. }) => {
                list.push(value);
                children.push(spot);
            }
            Some(Open { body: Body::Map { map, key }, children, .. }) => {
                if let Some(key) = key.take().filter(|key| !key.is_refused) {
                    map.insert(key.text, value);
                    children.push(Spot { key_at: Some(key.at), ..spot });
                }
            }
        }
        Ok(())
    }
}

fn at(marker: &Marker) -> At {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    At { line: number(marker.line()).max(1), column: number(marker.col()).saturating_add(1) }
}

/// How many values and how many bytes of text a value holds. Recursion is bounded by [`DEPTH_MAX`].
fn size(value: &Value) -> (usize, usize) {
    let sum = |(values, bytes): (usize, usize), (v, b): (usize, usize)| (values + v, bytes + b);
    match value {
        Value::String(text) => (1, text.len()),
        Value::Array(list) => list.iter().map(size).fold((1, 0), sum),
        Value::Object(map) => map
            .iter()
            .map(|(key, inner)| {
                let (values, bytes) = size(inner);
                (values, bytes + key.len())
            })
            .fold((1, 0), sum),
        _ => (1, 8),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The value of a scalar without quotes, by the core schema of YAML 1.2, without its traps.
fn resolve(text: &str) -> Result<Value, (&'static str, String)> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" => return Ok(Value::Bool(true)),
        "false" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if is_old_boolean(text) {
        let detail = format!(
            "some tools read `{text}` as a boolean and some as text; write true or false, or \"{text}\" in quotes"
        );
        return Err(("ambiguous_scalar", detail));
    }
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let out_of_range = || ("number_range", format!("`{}` {NUMBER_RANGE}", excerpt(text)));
    if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) {
        if bare.len() > 1 && bare.starts_with('0') {
            let detail = format!(
                "`{}` starts with a zero, which some tools read as octal; drop the zero or quote it",
                excerpt(text)
            );
            return Err(("ambiguous_scalar", detail));
        }
        return exact_integer(text).ok_or_else(out_of_range);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && let Ok(number) = u64::from_str_radix(digits, radix)
            && !digits.starts_with('+')
        {
            return Ok(number.into());
        }
    }
    if matches!(bare, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Err(("number_range", format!("`{text}` is not a number that JSON can hold")));
    }
    if is_float(bare) {
        let number = text.parse::<f64>().ok().and_then(Number::from_f64).ok_or_else(out_of_range)?;
        let fraction = bare.split_once('.').map_or("", |(_, fraction)| fraction);
        if fraction.len() > 1 && fraction.ends_with('0') && !bare.contains(['e', 'E']) {
            let detail = format!(
                "`{text}` without quotes is the number {number}; write \"{text}\" for text, or {number}"
            );
            return Err(("ambiguous_scalar", detail));
        }
        return Ok(Value::Number(number));
    }
    Ok(Value::String(text.to_owned()))
}

/// Words that YAML 1.1 read as booleans, and spellings that YAML 1.2 still does.
fn is_old_boolean(text: &str) -> bool {
    text.len() <= 5
        && matches!(text.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off" | "true" | "false")
}

/// `digits . digits e±digits`, where either side of the dot may be missing but not both.
fn is_float(bare: &str) -> bool {
    let (mantissa, exponent) = match bare.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (bare, None),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_exponent = exponent.map(|digits| digits.strip_prefix(['+', '-']).unwrap_or(digits));
    is_digits(whole)
        && is_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && has_exponent.is_none_or(|digits| !digits.is_empty() && is_digits(digits))
}
