//! Reads JSON text strictly, noting where each value stands.

use serde_json::{Map, Value};

use super::positions::{At, Spot};
use super::{DEPTH_MAX, NUMBER_RANGE, Problem, Reading, Stopped, exact_integer};

pub(super) fn read(text: &str) -> Result<(Value, Spot), Vec<Problem>> {
    let mut reader = Reader { text, offset: 0, at: At { line: 1, column: 1 }, reading: Reading::new() };
    let read = reader.document();
    reader.reading.finish(read)
}

struct Reader<'a> {
    text: &'a str,
    offset: usize,
    at: At,
    reading: Reading,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<(Value, Spot), Stopped> {
        if self.text.starts_with('\u{feff}') {
            return self.syntax("a JSON document starts without a byte order mark");
        }
        self.skip_space();
        let read = self.value(1)?;
        self.skip_space();
        match self.peek() {
            None => Ok(read),
            Some(found) => self.syntax(format!("unexpected {} after the document's end", shown(found))),
        }
    }

    fn value(&mut self, depth: usize) -> Result<(Value, Spot), Stopped> {
        let at = self.at;
        self.reading.count(1, at)?;
        match self.peek() {
            Some(b'{' | b'[') if depth > DEPTH_MAX => self.reading.too_deep(at),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok((Value::String(self.string()?), Spot::leaf(at))),
            Some(b'-' | b'0'..=b'9') => Ok((self.number()?, Spot::leaf(at))),
            Some(b'a'..=b'z' | b'A'..=b'Z') => Ok((self.word()?, Spot::leaf(at))),
            Some(found) => self.syntax(format!("expected a value, not {}", shown(found))),
            None => self.syntax("the document ends where a value should stand"),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(Value, Spot), Stopped> {
        let (at, mut map, mut children) = (self.at, Map::new(), Vec::new());
        self.step();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.step();
            return Ok((Value::Object(map), Spot::leaf(at)));
        }
        loop {
            let key_at = self.at;
            if self.peek() != Some(b'"') {
                return self.syntax("expected a key in double quotes");
            }
            let key = self.string()?;
            self.skip_space();
            self.expect(b':', "a colon after the key")?;
            self.skip_space();
            let (value, spot) = self.value(depth + 1)?;
            if map.contains_key(&key) {
                self.reading.duplicate(&key, key_at)?;
            } else {
                map.insert(key, value);
                children.push(Spot { key_at: Some(key_at), ..spot });
            }
            if self.is_last(b'}')? {
                return Ok((Value::Object(map), Spot { at, key_at: None, children }));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(Value, Spot), Stopped> {
        let (at, mut list, mut children) = (self.at, Vec::new(), Vec::new());
        self.step();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.step();
            return Ok((Value::Array(list), Spot::leaf(at)));
        }
        loop {
            let (value, spot) = self.value(depth + 1)?;
            list.push(value);
            children.push(spot);
            if self.is_last(b']')? {
                return Ok((Value::Array(list), Spot { at, key_at: None, children }));
            }
        }
    }

    /// After an element: a comma and another one, or the end.
    fn is_last(&mut self, end: u8) -> Result<bool, Stopped> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.step();
                self.skip_space();
                Ok(false)
            }
            Some(found) if found == end => {
                self.step();
                Ok(true)
            }
            Some(found) => {
                self.syntax(format!("expected a comma or `{}`, not {}", char::from(end), shown(found)))
            }
            None => self.syntax(format!("the document ends before `{}`", char::from(end))),
        }
    }

    fn string(&mut self) -> Result<String, Stopped> {
        let at = self.at;
        let rest = &self.text[self.offset..];
        let mut is_escaped = false;
        let end = rest.bytes().skip(1).position(|byte| match byte {
            b'"' if !is_escaped => true,
            _ => {
                is_escaped = byte == b'\\' && !is_escaped;
                false
            }
        });
        let Some(end) = end else {
            return self.syntax("this text has no closing quote");
        };
        let token = &rest[..end + 2];
        // A token is small beside the document, so its own reader may decide about its escapes.
        match serde_json::from_str::<String>(token) {
            Ok(text) => {
                self.reading.check_text(&text, at)?;
                self.advance(token);
                Ok(text)
            }
            Err(error) => {
                let reason = error.to_string();
                let reason = match reason.split(" at line").next().unwrap_or_default() {
                    "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
                        "a \\u escape stands for half a character only"
                    }
                    other => other,
                };
                self.syntax(format!("this text is not valid: {reason}"))
            }
        }
    }

    fn number(&mut self) -> Result<Value, Stopped> {
        let (at, token) = (self.at, self.token());
        let is_integer = token.bytes().all(|byte| matches!(byte, b'-' | b'0'..=b'9'));
        let number = serde_json::from_str::<Value>(token);
        let value = match (number, is_integer) {
            (Ok(_), true) => exact_integer(token),
            (Ok(value), false) => Some(value),
            (Err(error), _) if error.to_string().contains("out of range") => None,
            (Err(_), _) => {
                return self.syntax(format!("`{}` is not a number", crate::workflow::excerpt(token)));
            }
        };
        self.advance(token);
        if value.is_none() {
            self.reading.note(
                "number_range",
                at,
                format!("`{}` {NUMBER_RANGE}", crate::workflow::excerpt(token)),
            )?;
        }
        Ok(value.unwrap_or_default())
    }

    fn word(&mut self) -> Result<Value, Stopped> {
        let token = self.token();
        let value = match token {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return self.syntax(format!("`{}` is not JSON", crate::workflow::excerpt(token))),
        };
        self.advance(token);
        Ok(value)
    }

    /// The run of characters that a number or a word may consist of.
    fn token(&self) -> &'a str {
        let rest = &self.text[self.offset..];
        let end = rest
            .bytes()
            .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'_') && !byte.is_ascii_alphanumeric());
        &rest[..end.unwrap_or(rest.len())]
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.step();
        }
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<(), Stopped> {
        if self.peek() == Some(byte) {
            self.step();
            return Ok(());
        }
        self.syntax(format!("expected {what}"))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    /// Past one ASCII character.
    fn step(&mut self) {
        if self.peek() == Some(b'\n') {
            self.at = At { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        self.offset += 1;
    }

    /// Past a token, which never holds a line break.
    fn advance(&mut self, token: &str) {
        self.offset += token.len();
        self.at.column += u32::try_from(token.chars().count()).unwrap_or(u32::MAX);
    }

    fn syntax<T>(&mut self, detail: impl Into<String>) -> Result<T, Stopped> {
        let at = self.at;
        self.reading.stop("syntax", at, detail)
    }
}

fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("`{}`", char::from(byte))
    } else {
        "a character that JSON does not know here".into()
    }
}
