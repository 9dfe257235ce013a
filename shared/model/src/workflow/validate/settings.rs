//! Reads what nodes and whole definitions share: retries, gates, defaults.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Checker;
use super::fields::Scope;
use crate::concurrency::{ConcurrencySpec, OnConflict, PLACES_MAX};
use crate::event::{CompensationOrder, Ending, ExpiryAction};
use crate::plan::{CompensationSpec, GateSpec};
use crate::rate_limit::{OnLimit, PERIOD_MAX, PERIOD_MIN, RateLimit, TURNS_MAX};
use crate::retry::{ATTEMPTS_MAX, Growth, Jitter, RetryPolicy};
use crate::workflow::catalog::gate_schema;
use crate::workflow::schema::member;

/// More would only say the same again.
const PATTERNS_MAX: usize = 50;
const PATTERN_CHARS_MAX: usize = 128;
const FACTOR_MAX: f64 = 100.0;
const APPROVERS_MAX: usize = 100;

const RETRY_KEYS: &[&str] = &["max_attempts", "errors", "backoff"];
const BACKOFF_KEYS: &[&str] = &["type", "initial", "factor", "max", "jitter"];
const DEFAULTS_KEYS: &[&str] = &["timeout", "retry", "on_error"];
const COMPENSATION_KEYS: &[&str] = &["when", "order"];
const CONCURRENCY_KEYS: &[&str] = &["group", "max", "on_conflict"];
const APPROVERS_KEYS: &[&str] = &["any_of", "min", "exclude_requester"];

/// What holds for every node that does not say otherwise.
#[derive(Default)]
pub(super) struct Defaults {
    pub timeout: Option<Duration>,
    pub retry: RetryPolicy,
    /// `on_error` values as they were written, nearest first, each with its pointer.
    pub on_error: Vec<(Value, &'static str)>,
    /// As they were written.
    pub error_handlers: Vec<Value>,
}

impl Checker<'_> {
    pub(super) fn read_defaults(&mut self, top: &Map<String, Value>) {
        let mut defaults = Defaults::default();
        if let Some(value) = top.get("defaults")
            && let Some(map) = self.object(value, "/defaults", "`defaults`")
        {
            self.check_unknown_keys(map, "/defaults", DEFAULTS_KEYS, &[]);
            defaults.timeout =
                map.get("timeout").and_then(|timeout| self.duration(timeout, "/defaults/timeout"));
            if let Some(retry) = map.get("retry") {
                defaults.retry = self.retry(retry, "/defaults/retry", RetryPolicy::default());
            }
            defaults.on_error.extend(map.get("on_error").map(|rules| (rules.clone(), "/defaults/on_error")));
        }
        defaults.on_error.extend(top.get("on_error").map(|rules| (rules.clone(), "/on_error")));
        if let Some(value) = top.get("error_handlers")
            && let Some(list) = self.list(value, "/error_handlers", "error handlers")
        {
            defaults.error_handlers = list.to_vec();
        }
        self.check_inherited_rules(&defaults);
        self.defaults = defaults;
    }

    pub(super) fn concurrency(&mut self, top: &Map<String, Value>) -> Option<ConcurrencySpec> {
        let map = self.object(top.get("concurrency")?, "/concurrency", "`concurrency`")?;
        self.check_unknown_keys(map, "/concurrency", CONCURRENCY_KEYS, &[]);
        let words = OnConflict::ALL.iter().map(|it| (it.as_str(), *it)).collect::<Vec<_>>();
        let on_conflict = map
            .get("on_conflict")
            .and_then(|value| self.word(value, "/concurrency/on_conflict", &words))
            .unwrap_or_default();
        let max = map
            .get("max")
            .and_then(|value| self.number(value, "/concurrency/max", 1, u64::from(PLACES_MAX)))
            .map_or(1, |max| max as u32);
        if on_conflict == OnConflict::CancelRunning && max > 1 {
            let detail = "with `cancel_running` one run is under way, the newest: leave `max` out";
            self.problem("invalid_field", "/concurrency/max", detail);
        }
        let Some(Value::String(group)) = map.get("group") else {
            self.problem("missing_field", "/concurrency", "`group` is missing: text that names the group");
            return None;
        };
        let group = self.template(Value::String(group.clone()), "/concurrency/group", Scope::group())?;
        Some(ConcurrencySpec { group, max, on_conflict })
    }

