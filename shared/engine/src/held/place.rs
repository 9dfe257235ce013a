//! How a held run gets its place in a concurrency group and gives it back, and its turn under the limit of its workflow.

use tracing::debug;
use windlass_model::Input;
use windlass_model::rate_limit::{LimitKey, Limited, OnLimit, Turn};
use windlass_store::{Newcomer, point};

use super::{HeldRun, HoldError};
use crate::{groups, turn};

impl HeldRun {
    /// Asks for a place in the run's group. None when it has one now.
    pub(super) async fn ask_for_place(&self) -> Result<Option<Input>, HoldError> {
        let Some(group) = self.state.group.clone() else { return Ok(None) };
        let (tenant, priority) = (self.heritage.tenant, self.heritage.priority);
        let (run_id, name) = (self.state.run_id, group.name.clone());
        let newcomer = Newcomer { run_id, priority, group };
        let admissions = groups::admit(&self.engine.parts, tenant, &name, Some(newcomer)).await?;
        let has_place = admissions.holders.contains(&run_id);
        Ok((!has_place).then_some(Input::NoPlace { held_by: admissions.holders }))
    }

    /// Asks whether a run of this workflow may start now.
    pub(super) async fn ask_for_turn(&self) -> Result<Input, HoldError> {
        let Some(mut limit) = self.plan.rate_limit else { return Ok(Input::Turn(Turn::Now)) };
        if self.state.turn_at.is_some() {
            // It was let in before, and comes late.
            limit.on_limit = OnLimit::Wait;
        }
        let key =
            LimitKey { tenant: self.heritage.tenant, kind: Limited::Runs, name: self.plan.name.clone() };
        let turn = turn::take(&self.engine.parts, &key, limit).await?;
        point("turn.of_run_taken");
        Ok(Input::Turn(turn))
    }

    /// The run has ended: whose turn is it?
    pub(super) async fn give_place_back(&self) {
        if let Some(group) = &self.state.group
            && let Err(error) = self.engine.admit(self.heritage.tenant, &group.name).await
        {
            debug!(run.id = %self.state.run_id, error = %error, "Nobody let in; the sweep will");
        }
    }
}
