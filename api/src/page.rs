//! Lists page by page: what one page looks like, and the cursor to the next.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;
use windlass_model::TenantId;

use crate::options::CursorKey;
use crate::problem::{Code, Problem, Result};

/// Longer than any cursor that was ever given out.
pub(crate) const CURSOR_CHARS_MAX: usize = 512;
const MAC_BYTES: usize = blake3::OUT_LEN;

/// Part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    /// Pass it as `cursor`, with the same filters, to get the next page; null on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// `rows` holds one row more than `limit` when there is another page.
    pub(crate) fn of<R>(
        mut rows: Vec<R>,
        limit: u32,
        list: &List<'_>,
        position: impl Fn(&R) -> String,
        view: impl FnMut(R) -> T,
    ) -> Self {
        let limit = limit as usize;
        let is_last = rows.len() <= limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| !is_last).map(|row| list.seal(&position(row)));
        Self { items: rows.into_iter().map(view).collect(), next_cursor }
    }
}

/// The list that a cursor belongs to: whose it is, which one, filtered how.
pub(crate) struct List<'a> {
    pub key: &'a CursorKey,
    pub tenant: TenantId,
    pub name: &'static str,
    /// Everything that chooses what the list holds, in any unambiguous form.
    pub filter: String,
}

impl List<'_> {
    pub(crate) fn seal(&self, position: &str) -> String {
        let mut bytes = self.mac(position).as_bytes().to_vec();
        bytes.extend_from_slice(position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position that a cursor holds, as `read` understands it.
    pub(crate) fn open<T>(&self, cursor: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        let bytes = if cursor.len() <= CURSOR_CHARS_MAX { URL_SAFE_NO_PAD.decode(cursor).ok() } else { None };
        let position = bytes.as_deref().and_then(|bytes| {
            let (mac, position) = bytes.split_first_chunk::<MAC_BYTES>()?;
            let position = std::str::from_utf8(position).ok()?;
            // Compares in constant time.
            (self.mac(position) == *mac).then_some(position)
        });
        position.and_then(read).ok_or_else(|| {
            Problem::new(
                Code::InvalidCursor,
                "The cursor was not given out for this list with these filters.",
            )
        })
    }

    fn mac(&self, position: &str) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        for part in [&self.tenant.to_string(), self.name, &self.filter, position] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<'a>(key: &'a CursorKey, tenant: i32, filter: &str) -> List<'a> {
        List { key, tenant: TenantId(tenant), name: "runs", filter: filter.to_owned() }
    }

    #[test]
    fn a_cursor_opens_only_the_list_it_was_given_out_for() {
        let key = CursorKey::default();
        let open = |list: List<'_>, cursor: &str| list.open(cursor, |text| Some(text.to_owned()));
        let cursor = list(&key, 1, "status=queued").seal("here");
        assert_eq!(open(list(&key, 1, "status=queued"), &cursor).unwrap(), "here");
        assert!(open(list(&key, 2, "status=queued"), &cursor).is_err());
        assert!(open(list(&key, 1, ""), &cursor).is_err());
        assert!(open(list(&CursorKey::from_secret("own"), 1, "status=queued"), &cursor).is_err());
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let key = CursorKey::default();
        let list = list(&key, 1, "");
        let cursor = list.seal("018f");
        for at in 0..cursor.len() {
            for bit in 0..8 {
                let mut bytes = cursor.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(text) = String::from_utf8(bytes) {
                    let problem = list.open(&text, |text| Some(text.to_owned())).unwrap_err();
                    assert_eq!(problem.code(), Code::InvalidCursor);
                }
            }
        }
    }

    #[test]
    fn a_page_names_the_next_only_when_there_is_one() {
        let key = CursorKey::default();
        let page = |rows: Vec<u32>| Page::of(rows, 2, &list(&key, 1, ""), u32::to_string, |row| row);
        assert!(page(vec![1, 2]).next_cursor.is_none());
        let first = page(vec![1, 2, 3]);
        assert_eq!(first.items, [1, 2]);
        let position = list(&key, 1, "").open(&first.next_cursor.unwrap(), |text| text.parse::<u32>().ok());
        assert_eq!(position.unwrap(), 2);
    }
}
