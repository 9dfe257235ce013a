//! Circuit breakers.

use async_trait::async_trait;
use windlass_model::circuit::{Admission, Circuit, CircuitKey, CircuitState, CircuitStep, Guarded};
use windlass_model::{TenantId, planted};

use super::MemoryStore;
use crate::{Circuits, StoreError};

#[async_trait]
impl Circuits for MemoryStore {
    async fn look_at_circuit(&self, key: &CircuitKey) -> Result<Admission, StoreError> {
        self.read(|tables, now| {
            Ok(tables.circuits.get(&row_of(key)).map_or(Admission::Pass, |circuit| circuit.look(now)))
        })
    }

    async fn step_circuit(&self, key: CircuitKey, step: CircuitStep) -> Result<Admission, StoreError> {
        self.write_always(|tables, now| {
            let circuit = tables.circuits.entry(row_of(&key)).or_insert_with(|| Circuit::closed(now));
            Ok(circuit.step(&step, now))
        })
    }

    async fn list_circuits(
        &self,
        tenant: TenantId,
        after: Option<(Guarded, String)>,
        limit: u32,
    ) -> Result<Vec<(CircuitKey, Circuit)>, StoreError> {
        self.read(|tables, _| {
            let mut all: Vec<_> = tables
                .circuits
                .iter()
                .filter(|(key, _)| key.tenant == tenant)
                .filter(|(key, _)| after.as_ref().is_none_or(|after| place(key) > place_of(after)))
                .map(|(key, circuit)| (key.clone(), circuit.clone()))
                .collect();
            all.sort_by(|(a, _), (b, _)| place(a).cmp(&place(b)));
            all.truncate(limit as usize);
            Ok(all)
        })
    }

    async fn count_open_circuits(&self) -> Result<u64, StoreError> {
        self.read(|tables, _| {
            let open = tables.circuits.values().filter(|circuit| circuit.state != CircuitState::Closed);
            Ok(open.count() as u64)
        })
    }
}

/// Where a circuit is kept.
fn row_of(key: &CircuitKey) -> CircuitKey {
    let tenant = if planted("circuits_shared_by_tenants") { TenantId::DEFAULT } else { key.tenant };
    let kind = if planted("circuits_shared_by_kinds") { Guarded::Host } else { key.kind };
    CircuitKey { tenant, kind, ..key.clone() }
}

fn place(key: &CircuitKey) -> (&str, &str) {
    (key.kind.as_str(), &key.name)
}

fn place_of((kind, name): &(Guarded, String)) -> (&str, &str) {
    (kind.as_str(), name)
}
