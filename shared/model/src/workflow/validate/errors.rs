//! Reads what a failure does: the rules of a node, and those that hold for many.

use serde_json::{Map, Value};

use super::Checker;
use super::fields::Scope;
use super::inside::Inside;
use super::node::Draft;
use super::settings::{Defaults, is_pattern};
use crate::event::RuleAction;
use crate::plan::{ErrorAction, ErrorRule, Part};
use crate::retry::RetryPolicy;
use crate::workflow::schema::member;

const RULES_MAX: usize = 50;
const NODE_PATTERN_CHARS_MAX: usize = 128;

const HANDLER_KEYS: &[&str] = &["node_pattern", "error_type", "action"];
/// Actions, and what each may say beside its name.
const ACTIONS: &[(&str, RuleAction, &[&str])] = &[
    ("retry", RuleAction::Retry, &["max_attempts", "backoff"]),
    ("wait_for_agent", RuleAction::WaitForAgent, &["timeout"]),
    ("fallback", RuleAction::Fallback, &["do", "output"]),
    ("skip", RuleAction::Skip, &[]),
    ("compensate", RuleAction::Compensate, &[]),
    ("pause", RuleAction::Pause, &[]),
    (
        "escalate",
        RuleAction::Escalate,
        &["approvers", "auto_approve_if", "show", "form", "timeout", "on_timeout"],
    ),
    ("continue", RuleAction::Continue, &["output"]),
    ("fail", RuleAction::Fail, &[]),
];

/// What a rule may do, as definitions spell it.
pub(in crate::workflow) fn action_words() -> Vec<&'static str> {
    ACTIONS.iter().map(|(word, ..)| *word).collect()
}

/// Whose failures a rule decides about.
pub(super) enum For<'a> {
    /// Those of this node, which may bring nodes of its own.
    Node(&'a mut Draft),
    /// Those of many.
    Many(Scope),
}

impl For<'_> {
    fn scope(&self) -> Scope {
        let scope = match self {
            Self::Node(draft) => draft.scope,
            Self::Many(scope) => *scope,
        };
        Scope { has_own_error: true, ..scope }
    }
}

