//! The stored form of what a run leaves behind, the same in every store.

use serde_json::Value;
use windlass_model::event::{Event, EventBody};
use windlass_model::state::SNAPSHOT_FORMAT;
use windlass_model::{Actor, Attempt, Epoch, EventSeq, NodeIndex, RunState, Timestamp};

use crate::StoreError;

/// An event as a row keeps it: columns, and the body's data as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub seq: EventSeq,
    pub at: Timestamp,
    pub code: i16,
    pub node: Option<NodeIndex>,
    pub item: Option<u32>,
    pub attempt: Option<Attempt>,
    pub epoch: Option<Epoch>,
    pub actor: Option<String>,
    pub data: String,
}

impl From<&Event> for StoredEvent {
    fn from(event: &Event) -> Self {
        Self {
            seq: event.seq,
            at: event.at,
            code: event.body.code(),
            node: event.node,
            item: event.item,
            attempt: event.attempt,
            epoch: event.epoch,
            actor: event.actor.as_ref().map(ToString::to_string),
            data: event.body.data(),
        }
    }
}

impl StoredEvent {
    /// # Errors
    /// [`StoreError::Damaged`] when the data does not fit the code.
    pub fn read(self) -> Result<Event, StoreError> {
        let body = EventBody::from_stored(self.code, &self.data)
            .map_err(|problem| StoreError::Damaged(format!("event {}: {problem}", self.seq)))?;
        Ok(Event {
            seq: self.seq,
            at: self.at,
            node: self.node,
            item: self.item,
            attempt: self.attempt,
            epoch: self.epoch,
            actor: self.actor.as_deref().map(Actor::from),
            body,
        })
    }
}

/// A fold as a row keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    pub seq: EventSeq,
    pub format: u32,
    pub state: String,
}

impl From<&RunState> for StoredSnapshot {
    fn from(state: &RunState) -> Self {
        let text = serde_json::to_string(state).expect("a fold is plain data");
        Self { seq: state.last_seq, format: SNAPSHOT_FORMAT, state: text }
    }
}

impl StoredSnapshot {
    /// The fold, unless it is of another format or unreadable: the log then tells the same.
    pub fn read(&self) -> Option<RunState> {
        if self.format != SNAPSHOT_FORMAT {
            return None;
        }
        serde_json::from_str(&self.state).ok().filter(|state: &RunState| state.last_seq == self.seq)
    }
}

/// The blobs that an event's data refers to: payloads that left the event, and artifacts.
pub fn blob_digests(data: &str) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::from_str(data) else { return Vec::new() };
    let artifacts = fields.get("artifacts").and_then(Value::as_array).into_iter().flatten();
    let continued = fields.get("then").and_then(|then| then.get("output"));
    let payloads = fields.values().chain(continued).filter_map(referenced);
    artifacts
        .chain(payloads)
        .filter_map(|reference| reference.get("digest").and_then(Value::as_str).map(str::to_owned))
        .collect()
}

/// The reference that stands in for a payload, as `Payload` writes it.
fn referenced(payload: &Value) -> Option<&Value> {
    payload.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("$blob"))
}

/// Whether `part` is contained in `text`, upper and lower case being the same.
pub fn contains_ignoring_case(text: &str, part: &str) -> bool {
    part.is_empty() || text.to_lowercase().contains(&part.to_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use windlass_model::Payload;
    use windlass_model::event::{StepFailed, StepSucceeded, Then};
    use windlass_model::{StepError, payload::Blob};

    use super::*;

    #[test]
    fn the_blobs_of_an_event_are_found_wherever_bodies_keep_them() {
        let output = Payload::new(json!("x".repeat(70_000)));
        let digest = output.new_blob().expect("too large to stay inline").digest.0;
        let log = Blob::new(b"log".to_vec());
        let artifact = windlass_model::event::Artifact {
            name: "log".into(),
            media_type: "text/plain".into(),
            blob: log.reference(),
        };
        let done = StepSucceeded { output: output.clone(), artifacts: vec![artifact] };
        assert_eq!(blob_digests(&EventBody::from(done).data()), [log.digest.0, digest.clone()]);

        let passed_over = StepFailed {
            error: StepError::new("timeout", "too slow"),
            then: Then::Continue { output },
            artifacts: Vec::new(),
        };
        assert_eq!(blob_digests(&EventBody::from(passed_over).data()), [digest]);
    }

    #[test]
    fn text_is_found_in_any_case() {
        assert!(contains_ignoring_case("Müller & Söhne", "MÜLLER"));
        assert!(contains_ignoring_case("anything", ""));
        assert!(!contains_ignoring_case("release-notes", "release_notes"));
    }
}
