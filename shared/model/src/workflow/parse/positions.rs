//! Where values stand in the text they came from.

use serde_json::Value;

/// One-based line and column, counted in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub line: u32,
    pub column: u32,
}

/// The place of a value and of all values in it, in the order of the value itself.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub at: At,
    /// Where the member's key stands, for members of objects.
    pub key_at: Option<At>,
    pub children: Vec<Spot>,
}

pub(super) struct Found<'a> {
    pub spot: &'a Spot,
    /// The whole pointer was followed, not only a part of it.
    pub is_whole: bool,
}

impl Spot {
    pub(super) fn leaf(at: At) -> Self {
        Self { at, key_at: None, children: Vec::new() }
    }

    /// The spot that a pointer names, or that of the nearest parent that exists.
    pub(super) fn find(&self, spec: &Value, pointer: &str) -> Found<'_> {
        let (mut spot, mut value, mut is_whole) = (self, spec, true);
        for token in tokens(pointer) {
            let step = child(value, &token)
                .and_then(|(index, inner)| spot.children.get(index).map(|spot| (spot, inner)));
            match step {
                Some((next, inner)) => (spot, value) = (next, inner),
                None => {
                    is_whole = false;
                    break;
                }
            }
        }
        Found { spot, is_whole }
    }
}

/// A key to sort pointers by: the positions of each step among its siblings.
pub(super) fn order(spec: &Value, pointer: &str) -> Vec<usize> {
    let mut value = Some(spec);
    tokens(pointer)
        .map_while(|token| {
            let (index, inner) = child(value?, &token)?;
            value = Some(inner);
            Some(index)
        })
        .collect()
}

fn child<'a>(value: &'a Value, token: &str) -> Option<(usize, &'a Value)> {
    match value {
        Value::Object(map) => {
            map.iter().position(|(key, _)| key == token).and_then(|at| Some((at, map.get(token)?)))
        }
        Value::Array(list) => {
            let index = token.parse().ok()?;
            Some((index, list.get(index)?))
        }
        _ => None,
    }
}

fn tokens(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"))
}
