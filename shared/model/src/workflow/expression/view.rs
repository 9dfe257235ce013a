//! JSON as minijinja sees it, without copying it, and minijinja's values as JSON.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, Value as Term};
use serde_json::{Map, Number, Value};

use super::meter::{self, ELEMENT};
use super::reference::{Step, follow};

/// A list or an object somewhere in a shared value. It remembers the way there: the value itself stays
/// where it is.
#[derive(Debug)]
enum View {
    Root { root: Arc<Value>, path: Arc<[Step]> },
    Member { parent: Arc<View>, key: String },
    Element { parent: Arc<View>, index: usize },
}

impl View {
    fn value(&self) -> Option<&Value> {
        match self {
            Self::Root { root, path } => follow(root, path),
            Self::Member { parent, key } => parent.value()?.get(key),
            Self::Element { parent, index } => parent.value()?.get(index),
        }
    }
}

/// What stands at the end of a path: undefined, a scalar, or a view.
pub(super) fn of(root: &Arc<Value>, path: &Arc<[Step]>) -> Term {
    match follow(root, path) {
        None => Term::UNDEFINED,
        Some(value) => scalar(value).unwrap_or_else(|| {
            Term::from_object(View::Root { root: Arc::clone(root), path: Arc::clone(path) })
        }),
    }
}

/// The values of an expression's references, by the names that [`super::translate`] gave them.
pub(super) fn bindings(terms: Vec<Term>) -> Term {
    Term::from_object(Bindings(terms))
}

#[derive(Debug)]
struct Bindings(Vec<Term>);

impl Object for Bindings {
    fn get_value(self: &Arc<Self>, key: &Term) -> Option<Term> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Term> {
        self.0.get(key.strip_prefix("_r")?.parse::<usize>().ok()?).cloned()
    }
}

