//! Reads what stands in the address: path segments and query parameters, each checked, none ignored.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use uuid::Uuid;
use windlass_model::RunId;

use crate::problem::{Code, Problem, Result};

/// Items on a page unless the client says otherwise.
pub(crate) const PAGE_DEFAULT: u32 = 50;
/// Items on a page at most: a page is read and sent as a whole.
pub(crate) const PAGE_MAX: u32 = 200;
/// Values of one repeatable parameter, such as `label`.
pub(crate) const REPEATS_MAX: usize = 64;
/// Characters of a search text.
pub(crate) const SEARCH_CHARS_MAX: usize = 200;

/// The query parameters of a request. Take what the route knows, then [`Query::finish`].
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    fn parse(text: &str) -> Result<Self> {
        // The decoder would put U+FFFD where the bytes are no UTF-8; that is a character like any other.
        if percent_decode_str(text).decode_utf8().is_err() {
            return Err(Problem::new(Code::MalformedRequest, "The query is not valid UTF-8."));
        }
        Self::of(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// What stands elsewhere but is read like parameters.
    pub(crate) fn of(pairs: Vec<(String, String)>) -> Result<Self> {
        for (name, value) in &pairs {
            if value.chars().any(char::is_control) {
                return Err(Problem::parameter(name, "control characters are not allowed"));
            }
        }
        Ok(Self(pairs))
    }

    /// Takes a parameter that may be given once.
    pub(crate) fn one(&mut self, name: &'static str) -> Result<Option<String>> {
        let mut values = self.take(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Problem::parameter(name, "given more than once")),
        }
    }

    /// Takes a parameter that may be given again and again.
    pub(crate) fn many(&mut self, name: &'static str) -> Result<Vec<String>> {
        self.take_up_to(name, REPEATS_MAX)
    }

    pub(crate) fn take_up_to(&mut self, name: &'static str, times_max: usize) -> Result<Vec<String>> {
        let values = self.take(name);
        if values.len() > times_max {
            return Err(Problem::parameter(name, format!("given more than {times_max} times")));
        }
        Ok(values)
    }

    /// Takes a parameter that must make sense to `read`, which else says why not.
    pub(crate) fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>> {
        let text = self.one(name)?;
        text.map(|text| read(&text).map_err(|why| Problem::parameter(name, why))).transpose()
    }

    /// `limit`: how many items the page may have.
    pub(crate) fn limit(&mut self) -> Result<u32> {
        let limit = self.read("limit", |text| number_within(text, 1, PAGE_MAX))?;
        Ok(limit.unwrap_or(PAGE_DEFAULT))
    }

    /// `text`: what to search for, literally.
    pub(crate) fn search(&mut self) -> Result<Option<String>> {
        self.read("text", |text| match text.chars().count() {
            0 => Err("is empty".to_owned()),
            n if n > SEARCH_CHARS_MAX => Err(format!("is longer than {SEARCH_CHARS_MAX} characters")),
            _ => Ok(text.to_owned()),
        })
    }

    /// Refuses what nobody has taken: a typing mistake must not look like an empty filter.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::parameter(name, "is not a parameter of this route")),
        }
    }

    fn take(&mut self, name: &str) -> Vec<String> {
        let taken = self.0.extract_if(.., |pair| pair.0 == name);
        taken.map(|pair| pair.1).collect()
    }
}

/// A decimal number without sign, between two bounds.
pub(crate) fn number_within(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| u32::from_str(text).ok())
        .flatten()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("must be a whole number between {least} and {most}"))
}

/// The variable segments of a request's path.
#[derive(Debug)]
pub(crate) struct At(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let segments = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(Code::MalformedRequest, "The path is not valid UTF-8."))?;
        Ok(Self(segments.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

impl At {
    pub(crate) fn get(&self, name: &str) -> &str {
        let segment = self.0.iter().find(|(it, _)| it == name);
        segment.map_or("", |(_, value)| value.as_str())
    }

    /// What is no id at all does not exist, like an id that nobody has given out.
    pub(crate) fn run_id(&self) -> Result<RunId> {
        parse_run_id(self.get("id")).ok_or_else(|| Problem::not_found("run"))
    }
}

/// The hyphenated form only: one run, one address.
pub(crate) fn parse_run_id(text: &str) -> Option<RunId> {
    (text.len() == uuid::fmt::Hyphenated::LENGTH).then(|| Uuid::try_parse(text).ok()).flatten().map(RunId)
}

/// A header that may be given once, as text.
pub(crate) fn header_text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    known_as: &'static str,
) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::header(known_as, "given more than once"));
    }
    value.to_str().map(Some).map_err(|_| Problem::header(known_as, "must be visible ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_taken_once_and_the_unknown_is_refused() {
        let mut query = Query::parse("limit=7&label=a%3Ab&label=c").unwrap();
        assert_eq!(query.limit().unwrap(), 7);
        assert_eq!(query.many("label").unwrap(), ["a:b", "c"]);
        query.finish().unwrap();
        let twice = Query::parse("limit=1&limit=2").unwrap().limit().unwrap_err();
        assert_eq!(twice.code(), Code::InvalidParameter);
        assert_eq!(
            Query::parse("sort=password").unwrap().finish().unwrap_err().code(),
            Code::InvalidParameter
        );
        assert_eq!(Query::parse("text=%ef%bf%bd").unwrap().search().unwrap().as_deref(), Some("\u{fffd}"));
        assert_eq!(Query::parse("text=%ff").unwrap_err().code(), Code::MalformedRequest);
        assert_eq!(Query::parse("text=a%00").unwrap_err().code(), Code::InvalidParameter);
    }

    #[test]
    fn a_limit_is_a_plain_number_within_its_bounds() {
        for (text, good) in [
            ("1", true),
            ("200", true),
            ("0", false),
            ("-1", false),
            ("201", false),
            ("+5", false),
            ("abc", false),
            ("", false),
            ("99999999999", false),
        ] {
            assert_eq!(number_within(text, 1, PAGE_MAX).is_ok(), good, "{text}");
        }
    }
}
