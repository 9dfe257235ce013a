//! How a held run gets its place in a concurrency group, and gives it back.

use tracing::debug;
use windlass_model::Input;
use windlass_store::Newcomer;

use super::{HeldRun, HoldError};
use crate::groups;

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

    /// The run has ended: whose turn is it?
    pub(super) async fn give_place_back(&self) {
        if let Some(group) = &self.state.group
            && let Err(error) = self.engine.admit(self.heritage.tenant, &group.name).await
        {
            debug!(run.id = %self.state.run_id, error = %error, "Nobody let in; the sweep will");
        }
    }
}
