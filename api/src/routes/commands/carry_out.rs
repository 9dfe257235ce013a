//! A command on its way into the log: read the run, decide, write; again if somebody was faster.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use windlass_model::{Command, Event, Input, Plan, Ring, RunId, RunState, decide, planted};
use windlass_store::{Guard, NewRun, Remember, RunWrite, WriteError, point};

use crate::app::{App, Folded, Shared, to_the_end};
use crate::idempotency::Deed;
use crate::problem::{Code, Problem, Result};
use crate::view::Receipt;

/// How often a command is decided anew because somebody else wrote to the run first.
const TRIES_MAX: u32 = 20;
/// Longer after each try, so that a busy run lets a command in between two ticks.
const PAUSE_PER_TRY: Duration = Duration::from_millis(2);

/// Answers a request that is one command for one run.
pub(super) async fn carry_out(
    app: &Shared,
    run_id: RunId,
    deed: &Deed,
    command: impl Fn(&Plan, &RunState) -> Result<Command>,
) -> Result<Response> {
    if let Some(answer) = deed.answered_before(app).await? {
        return Ok(answer);
    }
    let remember = |receipt: &Receipt| deed.remember(StatusCode::OK, receipt, None);
    match record(app, run_id, deed, remember, command).await? {
        Some(receipt) => Ok(Json(receipt).into_response()),
        None => deed.answered_before(app).await?.ok_or_else(contended),
    }
}

/// Decides a command on the run as it is, and writes what was decided. None: the same deed was done meanwhile by another
/// request with its key.
pub(super) async fn record(
    app: &Shared,
    run_id: RunId,
    deed: &Deed,
    remember: impl Fn(&Receipt) -> Option<Remember>,
    command: impl Fn(&Plan, &RunState) -> Result<Command>,
) -> Result<Option<Receipt>> {
    let mut turn = None;
    for tried in 1..=TRIES_MAX {
        let decision = consider(app, run_id, deed, &command).await?;
        let remembered = remember(&decision.receipt);
        match write(app, deed, decision, remembered).await {
            Ok(receipt) => return Ok(Some(receipt)),
            // Those who have collided once take turns; only the engine and newcomers are faster then.
            Err(WriteError::Moved) if turn.is_none() => turn = Some(app.queue_up(run_id).await),
            Err(WriteError::Moved) => tokio::time::sleep(PAUSE_PER_TRY * tried).await,
            Err(WriteError::KeyTaken) => return Ok(None),
            Err(other) => return Err(other.into()),
        }
    }
    Err(contended())
}

pub(super) fn contended() -> Problem {
    Problem::new(
        Code::Contended,
        "The run moves faster than the command could be written; nothing was changed.",
    )
}

/// What a command comes to, on a run as it was when we looked.
pub(super) struct Decision {
    /// With the events taken in.
    pub run: Folded,
    events: Vec<Event>,
    pub receipt: Receipt,
    /// Started in the same transaction.
    pub successor: Option<NewRun>,
}

/// Decides, and writes nothing.
pub(super) async fn consider(
    app: &App,
    run_id: RunId,
    deed: &Deed,
    command: &impl Fn(&Plan, &RunState) -> Result<Command>,
) -> Result<Decision> {
    let mut run = app.fold_run(deed.caller.tenant, run_id).await?;
    let command = command(&run.plan, &run.state)?;
    let input = Input::Command { command, actor: deed.caller.actor.clone() };
    let events = decide(&run.plan, &mut run.state, input, app.now().await?)?;
    let receipt = Receipt {
        run_id,
        status: run.state.status(run.row.lease_owner.is_some()),
        paused_reason: run.state.pause_reason(),
        seq: run.state.last_seq,
    };
    Ok(Decision { run, events, receipt, successor: None })
}

pub(super) async fn write(
    app: &App,
    deed: &Deed,
    decision: Decision,
    remember: Option<Remember>,
) -> Result<Receipt, WriteError> {
    let Decision { run, events, receipt, mut successor } = decision;
    if events.is_empty() {
        return Ok(receipt);
    }
    let holder = run.row.lease_owner;
    let tenant = deed.caller.tenant;
    let mut write = RunWrite::new(
        tenant,
        Guard::Door,
        run.row.version,
        &run.plan,
        &run.state,
        events.clone(),
        holder.is_some(),
    );
    write.remember = remember.filter(|_| !planted("reply_not_remembered"));
    if planted("move_in_two_writes")
        && let Some(new) = successor.take()
    {
        app.store.create_run(new).await?;
    }
    let started = successor
        .as_ref()
        .map(|new| (Ring { run_id: new.id, tenant: new.tenant, priority: new.priority }, new.event.clone()));
    write.children.extend(successor);
    let (store, bus, ring, run_id) = (app.store.clone(), app.bus.clone(), run.row.ring(), receipt.run_id);
    let written = to_the_end(async move {
        point("door.before_command");
        store.write_run(write).await?;
        point("door.command_written");
        bus.publish(run_id, events);
        if let Some((ring, event)) = started {
            bus.publish(ring.run_id, vec![event]);
            bus.ring(ring);
        }
        match holder {
            Some(session) => bus.poke(session, ring),
            None => bus.ring(ring),
        }
        point("door.command_told");
        Ok(())
    });
    written.await.map(|()| receipt)
}
