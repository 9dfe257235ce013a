//! The one minijinja environment: which filters, tests and functions expressions have, and what they pay.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::LazyLock;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value as Term, filters, tests};

use super::meter::{self, ELEMENT};
use super::view;

/// Instructions of one evaluation. Expressions have no loops, so only absurd ones come near it.
const FUEL: u64 = 10_000;
/// The longest list that `range` makes, and the widest row of `batch`.
const RANGE_MAX: usize = 10_000;

pub(super) const FUNCTIONS: &[&str] = &["range"];

/// Where a filter's main cost lies.
#[derive(Clone, Copy, PartialEq)]
enum Price {
    /// It reads text as a whole.
    Text,
    /// It takes its subject apart: text becomes one element per character.
    Items,
}

type Make = fn() -> Term;

macro_rules! builtin {
    ($price:ident, $($name:literal = $function:path),+ $(,)?) => {
        &[$(($name, Price::$price, || Term::from_function($function))),+]
    };
}

/// minijinja's own filters, charged before and after they run. What could make much from little
/// (`format`, `indent`, `center`, `slice`, …) is left out.
const TEXT_FILTERS: &[(&str, Price, Make)] = builtin!(
    Text,
    "abs" = filters::abs,
    "bool" = filters::bool,
    "capitalize" = filters::capitalize,
    "d" = filters::default,
    "default" = filters::default,
    "float" = filters::float,
    "int" = filters::int,
    "length" = filters::length,
    "count" = filters::length,
    "lower" = filters::lower,
    "round" = filters::round,
    "title" = filters::title,
    "trim" = filters::trim,
    "upper" = filters::upper,
    // Ours, which charge what they make before they make it.
    "_compare" = compare,
    "_concat" = concat,
    "_times" = times,
    "batch" = batch,
    "join" = join,
    "json" = to_json,
    "keys" = keys,
    "lines" = lines,
    "replace" = replace,
    "split" = split,
    "string" = string,
    "sum" = sum,
    "tojson" = to_json,
    "truncate" = truncate,
    "values" = values,
);

const ITEM_FILTERS: &[(&str, Price, Make)] = builtin!(
    Items,
    "dictsort" = filters::dictsort,
    "first" = filters::first,
    "groupby" = filters::groupby,
    "items" = filters::items,
    "last" = filters::last,
    "list" = filters::list,
    "map" = filters::map,
    "max" = filters::max,
    "min" = filters::min,
    "reject" = filters::reject,
    "rejectattr" = filters::rejectattr,
    "reverse" = filters::reverse,
    "select" = filters::select,
    "selectattr" = filters::selectattr,
    "sort" = filters::sort,
    "unique" = filters::unique,
    // Ours.
    "zip" = zip,
);

macro_rules! builtin_tests {
    ($($name:literal = $function:path),+ $(,)?) => {
        &[$(($name, || Term::from_function($function))),+]
    };
}

const TESTS: &[(&str, Make)] = builtin_tests!(
    "boolean" = tests::is_boolean,
    "defined" = tests::is_defined,
    "divisibleby" = is_divisible,
    "endingwith" = tests::is_endingwith,
    "eq" = tests::is_eq,
    "equalto" = tests::is_eq,
    "even" = tests::is_even,
    "false" = tests::is_false,
    "float" = tests::is_float,
    "ge" = is_ge,
    "greaterthan" = is_gt,
    "gt" = is_gt,
    "in" = tests::is_in,
    "integer" = tests::is_integer,
    "iterable" = tests::is_iterable,
    "le" = is_le,
    "lessthan" = is_lt,
    "lower" = tests::is_lower,
    "lt" = is_lt,
    "mapping" = tests::is_mapping,
    "ne" = tests::is_ne,
    "none" = tests::is_none,
    "number" = tests::is_number,
    "odd" = tests::is_odd,
    "sequence" = tests::is_sequence,
    "startingwith" = tests::is_startingwith,
    "string" = tests::is_string,
    "true" = tests::is_true,
    "undefined" = tests::is_undefined,
    "upper" = tests::is_upper,
);

/// The tests that expressions have.
pub fn test_names() -> impl Iterator<Item = &'static str> + Clone {
    TESTS.iter().map(|(name, _)| *name)
}

/// The filters that expressions have.
pub fn filter_names() -> impl Iterator<Item = &'static str> + Clone {
    TEXT_FILTERS.iter().chain(ITEM_FILTERS).map(|(name, ..)| *name).filter(|name| !name.starts_with('_'))
}

