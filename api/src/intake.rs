//! What happens to every request before and after its handler.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use tracing::Instrument;
use uuid::Uuid;

use crate::app::{ANSWER_WITHIN, App, Shared};
use crate::problem::{Code, Problem, Result};
use crate::wait::WAIT_MAX;
use crate::{idempotency, origin, wait};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// An id of the client's own is written to every log line.
const REQUEST_ID_CHARS_MAX: usize = 64;
/// A body that is not complete after this long is given up.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// A peer that is cut off while it still sends often never sees the answer. So what comes after a refused
/// body's limit is read and thrown away for a moment.
const DISCARD_WITHIN: Duration = Duration::from_secs(2);
const DISCARD_BYTES_MAX: usize = 64 << 20;
/// The one route whose body may be larger.
const UPLOAD_PATH: &str = "/v1/workflows/upload";
const RUNS_PATH: &str = "/v1/workflow-runs";

/// Puts the layers around the routes; the first one here is the innermost.
pub(crate) fn around(routes: Router<Shared>, app: Shared) -> Router<Shared> {
    let routes = routes
        .fallback(async || Problem::not_found("route"))
        .method_not_allowed_fallback(async || {
            Problem::new(Code::MethodNotAllowed, "This route has other methods; `Allow` lists them.")
        })
        .layer(from_fn_with_state(app.clone(), admit))
        .layer(CatchPanicLayer::custom(after_panic));
    let routes = match cors(&app) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(axum::middleware::from_fn(receive))
}

/// Outermost: names the request, logs it, counts it, and renders what was refused.
async fn receive(request: Request, next: Next) -> Response<Body> {
    let began = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    let span =
        tracing::info_span!("request", request.id = %id, %method, route, trace.id = tracing::field::Empty);
    if let Some(trace_id) = trace_id(request.headers()) {
        span.record("trace.id", trace_id);
    }
    let response = async {
        let mut response = next.run(request).await;
        if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
            response = dress(&problem, &id, response.headers());
        }
        let elapsed = began.elapsed();
        tracing::debug!(status = response.status().as_u16(), elapsed_ms = elapsed.as_millis(), "Answered");
        count(&method, route, response.status(), elapsed);
        response
    };
    let mut response = response.instrument(span).await;
    add_headers(response.headers_mut(), &id);
    response
}

fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !text.is_empty() && text.len() <= REQUEST_ID_CHARS_MAX && text.bytes().all(plain)
    });
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The trace id of a W3C `traceparent`.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hex =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex(trace, 32) && is_hex(span, 16)).then_some(trace)
}

/// The problem as it leaves the house, with what inner layers have said about it (`Allow`, CORS).
fn dress(problem: &Problem, id: &str, said: &HeaderMap) -> Response<Body> {
    let mut response = problem.render(id);
    for (name, value) in said {
        if *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

fn count(method: &Method, route: &str, status: StatusCode, elapsed: Duration) {
    let route = route.to_owned();
    let method = method.as_str().to_owned();
    metrics::histogram!("http_request_duration_seconds", "route" => route.clone()).record(elapsed);
    metrics::counter!("http_requests_total", "method" => method, "route" => route, "status" => status.as_str().to_owned())
        .increment(1);
}

fn add_headers(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

fn after_panic(panic: Box<dyn std::any::Any + Send>) -> Response<Body> {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
    Problem::internal(&format_args!("a handler panicked: {words}")).into_response()
}

/// Pages of the allowed origins may call and read; nobody else's may.
fn cors(app: &App) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> =
        app.options.cors_origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers(Any)
            .expose_headers([
                header::ETAG,
                header::LOCATION,
                header::RETRY_AFTER,
                REQUEST_ID,
                idempotency::REPLAYED,
                wait::PREFERENCE_APPLIED,
            ])
    })
}

/// Innermost: lets a request in whole and in time, or not at all.
async fn admit(State(app): State<Shared>, request: Request, next: Next) -> Result<Response<Body>> {
    origin::check(&app.options, &request)?;
    let answer_within = if may_wait(&request) { ANSWER_WITHIN + WAIT_MAX } else { ANSWER_WITHIN };
    let request = read_whole(&app, request).await?;
    tokio::time::timeout(answer_within, next.run(request)).await.map_err(|_| Problem::store_is_silent())
}

/// Only these two routes may take longer than [`ANSWER_WITHIN`], and only when asked to.
fn may_wait(request: &Request) -> bool {
    match *request.method() {
        Method::POST => {
            request.uri().path() == RUNS_PATH && wait::preferred_wait(request.headers()).is_some()
        }
        Method::GET => {
            let query = request.uri().query().unwrap_or_default();
            form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "wait")
        }
        _ => false,
    }
}

/// Takes the body before anyone acts on it, so that a slow sender holds nothing but its connection.
async fn read_whole(app: &App, request: Request) -> Result<Request> {
    if !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
        return Ok(request);
    }
    let is_upload = request.uri().path() == UPLOAD_PATH;
    let bytes_max = if is_upload { app.options.upload_bytes_max } else { app.options.body_bytes_max };
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let (parts, body) = request.into_parts();
    if announced.is_some_and(|length| length > bytes_max as u64) {
        // Who asks before sending needs no more than the answer; reading would be a yes.
        if !parts.headers.contains_key(header::EXPECT) {
            discard(body.into_data_stream());
        }
        return Err(too_large(bytes_max));
    }
    let bytes = tokio::time::timeout(BODY_WITHIN, collect(body, bytes_max)).await.map_err(|_| {
        let detail = format!("The body was not complete within {} seconds.", BODY_WITHIN.as_secs());
        close(Problem::new(Code::RequestTimeout, detail))
    })??;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

async fn collect(body: Body, bytes_max: usize) -> Result<Bytes> {
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::MalformedRequest, "The body broke off."))?;
        if whole.len() + chunk.len() > bytes_max {
            discard(chunks);
            return Err(too_large(bytes_max));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

fn discard(mut rest: BodyDataStream) {
    tokio::spawn(tokio::time::timeout(DISCARD_WITHIN, async move {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(chunk)) = rest.next().await
            && chunk.len() <= left
        {
            left -= chunk.len();
        }
    }));
}

fn too_large(bytes_max: usize) -> Problem {
    close(Problem::new(Code::BodyTooLarge, format!("The body may have {bytes_max} bytes.")))
}

/// What is still on its way is not worth reading.
fn close(problem: Problem) -> Problem {
    problem.with_header(header::CONNECTION, HeaderValue::from_static("close"))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;
    use windlass_bus::InProcessBus;
    use windlass_model::workflow::Catalog;
    use windlass_store::Plans;
    use windlass_store::memory::MemoryStore;

    use super::*;
    use crate::{Door, DoorOptions};

    #[tokio::test]
    async fn a_panic_is_an_answer_that_reveals_nothing() {
        let store = MemoryStore::new();
        let plans = Arc::new(Plans::new(store.clone(), Arc::new(Catalog::new([]))));
        let (health, options) = (Default::default(), DoorOptions::default());
        let door = Door { store, plans, bus: InProcessBus::new(), health, options };
        let app = Arc::new(App::new(Arc::new(door), CancellationToken::new()));
        let routes = Router::new().route("/", get(async || -> &'static str { panic!("the secret is 7") }));
        let request = Request::get("/").body(Body::empty()).expect("a request");
        let response = around(routes, app.clone()).with_state(app).oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("\"code\":\"internal\"") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn a_trace_id_is_taken_from_a_sound_traceparent_only() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().expect("a header"));
            trace_id(&headers).map(str::to_owned)
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(of(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        for text in ["", "00-xyz-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736", "nonsense"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
