//! The description of the API: what every operation shares, said once.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{
    Content, ContentBuilder, HeaderBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    Required, Response, ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::actor::{ROLES_MAX, USER_CHARS_MAX};
use crate::idempotency::KEY_CHARS_MAX;
use crate::problem::{Code, Fault, ProblemDocument};

const DESCRIPTION: &str = "\
Windlass runs workflows durably. Every run has one committed history, an append-only log of events; what this API \
shows is folded from it.\n\n\
* Every refusal is `application/problem+json` with a stable `code`. Unknown fields and parameters are refused.\n\
* `Idempotency-Key` on a POST makes it safe to repeat: the same key gets the same answer, with `Idempotency-Replayed: true`.\n\
* Until authentication arrives, who asks is a claim: `X-Windlass-User` and `X-Windlass-Roles`.\n\
* `X-Request-Id` is taken from the request when it is plain, else made, and always answered.\n\
* Cursors are opaque and signed; they belong to a list with its filters.";

/// Statuses that any request may get: the query is strict, and nobody can promise that nothing breaks.
const ALWAYS: &[u16] = &[400, 421, 422, 500, 503];
/// Statuses of requests that carry a body.
const WITH_BODY: &[u16] = &[403, 408, 413, 415];

pub(crate) fn preface() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Windlass")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// Adds to every operation what all of them share.
pub(crate) fn complete(mut api: OpenApi) -> OpenApi {
    for (path, item) in &mut api.paths.paths {
        for (operation, method) in operations(item) {
            describe(operation, method, path);
        }
    }
    let components = api.components.get_or_insert_default();
    if let Some(order) = components.schemas.get_mut("NewRun") {
        *order = one_of_two(order.clone());
    }
    for (name, schema) in
        [(ProblemDocument::name(), ProblemDocument::schema()), (Fault::name(), Fault::schema())]
    {
        components.schemas.insert(name.into_owned(), schema);
    }
    api
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&mut Operation, &'static str)> {
    let PathItem { get, put, post, delete, .. } = item;
    [(get, "get"), (put, "put"), (post, "post"), (delete, "delete")]
        .into_iter()
        .filter_map(|(operation, method)| Some((operation.as_mut()?, method)))
}

fn describe(operation: &mut Operation, method: &str, path: &str) {
    let changes = method != "get";
    let has_body = operation.request_body.is_some();
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        for content in body.content.values_mut() {
            make_optional(content, &mut body.required);
        }
    }
    let parameters = operation.parameters.get_or_insert_default();
    for parameter in parameters.iter_mut() {
        if let RefOr::T(Parameter { schema: Some(RefOr::T(Schema::Object(object))), .. }) = parameter {
            // A parameter that is left out is left out: there is no null in an address or a header.
            without_null(object);
        }
    }
    if path.starts_with("/v1/") {
        parameters.push(RefOr::T(user()));
        parameters.push(RefOr::T(roles()));
    }
    if method == "post" {
        parameters.push(RefOr::T(idempotency_key()));
    }
    let mut statuses: Vec<u16> = ALWAYS.to_vec();
    if changes {
        statuses.push(403);
    }
    if has_body {
        statuses.extend(WITH_BODY);
    }
    for status in statuses {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_string()).or_insert_with(|| RefOr::T(refusal(status)));
    }
}

fn without_null(object: &mut Object) {
    if let SchemaType::Array(types) = &object.schema_type
        && let [kind, Type::Null] | [Type::Null, kind] = types.as_slice()
    {
        object.schema_type = SchemaType::Type(kind.clone());
    }
}

/// A body that may be left out is described as one that may be null, which it may not.
fn make_optional(content: &mut RefOr<Content>, required: &mut Option<Required>) {
    let is_null = |schema: &RefOr<Schema>| match schema {
        RefOr::T(Schema::Object(object)) => object.schema_type == SchemaType::Type(Type::Null),
        _ => false,
    };
    if let RefOr::T(Content { schema: Some(schema), .. }) = content
        && let RefOr::T(Schema::OneOf(several)) = schema
        && let [one, null] = several.items.as_slice()
        && is_null(null)
    {
        *schema = one.clone();
        *required = Some(Required::False);
    }
}