pub(super) fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(build);
    &ENVIRONMENT
}

fn build() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    for (name, price, make) in TEXT_FILTERS.iter().chain(ITEM_FILTERS) {
        let (price, filter) = (*price, make());
        environment.add_filter(*name, move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            charge_arguments(&arguments, price)?;
            let made = filter.call(state, &arguments)?;
            charge_result(&made)?;
            Ok::<_, Error>(made)
        });
    }
    for (name, make) in TESTS {
        let test = make();
        environment.add_test(*name, move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            charge_arguments(&arguments, Price::Text)?;
            Ok::<_, Error>(test.call(state, &arguments)?.is_true())
        });
    }
    environment.add_function("range", range);
    environment
}

fn charge_arguments(arguments: &[Term], price: Price) -> Result<(), Error> {
    for (at, argument) in arguments.iter().enumerate() {
        match argument.as_str() {
            Some(text) if at == 0 && price == Price::Items => meter::charge(text.len() * ELEMENT)?,
            Some(text) => meter::charge(text.len())?,
            // Views pay for each element as it is read; lists of ours were paid for when they were made.
            None => meter::charge(argument.len().unwrap_or(1))?,
        }
    }
    Ok(())
}

fn charge_result(made: &Term) -> Result<(), Error> {
    match (made.as_str(), made.kind()) {
        (Some(text), _) => meter::charge(text.len()),
        (None, ValueKind::Seq) => meter::charge(made.len().unwrap_or(0) * ELEMENT),
        _ => Ok(()),
    }
}

// ---- filters of ours ---------------------------------------------------------------------------

/// `a * b`: a product, or text repeated.
fn times(left: &Term, right: &Term) -> Result<Term, Error> {
    if left.is_undefined() || right.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let text = left.as_str().map(|text| (text, right)).or_else(|| right.as_str().map(|text| (text, left)));
    if let Some((text, count)) = text {
        let count =
            count.as_usize().ok_or_else(|| view::invalid("text can only be multiplied by an integer"))?;
        meter::charge(text.len().saturating_mul(count))?;
        return Ok(Term::from(text.repeat(count)));
    }
    // As with the other operators, true is 1 and false is 0.
    let is_boolean = |term: &Term| term.kind() == ValueKind::Bool;
    let is_whole = |term: &Term| term.is_integer() || is_boolean(term);
    let is_number = |term: &Term| term.is_number() || is_boolean(term);
    if is_whole(left) && is_whole(right) {
        let product = i128::try_from(left.clone())?.checked_mul(i128::try_from(right.clone())?);
        let product = product.ok_or_else(|| view::invalid("the product is too large"))?;
        return Ok(i64::try_from(product).map_or_else(|_| Term::from(product), Term::from));
    }
    if is_number(left) && is_number(right) {
        return Ok(Term::from(as_fraction(left)? * as_fraction(right)?));
    }
    Err(view::invalid(format!("cannot multiply {} by {}", left.kind(), right.kind())))
}

fn is_lt(left: &Term, right: &Term) -> Result<bool, Error> {
    Ok(order(left, right)?.is_lt())
}

fn is_le(left: &Term, right: &Term) -> Result<bool, Error> {
    Ok(order(left, right)?.is_le())
}

fn is_gt(left: &Term, right: &Term) -> Result<bool, Error> {
    Ok(order(left, right)?.is_gt())
}

fn is_ge(left: &Term, right: &Term) -> Result<bool, Error> {
    Ok(order(left, right)?.is_ge())
}

/// minijinja's own panics at zero.
fn is_divisible(number: &Term, by: &Term) -> Result<bool, Error> {
    let is_zero = by.is_number() && as_fraction(by)? == 0.0 || *by == Term::from(false);
    if is_zero {
        Err(view::invalid("nothing is divisible by 0"))
    } else {
        Ok(tests::is_divisibleby(number, by))
    }
}

fn as_fraction(number: &Term) -> Result<f64, Error> {
    match i128::try_from(number.clone()) {
        Ok(whole) => Ok(whole as f64),
        Err(_) => f64::try_from(number.clone()),
    }
}

/// `a < b <= c`, as `a` and `['<', b, '<=', c]`: each with the one after it, up to the first that does not hold.
fn compare(first: &Term, rest: Rest<Term>) -> Result<bool, Error> {
    let mut left = first;
    for pair in rest.chunks_exact(2) {
        let right = &pair[1];
        let order = order(left, right)?;
        let holds = match pair[0].as_str() {
            Some("<") => order.is_lt(),
            Some("<=") => order.is_le(),
            Some(">") => order.is_gt(),
            Some(">=") => order.is_ge(),
            _ => return Err(view::invalid("a comparison of no known kind")),
        };
        if !holds {
            return Ok(false);
        }
        left = right;
    }
    Ok(true)
}

