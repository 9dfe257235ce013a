//! What an `http` node sends, first and after each redirect.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use windlass_model::StepError;

use crate::nodes::shown;

/// Headers of one request, names and values together.
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// No longer name is known to anybody, and the call fails; with a port.
const HOST_CHARS_MAX: usize = 253 + 6;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const METHODS: &[&str] = &["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS"];

/// How a message ends and where it goes is the client's to say: two opinions are how requests get smuggled.
const CLIENTS_OWN: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What may follow a redirect to another origin. Any other header may be somebody's credential.
const HARMLESS: &[&str] =
    &["accept", "accept-language", "content-language", "content-type", "idempotency-key", "user-agent"];

/// The node's `with`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct With {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    query: Map<String, Value>,
    json: Option<Value>,
    body: Option<Body>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Text(String),
    /// As the node gives a body that is no text.
    Binary {
        base64: String,
    },
}

#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<bytes::Bytes>,
}

impl Request {
    pub(super) fn new(with: With, idempotency_key: &str) -> Result<Self, StepError> {
        let method = with.method.to_ascii_uppercase();
        if !METHODS.contains(&method.as_str()) {
            return Err(invalid(format!("`{}` is none of {}", shown(&method), METHODS.join(", "))));
        }
        let mut headers = header_map(&with.headers)?;
        if !headers.contains_key(IDEMPOTENCY_KEY) {
            let key = HeaderValue::from_str(idempotency_key).map_err(|error| invalid(error.to_string()))?;
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let (body, media_type) = match (with.json, with.body) {
            (None, None) => (None, None),
            (Some(value), None) => (Some(value.to_string().into_bytes()), Some("application/json")),
            (None, Some(Body::Text(text))) => (Some(text.into_bytes()), Some("text/plain; charset=utf-8")),
            (None, Some(Body::Binary { base64 })) => {
                let content =
                    STANDARD.decode(base64).map_err(|error| invalid(format!("`body.base64`: {error}")))?;
                (Some(content), Some("application/octet-stream"))
            }
            (Some(_), Some(_)) => return Err(invalid("`json` and `body` exclude each other")),
        };
        if let (Some(media_type), false) = (media_type, headers.contains_key(header::CONTENT_TYPE)) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        let method = method.parse().map_err(|_| invalid("no method"))?;
        Ok(Self { method, url: target(&with.url, &with.query)?, headers, body: body.map(Into::into) })
    }

    /// The next request, when the answer says that there is one.
    pub(super) fn redirected(&self, response: &Response) -> Result<Option<Self>, StepError> {
        let status = response.status();
        let keeps_method = match status {
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method != Method::POST,
            StatusCode::SEE_OTHER => matches!(self.method, Method::GET | Method::HEAD),
            _ => return Ok(None),
        };
        let Some(location) = response.headers().get(header::LOCATION) else { return Ok(None) };
        let refused = |why: &str| StepError::new("http.redirect", format!("{self} redirected to {why}"));
        let location = location.to_str().map_err(|_| refused("something that is no URL"))?;
        let url = self.url.join(location).map_err(|_| refused("something that is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(&format!("the scheme `{}`", shown(url.scheme()))));
        }
        let mut next = self.clone();
        if url.origin() != self.url.origin() {
            let names: Vec<_> =
                next.headers.keys().filter(|name| !HARMLESS.contains(&name.as_str())).cloned().collect();
            for name in names {
                next.headers.remove(name);
            }
        }
        if !keeps_method {
            next.method = Method::GET;
            next.body = None;
            next.headers.remove(header::CONTENT_TYPE);
        }
        next.url = url;
        Ok(Some(next))
    }
}

/// Method and origin. Paths and queries may hold keys, so that no error shows them.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, shown(&self.url.origin().ascii_serialization()))
    }
}

/// Whether a request of this definition may be sent again when nobody knows what became of it.
pub(super) fn is_repeatable(params: &Value) -> bool {
    let method = params.pointer("/with/method").map_or(Some("GET"), Value::as_str);
    method.is_some_and(|method| matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS"))
}

/// Whom a request with these keys goes to first: in small letters, with the port unless it is that of the scheme.
pub(super) fn host(params: &Value) -> Option<String> {
    let url = parse(params.pointer("/with/url")?.as_str()?).ok()?;
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"))?;
    // Both name the same machine.
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    (host.len() <= HOST_CHARS_MAX).then_some(host)
}

pub(super) fn schema() -> Value {
    let scalars = |description| {
        json!({
            "description": description,
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean", "null"] }
        })
    };
    let mut query = scalars("Added to the URL, encoded; a list repeats its name");
    query["additionalProperties"] = json!({ "type": ["string", "number", "boolean", "null", "array"] });
    json!({
        "description": "The request",
        "type": "object",
        "properties": {
            "method": { "description": "GET when absent", "enum": METHODS },
            "url": { "description": "http or https; the host must be allowed", "type": "string", "minLength": 1 },
            "headers": scalars("By name; null leaves one out"),
            "query": query,
            "json": { "description": "The body, sent as JSON" },
            "body": {
                "description": "The body: text, or {base64: …}",
                "anyOf": [
                    { "type": "string" },
                    { "type": "object", "properties": { "base64": { "type": "string" } },
                      "required": ["base64"], "additionalProperties": false }
                ]
            }
        },
        "required": ["url"],
        "not": { "required": ["json", "body"] },
        "additionalProperties": false
    })
}

fn target(url: &str, query: &Map<String, Value>) -> Result<Url, StepError> {
    let mut url = parse(url)?;
    for (name, value) in query {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values.iter().filter(|value| !value.is_null()) {
            url.query_pairs_mut().append_pair(name, &scalar(name, value)?);
        }
    }
    Ok(url)
}

fn parse(url: &str) -> Result<Url, StepError> {
    // The parser would drop them in silence.
    if url.chars().any(char::is_control) {
        return Err(invalid("`url` holds control characters"));
    }
    Url::parse(url).map_err(|error| invalid(format!("`url`: {error}")))
}

fn header_map(headers: &Map<String, Value>) -> Result<HeaderMap, StepError> {
    let mut map = HeaderMap::new();
    let mut bytes = 0;
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_null()) {
        let text = scalar(name, value)?;
        bytes += name.len() + text.len();
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("`{}` is no header name", shown(name).escape_debug())))?;
        if CLIENTS_OWN.contains(&name.as_str()) {
            return Err(invalid(format!("the header `{name}` is not a definition's to set")));
        }
        let value = text.is_ascii().then(|| HeaderValue::from_str(&text).ok()).flatten();
        let value = value.ok_or_else(|| invalid(format!("the header `{name}` must be one line of ASCII")))?;
        map.append(name, value);
    }
    if bytes > HEADERS_BYTES_MAX {
        return Err(invalid(format!("the headers have {bytes} bytes; {HEADERS_BYTES_MAX} are allowed")));
    }
    Ok(map)
}

fn scalar(name: &str, value: &Value) -> Result<String, StepError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(invalid(format!("`{}` must be text, a number or a boolean", shown(name).escape_debug()))),
    }
}

fn invalid(sentence: impl Into<String>) -> StepError {
    StepError::new("http.invalid_request", sentence)
}

fn get() -> String {
    "GET".to_owned()
}