fn header_parameter(name: &str, description: &str, pattern: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build()))
        .build()
}

fn user() -> Parameter {
    let pattern = format!("^[!-~]{{1,{USER_CHARS_MAX}}}$");
    header_parameter("X-Windlass-User", "Who asks; `anonymous` when it is left out.", &pattern)
}

fn roles() -> Parameter {
    let role = "[A-Za-z0-9_.-]{1,64}";
    let pattern = format!("^({role}(, ?{role}){{0,{}}})?$", ROLES_MAX - 1);
    header_parameter("X-Windlass-Roles", "Roles of who asks, separated by commas.", &pattern)
}

fn idempotency_key() -> Parameter {
    let pattern = format!("^[!-~]{{1,{KEY_CHARS_MAX}}}$");
    let description = "Makes the request safe to repeat. The answer is kept for a day.";
    header_parameter("Idempotency-Key", description, &pattern)
}

/// A refusal with a given status, and the codes it may carry.
pub(crate) fn refusal(status: u16) -> Response {
    let codes: Vec<_> = Code::ALL.iter().filter(|code| code.status() == status).collect();
    let lines = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title()));
    let description = lines.collect::<Vec<_>>().join(". ");
    let content = ContentBuilder::new()
        .schema(Some(RefOr::<Schema>::Ref(Ref::from_schema_name(ProblemDocument::name()))))
        .build();
    let mut response =
        ResponseBuilder::new().description(description).content("application/problem+json", content);
    let headers: &[(&str, &str)] = match status {
        405 => &[("Allow", "The methods of this route.")],
        429 | 503 => &[("Retry-After", "Seconds to wait before trying again.")],
        _ => &[],
    };
    for (name, description) in headers {
        let schema = ObjectBuilder::new().schema_type(Type::String).build();
        response = response
            .header(*name, HeaderBuilder::new().schema(Some(schema)).description(Some(*description)).build());
    }
    response.build()
}

/// Declares a name for refusals of one status, to be used in `responses(…)`.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $status:literal,)*) => {
        $($(#[$doc])*
        pub(crate) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([(stringify!($status).to_owned(), RefOr::T(refusal($status)))])
            }
        })*
    };
}

refusals! {
    NotFound 404,
    Conflict 409,
    PreconditionFailed 412,
    UpgradeRequired 426,
    PreconditionRequired 428,
    TooMany 429,
    Forbidden 403,
}

/// Either `workflow` or `spec`, and not both.
fn one_of_two(fields: RefOr<Schema>) -> RefOr<Schema> {
    let with = |name: &str, kind: Type, other: &str| {
        ObjectBuilder::new()
            .required(name)
            .property(name, ObjectBuilder::new().schema_type(kind))
            .property(other, ObjectBuilder::new().schema_type(Type::Null))
    };
    let choice = OneOfBuilder::new().item(with("workflow", Type::String, "spec")).item(with(
        "spec",
        Type::Object,
        "workflow",
    ));
    Schema::AllOf(AllOfBuilder::new().item(fields).item(choice).build()).into()
}

/// A definition, as far as it is described here.
pub(crate) struct Definition;

impl ToSchema for Definition {}

impl PartialSchema for Definition {
    fn schema() -> RefOr<Schema> {
        let word = |words: &[&str]| {
            ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied()))
        };
        ObjectBuilder::new()
            .description(Some("A definition. Its whole format: `docs/workflow.schema.json`."))
            .required("version")
            .property("version", ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([1])))
            .required("name")
            .property(
                "name",
                ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[a-z][a-z0-9_-]{0,62}$")),
            )
            .required("type")
            .property("type", word(&["steps", "dag", "machine", "state_machine", "hybrid"]))
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
            .build()
            .into()
    }
}