/// minijinja orders everything with everything: null comes before all numbers, so that a check of a bound lets it pass.
fn order(left: &Term, right: &Term) -> Result<Ordering, Error> {
    if left.is_undefined() || right.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let are_numbers = left.is_number() && right.is_number();
    let are_texts = left.as_str().is_some() && right.as_str().is_some();
    if are_numbers || are_texts {
        return Ok(left.cmp(right));
    }
    let (left, right) = (left.kind(), right.kind());
    Err(view::invalid(format!("only two numbers or two texts can be compared, not {left} and {right}")))
}

/// `a ~ b`: both as text.
fn concat(left: &Term, right: &Term) -> Result<String, Error> {
    let (left, right) = (text_of(left)?, text_of(right)?);
    meter::charge(left.len() + right.len())?;
    Ok([left, right].concat())
}

fn string(value: &Term) -> Result<String, Error> {
    text_of(value).map(Cow::into_owned)
}

/// Text as it is, everything else as its JSON: the same here, in `join` and in text around `${{ }}`.
fn text_of(value: &Term) -> Result<Cow<'_, str>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Cow::Borrowed(text));
    }
    let value = view::to_json(value, view::Room::new())?;
    meter::charge(view::measure(&value).bytes)?;
    Ok(Cow::Owned(value.to_string()))
}

fn batch(state: &State<'_, '_>, value: Term, count: usize, fill_with: Option<Term>) -> Result<Term, Error> {
    if count > RANGE_MAX {
        return Err(view::invalid(format!("a batch has at most {RANGE_MAX} elements")));
    }
    charge_arguments(std::slice::from_ref(&value), Price::Items)?;
    meter::charge(count * ELEMENT)?;
    filters::batch(state, value, count, fill_with)
}

fn join(
    value: &Term,
    joiner: Option<&str>,
    attribute: Option<&str>,
    options: Kwargs,
) -> Result<String, Error> {
    let joiner = match joiner {
        Some(joiner) => joiner,
        None => options.get::<Option<&str>>("d")?.unwrap_or_default(),
    };
    let attribute = match attribute {
        Some(attribute) => Some(attribute),
        None => options.get::<Option<&str>>("attribute")?,
    };
    options.assert_all_used()?;
    let mut joined = String::new();
    for (at, item) in value.try_iter()?.checked().enumerate() {
        let item = member(item?, attribute)?;
        let text = text_of(&item)?;
        let joiner = if at > 0 { joiner } else { "" };
        meter::charge(joiner.len() + text.len() + 1)?;
        joined.push_str(joiner);
        joined.push_str(&text);
    }
    Ok(joined)
}

/// The item itself, or what an attribute path such as `address.city` leads to.
fn member(item: Term, attribute: Option<&str>) -> Result<Term, Error> {
    attribute.into_iter().flat_map(|path| path.split('.')).try_fold(item, |item, key| {
        if item.is_undefined() {
            return Ok(item);
        }
        match key.parse::<usize>() {
            Ok(index) => item.get_item(&Term::from(index)),
            Err(_) => item.get_attr(key),
        }
    })
}

/// Numbers only: minijinja's own also adds text and lists, copying the sum each time.
fn sum(values: &Term, attribute: Option<&str>, options: Kwargs) -> Result<Term, Error> {
    let attribute = match attribute {
        Some(attribute) => Some(attribute),
        None => options.get::<Option<&str>>("attribute")?,
    };
    let start = options.get::<Option<Term>>("start")?.unwrap_or_else(|| Term::from(0));
    options.assert_all_used()?;
    let mut whole: i128 = 0;
    // Kept apart as long as possible: integers stay exact.
    let mut fraction: Option<f64> = None;
    let items = values.try_iter()?.checked().map(|item| member(item?, attribute));
    for item in std::iter::once(Ok(start)).chain(items) {
        let item = item?;
        if item.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        if item.is_integer() {
            let number = i128::try_from(item)?;
            whole = whole.checked_add(number).ok_or_else(|| view::invalid("the sum is too large"))?;
        } else if item.is_number() {
            *fraction.get_or_insert(0.0) += f64::try_from(item)?;
        } else {
            return Err(view::invalid(format!("can only sum numbers, not {}", item.kind())));
        }
    }
    Ok(match fraction {
        Some(fraction) => Term::from(whole as f64 + fraction),
        None => i64::try_from(whole).map_or_else(|_| Term::from(whole), Term::from),
    })
}

