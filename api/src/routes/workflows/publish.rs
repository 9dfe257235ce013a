//! Writes a compiled definition under its name.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use windlass_model::Digest;
use windlass_store::{NewWorkflow, Precondition, Remember, WriteError};

use super::Compiled;
use crate::app::{Shared, to_the_end};
use crate::idempotency::Deed;
use crate::problem::{Code, Problem, Result};
use crate::revision::{etag, precondition_failed};

/// How often a publication is tried anew when others publish the same name at the same moment.
const TRIES_MAX: usize = 20;

/// What a publication has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Published {
    pub name: String,
    #[schema(minimum = 1)]
    pub version: u32,
    /// In quotes it is the `ETag`.
    #[schema(minimum = 1)]
    pub revision: u32,
    #[schema(value_type = String)]
    pub hash: Digest,
    pub tags: Vec<String>,
    /// Whether there was no workflow of this name before.
    pub created: bool,
    /// False when the definition equals the latest version.
    pub new_version: bool,
}

/// Publishes whatever there is under the name already, or refuses that with `only_new`.
pub(super) async fn publish(
    app: &Shared,
    deed: &Deed,
    compiled: Compiled,
    only_new: bool,
) -> Result<Response> {
    if only_new {
        return put(app, deed, compiled, Precondition::Absent).await;
    }
    match upsert(app, deed, &compiled, |published| remember(deed, published)).await {
        Ok(published) => Ok(answer(&published)),
        Err(WriteError::KeyTaken) => answered_meanwhile(app, deed).await,
        Err(WriteError::Moved) => Err(contended()),
        Err(other) => Err(other.into()),
    }
}

/// Publishes if the workflow is what the request expects.
pub(super) async fn put(
    app: &Shared,
    deed: &Deed,
    compiled: Compiled,
    precondition: Precondition,
) -> Result<Response> {
    let foreseen = match precondition {
        Precondition::Absent => Some(foresee(&compiled, None)),
        Precondition::Revision(_) | Precondition::None => None,
    };
    let remember = foreseen.and_then(|published| remember(deed, &published));
    match write(app, deed, &compiled, precondition, remember).await {
        Ok(published) => Ok(answer(&published)),
        Err(WriteError::KeyTaken) => answered_meanwhile(app, deed).await,
        Err(WriteError::Moved) => Err(precondition_failed()),
        Err(other) => Err(other.into()),
    }
}

fn remember(deed: &Deed, published: &Published) -> Option<Remember> {
    deed.remember(status(published), published, location(published).as_deref())
}

/// Publishes on top of whatever is there at the moment of writing.
///
/// The reply is kept in the same transaction, so it must be known before: the precondition makes the
/// foreseen reply true, or nothing is written and we look again.
pub(super) async fn upsert(
    app: &Shared,
    deed: &Deed,
    compiled: &Compiled,
    remember: impl Fn(&Published) -> Option<Remember>,
) -> Result<Published, WriteError> {
    for _ in 0..TRIES_MAX {
        let row = app.store.get_workflow(deed.caller.tenant, &compiled.definition.name).await?;
        let precondition = match &row {
            Some(row) => Precondition::Revision(row.revision),
            None => Precondition::Absent,
        };
        let remember = remember(&foresee(compiled, row.as_ref()));
        match write(app, deed, compiled, precondition, remember).await {
            Err(WriteError::Moved) => tokio::task::yield_now().await,
            other => return other,
        }
    }
    Err(WriteError::Moved)
}

fn foresee(compiled: &Compiled, row: Option<&windlass_store::WorkflowRow>) -> Published {
    let definition = &compiled.definition;
    let new_version = row.is_none_or(|row| row.hash != definition.hash);
    let changed = new_version || row.is_some_and(|row| row.tags != compiled.tags);
    Published {
        name: definition.name.clone(),
        version: row.map_or(0, |row| row.latest_version) + u32::from(new_version),
        revision: row.map_or(0, |row| row.revision) + u32::from(changed),
        hash: definition.hash.clone(),
        tags: compiled.tags.clone(),
        created: row.is_none(),
        new_version,
    }
}

async fn write(
    app: &Shared,
    deed: &Deed,
    compiled: &Compiled,
    precondition: Precondition,
    remember: Option<Remember>,
) -> Result<Published, WriteError> {
    let new = NewWorkflow {
        tenant: deed.caller.tenant,
        definition: compiled.definition.clone(),
        tags: compiled.tags.clone(),
        precondition,
        remember,
    };
    let store = app.store.clone();
    let put = to_the_end(async move { store.put_workflow(new).await }).await?;
    Ok(Published {
        name: put.workflow.name,
        version: put.workflow.latest_version,
        revision: put.workflow.revision,
        hash: put.workflow.hash,
        tags: put.workflow.tags,
        created: put.created,
        new_version: put.new_version,
    })
}

pub(super) fn status(published: &Published) -> StatusCode {
    if published.created { StatusCode::CREATED } else { StatusCode::OK }
}

/// Where to find what was made.
fn location(published: &Published) -> Option<String> {
    published.created.then(|| format!("/v1/workflows/{}", published.name))
}

fn answer(published: &Published) -> Response {
    let mut response = (status(published), [etag(published.revision)], Json(published)).into_response();
    if let Some(location) = location(published) {
        let location = HeaderValue::from_str(&location).expect("names of workflows are plain");
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Somebody else used the key between our look and our write: their answer is ours.
pub(crate) async fn answered_meanwhile(app: &Shared, deed: &Deed) -> Result<Response> {
    deed.answered_before(app).await?.ok_or_else(contended)
}

pub(crate) fn contended() -> Problem {
    Problem::new(Code::Contended, "Too many others change this at the same time; nothing was changed.")
}
