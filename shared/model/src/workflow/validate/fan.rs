//! Reads nodes that do something for each item of a list or again and again, and those that make one value of many.

use serde_json::{Map, Value};

use super::Checker;
use super::fields::Scope;
use super::inside::Inside;
use super::node::Draft;
use crate::decide::{IN_FLIGHT_MAX, ITEMS_MAX};
use crate::plan::{GoesOn, JoinSpec, JoinStrategy, LoopSpec, MapSpec, Quorum, Role, Tolerance};
use crate::workflow::expression::{ROOTS, Template};
use crate::workflow::schema::member;

/// What the `reduce` of a join reads of an element, beside `acc`.
pub(super) const REDUCED_FIELDS: &[&str] = &["index", "value"];
/// What a round of a loop, and the question whether there is another one, know.
const ROUND_FIELDS: &[&str] = &["index", "last"];

/// Items side by side when a map does not say how many: enough to be quick, few enough for what they call.
const PARALLEL_DEFAULT: u32 = 16;
const ITEM_NAME_CHARS_MAX: usize = 64;
/// Words of the language of expressions.
const KEYWORDS: &[&str] =
    &["and", "or", "not", "if", "else", "in", "is", "true", "false", "none", "True", "False", "None", "null"];

impl Checker<'_> {
    pub(super) fn map(&mut self, params: &Value, draft: &mut Draft) -> Role {
        self.check_place(draft);
        let pointer = draft.pointer.clone();
        let each = self.each(params, draft);
        let name = params.get("as").and_then(|name| self.item_name(name, &member(&pointer, "as")));
        let parallel_max = params
            .get("max_parallel")
            .and_then(|value| self.number(value, &member(&pointer, "max_parallel"), 1, IN_FLIGHT_MAX as u64));
        let tolerate =
            params.get("tolerate").map(|value| self.tolerance(value, &member(&pointer, "tolerate")));
        self.item_name = name;
        let first_inside = self.inside.len();
        self.item_body(params, draft, Inside::Item { root: "item", fields: &["index", "count", "value"] });
        self.item_name = None;
        let parallel_max = parallel_max.and_then(|it| u32::try_from(it).ok()).unwrap_or(PARALLEL_DEFAULT);
        Role::Map(MapSpec {
            each: each.unwrap_or_else(|| Template::literal(Value::Null)),
            parallel_max,
            slices: self.slices(params, draft, parallel_max, first_inside),
            is_slice: self.is_slice_itself(draft),
            tolerate: tolerate.flatten().unwrap_or(Tolerance::Count(0)),
        })
    }

    pub(super) fn loops(&mut self, params: &Value, draft: &mut Draft) -> Role {
        self.check_place(draft);
        let pointer = draft.pointer.clone();
        let scope = Scope { fan: Some(("loop", ROUND_FIELDS)), ..draft.scope };
        let mut condition = |key: &str| {
            params.get(key).and_then(|value| self.condition(value, &member(&pointer, key), scope))
        };
        let (before, after) = (condition("while"), condition("until"));
        let goes_on = match (params.get("while"), params.get("until")) {
            (Some(_), None) => before.map(GoesOn::While),
            (None, Some(_)) => after.map(GoesOn::Until),
            _ => {
                let detail = "how long it goes on: `while` or `until`, one of the two";
                self.problem("missing_field", &pointer, detail);
                None
            }
        };
        let rounds_max = match params.get("max_iterations") {
            Some(value) => self.number(value, &member(&pointer, "max_iterations"), 1, ITEMS_MAX as u64),
            None => {
                let detail = "`max_iterations` is missing: when does it end in any case?";
                self.problem("missing_field", &pointer, detail);
                None
            }
        };
        self.item_body(params, draft, Inside::Item { root: "loop", fields: ROUND_FIELDS });
        // What was not understood is reported, and no such plan runs.
        match (goes_on, rounds_max) {
            (Some(goes_on), Some(max)) => {
                Role::Loop(LoopSpec { goes_on, rounds_max: u32::try_from(max).unwrap_or(u32::MAX) })
            }
            _ => {
                draft.is_partial = true;
                Role::Run
            }
        }
    }

    pub(super) fn join(&mut self, params: &Value, draft: &mut Draft) -> Role {
        let pointer = draft.pointer.clone();
        if draft.node.timeout.take().is_some() {
            let detail = "a join takes no time";
            self.key_problem("invalid_field", &member(&pointer, "timeout"), detail);
        }
        let over = params.get("over").and_then(|_| self.list_expression(params, "over", draft));
        let strategies = ["merge", "collect", "reduce", "vote"].map(|word| (word, word));
        let strategy = match params.get("strategy") {
            Some(strategy) => self.word(strategy, &member(&pointer, "strategy"), &strategies),
            None => {
                let detail = "`strategy` is missing: merge, collect, reduce or vote";
                self.problem("missing_field", &pointer, detail);
                None
            }
        };
        let owners = [("initial", "reduce"), ("reduce", "reduce"), ("quorum", "vote")];
        for (key, owner) in owners {
            if params.get(key).is_some() && strategy.is_some_and(|strategy| strategy != owner) {
                let detail = format!("`{key}` goes with `strategy: {owner}`");
                self.key_problem("invalid_field", &member(&pointer, key), detail);
            }
        }
        let strategy = match strategy {
            Some("merge") => JoinStrategy::Merge,
            Some("vote") => JoinStrategy::Vote(self.quorum(params, &pointer)),
            Some("reduce") => self.reduce(params, draft),
            _ => JoinStrategy::Collect,
        };
        Role::Join(JoinSpec { strategy, over })
    }

    fn reduce(&mut self, params: &Value, draft: &Draft) -> JoinStrategy {
        let mut template = |key: &str, scope: Scope| match params.get(key) {
            Some(value) => self.template(value.clone(), &member(&draft.pointer, key), scope),
            None => {
                let detail = format!("`{key}` is missing: `initial` and `reduce` go with `strategy: reduce`");
                self.problem("missing_field", &draft.pointer, detail);
                None
            }
        };
        let initial = template("initial", draft.scope);
        let step = template("reduce", Scope { fan: Some(("item", REDUCED_FIELDS)), ..draft.scope });
        let or_null = |template: Option<Template>| template.unwrap_or_else(|| Template::literal(Value::Null));
        JoinStrategy::Reduce { initial: or_null(initial), step: or_null(step) }
    }

    fn quorum(&mut self, params: &Value, pointer: &str) -> Quorum {
        match params.get("quorum") {
            None => Quorum::Majority,
            Some(word) if word == "majority" => Quorum::Majority,
            Some(value) => {
                let count = value.as_u64().filter(|count| (1..=ITEMS_MAX as u64).contains(count));
                if count.is_none() {
                    let detail = format!("this is `majority`, or a whole number from 1 to {ITEMS_MAX}");
                    self.problem("invalid_field", &member(pointer, "quorum"), detail);
                }
                count.and_then(|count| u32::try_from(count).ok()).map_or(Quorum::Majority, Quorum::Count)
            }
        }
    }

    fn each(&mut self, params: &Value, draft: &Draft) -> Option<Template> {
        if params.get("each").is_none() {
            self.problem(
                "missing_field",
                &draft.pointer,
                "`each` is missing: an expression that gives a list",
            );
            return None;
        }
        self.list_expression(params, "each", draft)
    }

    fn list_expression(&mut self, params: &Value, key: &str, draft: &Draft) -> Option<Template> {
        let (each, pointer) = (params.get(key)?, member(&draft.pointer, key));
        if !each.is_array() && !each.as_str().is_some_and(|text| text.contains("${{")) {
            let detail = "this is an expression that gives a list, or a list";
            self.problem("invalid_field", &pointer, detail);
            return None;
        }
        self.template(each.clone(), &pointer, draft.scope)
    }

    /// The node that is run for each item.
    fn item_body(&mut self, params: &Value, draft: &mut Draft, inside: Inside) {
        let pointer = member(&draft.pointer, "do");
        match params.get("do") {
            Some(body) => draft.node.body = self.inside(draft, body, pointer, inside),
            None => {
                let detail = "`do` is missing: the node, or the nodes, that are run for each";
                self.problem("missing_field", &draft.pointer, detail);
            }
        }
    }

    pub(super) fn check_place(&mut self, draft: &mut Draft) {
        if draft.node.timeout.take().is_some() {
            let detail = "the time of an attempt is said inside `do`, for each item";
            self.key_problem("invalid_field", &member(&draft.pointer, "timeout"), detail);
        }
    }

    fn item_name(&mut self, value: &Value, pointer: &str) -> Option<String> {
        let name = value.as_str().unwrap_or_default();
        let is_name = name.len() <= ITEM_NAME_CHARS_MAX
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            let detail = format!(
                "a name for the item starts with a letter and goes on with letters, digits and `_`, \
                 {ITEM_NAME_CHARS_MAX} characters at most"
            );
            self.problem("bad_name", pointer, detail);
            return None;
        }
        // `item` is what it is called anyway: its value stands at `item.value`.
        if ROOTS.contains(&name) || KEYWORDS.contains(&name) {
            let detail = format!("`{name}` means something else in expressions; choose another name");
            self.problem("bad_name", pointer, detail);
            return None;
        }
        Some(name.to_owned())
    }

    fn tolerance(&mut self, value: &Value, pointer: &str) -> Option<Tolerance> {
        let map: &Map<String, Value> = self.object(value, pointer, "`tolerate`")?;
        self.check_unknown_keys(map, pointer, &["failed_count", "failed_percent"], &[]);
        match (map.get("failed_count"), map.get("failed_percent")) {
            (Some(count), None) => {
                let pointer = member(pointer, "failed_count");
                let count = self.number(count, &pointer, 0, ITEMS_MAX as u64)?;
                Some(Tolerance::Count(u32::try_from(count).unwrap_or(u32::MAX)))
            }
            (None, Some(percent)) => {
                let found = percent.as_f64().filter(|percent| (0.0..=100.0).contains(percent));
                if found.is_none() {
                    let detail = "this is a number from 0 to 100";
                    self.problem("invalid_field", &member(pointer, "failed_percent"), detail);
                }
                found.map(Tolerance::Percent)
            }
            _ => {
                let detail = "how many items may fail: `failed_count` or `failed_percent`, one of the two";
                self.problem("missing_field", pointer, detail);
                None
            }
        }
    }
}