fn to_json(value: &Term, indent: Option<Term>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Term>>("indent")?,
    };
    options.assert_all_used()?;
    let value = view::to_json(value, view::Room::new())?;
    let size = view::measure(&value);
    let is_pretty = indent.is_some_and(|indent| indent.is_true());
    // Two blanks per level in front of each line, at most.
    meter::charge(if is_pretty { size.bytes.saturating_mul(1 + size.depth) } else { size.bytes })?;
    let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
    text.map_err(|error| view::invalid(error.to_string()))
}

fn keys(value: &Term) -> Result<Term, Error> {
    if value.kind() != ValueKind::Map {
        return Err(view::invalid(format!("only an object has keys, not {}", value.kind())));
    }
    Ok(Term::from(value.try_iter()?.checked().collect::<Result<Vec<Term>, Error>>()?))
}

fn values(value: &Term) -> Result<Term, Error> {
    if value.kind() != ValueKind::Map {
        return Err(view::invalid(format!("only an object has values, not {}", value.kind())));
    }
    let values = value.try_iter()?.checked().map(|key| value.get_item(&key?));
    Ok(Term::from(values.collect::<Result<Vec<Term>, Error>>()?))
}

/// `names | zip(ages)`: pairs, as many as the shorter list has elements.
fn zip(left: &Term, right: &Term) -> Result<Term, Error> {
    let pairs = left.try_iter()?.checked().zip(right.try_iter()?.checked()).map(|(left, right)| {
        meter::charge(3 * ELEMENT)?;
        Ok::<_, Error>(Term::from(vec![left?, right?]))
    });
    Ok(Term::from(pairs.collect::<Result<Vec<Term>, Error>>()?))
}

fn lines(text: &str) -> Result<Term, Error> {
    meter::charge(text.lines().count() * ELEMENT)?;
    Ok(Term::from(text.lines().map(Term::from).collect::<Vec<_>>()))
}

fn split(text: &str, separator: Option<&str>, splits_max: Option<usize>) -> Result<Term, Error> {
    let parts_max = splits_max.map_or(usize::MAX, |splits| splits.saturating_add(1));
    let parts = match separator {
        Some(separator) => text.matches(separator).count() + 1,
        None => text.split_whitespace().count(),
    };
    meter::charge(parts.min(parts_max) * ELEMENT)?;
    let parts: Vec<Term> = match separator {
        Some(separator) => text.splitn(parts_max, separator).map(Term::from).collect(),
        None => text.split_whitespace().map(Term::from).collect(),
    };
    Ok(Term::from(parts))
}

fn replace(text: &str, from: &str, to: &str) -> Result<String, Error> {
    let found = text.matches(from).count();
    meter::charge(text.len().saturating_add(found.saturating_mul(to.len())))?;
    Ok(text.replace(from, to))
}

/// `text | truncate(80)`: the first characters, and `end` (`...`) when something was cut off.
fn truncate(text: &str, length: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let length = match length {
        Some(length) => length,
        None => options.get::<Option<usize>>("length")?.unwrap_or(255),
    };
    let end = options.get::<Option<&str>>("end")?.unwrap_or("...");
    options.assert_all_used()?;
    match text.char_indices().nth(length) {
        None => Ok(text.to_owned()),
        Some((cut, _)) => Ok(format!("{}{end}", &text[..cut])),
    }
}

/// `range(5)`, `range(1, 6)`, `range(0, 100, 10)`.
fn range(first: i64, last: Option<i64>, step: Option<i64>) -> Result<Term, Error> {
    let (start, end) = last.map_or((0, first), |last| (first, last));
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(view::invalid("the step of a range is not 0"));
    }
    let span =
        if step > 0 { i128::from(end) - i128::from(start) } else { i128::from(start) - i128::from(end) };
    let step_size = i128::from(step).abs();
    let count = usize::try_from((span.max(0) + step_size - 1) / step_size).unwrap_or(usize::MAX);
    if count > RANGE_MAX {
        return Err(view::invalid(format!("a range has at most {RANGE_MAX} elements")));
    }
    meter::charge(count * ELEMENT)?;
    // Cannot overflow: each element lies between start and end.
    Ok(Term::from((0..count as i64).map(|at| Term::from(start + at * step)).collect::<Vec<_>>()))
}