    /// How often something may happen; `turns` is the key that counts it.
    pub(super) fn rate_limit(&mut self, value: &Value, pointer: &str, turns: &str) -> Option<RateLimit> {
        let map = self.object(value, pointer, "a rate limit")?;
        self.check_unknown_keys(map, pointer, &[turns, "per", "burst", "on_limit"], &[]);
        for key in [turns, "per"].into_iter().filter(|key| !map.contains_key(*key)) {
            self.problem(
                "missing_field",
                pointer,
                format!("`{key}` is missing: so many `{turns}` `per` such a time"),
            );
        }
        let mut number = |key: &str| {
            let number = self.number(map.get(key)?, &member(pointer, key), 1, u64::from(TURNS_MAX));
            number.and_then(|number| u32::try_from(number).ok())
        };
        let (turns, burst) = (number(turns), number("burst"));
        let per = map.get("per").and_then(|value| self.duration(value, &member(pointer, "per")));
        let (turns, per) = (turns?, per?);
        if per < PERIOD_MIN || per > PERIOD_MAX {
            self.problem("invalid_field", &member(pointer, "per"), "a period lasts from a second to 31 days");
        }
        let on_limit = map.get("on_limit");
        let on_limit =
            on_limit.and_then(|value| self.word(value, &member(pointer, "on_limit"), OnLimit::ALL));
        Some(RateLimit { turns, per, burst: burst.unwrap_or(turns), on_limit: on_limit.unwrap_or_default() })
    }

    pub(super) fn compensation(&mut self, top: &Map<String, Value>) -> CompensationSpec {
        let mut spec = CompensationSpec::default();
        let Some(value) = top.get("compensation") else { return spec };
        let Some(map) = self.object(value, "/compensation", "`compensation`") else { return spec };
        self.check_unknown_keys(map, "/compensation", COMPENSATION_KEYS, &[]);
        if let Some(value) = map.get("when")
            && let Some(list) = self.list(value, "/compensation/when", "ends of a run")
        {
            let words = [("failed", Ending::Failed), ("canceled", Ending::Canceled)];
            let ends: Vec<Ending> = (list.iter().enumerate())
                .filter_map(|(at, value)| self.word(value, &format!("/compensation/when/{at}"), &words))
                .collect();
            spec.after_failure = ends.contains(&Ending::Failed);
            spec.after_cancel = ends.contains(&Ending::Canceled);
        }
        if let Some(value) = map.get("order") {
            let words = [
                ("reverse", CompensationOrder::Reverse),
                ("declared", CompensationOrder::Declared),
                ("parallel", CompensationOrder::Parallel),
            ];
            spec.order = self.word(value, "/compensation/order", &words).unwrap_or_default();
        }
        spec
    }

    /// A policy, where `base` says what is not said.
    pub(super) fn retry(&mut self, value: &Value, pointer: &str, base: RetryPolicy) -> RetryPolicy {
        let mut policy = base;
        let Some(map) = self.object(value, pointer, "`retry`") else { return policy };
        self.check_unknown_keys(map, pointer, RETRY_KEYS, &[]);
        if let Some(value) = map.get("max_attempts")
            && let Some(number) = self.number(value, &member(pointer, "max_attempts"), 1, ATTEMPTS_MAX.into())
        {
            policy.max_attempts = u16::try_from(number).unwrap_or(ATTEMPTS_MAX);
        }
        if let Some(value) = map.get("errors") {
            policy.errors = self.patterns(value, &member(pointer, "errors"));
        }
        if let Some(value) = map.get("backoff") {
            self.backoff(value, &member(pointer, "backoff"), &mut policy);
        }
        policy
    }

