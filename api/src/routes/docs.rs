//! The API's description, and a page to read it that loads nothing from elsewhere.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::Shared;
use crate::problem::Result;
use crate::query::Query;

/// Our own script and style, our own description, nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const PAGE: &str = include_str!("../../assets/docs.html");
const SCRIPT: &str = include_str!("../../assets/docs.js");
const STYLE: &str = include_str!("../../assets/docs.css");

static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| crate::openapi().to_json().expect("the description is plain data"));

/// Read this description
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)))]
pub(crate) async fn openapi(query: Query) -> Result<Response> {
    query.finish()?;
    Ok(([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response())
}

/// The page and its parts; they are no part of the API.
pub(crate) fn add_pages(routes: Router<Shared>) -> Router<Shared> {
    routes
        .route("/docs", get(async || asset("text/html; charset=utf-8", PAGE)))
        .route("/docs/docs.js", get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/docs/docs.css", get(async || asset("text/css; charset=utf-8", STYLE)))
}

fn asset(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}
