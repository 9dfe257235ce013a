//! Values that a run carries: small ones in the event, large ones by reference.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Values whose JSON is longer than this leave the event for the blob store.
pub const PAYLOAD_INLINE_BYTES_MAX: usize = 64 * 1024;
/// The longest value that a step, an input or a signal may carry.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an event keeps of a value that moved to the blob store, for people to look at.
pub const PREVIEW_BYTES_MAX: usize = 256;

/// BLAKE3 of some content, in lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    pub fn of(content: &[u8]) -> Self {
        Self(blake3::hash(content).to_hex().to_string())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a value lies that was too large for its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    pub digest: Digest,
    pub size_bytes: u64,
    /// The first bytes of the content, at most [`PREVIEW_BYTES_MAX`].
    pub preview: String,
}

/// Content on its way to the blob store, written in the transaction that first refers to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Blob {
    pub digest: Digest,
    pub content: Arc<[u8]>,
}

impl Blob {
    pub fn new(content: Vec<u8>) -> Self {
        Self { digest: Digest::of(&content), content: content.into() }
    }

    pub fn reference(&self) -> BlobRef {
        let head = &self.content[..self.content.len().min(PREVIEW_BYTES_MAX)];
        let preview = String::from_utf8_lossy(head).trim_end_matches('\u{fffd}').to_owned();
        BlobRef { digest: self.digest.clone(), size_bytes: self.content.len() as u64, preview }
    }
}

/// A JSON value in an event: inline, or a reference to the blob that holds it.
///
/// In JSON an inline value stands as itself and a reference as `{"$blob": {digest, size_bytes, preview}}`.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    Inline(Arc<Value>),
    /// `value` is filled once somebody fetched the blob; it is never written.
    Blob {
        blob: BlobRef,
        value: Option<Arc<Value>>,
    },
}

impl Payload {
    /// Keeps a small value inline; turns a large one into a reference that remembers the value until
    /// [`Self::new_blob`] has brought it to the blob store.
    pub fn new(value: Value) -> Self {
        // Scalars and empty containers need no measuring.
        if matches!(&value, Value::Null | Value::Bool(_) | Value::Number(_))
            || value.as_object().is_some_and(serde_json::Map::is_empty)
        {
            return Self::Inline(value.into());
        }
        let text = value.to_string();
        if text.len() <= PAYLOAD_INLINE_BYTES_MAX && !looks_like_reference(&value) {
            return Self::Inline(value.into());
        }
        let blob = Blob::new(text.into_bytes());
        Self::Blob { blob: blob.reference(), value: Some(value.into()) }
    }

    /// The content that must be in the blob store before this reference may be written.
    pub fn new_blob(&self) -> Option<Blob> {
        match self {
            Self::Blob { blob, value: Some(value) } => {
                let content = value.to_string().into_bytes();
                debug_assert_eq!(Digest::of(&content), blob.digest, "a value prints the same each time");
                Some(Blob { digest: blob.digest.clone(), content: content.into() })
            }
            _ => None,
        }
    }

    pub fn null() -> Self {
        Self::Inline(Arc::new(Value::Null))
    }

    /// The value, when it is at hand.
    pub fn value(&self) -> Option<&Arc<Value>> {
        match self {
            Self::Inline(value) => Some(value),
            Self::Blob { value, .. } => value.as_ref(),
        }
    }

    /// The reference of a value that still lies in the blob store.
    pub fn missing(&self) -> Option<&BlobRef> {
        match self {
            Self::Blob { blob, value: None } => Some(blob),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Inline(value) if value.is_null())
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::null()
    }
}

impl From<Value> for Payload {
    /// Inline whatever its size: for values already known to be small.
    fn from(value: Value) -> Self {
        Self::Inline(Arc::new(value))
    }
}

const BLOB_KEY: &str = "$blob";

/// A value of a user's own that would be read back as a reference must not be written inline.
fn looks_like_reference(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.len() == 1 && map.contains_key(BLOB_KEY))
}

impl Serialize for Payload {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inline(value) => value.serialize(serializer),
            Self::Blob { blob, .. } => {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(BLOB_KEY, blob)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Some(blob) = value.as_object().filter(|map| map.len() == 1).and_then(|map| map.get(BLOB_KEY))
            && let Ok(blob) = BlobRef::deserialize(blob)
        {
            return Ok(Self::Blob { blob, value: None });
        }
        Ok(Self::Inline(Arc::new(value)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_forged_reference_is_read_back_as_the_value_it_was() {
        let forged = json!({"$blob": {"digest": "00", "size_bytes": 1, "preview": ""}});
        let payload = Payload::new(forged.clone());
        assert_eq!(payload.new_blob().unwrap().content.as_ref(), forged.to_string().as_bytes());
        let stored: Payload = serde_json::from_value(serde_json::to_value(&payload).unwrap()).unwrap();
        assert_ne!(stored.missing().unwrap().digest.0, "00");
    }

    #[test]
    fn a_value_above_the_inline_limit_leaves_the_event() {
        let at_limit = Value::String("x".repeat(PAYLOAD_INLINE_BYTES_MAX - 2));
        assert!(Payload::new(at_limit).new_blob().is_none());
        let above = Value::String("x".repeat(PAYLOAD_INLINE_BYTES_MAX - 1));
        let payload = Payload::new(above.clone());
        assert_eq!(payload.new_blob().unwrap().content.len(), PAYLOAD_INLINE_BYTES_MAX + 1);
        assert_eq!(**payload.value().unwrap(), above);
        assert!(serde_json::to_string(&payload).unwrap().len() < 600);
    }
}
