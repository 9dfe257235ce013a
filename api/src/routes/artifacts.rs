//! Files that steps left behind.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use windlass_model::event::Artifact;
use windlass_model::{Digest, StepKey};

use crate::actor::Caller;
use crate::app::Shared;
use crate::openapi::NotFound;
use crate::problem::{Problem, Result};
use crate::query::{At, Query};

/// Whatever a file claims to be, the browser must neither show nor run it as ours.
const DOWNLOAD_POLICY: &str = "default-src 'none'; sandbox";

#[derive(Serialize, ToSchema)]
pub(crate) struct Artifacts {
    items: Vec<ArtifactEntry>,
}

/// A file, and where to get it.
#[derive(Serialize, ToSchema)]
struct ArtifactEntry {
    node: String,
    /// Index of the item inside a fan-out.
    #[schema(required)]
    item: Option<u32>,
    name: String,
    media_type: String,
    /// BLAKE3 of the content.
    #[schema(value_type = String)]
    digest: Digest,
    size_bytes: u64,
    /// The beginning of the content, as text.
    preview: String,
    /// Path to download it; null when a later file of the same step and name hides it.
    #[schema(required)]
    path: Option<String>,
}

/// List the files of a run
#[utoipa::path(get, path = "/v1/workflow-runs/{id}/artifacts", operation_id = "list_artifacts", tag = "artifacts",
    params(("id" = Uuid, Path)),
    responses((status = 200, description = "All the files.", body = Artifacts), NotFound))]
pub(crate) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    query: Query,
) -> Result<Response> {
    query.finish()?;
    let run_id = at.run_id()?;
    let run = app.fold_run(caller.tenant, run_id).await?;
    let mut items = Vec::new();
    for (key, step) in run.state.all_steps() {
        let node = run.plan.node(key);
        let query = key.item.map(|item| format!("?item={item}")).unwrap_or_default();
        for (index, artifact) in step.artifacts.iter().enumerate() {
            let is_hidden = step.artifacts[index + 1..].iter().any(|later| later.name == artifact.name);
            let name = percent_encode(&artifact.name);
            let path = format!("/v1/workflow-runs/{run_id}/artifacts/{}/{name}{query}", node.id);
            items.push(ArtifactEntry {
                node: node.id.clone(),
                item: key.item,
                name: artifact.name.clone(),
                media_type: artifact.media_type.clone(),
                digest: artifact.blob.digest.clone(),
                size_bytes: artifact.blob.size_bytes,
                preview: artifact.blob.preview.clone(),
                path: (!is_hidden).then_some(path),
            });
        }
    }
    Ok(Json(Artifacts { items }).into_response())
}

/// Download a file
///
/// Always as an attachment. Of several files of the same step and name, the last one.
#[utoipa::path(get, path = "/v1/workflow-runs/{id}/artifacts/{node}/{name}", operation_id = "get_artifact", tag = "artifacts",
    params(
        ("id" = Uuid, Path),
        ("node" = String, Path, pattern = "^[A-Za-z][A-Za-z0-9_.-]{0,95}$"),
        ("name" = String, Path, min_length = 1, max_length = 255),
        ("item" = Option<u32>, Query, description = "Index of the item inside a fan-out."),
    ),
    responses((status = 200, description = "The content, with the media type that the step gave.", content_type = "*/*",
        headers(("Content-Disposition" = String), ("ETag" = String))), NotFound))]
pub(crate) async fn download(
    State(app): State<Shared>,
    caller: Caller,
    at: At,
    mut query: Query,
) -> Result<Response> {
    let item = query.read("item", |text| text.parse::<u32>().map_err(|_| "must be an index".to_owned()))?;
    query.finish()?;
    let run = app.fold_run(caller.tenant, at.run_id()?).await?;
    let not_found = || Problem::not_found("artifact");
    let node = run.plan.find(at.get("node")).ok_or_else(not_found)?;
    let artifacts = &run.state.step(StepKey { node: node.index, item }).artifacts;
    let artifact = artifacts.iter().rev().find(|it| it.name == at.get("name")).ok_or_else(not_found)?;
    let content = app.get_blob(caller.tenant, &artifact.blob.digest).await?;
    Ok((headers_of(artifact), content).into_response())
}

fn headers_of(artifact: &Artifact) -> [(header::HeaderName, HeaderValue); 4] {
    let octets = HeaderValue::from_static("application/octet-stream");
    // What a step claims ends up in a header only when it looks like a media type.
    let plain = |text: &str| {
        !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
    };
    let media_type = Some(artifact.media_type.as_str()).filter(|text| plain(text) && text.contains('/'));
    let media_type = media_type.and_then(|text| HeaderValue::from_str(text).ok()).unwrap_or(octets);
    let tag = format!("\"{}\"", artifact.blob.digest);
    [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_DISPOSITION, disposition(&artifact.name)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOWNLOAD_POLICY)),
        (header::ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))),
    ]
}

/// `attachment` with the name twice: in plain ASCII, and encoded for those who understand RFC 8187.
fn disposition(name: &str) -> HeaderValue {
    let ascii: String = name
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() || "._-".contains(it) { it } else { '_' })
        .collect();
    let ascii = ascii.trim_start_matches('.');
    let text = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", percent_encode(name));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("attachment"))
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        for (name, expected) in [
            ("notes.md", "attachment; filename=\"notes.md\"; filename*=UTF-8''notes.md"),
            ("a\"b\r\nX: y", "attachment; filename=\"a_b__X__y\"; filename*=UTF-8''a%22b%0D%0AX%3A%20y"),
            (
                "../../etc/passwd",
                "attachment; filename=\"_.._etc_passwd\"; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd",
            ),
            ("ü\u{202e}gpj", "attachment; filename=\"__gpj\"; filename*=UTF-8''%C3%BC%E2%80%AEgpj"),
        ] {
            assert_eq!(disposition(name), expected);
        }
    }
}
