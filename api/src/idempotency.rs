//! One request, one deed: the same `Idempotency-Key` gets the same answer, however often it is sent.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use windlass_model::Digest;
use windlass_store::{IdempotencyKey, Remember, Reply};

use crate::App;
use crate::actor::Caller;
use crate::body::{self, MediaType};
use crate::problem::{Code, Problem, Result};
use crate::query::header_text;
use crate::revision::etag;

pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// A key is kept as part of a row's key.
pub(crate) const KEY_CHARS_MAX: usize = 255;
/// Who has taken what another request is refused for writes its run next; that takes a few milliseconds.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A request that does something: who asks, what for, and how to know it again.
#[derive(Debug)]
pub(crate) struct Deed {
    pub caller: Caller,
    pub media_type: Option<MediaType>,
    pub content_type: Option<HeaderValue>,
    pub bytes: Bytes,
    key: Option<IdempotencyKey>,
    /// Of method, path and body.
    digest: Digest,
}

impl<S: Send + Sync> FromRequest<S> for Deed {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let caller = Caller::of(&parts)?;
        let route = format!("{} {}", parts.method, parts.uri.path());
        let key = read_key(header_text(&parts.headers, &KEY, "Idempotency-Key")?, &caller, &route)?;
        // The intake has read it already, within its limits.
        let bytes =
            axum::body::to_bytes(body, usize::MAX).await.map_err(|error| Problem::internal(&error))?;
        if !bytes.is_empty() {
            body::check_encoding(&parts.headers)?;
        }
        let media_type = MediaType::of(&parts.headers);
        // Nothing has no wrong type.
        let media_type = if bytes.is_empty() { media_type.unwrap_or_default() } else { media_type? };
        let digest = Digest::of(&[route.as_bytes(), b"\n", &bytes].concat());
        let content_type = parts.headers.get(header::CONTENT_TYPE).cloned();
        Ok(Self { caller, media_type, content_type, bytes, key, digest })
    }
}

fn read_key(text: Option<&str>, caller: &Caller, route: &str) -> Result<Option<IdempotencyKey>> {
    let Some(key) = text else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_CHARS_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let bounds = format!("1 to {KEY_CHARS_MAX} visible ASCII characters without spaces");
        return Err(Problem::header("Idempotency-Key", bounds));
    }
    let principal = caller.actor.to_string();
    Ok(Some(IdempotencyKey { principal, route: route.to_owned(), key: key.to_owned() }))
}

impl Deed {
    /// The body as JSON of a given shape.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        body::shape(self.json_value()?)
    }

    /// As [`Deed::json`]; no body at all stands for an empty object.
    pub(crate) fn json_or_nothing<T: DeserializeOwned>(&self) -> Result<T> {
        if self.bytes.is_empty() { body::shape(Value::Object(Default::default())) } else { self.json() }
    }

    /// The body as any JSON.
    pub(crate) fn json_value(&self) -> Result<Value> {
        match self.media_type {
            Some(MediaType::Json) => body::read_json(&self.bytes),
            None if self.bytes.is_empty() => body::read_json(&self.bytes),
            _ => Err(body::refuse_media_type("application/json")),
        }
    }

    /// What was answered to this key before. Call it before doing anything.
    pub(crate) async fn answered_before(&self, app: &App) -> Result<Option<Response>> {
        let reply = self.reply_of(app, self.key.clone(), &self.digest).await?;
        reply.map(|reply| replay(&reply)).transpose()
    }

    /// A refusal, unless what is in the way was taken for this very request, sent before or just now.
    pub(crate) async fn answered_or(&self, app: &App, refusal: impl Into<Problem>) -> Result<Response> {
        if let Some(answer) = self.answered_before(app).await? {
            return Ok(answer);
        }
        if self.key.is_some() {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        self.answered_before(app).await?.ok_or_else(|| refusal.into())
    }

    /// What to keep along with the deed; nothing when the client sent no key.
    pub(crate) fn remember(
        &self,
        status: StatusCode,
        body: &impl Serialize,
        location: Option<&str>,
    ) -> Option<Remember> {
        self.remember_as(self.key.clone(), self.digest.clone(), status, body, location)
    }

    /// The key of one part of a deed that is done part by part.
    pub(crate) fn part(&self, part: impl std::fmt::Display) -> Option<IdempotencyKey> {
        let key = self.key.clone()?;
        Some(IdempotencyKey { route: format!("{}#{part}", key.route), ..key })
    }

    /// Of method, path and body.
    pub(crate) fn digest(&self) -> Digest {
        self.digest.clone()
    }

    pub(crate) fn remember_as(
        &self,
        key: Option<IdempotencyKey>,
        request: Digest,
        status: StatusCode,
        body: &impl Serialize,
        location: Option<&str>,
    ) -> Option<Remember> {
        let key = key?;
        let body = serde_json::to_value(body).expect("replies are plain data");
        let reply = Reply { request, status: status.as_u16(), body, location: location.map(str::to_owned) };
        Some(Remember { key, reply })
    }

    /// The reply kept under a key, if it belongs to this very request.
    pub(crate) async fn reply_of(
        &self,
        app: &App,
        key: Option<IdempotencyKey>,
        request: &Digest,
    ) -> Result<Option<Reply>> {
        let Some(key) = key else { return Ok(None) };
        match app.store.find_reply(self.caller.tenant, &key).await? {
            Some(reply) if reply.request != *request => Err(Problem::new(
                Code::IdempotencyKeyReused,
                "This Idempotency-Key was used for a request with another body.",
            )),
            reply => Ok(reply),
        }
    }
}

fn replay(reply: &Reply) -> Result<Response> {
    let status = StatusCode::from_u16(reply.status).map_err(|error| Problem::internal(&error))?;
    let mut response = (status, axum::Json(&reply.body)).into_response();
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    // Whatever has a revision had it as its ETag.
    if let Some(revision) = reply.body["revision"].as_u64().and_then(|it| u32::try_from(it).ok()) {
        headers.extend([etag(revision)]);
    }
    if let Some(location) = &reply.location {
        let location = HeaderValue::from_str(location).map_err(|error| Problem::internal(&error))?;
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
}
