//! What holds for any text, value and sum.

use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};
use windlass_model::workflow::expression::{Expression, Template};
use windlass_model::workflow::{Document, Format, compile};

use crate::support::catalog;
use crate::world::World;

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,8}",
        "\\PC{0,12}",
        // What YAML reads as something else when the quotes are lost.
        proptest::sample::select(vec![
            "yes", "null", "~", "1", "3.10", "0x1f", "- a", "a: b", "#", "", " ", "\n", "\t", "'", "\"",
            "\\", "{", "<<", "\u{85}", "\u{2028}", "\u{a0}", "\r\n", "🙂", "${{ x }}", "*a", "&a", "!a", "%",
            "@", "`", "---", "...",
        ])
        .prop_map(str::to_owned),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any_text(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A sum, as text and by its value, where every operation is exact.
#[derive(Clone, Debug)]
enum Sum {
    Number(i64),
    Of(Box<Sum>, &'static str, Box<Sum>),
    Bracket(Box<Sum>),
    Minus(Box<Sum>),
}

impl Sum {
    /// As tokens, because brackets are only where the tree has them: precedence decides the rest.
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Of(left, operator, right) => format!("{} {operator} {}", left.text(), right.text()),
            Self::Bracket(inner) => format!("({})", inner.text()),
            Self::Minus(inner) => format!("-({})", inner.text()),
        }
    }
}

fn any_sum() -> impl Strategy<Value = Sum> {
    let leaf = (0..20i64).prop_map(Sum::Number);
    leaf.prop_recursive(5, 24, 2, |inner| {
        let operator = proptest::sample::select(vec![
            "+", "-", "*", "*", "/", "//", "%", "<", ">=", "==", "and", "or", "~",
        ]);
        prop_oneof![
            4 => (inner.clone(), operator, inner.clone())
                .prop_map(|(left, operator, right)| Sum::Of(Box::new(left), operator, Box::new(right))),
            1 => inner.clone().prop_map(|inner| Sum::Bracket(Box::new(inner))),
            1 => inner.prop_map(|inner| Sum::Minus(Box::new(inner))),
        ]
    })
}

fn words() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(vec![
        "inputs",
        ".",
        "a",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "'x'",
        "1",
        "2.5",
        "+",
        "-",
        "*",
        "/",
        "~",
        "|",
        "upper",
        "map",
        ",",
        ":",
        "=",
        "==",
        "<",
        "in",
        "not",
        "and",
        "or",
        "if",
        "else",
        "is",
        "defined",
        "nodes",
        "load",
        "output",
        "range",
        "null",
        "'a",
        "**",
        "//",
        "%",
        "attribute",
        "first",
        "\"",
        "\\",
        "${{",
        "}}",
        "é",
        " ",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_as_json_is_read_back_by_both_readers(value in any_value()) {
        let text = value.to_string();
        let json = Document::parse(&text, Format::Json).map(|document| document.spec);
        prop_assert_eq!(json.as_ref(), Ok(&value));
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let json = Document::parse(&pretty, Format::Json).map(|document| document.spec);
        prop_assert_eq!(json.as_ref(), Ok(&value));
        // YAML is JSON's superset, but for characters that YAML does not print and numbers it warns of.
        if let Ok(document) = Document::parse(&text, Format::Yaml) {
            prop_assert_eq!(document.spec, value);
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "\\PC{0,200}|[\\[\\]{},:&*!|>'\"%@`# \n\ta-c0-9.-]{0,200}") {
        for format in [Format::Yaml, Format::Json] {
            if let Ok(document) = Document::parse(&text, format) {
                let _ = compile(&document, &catalog());
            }
        }
    }

    #[test]
    fn no_value_makes_the_compiler_panic(parts in prop::collection::vec(any_value(), 8)) {
        let [a, b, c, d, e, f, g, h] = parts.try_into().unwrap();
        let spec = json!({
            "version": 1, "name": "x", "type": "dag", "inputs": a, "outputs": b, "defaults": c, "on_error": d,
            "edges": e, "nodes": {
                "one": { "type": "approval", "approvers": f, "form": g, "needs": h },
                "two": { "type": "switch", "cases": f, "default": g, "retry": h, "if": a, "on_error": b },
                "three": h
            }
        });
        let _ = compile(&Document::from_value(spec), &catalog());
    }

    #[test]
    fn no_words_make_an_expression_panic(text in words()) {
        let world = World::new(json!({ "a": [1, { "a": "x" }] }), json!({ "a": { "a": null } }));
        let _ = world.eval(&text);
        if let Ok(template) = Template::compile(json!({ "t": format!("x {text} y") })) {
            let _ = template.render(&world.context());
        }
    }

    #[test]
    fn a_sum_has_the_value_that_minijinja_gives_it(sum in any_sum()) {
        let text = sum.text();
        let world = World::new(Value::Null, Value::Null);
        let environment = minijinja::Environment::new();
        let native = environment.compile_expression(&text).unwrap().eval(());
        // Ours writes true where minijinja writes True, and refuses what is no JSON.
        let is_shown = |text: &str| text.contains('~') && (text.contains(['<', '>']) || text.contains('=') || text.contains(" and ") || text.contains(" or "));
        match (world.eval(&text), native) {
            (Ok(ours), Ok(native)) if !is_shown(&text) => {
                prop_assert_eq!(ours, serde_json::to_value(native).unwrap(), "{}", text);
            }
            (Ok(_), Ok(_)) => {}
            (Err(_), Err(_)) => {}
            (ours, native) => {
                // What minijinja would compare, and the end of a chain that it does not look at.
                let refusals = ["beyond 64 bits", "only two numbers or two texts", "stand in no chain"];
                let is_limit = ours.as_ref().is_err_and(|error| {
                    refusals.iter().any(|refusal| error.message.contains(refusal))
                        || text.matches(['<', '>']).count() > 1
                });
                prop_assert!(is_limit || is_shown(&text), "{}: {:?} and {:?}", text, ours, native);
            }
        }
    }

    #[test]
    fn an_expression_reads_what_it_names(keys in prop::collection::vec("[a-z-]{1,5}", 1..4)) {
        let value = keys.iter().rev().fold(json!(42), |inner, key| json!({ key: inner }));
        let path: String = keys.iter().map(|key| format!("['{key}']")).collect();
        let expression = Expression::compile(&format!("inputs{path}")).unwrap();
        let world = World::new(value, Value::Null);
        prop_assert_eq!(expression.eval(&world.context()), Ok(json!(42)));
        let again = Expression::compile(&expression.references()[0].to_string()).unwrap();
        prop_assert_eq!(again.references(), expression.references());
    }
}
