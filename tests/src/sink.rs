//! The world outside: takes effects, remembers them, and can be as bad as the world is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A server in the test's own process; it outlives the house.
#[derive(Clone)]
pub struct Sink {
    world: Arc<Mutex<World>>,
    address: String,
}

#[derive(Default)]
struct World {
    effects: Vec<Effect>,
    manners: BTreeMap<String, Manner>,
}

/// Something that a step did.
#[derive(Clone, Debug)]
pub struct Effect {
    pub method: String,
    pub path: String,
    /// The `Idempotency-Key` it came with.
    pub key: String,
    pub headers: HeaderMap,
    pub body: Value,
    pub at: Timestamp,
}

/// How the sink answers at one path.
#[derive(Clone, Debug)]
struct Manner {
    /// It thinks this long before it answers.
    takes: Duration,
    /// It fails this often, with this status, before it answers well.
    fails: u32,
    status: u16,
    answer: Value,
    /// What it says while it fails.
    apology: Value,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            takes: Duration::ZERO,
            fails: 0,
            status: 503,
            answer: json!({"ok": true}),
            apology: json!({"sorry": true}),
        }
    }
}

/// Longer than any story.
const FOR_EVER: Duration = Duration::from_secs(3600);

impl Sink {
    pub async fn open() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
        let router = Router::new().fallback(take).with_state(Arc::clone(&world));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { world, address }
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> &str {
        &self.address
    }

    fn manner(&self, path: &str, change: impl FnOnce(&mut Manner)) -> &Self {
        let mut world = self.world.lock().expect("no panic while holding it");
        change(world.manners.entry(path.to_owned()).or_default());
        self
    }

    /// From now on `path` answers well, at once.
    pub fn heals(&self, path: &str) -> &Self {
        self.manner(path, |manner| *manner = Manner::default())
    }

    /// `path` takes this long to answer.
    pub fn is_slow(&self, path: &str, takes: Duration) -> &Self {
        self.manner(path, |manner| manner.takes = takes)
    }

    /// `path` takes what is sent and never answers.
    pub fn hangs(&self, path: &str) -> &Self {
        self.is_slow(path, FOR_EVER)
    }

    /// The next `times` requests at `path` end in `status`.
    pub fn fails(&self, path: &str, times: u32, status: u16) -> &Self {
        self.manner(path, |manner| (manner.fails, manner.status) = (times, status))
    }

    /// Every request at `path` ends in `status`, with this JSON.
    pub fn refuses(&self, path: &str, status: u16, apology: Value) -> &Self {
        self.fails(path, u32::MAX, status).manner(path, |manner| manner.apology = apology)
    }

    /// `path` answers with this JSON.
    pub fn answers(&self, path: &str, answer: Value) -> &Self {
        self.manner(path, |manner| manner.answer = answer)
    }

    /// Everything that has arrived so far.
    pub fn effects(&self) -> Vec<Effect> {
        self.world.lock().expect("no panic while holding it").effects.clone()
    }

    /// What has arrived at one path.
    pub fn at(&self, path: &str) -> Vec<Effect> {
        self.effects().into_iter().filter(|effect| effect.path == path).collect()
    }

    /// Waits until so many effects have arrived at a path, and returns them.
    pub async fn wait_for(&self, path: &str, count: usize) -> Vec<Effect> {
        crate::eventually(&format!("{count} effects at {path}"), || async {
            let effects = self.at(path);
            (effects.len() >= count).then_some(effects)
        })
        .await
    }
}

async fn take(
    State(world): State<Arc<Mutex<World>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let manner = {
        let mut world = world.lock().expect("no panic while holding it");
        let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
        let key = key.to_owned();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let at = Timestamp::now();
        world.effects.push(Effect { method: method.to_string(), path: path.clone(), key, headers, body, at });
        let manner = world.manners.entry(path).or_default();
        let now = manner.clone();
        manner.fails = manner.fails.saturating_sub(1);
        now
    };
    tokio::time::sleep(manner.takes).await;
    if manner.fails > 0 {
        let status = StatusCode::from_u16(manner.status).expect("a story names statuses that exist");
        return (status, axum::Json(manner.apology)).into_response();
    }
    axum::Json(manner.answer).into_response()
}