    pub(super) fn backoff(&mut self, value: &Value, pointer: &str, policy: &mut RetryPolicy) {
        let Some(map) = self.object(value, pointer, "`backoff`") else { return };
        self.check_unknown_keys(map, pointer, BACKOFF_KEYS, &[]);
        let backoff = &mut policy.backoff;
        let kinds = [
            ("fixed", Growth::Fixed),
            ("linear", Growth::Linear),
            ("exponential", Growth::Exponential { factor: 2.0 }),
        ];
        if let Some(value) = map.get("type") {
            backoff.growth = self.word(value, &member(pointer, "type"), &kinds).unwrap_or(backoff.growth);
        }
        if let Some(value) = map.get("factor") {
            let pointer = member(pointer, "factor");
            let factor = value.as_f64().filter(|factor| (1.0..=FACTOR_MAX).contains(factor));
            match (&mut backoff.growth, factor) {
                (Growth::Exponential { factor: slot }, Some(factor)) => *slot = factor,
                (_, None) => {
                    let detail = format!("this is a number from 1 to {FACTOR_MAX}");
                    self.problem("invalid_field", &pointer, detail);
                }
                _ => self.key_problem("invalid_field", &pointer, "`factor` goes with `type: exponential`"),
            }
        }
        if let Some(value) = map.get("initial") {
            backoff.initial = self.duration(value, &member(pointer, "initial")).unwrap_or(backoff.initial);
            // Without a word about it, the bound does not undercut where it starts.
            backoff.max = backoff.max.max(backoff.initial);
        }
        if let Some(value) = map.get("max") {
            let pointer = member(pointer, "max");
            if let Some(max) = self.duration(value, &pointer) {
                if max < backoff.initial {
                    self.problem("invalid_field", &pointer, "`max` is shorter than `initial`");
                }
                backoff.max = max;
            }
        }
        if let Some(value) = map.get("jitter") {
            let kinds = [("none", Jitter::None), ("full", Jitter::Full), ("equal", Jitter::Equal)];
            backoff.jitter = self.word(value, &member(pointer, "jitter"), &kinds).unwrap_or(backoff.jitter);
        }
    }

    pub(super) fn patterns(&mut self, value: &Value, pointer: &str) -> Vec<String> {
        let Some(list) = self.list(value, pointer, "error patterns") else { return Vec::new() };
        if list.is_empty() || list.len() > PATTERNS_MAX {
            self.problem("invalid_field", pointer, format!("1 to {PATTERNS_MAX} patterns stand here"));
        }
        let mut patterns = Vec::new();
        for (at, value) in list.iter().enumerate().take(PATTERNS_MAX) {
            match value.as_str().filter(|pattern| is_pattern(pattern)) {
                Some(pattern) => patterns.push(pattern.to_owned()),
                None => self.problem(
                    "invalid_field",
                    &format!("{pointer}/{at}"),
                    "an error pattern is a dotted name such as timeout, http.503, http.5xx, http.* or *",
                ),
            }
        }
        patterns
    }

    /// The gate that a map describes; keys that are no gate's are the caller's to check.
    pub(super) fn gate(
        &mut self,
        map: &Map<String, Value>,
        pointer: &str,
        scope: Scope,
        timeout: Option<Duration>,
    ) -> GateSpec {
        let mut gate = GateSpec {
            any_of: Vec::new(),
            min: 1,
            exclude_requester: false,
            auto_approve_if: None,
            show: None,
            form: None,
            timeout,
            on_timeout: ExpiryAction::default(),
        };
        if let Some(value) = map.get("approvers") {
            self.approvers(value, &member(pointer, "approvers"), &mut gate);
        }
        if let Some(value) = map.get("auto_approve_if") {
            gate.auto_approve_if = self.condition(value, &member(pointer, "auto_approve_if"), scope);
        }
        if let Some(value) = map.get("show") {
            gate.show = self.template(value.clone(), &member(pointer, "show"), scope);
        }
        if let Some(value) = map.get("form") {
            gate.form = self.schema(value, &member(pointer, "form"));
        }
        if let Some(value) = map.get("on_timeout") {
            let pointer = member(pointer, "on_timeout");
            let words = [
                ("reject", ExpiryAction::Reject),
                ("approve", ExpiryAction::Approve),
                ("escalate", ExpiryAction::Escalate),
            ];
            gate.on_timeout = self.word(value, &pointer, &words).unwrap_or_default();
            if timeout.is_none() {
                self.key_problem("invalid_field", &pointer, "`on_timeout` needs a `timeout` beside it");
            }
        }
        gate
    }

