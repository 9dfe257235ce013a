//! Publishes several definition files at once; each of them as a whole, or not at all.

use axum::Json;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;
use windlass_model::Digest;
use windlass_model::workflow::Format;
use windlass_store::WriteError;

use super::definition::read_text;
use super::publish::{Published, contended, status, upsert};
use crate::app::Shared;
use crate::body::{self, MediaType};
use crate::idempotency::{Deed, REPLAYED};
use crate::problem::{Code, Fault, Problem, Result};
use crate::query::Query;

pub(crate) const FILES_MAX: usize = 100;
/// What a report repeats of a file's name.
const FILE_NAME_CHARS_MAX: usize = 200;

/// Files to publish.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the parts of an upload")]
pub(crate) struct UploadBody {
    /// YAML, or JSON when the name ends in `.json`. The names of the parts don't matter.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1, max_items = 100)]
    file: Vec<String>,
}

/// What became of an upload.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Upload {
    /// How many files were refused.
    failed: usize,
    files: Vec<UploadedFile>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadedFile {
    file: String,
    #[serde(flatten)]
    #[schema(inline)]
    fate: Fate,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
enum Fate {
    /// It is published; the same as before when nothing changed.
    Published {
        workflow: Published,
    },
    Failed {
        errors: Vec<Fault>,
    },
}

/// Publish definition files
///
/// Each file is published as a whole or not at all, whatever becomes of the others; the report says which.
/// With an `Idempotency-Key`, a repeated upload goes on where the first one ended.
#[utoipa::path(post, path = "/v1/workflows/upload", operation_id = "upload_workflows", tag = "workflows",
    request_body(content = UploadBody, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Every file is published.", body = Upload),
        (status = 207, description = "Some files were refused.", body = Upload),
    ))]
pub(crate) async fn upload(State(app): State<Shared>, query: Query, deed: Deed) -> Result<Response> {
    query.finish()?;
    let files = read_files(&deed).await?;
    let sent = Sent { deed: &deed, digest: digest_of(&files) };
    let mut before = Vec::with_capacity(files.len());
    for index in 0..files.len() {
        before.push(sent.kept(&app, index).await?);
    }
    let mut upload = Upload { failed: 0, files: Vec::with_capacity(files.len()) };
    let mut replayed = 0;
    for ((index, (file, content)), kept) in files.into_iter().enumerate().zip(before) {
        let fate = match kept {
            Some(kept) => Ok((kept, true)),
            None => sent.publish_file(&app, index, &file, content).await,
        };
        let fate = match fate {
            Ok((workflow, was_there)) => {
                replayed += usize::from(was_there);
                Fate::Published { workflow }
            }
            Err(problem) if is_of_one_file(&problem) => {
                upload.failed += 1;
                Fate::Failed { errors: faults_of(&problem) }
            }
            Err(problem) => return Err(problem),
        };
        upload.files.push(UploadedFile { file, fate });
    }
    if upload.failed == upload.files.len() {
        return Err(refuse_all(upload));
    }
    let status = if upload.failed == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    let all_replayed = replayed == upload.files.len();
    let mut response = (status, Json(upload)).into_response();
    if all_replayed {
        response.headers_mut().insert(REPLAYED, header::HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn read_files(deed: &Deed) -> Result<Vec<(String, Bytes)>> {
    if deed.media_type != Some(MediaType::Multipart) {
        return Err(body::refuse_media_type("multipart/form-data"));
    }
    let mut request = Request::new(axum::body::Body::from(deed.bytes.clone()));
    if let Some(kind) = &deed.content_type {
        request.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    let broken = |error: &dyn std::fmt::Display| {
        Problem::new(Code::MalformedRequest, format!("The multipart body is broken: {error}."))
    };
    // The intake has bounded the body before; the reader's own, smaller limit does not fit.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut parts =
        Multipart::from_request(request, &()).await.map_err(|error| broken(&error.body_text()))?;
    let mut files = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(|error| broken(&error.body_text()))? {
        let name = part.file_name().or(part.name()).unwrap_or("file");
        let name: String = name.chars().filter(|it| !it.is_control()).take(FILE_NAME_CHARS_MAX).collect();
        let content = part.bytes().await.map_err(|error| broken(&error.body_text()))?;
        if files.len() == FILES_MAX {
            return Err(Problem::body("", format!("more than {FILES_MAX} files")));
        }
        files.push((name, content));
    }
    if files.is_empty() { Err(Problem::body("", "at least one file is required")) } else { Ok(files) }
}

/// Of names and contents: whoever sends the same files again may part them by another boundary.
fn digest_of(files: &[(String, Bytes)]) -> Digest {
    let parts = files.iter().flat_map(|(file, content)| [file.as_bytes(), content]);
    let framed = parts.flat_map(|part| [&part.len().to_le_bytes()[..], part].concat());
    Digest::of(&framed.collect::<Vec<u8>>())
}

/// Whether the next file may fare better.
fn is_of_one_file(problem: &Problem) -> bool {
    problem.code().status() < 500 && problem.code() != Code::IdempotencyKeyReused
}

/// An upload, and how to know it again.
struct Sent<'a> {
    deed: &'a Deed,
    digest: Digest,
}

impl Sent<'_> {
    /// True when it was published meanwhile, by another request with the same key.
    async fn publish_file(
        &self,
        app: &Shared,
        index: usize,
        file: &str,
        content: Bytes,
    ) -> Result<(Published, bool)> {
        let Self { deed, digest } = self;
        let format = if file.ends_with(".json") { Format::Json } else { Format::Yaml };
        let compiled = read_text(app, deed, body::read_text(&content)?.to_owned(), format).await?;
        let remember = |published: &Published| {
            deed.remember_as(deed.part(index), digest.clone(), status(published), published, None)
        };
        match upsert(app, deed, &compiled, remember).await {
            Ok(published) => Ok((published, false)),
            Err(WriteError::KeyTaken) => Ok((self.kept(app, index).await?.ok_or_else(contended)?, true)),
            Err(WriteError::Moved) => Err(contended()),
            Err(other) => Err(other.into()),
        }
    }

    /// What became of a file of this very request, if it was published before.
    async fn kept(&self, app: &Shared, index: usize) -> Result<Option<Published>> {
        let reply = self.deed.reply_of(app, self.deed.part(index), &self.digest).await?;
        let kept = reply.map(|reply| serde_json::from_value(reply.body)).transpose();
        kept.map_err(|error| windlass_store::StoreError::Damaged(error.to_string()).into())
    }
}

fn faults_of(problem: &Problem) -> Vec<Fault> {
    match problem.faults() {
        [] => vec![Fault { detail: problem.code().title().to_owned(), ..Fault::default() }],
        faults => faults.to_vec(),
    }
}

fn refuse_all(upload: Upload) -> Problem {
    let detail = match upload.files.len() {
        1 => "The file was refused.".to_owned(),
        n => format!("All {n} files were refused."),
    };
    let mut problem = Problem::new(Code::InvalidWorkflow, detail);
    for UploadedFile { file, fate } in upload.files {
        let Fate::Failed { errors } = fate else { continue };
        for fault in errors {
            problem = problem.with(Fault { parameter: Some(file.clone()), ..fault });
        }
    }
    problem
}
