//! Reads a definition from a request and compiles it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use windlass_model::workflow::{self, Document, Format};
use windlass_model::{Digest, Plan, TenantId};
use windlass_store::Definition;

use crate::app::Shared;
use crate::body::{self, MediaType};
use crate::idempotency::Deed;
use crate::problem::{Code, Problem, Result};
use crate::routes::callees;

pub(super) const TAGS_MAX: usize = 32;
const TAG_CHARS_MAX: usize = 63;
/// Larger definitions are compiled where they hold up nobody else.
const COMPILED_AT_ONCE_BYTES_MAX: usize = 16 * 1024;

/// A definition as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"spec": crate::view::example_spec(), "tags": ["demo"]}))]
pub(crate) struct DefinitionBody {
    #[schema(value_type = crate::openapi::Definition)]
    pub spec: Map<String, Value>,
    /// Words to find it by. Without them, the definition's own `tags` are taken.
    #[schema(max_items = 32, value_type = Option<Vec<Tag>>)]
    pub tags: Option<Vec<String>>,
}

/// A word to find workflows by.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9_.:/-]{0,62}$")]
#[expect(dead_code, reason = "describes the items of `tags`")]
pub(super) struct Tag(String);

/// A valid definition.
pub(crate) struct Compiled {
    pub plan: Arc<Plan>,
    pub definition: Definition,
    pub tags: Vec<String>,
    /// Where the definition stands in the body: `/spec` or nowhere.
    pub base: &'static str,
}

/// What a valid definition amounts to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Validated {
    #[schema(value_type = bool)]
    valid: bool,
    name: String,
    #[schema(value_type = String)]
    hash: Digest,
    /// Ids of the nodes that can run side by side, layer by layer.
    groups: Vec<Vec<String>>,
}

impl Compiled {
    pub(crate) fn validated(&self) -> Validated {
        let plan = &self.plan;
        let ids = |group: &Vec<_>| group.iter().map(|index| plan.node(*index).id.clone()).collect();
        Validated {
            valid: true,
            name: plan.name.clone(),
            hash: plan.hash.clone(),
            groups: plan.groups.iter().map(ids).collect(),
        }
    }
}

/// Reads the body: `{"spec": …}` as JSON, or the definition itself as YAML.
pub(super) async fn read(app: &Shared, deed: &Deed) -> Result<Compiled> {
    match deed.media_type {
        Some(MediaType::Json) => {
            let body: DefinitionBody = deed.json()?;
            let document = Document::from_value(Value::Object(body.spec));
            let tenant = deed.caller.tenant;
            let mut compiled = compile(app, tenant, document, deed.bytes.len(), "/spec").await?;
            if let Some(tags) = body.tags {
                compiled.tags = read_tags(tags, "/tags")?;
            }
            Ok(compiled)
        }
        Some(MediaType::Yaml) => {
            read_text(app, deed, body::read_text(&deed.bytes)?.to_owned(), Format::Yaml).await
        }
        None if deed.bytes.is_empty() => {
            Err(Problem::new(Code::InvalidWorkflow, "There is no definition in the body.").at("", "is empty"))
        }
        _ => Err(body::refuse_media_type("application/json or application/yaml")),
    }
}

/// Reads and compiles a definition from text; its problems have lines and columns.
pub(super) async fn read_text(app: &Shared, deed: &Deed, text: String, format: Format) -> Result<Compiled> {
    let size = text.len();
    let document = beside(size, move || Document::parse(&text, format)).await?;
    let document = document.map_err(|problems| Problem::invalid_workflow(problems, ""))?;
    compile(app, deed.caller.tenant, document, size, "").await
}

/// Compiles a document with the tools and agents that it calls; `base` is where it stands in the request's body.
pub(crate) async fn compile(
    app: &Shared,
    tenant: TenantId,
    mut document: Document,
    size: usize,
    base: &'static str,
) -> Result<Compiled> {
    callees::bring_along(app, tenant, &mut document).await?;
    let plans = app.plans.clone();
    let (document, plan) = beside(size, move || {
        let plan = workflow::compile(&document, plans.catalog());
        (document, plan)
    })
    .await?;
    let plan = plan.map_err(|problems| Problem::invalid_workflow(problems, base))?;
    let tags: Option<Vec<String>> =
        document.spec.get("tags").map(|tags| serde_json::from_value(tags.clone()).unwrap_or_default());
    let definition =
        Definition { name: plan.name.clone(), hash: plan.hash.clone(), spec: document.spec.to_string() };
    let tags = read_tags(tags.unwrap_or_default(), &format!("{base}/tags"))?;
    Ok(Compiled { plan: Arc::new(plan), definition, tags, base })
}

/// Small work is done here and now; large work on a thread where it blocks nobody.
pub(crate) async fn beside<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if size <= COMPILED_AT_ONCE_BYTES_MAX {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))
}

fn read_tags(mut tags: Vec<String>, pointer: &str) -> Result<Vec<String>> {
    if tags.len() > TAGS_MAX {
        return Err(Problem::body(pointer, format!("more than {TAGS_MAX} tags")));
    }
    for (index, tag) in tags.iter().enumerate() {
        read_tag(tag).map_err(|why| Problem::body(format!("{pointer}/{index}"), why))?;
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

pub(super) fn read_tag(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = text.bytes().next().is_some_and(plain)
        && text.len() <= TAG_CHARS_MAX
        && text.bytes().all(|byte| plain(byte) || b"_.:/-".contains(&byte));
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("a tag has up to {TAG_CHARS_MAX} lower-case letters, digits and `_.:/-`"))
    }
}
