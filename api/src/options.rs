//! What may be chosen about the door.

use metrics_exporter_prometheus::PrometheusHandle;
use uuid::Uuid;
use windlass_model::RunId;

/// JSON that a request may carry: inputs of a run, a definition, a signal.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// All the files of one upload.
const UPLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Each open stream costs a connection and a few kilobytes.
const STREAMS_MAX: usize = 2_000;
/// Each open connection costs a task and two buffers.
const CONNECTIONS_MAX: usize = 10_000;

#[derive(Clone)]
pub struct DoorOptions {
    pub body_bytes_max: usize,
    pub upload_bytes_max: usize,
    /// Open event streams of this process, SSE and WebSocket together.
    pub streams_max: usize,
    pub connections_max: usize,
    /// Web pages of these origins (`https://console.example`) may use the API. None by default.
    pub cors_origins: Vec<String>,
    /// Names under which requests may reach the API, beside `localhost` and addresses. None: any.
    pub hosts: Option<Vec<String>>,
    /// Where `/metrics` reads; without it there is no such route.
    pub metrics: Option<PrometheusHandle>,
    pub cursor_key: CursorKey,
    /// Runs of one tenant that may be open before a new one is refused. None: as many as there are.
    pub open_runs_max: Option<u32>,
    /// Makes the id of a new run.
    pub new_run_id: fn() -> RunId,
}

impl Default for DoorOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_MAX,
            upload_bytes_max: UPLOAD_BYTES_MAX,
            streams_max: STREAMS_MAX,
            connections_max: CONNECTIONS_MAX,
            cors_origins: Vec::new(),
            hosts: None,
            metrics: None,
            cursor_key: CursorKey::default(),
            open_runs_max: None,
            new_run_id: || RunId(Uuid::now_v7()),
        }
    }
}

/// What list cursors are signed with.
///
/// A cursor grants nothing: tenant and filters come from the request, the cursor only says where its page
/// begins, and its signature tells a damaged or borrowed cursor from a good one. So the default key may be
/// the same everywhere, and cursors outlive restarts and work at every process; a secret of one's own makes
/// them unforgeable, too.
#[derive(Clone)]
pub struct CursorKey(pub(crate) [u8; 32]);

impl CursorKey {
    pub fn from_secret(secret: &str) -> Self {
        Self(blake3::derive_key("windlass 2026-11-20 list cursors", secret.as_bytes()))
    }
}

impl Default for CursorKey {
    fn default() -> Self {
        Self::from_secret("")
    }
}
