//! The walk over everything: what the database sees by itself, then every run against its log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use windlass_model::{Actor, Input, RunId, TenantId, decide};
use windlass_store::{Account, Damage, Projection, Rebuild, Store, WriteError, inbox_of};

use super::look::{Look, Looker, Whole};
use super::{FINDINGS_MAX, Fate, Report, compare};

/// Runs looked at before the next are asked for.
const PAGE: u32 = 500;
/// A run that a live server moves while it is looked at is looked at again, at most this often.
const LOOKS_MAX: u32 = 5;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

pub(super) struct Examination {
    store: Arc<dyn Store>,
    looker: Looker,
    repairs: bool,
}

impl Examination {
    pub(super) fn new(store: Arc<dyn Store>, repairs: bool) -> Self {
        Self { looker: Looker::new(store.clone()), store, repairs }
    }

    pub(super) async fn examine(&self, report: &mut Report) -> Result<()> {
        let suspects = self.examine_tables(report).await?;
        let mut after = None;
        loop {
            let runs = self.store.scan_runs(after, PAGE).await?;
            let Some((_, last)) = runs.last() else { return Ok(()) };
            after = Some(*last);
            for (tenant, run_id) in runs {
                report.runs += 1;
                self.examine_run(tenant, run_id, &suspects, report).await?;
            }
        }
    }

    /// Returns the runs of which the database itself says that something about them is not as it must be.
    async fn examine_tables(&self, report: &mut Report) -> Result<BTreeSet<String>> {
        let limit = u32::try_from(FINDINGS_MAX).unwrap_or(u32::MAX);
        let (mut suspects, mut done) = (BTreeSet::new(), Vec::new());
        for damage in self.store.find_damage(limit).await? {
            let fate = match damage.mend.clone() {
                // One repair may put several things right.
                Some(mend) if done.contains(&mend) => Fate::Repaired,
                Some(mend) if self.repairs => match self.store.mend(mend.clone(), account(&damage)).await {
                    Ok(()) => {
                        done.push(mend);
                        Fate::Repaired
                    }
                    // It was mended, or was needed after all, since it was found.
                    Err(WriteError::Moved) => continue,
                    Err(_) => Fate::Refused,
                },
                Some(_) => Fate::Repairable,
                None => Fate::ByHand,
            };
            if compare::follows_from_log(&damage.kind) {
                suspects.insert(damage.subject.clone());
            }
            report.add(damage, fate);
        }
        Ok(suspects)
    }

    /// A live server may write between two reads: only what every look shows is a finding.
    async fn examine_run(
        &self,
        tenant: TenantId,
        run_id: RunId,
        suspects: &BTreeSet<String>,
        report: &mut Report,
    ) -> Result<()> {
        let subject = run_id.to_string();
        let is_suspect = suspects.contains(&subject);
        let mut looks = 1;
        let mut look = self.looker.look_at(tenant, run_id).await?;
        while !look.findings.is_empty() && looks < LOOKS_MAX && self.has_moved(tenant, run_id, &look).await? {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            looks += 1;
            let before = std::mem::replace(&mut look, self.looker.look_at(tenant, run_id).await?);
            look.findings.retain(|damage| before.findings.contains(damage));
        }
        report.events += look.events;
        let follows = |damage: &Damage| compare::follows_from_log(&damage.kind);
        let rebuilt = match &look.whole {
            Some(whole) if whole.can_be_rebuilt() && (is_suspect || look.findings.iter().any(follows)) => {
                self.rebuild(whole, &look.findings).await?
            }
            _ => Fate::ByHand,
        };
        for damage in look.findings {
            let fate = if follows(&damage) { rebuilt } else { Fate::ByHand };
            report.add(damage, fate);
        }
        if is_suspect {
            report.settle(&subject, rebuilt);
        }
        Ok(())
    }

    async fn has_moved(&self, tenant: TenantId, run_id: RunId, look: &Look) -> Result<bool> {
        let Some(whole) = &look.whole else { return Ok(true) };
        Ok(match self.store.get_run(tenant, run_id).await? {
            Some(now) => now.version != whole.row.version || now.lease_owner.is_some(),
            None => true,
        })
    }

    /// Writes anew what follows from the log, unless the run has moved since it was looked at.
    async fn rebuild(&self, whole: &Whole, findings: &[Damage]) -> Result<Fate> {
        if !self.repairs {
            return Ok(Fate::Repairable);
        }
        let (row, mut state) = (&whole.row, whole.state.clone());
        let found = findings.iter().map(|damage| damage.kind.clone()).collect::<BTreeSet<_>>();
        let input = Input::Repaired { found: found.into_iter().collect(), actor: doctor() };
        let event = decide(&whole.plan, &mut state, input, self.store.now().await?)
            .map_err(|rejection| anyhow::anyhow!("a repair is no command: {rejection}"))?
            .pop();
        let rebuild = Rebuild {
            run_id: row.id,
            tenant: row.tenant,
            version: row.version,
            next_seq: state.last_seq.next(),
            epoch: state.epoch,
            parent: state.parent.as_ref().map(|parent| parent.run_id),
            projection: Projection::of(&state, row.lease_owner.is_some() && !state.is_terminal()),
            approvals: inbox_of(&whole.plan, row.id, &whole.log)?,
            untold: whole.untold.clone(),
            event,
        };
        let accounts = findings.iter().filter(|it| compare::follows_from_log(&it.kind)).map(account);
        Ok(match self.store.rebuild_run(rebuild, accounts.collect()).await {
            Ok(()) => Fate::Repaired,
            Err(_) => Fate::Refused,
        })
    }
}

fn doctor() -> Actor {
    Actor::system("doctor")
}

fn account(damage: &Damage) -> Account {
    Account { actor: doctor(), damage: damage.clone() }
}