impl Checker<'_> {
    /// Reports what is wrong with rules that nodes inherit, once. Each node compiles its own copy of them;
    /// what they read is checked there, because it must be there for each.
    pub(super) fn check_inherited_rules(&mut self, defaults: &Defaults) {
        let reads = self.reads.len();
        for (at, handler) in defaults.error_handlers.iter().enumerate() {
            self.handler(handler, &format!("/error_handlers/{at}"), Scope::outputs());
        }
        if defaults.error_handlers.len() > RULES_MAX {
            self.problem("invalid_field", "/error_handlers", format!("at most {RULES_MAX} error handlers"));
        }
        for (rules, pointer) in &defaults.on_error {
            self.error_rules(rules, pointer, &mut For::Many(Scope::outputs()));
        }
        self.reads.truncate(reads);
    }

    /// The rules of a node, and after them those of the definition.
    pub(super) fn node_error_rules(&mut self, value: Option<&Value>, draft: &mut Draft) -> Vec<ErrorRule> {
        let pointer = member(&draft.pointer, "on_error");
        let own = value.map(|value| self.error_rules(value, &pointer, &mut For::Node(&mut *draft)));
        let mut rules = own.unwrap_or_default();
        let inherited = std::mem::take(&mut self.defaults);
        let problems = self.problems.len();
        // What was said about errors of many nodes is obeyed inside a body already.
        let obeys = !draft.node.has_body() && !self.is_slice_itself(draft);
        let handlers = inherited.error_handlers.iter().filter(|_| obeys);
        for (at, handler) in handlers.enumerate().take(RULES_MAX) {
            let is_meant = handler.get("node_pattern").and_then(Value::as_str).unwrap_or("*");
            if is_named_by(&draft.node.id, is_meant) {
                rules.extend(self.handler(handler, &format!("/error_handlers/{at}"), draft.scope));
            }
        }
        // What holds for all nodes holds for the one that has items; its items are counted first.
        for (value, pointer) in inherited.on_error.iter().filter(|_| draft.scope.fan.is_none()) {
            rules.extend(self.error_rules(value, pointer, &mut For::Many(draft.scope)));
        }
        // `check_inherited_rules` has reported them where they stand.
        self.problems.truncate(problems);
        self.defaults = inherited;
        rules
    }

    fn error_rules(&mut self, value: &Value, pointer: &str, whose: &mut For<'_>) -> Vec<ErrorRule> {
        let Some(list) = value.as_array() else {
            let patterns = vec!["*".to_owned()];
            let action = self.action(&Map::new(), value, pointer, pointer, &patterns, whose);
            let rule = |action| ErrorRule { pointer: pointer.to_owned(), patterns, action };
            return action.map(rule).into_iter().collect();
        };
        if list.len() > RULES_MAX {
            self.problem("invalid_field", pointer, format!("at most {RULES_MAX} rules"));
        }
        let rules = list.iter().enumerate().take(RULES_MAX);
        rules.filter_map(|(at, rule)| self.error_rule(rule, format!("{pointer}/{at}"), whose)).collect()
    }

    /// `{match: [http.5xx], action: retry, max_attempts: 5}`
    fn error_rule(&mut self, value: &Value, pointer: String, whose: &mut For<'_>) -> Option<ErrorRule> {
        let map = self.object(value, &pointer, "a rule")?;
        let patterns = match map.get("match") {
            Some(patterns) => self.patterns(patterns, &member(&pointer, "match")),
            None => {
                self.problem(
                    "missing_field",
                    &pointer,
                    "`match` is missing: which errors? [\"*\"] means all",
                );
                Vec::new()
            }
        };
        let Some(name) = map.get("action") else {
            self.problem("missing_field", &pointer, "`action` is missing: retry, pause, fail, …");
            return None;
        };
        let arguments: Map<String, Value> =
            map.iter().filter(|(key, _)| *key != "match" && *key != "action").map(owned).collect();
        let action =
            self.action(&arguments, name, &member(&pointer, "action"), &pointer, &patterns, whose)?;
        Some(ErrorRule { pointer, patterns, action })
    }

    /// `{node_pattern: "pay*", error_type: http.5xx, action: {type: retry, max_attempts: 5}}`
    fn handler(&mut self, value: &Value, pointer: &str, scope: Scope) -> Option<ErrorRule> {
        let map = self.object(value, pointer, "an error handler")?;
        self.check_unknown_keys(map, pointer, HANDLER_KEYS, &[]);
        if let Some(value) = map.get("node_pattern")
            && !value.as_str().is_some_and(is_node_pattern)
        {
            let detail = "a node pattern is a node's id, where * stands for any characters";
            self.problem("invalid_field", &member(pointer, "node_pattern"), detail);
        }
        let patterns = match map.get("error_type") {
            None => vec!["*".to_owned()],
            Some(Value::String(one)) if is_pattern(one) => vec![one.clone()],
            Some(Value::String(_)) => {
                let detail =
                    "an error type is a dotted name such as timeout, http.503, http.5xx, http.* or *";
                self.problem("invalid_field", &member(pointer, "error_type"), detail);
                Vec::new()
            }
            Some(list) => self.patterns(list, &member(pointer, "error_type")),
        };
        let action_pointer = member(pointer, "action");
        let whose = &mut For::Many(scope);
        let action = match map.get("action") {
            Some(Value::Object(action)) => {
                let Some(name) = action.get("type") else {
                    self.problem(
                        "missing_field",
                        &action_pointer,
                        "`type` is missing: retry, pause, fail, …",
                    );
                    return None;
                };
                let arguments = action.iter().filter(|(key, _)| *key != "type").map(owned).collect();
                let pointer_of_name = member(&action_pointer, "type");
                self.action(&arguments, name, &pointer_of_name, &action_pointer, &patterns, whose)?
            }
            Some(name) => {
                self.action(&Map::new(), name, &action_pointer, &action_pointer, &patterns, whose)?
            }
            None => {
                self.problem("missing_field", pointer, "`action` is missing: retry, pause, fail, …");
                return None;
            }
        };
        Some(ErrorRule { pointer: pointer.to_owned(), patterns, action })
    }

    /// `pointer` is where the action's arguments stand.
    fn action(
        &mut self,
        arguments: &Map<String, Value>,
        name: &Value,
        name_pointer: &str,
        pointer: &str,
        patterns: &[String],
        whose: &mut For<'_>,
    ) -> Option<ErrorAction> {
        let words: Vec<(&str, usize)> = ACTIONS.iter().enumerate().map(|(at, it)| (it.0, at)).collect();
        let (word, action, keys) = ACTIONS[self.word(name, name_pointer, &words)?];
        self.check_arguments(arguments, pointer, word, keys);
        let scope = whose.scope();
        let output = |checker: &mut Self| {
            arguments
                .get("output")
                .and_then(|it| checker.template(it.clone(), &member(pointer, "output"), scope))
        };
        Some(match action {
            RuleAction::Retry => ErrorAction::Retry(self.rule_retry(arguments, pointer, patterns)),
            RuleAction::WaitForAgent => {
                let Some(timeout) = arguments.get("timeout") else {
                    self.problem(
                        "missing_field",
                        pointer,
                        "`timeout` is missing: how long may the agent be away?",
                    );
                    return None;
                };
                ErrorAction::WaitForAgent(self.duration(timeout, &member(pointer, "timeout"))?)
            }
            RuleAction::Fallback => self.fallback(arguments, pointer, whose)?,
            RuleAction::Skip => ErrorAction::Skip,
            RuleAction::Pause => ErrorAction::Pause,
            RuleAction::Fail => ErrorAction::Fail,
            RuleAction::Continue => ErrorAction::Continue(output(self)),
            RuleAction::Compensate => {
                self.asked_to_compensate.get_or_insert_with(|| name_pointer.to_owned());
                ErrorAction::Compensate
            }
            RuleAction::Escalate if scope.fan.is_some() => {
                let detail = "people are not asked about each item: escalate at the node that has them";
                self.problem("invalid_field", name_pointer, detail);
                return None;
            }
            RuleAction::Escalate => {
                let timeout = arguments.get("timeout");
                let timeout = timeout.and_then(|it| self.duration(it, &member(pointer, "timeout")));
                ErrorAction::Escalate(self.gate(arguments, pointer, scope, timeout))
            }
        })
    }

    fn check_arguments(&mut self, arguments: &Map<String, Value>, pointer: &str, word: &str, keys: &[&str]) {
        for key in arguments.keys().filter(|key| !keys.contains(&key.as_str())) {
            let owners: Vec<&str> = ACTIONS
                .iter()
                .filter(|(_, _, theirs)| theirs.contains(&key.as_str()))
                .map(|(owner, ..)| *owner)
                .collect();
            if owners.is_empty() {
                self.unknown_key(key, pointer, keys, &[]);
                continue;
            }
            let owners = crate::workflow::list_of(&owners, "or");
            let detail = format!("`{key}` does not go with `action: {word}`, but with {owners}");
            self.key_problem("invalid_field", &member(pointer, key), detail);
        }
    }

    fn rule_retry(
        &mut self,
        arguments: &Map<String, Value>,
        pointer: &str,
        patterns: &[String],
    ) -> RetryPolicy {
        if !arguments.contains_key("max_attempts") {
            let detail = "`max_attempts` is missing: how many attempts in all, the first one included?";
            self.problem("missing_field", pointer, detail);
        }
        // The rule's own patterns say which errors are worth it.
        let base = RetryPolicy { errors: patterns.to_vec(), ..RetryPolicy::default() };
        self.retry(&Value::Object(arguments.clone()), pointer, base)
    }

    fn fallback(
        &mut self,
        arguments: &Map<String, Value>,
        pointer: &str,
        whose: &mut For<'_>,
    ) -> Option<ErrorAction> {
        let scope = whose.scope();
        match (arguments.get("do"), arguments.get("output")) {
            (None, Some(output)) => {
                let output = self.template(output.clone(), &member(pointer, "output"), scope)?;
                Some(ErrorAction::Fallback(Some(output)))
            }
            (Some(node), None) => {
                let pointer = member(pointer, "do");
                let For::Node(draft) = whose else {
                    let detail = "a node in place of another is said at that node; here goes `output`";
                    self.key_problem("invalid_field", &pointer, detail);
                    return None;
                };
                match (draft.node.part, draft.node.fallback) {
                    (Part::Main | Part::Item { .. }, None) => {
                        draft.node.fallback = self.inside(draft, node, pointer, Inside::Fallback);
                        draft.node.fallback.map(|_| ErrorAction::Fallback(None))
                    }
                    (Part::Main | Part::Item { .. }, Some(_)) => {
                        self.key_problem(
                            "invalid_field",
                            &pointer,
                            "another rule of this node has a `do` already",
                        );
                        None
                    }
                    _ => {
                        self.key_problem("invalid_field", &pointer, "a fallback has no fallback of its own");
                        None
                    }
                }
            }
            _ => {
                let detail = "a fallback is a node (`do`) or a value (`output`): one of the two stands here";
                self.problem("missing_field", pointer, detail);
                None
            }
        }
    }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn is_node_pattern(pattern: &str) -> bool {
    !pattern.is_empty()
        && pattern.len() <= NODE_PATTERN_CHARS_MAX
        && pattern
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'*' | b'.'))
}

/// Whether the pattern names this node; `*` stands for any characters.
fn is_named_by(id: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = id.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::is_named_by;

    #[test]
    fn a_node_pattern_names_whole_ids() {
        for pattern in ["pay", "pay*", "*", "p*y", "*ay", "p**y", "*a*"] {
            assert!(is_named_by("pay", pattern), "{pattern}");
        }
        for pattern in ["pa", "ay", "pay*pay", "*x*", "payment", "p*a"] {
            assert!(!is_named_by("pay", pattern), "{pattern}");
        }
    }
}