    fn approvers(&mut self, value: &Value, pointer: &str, gate: &mut GateSpec) {
        let Some(map) = self.object(value, pointer, "`approvers`") else { return };
        self.check_unknown_keys(map, pointer, APPROVERS_KEYS, &[]);
        let any_of = member(pointer, "any_of");
        if let Some(list) = map.get("any_of").and_then(|value| self.list(value, &any_of, "approvers")) {
            if list.is_empty() || list.len() > APPROVERS_MAX {
                self.problem("invalid_field", &any_of, format!("1 to {APPROVERS_MAX} approvers stand here"));
            }
            for (at, value) in list.iter().enumerate().take(APPROVERS_MAX) {
                match value.as_str().filter(|entry| is_approver(entry)) {
                    Some(entry) => gate.any_of.push(entry.to_owned()),
                    None => self.problem(
                        "invalid_field",
                        &format!("{any_of}/{at}"),
                        "an approver is written as user:ada or role:editor",
                    ),
                }
            }
        }
        let min = member(pointer, "min");
        if let Some(number) = map.get("min").and_then(|value| self.number(value, &min, 1, 100)) {
            gate.min = u32::try_from(number).unwrap_or(1);
            let users = gate.any_of.iter().filter(|entry| entry.starts_with("user:")).count();
            // Roles may have any number of people; a list of users alone does not.
            if !gate.any_of.is_empty() && users == gate.any_of.len() && users < gate.min as usize {
                let detail = format!("{} must approve, but only {users} are named", gate.min);
                self.problem("invalid_field", &min, detail);
            }
        }
        let exclude = member(pointer, "exclude_requester");
        if let Some(value) = map.get("exclude_requester") {
            gate.exclude_requester = self.boolean(value, &exclude).unwrap_or(false);
        }
    }

    /// `approval:` in front of a node that does something.
    pub(super) fn gate_before(&mut self, value: &Value, pointer: &str, scope: Scope) -> Option<GateSpec> {
        let map = self.object(value, pointer, "`approval`")?;
        let schema = gate_schema();
        let mut known: Vec<&str> = schema["properties"]
            .as_object()
            .map(|keys| keys.keys().map(String::as_str).collect())
            .unwrap_or_default();
        known.push("timeout");
        self.check_unknown_keys(map, pointer, &known, &[]);
        let timeout =
            map.get("timeout").and_then(|timeout| self.duration(timeout, &member(pointer, "timeout")));
        Some(self.gate(map, pointer, scope, timeout))
    }
}

pub(super) fn is_pattern(pattern: &str) -> bool {
    let body = pattern.strip_suffix('*').unwrap_or(pattern);
    pattern == "*"
        || (pattern.len() <= PATTERN_CHARS_MAX
            && body.starts_with(|first: char| first.is_ascii_lowercase())
            // No error ends in a dot.
            && !pattern.ends_with('.')
            && body.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.')
            }))
}

fn is_approver(entry: &str) -> bool {
    let name = entry.strip_prefix("user:").or_else(|| entry.strip_prefix("role:"));
    name.is_some_and(|name| !name.is_empty() && name.len() <= 200 && !name.chars().any(char::is_control))
}
