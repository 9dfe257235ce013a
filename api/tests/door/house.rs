//! A door with everything behind it, and short ways to speak to it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tower::ServiceExt;
use windlass_api::{Door, DoorOptions};
use windlass_boot::Health;
use windlass_bus::{Bus, InProcessBus, Pokes, Rings};
use windlass_model::{RunId, SessionId};
use windlass_store::memory::MemoryStore;
use windlass_store::{Plans, Store};

use crate::contract;
use crate::engine::catalog;

pub(crate) const RUNS: &str = "/v1/workflow-runs";
/// An id that nobody has given out.
pub(crate) const NOBODY: &str = "01890000-0000-7000-8000-000000000000";

pub(crate) struct House {
    pub router: Router,
    pub door: Arc<Door>,
    pub store: Arc<MemoryStore>,
    pub bus: Arc<InProcessBus>,
    rings: Mutex<Box<dyn Rings>>,
    pokes: Mutex<Pokes>,
    pub health: Health,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(DoorOptions::default())
    }

    pub(crate) fn with(options: DoorOptions) -> Self {
        let store = MemoryStore::new();
        Self::over(store.clone(), store, options)
    }

    /// A house whose door speaks to `face`, behind which `store` stands.
    pub(crate) fn over(store: Arc<MemoryStore>, face: Arc<dyn Store>, options: DoorOptions) -> Self {
        let plans = Arc::new(Plans::new(face.clone(), Arc::new(catalog())));
        let bus = InProcessBus::new();
        let rings = Mutex::new(bus.rings());
        let pokes = Mutex::new(bus.pokes(SessionId(uuid::Uuid::now_v7())));
        let health = Health::default();
        let door = Arc::new(Door { store: face, plans, bus: bus.clone(), health: health.clone(), options });
        Self { router: windlass_api::router(door.clone()), door, store, bus, rings, pokes, health }
    }

    /// Runs that were rung for.
    pub(crate) async fn rung(&self) -> Vec<RunId> {
        let rung = self.rings.lock().await.take(1_000).await;
        rung.into_iter().map(|ring| ring.run_id).collect()
    }

    /// A run whose holder was poked.
    pub(crate) async fn poked(&self) -> RunId {
        self.pokes.lock().await.recv().await.expect("the bus is there").run_id
    }

    /// The answer as it comes, held against the description.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.expect("routers don't fail");
        let (parts, body) = response.into_parts();
        let bytes = read_all(body).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or_default();
        let answer = Answer { status: parts.status, headers: parts.headers, text, body };
        contract::check(&method, &path, &answer);
        answer
    }

    /// The answer's head; its body stays open.
    pub(crate) async fn open(&self, request: Request<Body>) -> axum::http::Response<Body> {
        self.router.clone().oneshot(request).await.expect("routers don't fail")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(with_json(Method::POST, path, &body)).await
    }

    pub(crate) async fn post_text(&self, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, kind).body(body.into());
        self.send(request.expect("a test's request is well formed")).await
    }

    pub(crate) async fn post_with_key(&self, path: &str, key: &str, body: &Value) -> Answer {
        let mut request = with_json(Method::POST, path, body);
        request.headers_mut().insert("idempotency-key", key.parse().expect("a plain key"));
        self.send(request).await
    }

    /// Publishes a definition under its own name.
    pub(crate) async fn publish(&self, spec: &Value) {
        self.post("/v1/workflows", json!({"spec": spec})).await.ok();
    }

    /// Starts a run of an inline definition and lets the engine move it as far as it goes.
    pub(crate) async fn run(&self, spec: &Value) -> String {
        let run = self.start(spec).await;
        self.drive(&run).await;
        run
    }

    /// Starts a run of an inline definition; nobody takes it.
    pub(crate) async fn start(&self, spec: &Value) -> String {
        let run = self.post(RUNS, json!({"spec": spec})).await.ok();
        run["id"].as_str().expect("a run has an id").to_owned()
    }

    pub(crate) async fn command(&self, run: &str, verb: &str, body: Value) -> Answer {
        self.post(&format!("{RUNS}/{run}/{verb}"), body).await
    }

    pub(crate) async fn status(&self, run: &str) -> String {
        let run = self.get(&format!("{RUNS}/{run}")).await.ok();
        run["status"].as_str().expect("a run has a status").to_owned()
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        self.body
    }

    /// The problem, if it is the expected one.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let got = (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default());
        assert_eq!(got, (status, code), "{}", self.text);
        self.body
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub(crate) fn request(method: Method, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::empty()).expect("a test's request is well formed")
}

pub(crate) fn with_json(method: Method, path: &str, body: &Value) -> Request<Body> {
    let mut request = request(method, path);
    request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().expect("plain"));
    *request.body_mut() = body.to_string().into();
    request
}

pub(crate) fn with_header(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    let value = axum::http::HeaderValue::from_bytes(value.as_bytes()).expect("a header's value");
    request.headers_mut().append(name, value);
    request
}

/// Serial steps of these nodes.
pub(crate) fn steps(name: &str, nodes: Value) -> Value {
    json!({"version": 1, "name": name, "type": "steps", "steps": nodes})
}

/// One step that does nothing.
pub(crate) fn quick(name: &str) -> Value {
    steps(name, json!([{"id": "a", "type": "noop"}]))
}

/// One gate.
pub(crate) fn gate(name: &str) -> Value {
    steps(name, json!([{"id": "ok", "type": "approval", "show": {"text": "Shall it be?"}}]))
}

async fn read_all(body: Body) -> Bytes {
    let mut stream = body.into_data_stream();
    let mut whole = Vec::new();
    let reading = async {
        while let Some(chunk) = stream.next().await {
            whole.extend_from_slice(&chunk.expect("bodies don't break"));
        }
    };
    // A stream of a run that has not ended never ends by itself.
    tokio::time::timeout(Duration::from_secs(90), reading).await.expect("the body ends");
    whole.into()
}
