//! The door: HTTP in, events appended; the log out as JSON, as SSE and over WebSocket.
//!
//! It has no rule of its own. What a command may do is decided in the model; what follows from it is
//! concluded by the engine that next holds the run.

mod actor;
mod app;
mod body;
mod feed;
mod idempotency;
mod intake;
mod openapi;
mod options;
mod origin;
mod page;
mod problem;
mod published;
mod query;
mod revision;
mod routes;
mod serve;
mod sse;
mod view;
mod wait;
mod ws;

use std::sync::{Arc, LazyLock};

use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use windlass_boot::Health;
use windlass_bus::Bus;
use windlass_store::{Plans, Store};

use app::{App, Shared};
use routes::{
    agents, approvals, artifacts, circuit_breakers, commands, docs, events, health, machine, rate_limits,
    schedules, steps, tools, workflow_runs, workflows,
};

pub use options::{CursorKey, DoorOptions};
pub use problem::Code as ProblemCode;
pub use serve::{serve, serve_health};

/// Everything the door leans on.
pub struct Door {
    pub store: Arc<dyn Store>,
    pub plans: Arc<Plans>,
    pub bus: Arc<dyn Bus>,
    pub health: Health,
    pub options: DoorOptions,
}

/// Every route with its description.
#[rustfmt::skip]
fn documented() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::preface())
        .routes(routes!(workflows::list, workflows::publish))
        .routes(routes!(workflows::validate))
        .routes(routes!(workflows::upload::upload))
        .routes(routes!(workflows::get, workflows::put, workflows::delete))
        .routes(routes!(workflows::versions::graph_of_latest))
        .routes(routes!(workflows::versions::list))
        .routes(routes!(workflows::versions::get))
        .routes(routes!(workflows::versions::graph))
        .routes(routes!(tools::list, tools::register))
        .routes(routes!(tools::get, tools::put, tools::delete))
        .routes(routes!(agents::list, agents::register))
        .routes(routes!(agents::get, agents::put, agents::delete))
        .routes(routes!(circuit_breakers::list))
        .routes(routes!(rate_limits::list))
        .routes(routes!(rate_limits::reset))
        .routes(routes!(schedules::list, schedules::post))
        .routes(routes!(schedules::get, schedules::put, schedules::delete))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::trigger))
        .routes(routes!(workflow_runs::list, workflow_runs::create::create))
        .routes(routes!(workflow_runs::get))
        .routes(routes!(commands::bulk::bulk))
        .routes(routes!(commands::pause))
        .routes(routes!(commands::resume))
        .routes(routes!(commands::cancel))
        .routes(routes!(commands::approve))
        .routes(routes!(commands::reject))
        .routes(routes!(commands::retry))
        .routes(routes!(commands::skip))
        .routes(routes!(commands::signal))
        .routes(routes!(commands::edit::edit))
        .routes(routes!(commands::rerun::rerun))
        .routes(routes!(commands::rerun::move_run))
        .routes(routes!(events::of_run))
        .routes(routes!(events::over_websocket))
        .routes(routes!(events::of_many))
        .routes(routes!(machine::get))
        .routes(routes!(steps::list))
        .routes(routes!(steps::output))
        .routes(routes!(steps::timeline))
        .routes(routes!(steps::explain))
        .routes(routes!(artifacts::list))
        .routes(routes!(artifacts::download))
        .routes(routes!(approvals::list))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::version))
        .routes(routes!(docs::openapi))
}

/// The whole API as one service.
pub fn router(door: Arc<Door>) -> axum::Router {
    router_until(door, CancellationToken::new())
}

/// As [`router`]; waits and streams end when `closing` is canceled.
fn router_until(door: Arc<Door>, closing: CancellationToken) -> axum::Router {
    // Describing the routes takes longer than making them.
    static ROUTES: LazyLock<axum::Router<Shared>> =
        LazyLock::new(|| docs::add_pages(documented().split_for_parts().0));
    let app = Arc::new(App::new(door, closing));
    intake::around(ROUTES.clone(), app.clone()).with_state(app)
}

/// The few routes of a process that has no door.
fn health_router(door: Arc<Door>, closing: CancellationToken) -> axum::Router {
    let app = Arc::new(App::new(door, closing));
    let (routes, _) = OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::version))
        .split_for_parts();
    intake::around(routes, app.clone()).with_state(app)
}

/// What the API promises, as OpenAPI 3.1.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::complete(documented().into_openapi())
}
