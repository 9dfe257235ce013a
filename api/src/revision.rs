//! Revisions as entity tags: who changes something says what they have read.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::problem::{Code, Problem, Result};
use crate::query::header_text;

/// What `If-Match` asks for.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// `*`: whatever there is.
    Any,
    Revision(u32),
    /// An entity tag that no revision has: of another server, or weak.
    Unknown,
}

impl Wanted {
    /// The current revision, if it is the one that is wanted.
    pub(crate) fn of(self, current: u32) -> Result<u32> {
        match self {
            Self::Any => Ok(current),
            Self::Revision(revision) if revision == current => Ok(revision),
            Self::Revision(_) | Self::Unknown => Err(precondition_failed()),
        }
    }
}

pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<Wanted>> {
    let Some(text) = header_text(headers, &header::IF_MATCH, "If-Match")? else { return Ok(None) };
    if text == "*" {
        return Ok(Some(Wanted::Any));
    }
    let Some(tag) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return Err(Problem::header("If-Match", "one strong entity tag in quotes, or `*`"));
    };
    Ok(Some(tag.parse().map_or(Wanted::Unknown, Wanted::Revision)))
}

pub(crate) fn if_none_match(headers: &HeaderMap) -> Result<bool> {
    match header_text(headers, &header::IF_NONE_MATCH, "If-None-Match")? {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(_) => Err(Problem::header("If-None-Match", "only `*` makes sense here")),
    }
}

pub(crate) fn precondition_required() -> Problem {
    Problem::new(Code::PreconditionRequired, "Send `If-Match` with the `ETag` that you have read.")
}

pub(crate) fn precondition_failed() -> Problem {
    Problem::new(Code::PreconditionFailed, "It is not what the request expects; read it again.")
}

pub(crate) fn etag(revision: u32) -> (HeaderName, HeaderValue) {
    let tag = format!("\"{revision}\"");
    (header::ETAG, HeaderValue::from_str(&tag).expect("a number in quotes is a header value"))
}
