//! Circuit breakers.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, named_params};
use windlass_model::TenantId;
use windlass_model::circuit::{Admission, Circuit, CircuitKey, CircuitStep, Guarded};
use windlass_store::{Circuits, StoreError};

use crate::fault::Fault;
use crate::{SqliteStore, query, rows};

#[async_trait]
impl Circuits for SqliteStore {
    async fn look_at_circuit(&self, key: &CircuitKey) -> Result<Admission, StoreError> {
        let key = key.clone();
        self.read(move |db, now| Ok(find(db, &key)?.map_or(Admission::Pass, |circuit| circuit.look(now))))
            .await
    }

    async fn step_circuit(&self, key: CircuitKey, step: CircuitStep) -> Result<Admission, StoreError> {
        self.write_always(move |db, now| {
            let before = find(db, &key)?;
            let mut circuit = before.clone().unwrap_or_else(|| Circuit::closed(now));
            let admission = circuit.step(&step, now);
            if before.as_ref() != Some(&circuit) {
                put(db, &key, &circuit)?;
            }
            Ok(admission)
        })
        .await
    }

    async fn list_circuits(
        &self,
        tenant: TenantId,
        after: Option<(Guarded, String)>,
        limit: u32,
    ) -> Result<Vec<(CircuitKey, Circuit)>, StoreError> {
        self.read(move |db, _| {
            let (kind, name) = after.as_ref().map_or(("", ""), |(kind, name)| (kind.as_str(), name));
            let mut statement = db.prepare_cached(query!("list_circuits"))?;
            let rows = statement.query_map(
                named_params! { ":tenant": tenant.0, ":kind": kind, ":name": name, ":limit": limit },
                |row| rows::circuit(row, tenant),
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn count_open_circuits(&self) -> Result<u64, StoreError> {
        self.read(|db, _| {
            let mut statement = db.prepare_cached(query!("count_open_circuits"))?;
            let open: i64 = statement.query_row([], |row| row.get(0))?;
            Ok(u64::try_from(open).unwrap_or(0))
        })
        .await
    }
}

fn find(db: &Connection, key: &CircuitKey) -> Result<Option<Circuit>, Fault> {
    let mut statement = db.prepare_cached(query!("find_circuit"))?;
    let parameters = named_params! { ":tenant": key.tenant.0, ":kind": key.kind.as_str(), ":name": key.name };
    let found = statement.query_row(parameters, |row| rows::circuit(row, key.tenant)).optional()?;
    Ok(found.map(|(_, circuit)| circuit))
}

fn put(db: &Connection, key: &CircuitKey, circuit: &Circuit) -> Result<(), Fault> {
    db.prepare_cached(query!("step_circuit"))?.execute(named_params! {
        ":tenant": key.tenant.0,
        ":kind": key.kind.as_str(),
        ":name": key.name,
        ":state": circuit.state.as_str(),
        ":failures": circuit.failures,
        ":window_ends_at": circuit.window_ends_at.0,
        ":probe_at": circuit.probe_at.map(|at| at.0),
        ":since": circuit.since.0,
    })?;
    Ok(())
}