/// None for containers. Text is copied, and paid for.
fn scalar(value: &Value) -> Option<Term> {
    match value {
        Value::Null => Some(Term::from(())),
        Value::Bool(value) => Some(Term::from(*value)),
        Value::Number(number) => Some(number_term(number)),
        Value::String(text) => Some(match meter::charge(text.len()) {
            Ok(()) => Term::from(text.as_str()),
            // What follows is thrown away: the meter remembers, and the evaluation ends as
            // `limit.expression`. An invalid value would say the same, but minijinja panics when it
            // compares two of them.
            Err(_) => Term::UNDEFINED,
        }),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn number_term(number: &Number) -> Term {
    if let Some(number) = number.as_i64() {
        Term::from(number)
    } else if let Some(number) = number.as_u64() {
        Term::from(number)
    } else {
        Term::from(number.as_f64().unwrap_or(f64::NAN))
    }
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.value() {
            Some(Value::Array(_)) => ObjectRepr::Seq,
            _ => ObjectRepr::Map,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Term) -> Option<Term> {
        if let Some(key) = key.as_str() {
            return self.get_value_by_str(key);
        }
        let (index, list) = (key.as_usize()?, self.value()?.as_array()?);
        let value = list.get(index)?;
        Some(
            scalar(value)
                .unwrap_or_else(|| Term::from_object(View::Element { parent: Arc::clone(self), index })),
        )
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Term> {
        let value = self.value()?.as_object()?.get(key)?;
        Some(scalar(value).unwrap_or_else(|| {
            Term::from_object(View::Member { parent: Arc::clone(self), key: key.to_owned() })
        }))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.value() {
            Some(Value::Array(list)) => {
                Enumerator::Iter(Box::new(Elements { list: Arc::clone(self), next: 0, length: list.len() }))
            }
            Some(Value::Object(map)) => {
                let price = map.keys().map(|key| ELEMENT + key.len()).sum();
                match meter::charge(price) {
                    Ok(()) => Enumerator::Values(map.keys().map(|key| Term::from(key.as_str())).collect()),
                    Err(_) => Enumerator::Empty,
                }
            }
            _ => Enumerator::Empty,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        match self.value()? {
            Value::Array(list) => Some(list.len()),
            Value::Object(map) => Some(map.len()),
            _ => None,
        }
    }

    /// In text a container is its JSON.
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(value) = self.value() else { return Ok(()) };
        match meter::charge(measure(value).bytes) {
            Ok(()) => write!(f, "{value}"),
            Err(_) => Ok(()),
        }
    }
}

/// Walks a list, pays for each element, and ends when the meter is empty.
struct Elements {
    list: Arc<View>,
    next: usize,
    length: usize,
}

impl Iterator for Elements {
    type Item = Term;

    fn next(&mut self) -> Option<Term> {
        if self.next >= self.length {
            return None;
        }
        if meter::charge(ELEMENT).is_err() {
            self.next = self.length;
            return None;
        }
        let index = self.next;
        self.next += 1;
        self.list.get_value(&Term::from(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.length - self.next;
        (left, Some(left))
    }
}

/// About how long a value's JSON is, how much memory the value takes, and how deep it nests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub bytes: usize,
    pub memory: usize,
    pub depth: usize,
}

/// What a member of an object takes beside its key's text and its value.
const MEMBER_OVERHEAD: usize = 56;

pub(super) fn measure(value: &Value) -> Size {
    const SLOT: usize = size_of::<Value>();
    let scalar = |bytes| Size { bytes, memory: SLOT, depth: 0 };
    let container = Size { bytes: 2, memory: SLOT, depth: 1 };
    let inside = |size: Size, inner: Size, bytes: usize, memory: usize| Size {
        bytes: size.bytes + inner.bytes + bytes,
        memory: size.memory + inner.memory + memory,
        depth: size.depth.max(inner.depth + 1),
    };
    match value {
        Value::Null | Value::Bool(_) => scalar(4),
        Value::Number(_) => scalar(8),
        Value::String(text) => Size { bytes: text.len() + 2, memory: SLOT + text.len(), depth: 0 },
        Value::Array(list) => list.iter().fold(container, |size, inner| inside(size, measure(inner), 1, 0)),
        Value::Object(map) => map.iter().fold(container, |size, (key, inner)| {
            inside(size, measure(inner), key.len() + 4, key.len() + MEMBER_OVERHEAD)
        }),
    }
}

/// What the values that one template or expression makes may take together.
#[derive(Clone, Debug)]
pub(super) struct Room {
    bytes: usize,
    memory: usize,
    is_untouched: bool,
}

/// A value in memory takes many times its JSON when it consists of small parts.
const MEMORY_MAX: usize = 48 * 1024 * 1024;

impl Room {
    pub(super) fn new() -> Self {
        Self { bytes: crate::payload::PAYLOAD_BYTES_MAX, memory: MEMORY_MAX, is_untouched: true }
    }

    /// False when there is not enough of it. One value alone may take any memory: it is in memory
    /// already, and passing a step's output on must always be possible.
    pub(super) fn take(&mut self, size: Size) -> bool {
        let is_enough = size.bytes <= self.bytes && (self.is_untouched || size.memory <= self.memory);
        self.bytes = self.bytes.saturating_sub(size.bytes);
        self.memory = self.memory.saturating_sub(size.memory);
        self.is_untouched = false;
        is_enough
    }
}

/// A computed value as JSON, which must fit into the room.
pub(super) fn to_json(term: &Term, room: Room) -> Result<Value, Error> {
    Output { room: Room { is_untouched: false, ..room } }.value(term, 0)
}

struct Output {
    room: Room,
}

impl Output {
    fn value(&mut self, term: &Term, depth: usize) -> Result<Value, Error> {
        if depth > super::VALUE_DEPTH_MAX {
            return Err(invalid("its value nests too deep"));
        }
        if let Some(view) = term.downcast_object_ref::<View>() {
            let value = view.value().unwrap_or(&Value::Null);
            self.take(measure(value))?;
            return Ok(value.clone());
        }
        self.take(Size { bytes: 2, memory: size_of::<Value>(), depth: 0 })?;
        match term.kind() {
            ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
            ValueKind::None => Ok(Value::Null),
            ValueKind::Bool => Ok(Value::Bool(term.is_true())),
            ValueKind::Number => number(term),
            ValueKind::String => {
                let text = term.as_str().unwrap_or_default();
                self.take(Size { bytes: text.len(), memory: text.len(), depth: 0 })?;
                Ok(Value::String(text.to_owned()))
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let mut list = Vec::new();
                for item in term.try_iter()?.checked() {
                    meter::charge(ELEMENT)?;
                    list.push(self.value(&item?, depth + 1)?);
                }
                Ok(Value::Array(list))
            }
            ValueKind::Map => self.map(term, depth),
            kind => Err(invalid(format!("its value is a {kind}, which JSON cannot hold"))),
        }
    }

    fn map(&mut self, term: &Term, depth: usize) -> Result<Value, Error> {
        let mut map = Map::new();
        for key in term.try_iter()?.checked() {
            let key = key?;
            let name = match key.kind() {
                ValueKind::String | ValueKind::Number | ValueKind::Bool => key.to_string(),
                kind => return Err(invalid(format!("a {kind} cannot be the key of an object"))),
            };
            meter::charge(ELEMENT)?;
            let memory = name.len() + MEMBER_OVERHEAD;
            self.take(Size { bytes: name.len() + 4, memory, depth: 0 })?;
            map.insert(name, self.value(&term.get_item(&key)?, depth + 1)?);
        }
        Ok(Value::Object(map))
    }

    fn take(&mut self, size: Size) -> Result<(), Error> {
        if self.room.take(size) {
            return Ok(());
        }
        // An empty meter is what turns this into `limit.expression`.
        meter::charge(usize::MAX)?;
        Err(meter::exhausted())
    }
}

fn number(term: &Term) -> Result<Value, Error> {
    if term.is_integer() {
        if let Some(number) = term.as_i64() {
            return Ok(number.into());
        }
        let number = u64::try_from(term.clone());
        return number.map(Value::from).map_err(|_| invalid("its value is an integer beyond 64 bits"));
    }
    let number = f64::try_from(term.clone()).ok().and_then(Number::from_f64);
    number.map(Value::Number).ok_or_else(|| invalid("its value is not a finite number"))
}

pub(super) fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}
