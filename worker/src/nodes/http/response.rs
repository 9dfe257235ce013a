//! What an `http` node gives: a bounded answer as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value, json};
use windlass_model::StepError;

use super::client::failure;
use super::request::Request;

/// A longer body would not fit into an output. Counted after decompression.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an error keeps of the body, for people to look at.
const PREVIEW_BYTES_MAX: usize = 2 * 1024;

pub(super) async fn read(mut response: Response, request: &Request) -> Result<Value, StepError> {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        // What can be read of it: the status alone is answer enough.
        let (preview, _) = body(&mut response, request, PREVIEW_BYTES_MAX).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&preview);
        let details = json!({ "status": status.as_u16(), "body": text.trim_end_matches('\u{fffd}') });
        let error =
            StepError::new(format!("http.{}", status.as_u16()), format!("{request} answered {status}"));
        return Err(error.with_details(details));
    }
    let (content, is_whole) = body(&mut response, request, BODY_BYTES_MAX).await?;
    if !is_whole {
        let sentence = format!("{request} answered more than {} MiB", BODY_BYTES_MAX >> 20);
        return Err(StepError::new("limit.response", sentence));
    }
    let body = value(content, response.headers());
    Ok(json!({ "status": status.as_u16(), "headers": headers(response.headers()), "body": body }))
}

/// The first `bytes_max` bytes, and whether that was all.
async fn body(
    response: &mut Response,
    request: &Request,
    bytes_max: usize,
) -> Result<(Vec<u8>, bool), StepError> {
    let mut content = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error, request))? {
        let room = bytes_max - content.len();
        if chunk.len() > room {
            content.extend_from_slice(&chunk[..room]);
            return Ok((content, false));
        }
        content.extend_from_slice(&chunk);
    }
    Ok((content, true))
}

/// JSON where the answer says so and is; otherwise text; otherwise base64.
fn value(content: Vec<u8>, headers: &HeaderMap) -> Value {
    if is_json(headers) {
        let text = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&content);
        if text.iter().all(u8::is_ascii_whitespace) {
            return Value::Null;
        }
        // The deed is done: an answer that lies about its type is no reason to do it again.
        if let Ok(value) = serde_json::from_slice(text) {
            return value;
        }
    }
    match String::from_utf8(content) {
        Ok(text) => Value::String(text),
        Err(error) => json!({ "base64": STANDARD.encode(error.as_bytes()) }),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(media_type)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(essence.as_str(), "application/json" | "text/json") || essence.ends_with("+json")
}

/// By name in lower case; what comes more than once is joined by commas.
fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let joined = |name| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        values.collect::<Vec<_>>().join(", ")
    };
    headers.keys().map(|name| (name.as_str().to_owned(), Value::String(joined(name)))).collect()
}
