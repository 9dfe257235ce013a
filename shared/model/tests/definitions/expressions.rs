//! What expressions mean: order, types, what is undefined, what is refused.

use std::fmt::Write;

use crate::world::World;
use serde_json::{Value, json};
use windlass_model::workflow::expression::{Context, Expression, Template, filter_names, test_names};

fn world() -> World {
    World::new(
        json!({
            "who": "Ada", "limit": 200, "ratio": 0.5, "none": null, "yes": true, "empty": [], "zero": 0,
            "big": u64::MAX, "small": i64::MIN, "list": [3, 1, 2], "a-b": {"c d": 1}, "deep": {"x": [{"y": "z"}]},
            "text": "one two  three", "lines": "a\nb\r\nc"
        }),
        json!({
            "rows": [
                {"name": "pear", "amount": 3, "tags": ["a", "b"], "at": {"city": "Bonn"}},
                {"name": "Apple", "amount": 1.5, "tags": [], "at": {"city": "Graz"}},
                {"name": "fig", "amount": 10, "tags": ["b"], "at": {"city": "Bonn"}}
            ],
            "map": {"b": 2, "a": 1}
        }),
    )
}

/// The text of a table would only be repeated.
fn check(table: &str) {
    let name =
        std::thread::current().name().unwrap_or_default().rsplit("::").next().unwrap_or_default().to_owned();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, table) });
}

/// Each line, and what it gives.
fn table(lines: &str) -> String {
    let world = world();
    lines.trim().lines().map(str::trim).fold(String::new(), |mut out, line| {
        writeln!(out, "{line}\n    {}", world.shown(line)).unwrap();
        out
    })
}

#[test]
fn operators_bind_and_type_as_in_jinja() {
    check(&table(
        r#"
        1 + 2 * 3
        (1 + 2) * 3
        2 * 3 * 4 / 8
        8 / 2 * 3
        7 // 2 * 2 + 1
        -2 * 3
        2 * -3
        2 ** 3 * 2
        2 * 2 ** 3
        7 % 4 * 2
        10 / 4
        9 / 3
        1.5 * 2
        inputs.limit * inputs.ratio
        inputs.big * inputs.ratio
        1.5 * true
        inputs.big
        inputs.big - 1
        inputs.small
        2 * inputs.list | length
        'ab' * 3
        3 * 'ab' ~ '!'
        [1, 2] + [3]
        'a' + 'b' ~ 1 ~ none ~ true
        1 < 2 and not 2 < 1
        1 < 2 < 3
        1 < 3 < 2
        3 > 2 >= 2 > 1
        1 < 2 <= 2 and 2 > 1.5 or none
        1 + 1 < 2 * 2 - 1
        'a' ~ 1 <= 'a' ~ 2 * 3
        not 2 < 1
        not 1 in inputs.list and 2 > 1
        -1 < 0
        'a' < 'b' and 'b' > 'a' and 'a' <= 'a' and 'Z' < 'a'
        inputs.small < inputs.ratio < inputs.big
        [1 < 2, 2 < 1]
        {'a': 1 < 2, 'b': 1 if 1 < 2 else 2}
        inputs.list | sort(reverse=1 < 2)
        inputs.list[0 if 1 > 2 else 1:]
        (1 < 2) == true
        inputs.who == 'Ada' and inputs.limit > 1 and 2 in inputs.list
        2 is lt 3 and 2 is le(2) and 2 is greaterthan 1.5
        inputs.none == 1 or inputs.none != 'x'
        inputs.who == 'Ada' and inputs.limit >= 200 or false
        'x' if inputs.yes else 'y'
        'x' if inputs.zero else 'y' if inputs.none else 'z'
        2 in inputs.list
        9 not in inputs.list
        'amount' in nodes.load.output.rows[0]
        'd' in inputs.who
        inputs.list == [3, 1, 2]
        nodes.load.output.map == {'a': 1, 'b': 2}
        none == null
        true == True
        {'a': [1, {'b': none}], 'c': inputs.list}
        ("a" "b")
        "tab\tquote\"end"
        "#,
    ));
}

#[test]
fn paths_lead_into_values_and_keep_their_types() {
    check(&table(
        r#"
        inputs.who
        inputs['who']
        inputs["a-b"]["c d"]
        inputs.deep.x[0].y
        inputs.deep.x.0.y
        inputs.list[1 - 1]
        inputs.list[-1]
        inputs.list[1:]
        inputs.list[::-1]
        inputs.who[0]
        inputs.who[1:]
        nodes.load.output.rows[inputs.zero].name
        nodes['load'].output.map
        nodes.load.status
        nodes['save-it'].status
        nodes.load.error
        nodes['save-it'].error.type
        nodes['save-it'].error.details.status
        nodes['save-it'].output
        run.id
        run.workflow
        run.created_at
        node.id
        node.attempt
        secrets.TOKEN
        inputs.none
        (nodes.load.output.rows | first).at.city
        (nodes.load.output.rows | first)['at']['city']
        {'a': {'b': 5}}.a.b
        "#,
    ));
}

#[test]
fn filters_work_on_lists_objects_and_text() {
    check(&table(
        r#"
        nodes.load.output.rows | length
        nodes.load.output.rows | map(attribute='amount') | sum
        nodes.load.output.rows | sum(attribute='amount')
        nodes.load.output.rows | map(attribute='at.city') | unique | list
        nodes.load.output.rows | selectattr('amount', 'gt', 2) | map(attribute='name') | list
        nodes.load.output.rows | rejectattr('tags') | map(attribute='name') | join(', ')
        nodes.load.output.rows | join(' + ', attribute='name')
        nodes.load.output.rows | sort(attribute='amount', reverse=true) | map(attribute='name') | list
        nodes.load.output.rows | groupby('at.city') | map('first') | list
        nodes.load.output.rows | groupby('at.city')
        nodes.load.output.rows | map(attribute='name') | map('upper') | list
        nodes.load.output.rows | min(attribute='amount')
        nodes.load.output.map | items | list
        nodes.load.output.map | dictsort
        nodes.load.output.map | keys
        nodes.load.output.map | values | sum
        nodes.load.output.map | tojson
        nodes.load.output.map | tojson(indent=2)
        inputs.list | sort
        inputs.list | reverse | list
        inputs.list | first
        inputs.list | last
        inputs.list | max
        inputs.list | min
        inputs.list | batch(2)
        inputs.list | select('odd') | list
        inputs.list | reject('in', [1, 2]) | list
        inputs.list | join('-')
        inputs.list | string
        inputs.who | upper
        inputs.who | lower | capitalize
        inputs.text | title
        inputs.text | split
        inputs.text | split(' ')
        inputs.text | split(' ', 1)
        inputs.lines | lines
        inputs.text | replace('one', '1')
        inputs.text | truncate(7)
        inputs.text | truncate(3, end='…')
        inputs.text | truncate(99)
        '  x ' | trim
        inputs.who | list
        inputs.who | reverse
        '42' | int + 1
        '4.5' | float
        4.567 | round(1)
        -3 | abs
        inputs.none | default('x')
        inputs.none | default('x', true)
        inputs.missing | default('x')
        inputs.missing.deeper[3] | default('x')
        inputs.missing is defined
        inputs.none is defined
        inputs.none is none
        inputs.list is sequence and inputs.deep is mapping
        3 is odd and 4 is even and 9 is divisibleby 3
        'abc' is startingwith 'a'
        range(3)
        range(1, 10, 4)
        range(3, 0, -1)
        "#,
    ));
}

#[test]
fn what_cannot_be_said_is_refused_with_a_sentence() {
    check(&table(
        r#"
        inputs.missing
        inputs.missing ~ 'x'
        inputs.missing.deeper == 1 and inputs.other
        [inputs.missing]
        nodes.load.output.rows[7]
        nodes.load.output.nothing.at.all
        secrets.OTHER
        1 / 0
        none <= 100
        inputs.none <= 100 or true
        inputs.limit < '1000'
        true > 0
        [1] < [2]
        {} < {}
        inputs.missing < 1
        1 < 2 < none
        none is lt 1
        nodes.load.output.rows | selectattr('amount', 'gt', 'x') | list
        1 == 1 < 2
        1 < 2 == true
        1 < 2 in inputs.list
        < 1
        1 <
        1 < and 2
        1 < not 2
        (1 <)
        1 < < 2
        3 is divisibleby 0
        3 is divisibleby(0.0)
        [3] | select('divisibleby', false) | list
        nodes.load.output.rows | sum(attribute='amuont')
        [1, inputs.missing] | sum
        'a' + 1
        'a' * 'b'
        [1] * 3
        10 ** 400
        10.0 ** 400
        9223372036854775807 * 9223372036854775807
        range(100000)
        [1, 2] | batch(100000)
        inputs.who | sum
        ['a'] | sum
        inputs.who()
        inputs.who.upper()
        upper(inputs.who)
        inputs.who | uper
        inputs.who | format
        inputs.who is strange
        [1] | map('strange') | list
        input.who
        outputs.x
        item.x
        env
        self
        nodes
        nodes.load
        nodes.load.outputs
        nodes[inputs.who].output
        nodes.save-it.status
        run
        run.secret
        secrets
        secrets['A']['B']
        [x for x in inputs.list]
        inputs.list | map(lambda x: x)
        namespace(a=1)
        dict(a=1)
        f(*inputs.list)
        range(*inputs.list)
        1 +
        (1
        1)
        {% if true %}
        'open
        a $ b
        "#,
    ));
    assert_eq!(Expression::compile("").unwrap_err(), "the expression is empty");
    assert_eq!(
        Expression::compile("${{ 1 }} and more").unwrap_err(),
        "text around `${{ … }}` makes this text, not one expression"
    );
}

#[test]
fn a_string_that_is_one_expression_keeps_its_type_and_other_strings_become_text() {
    let rendered = world()
        .render(json!({
            "typed": "${{ inputs.list }}",
            "text": "n=${{ inputs.limit }} who=${{ inputs.who }} l=${{ inputs.list }} none=${{ inputs.none }}",
            "padded": " ${{ inputs.limit }}",
            "plain": "no {{ expression }} here",
            "escaped": "${{ '${{ not this }}' }}",
            "nested": [{ "deep": ["${{ nodes.load.output.map }}", 1, null, true] }],
            "object": "${{ {'a': inputs.ratio} }}",
            "key ${{ inputs.who }}": "keys are literal"
        }))
        .unwrap();
    insta::assert_json_snapshot!(rendered);
}

#[test]
fn a_template_without_expressions_is_returned_as_it_is() {
    let source = json!({"a": ["${ x }", {"b": "{{ y }}"}], "c": 18446744073709551615u64});
    let template = Template::compile(source.clone()).unwrap();
    assert!(template.is_literal());
    let world = world();
    assert_eq!(template.render(&world.context()).unwrap(), source);
}

#[test]
fn every_broken_string_of_a_template_is_reported_with_its_pointer() {
    let problems = Template::compile(json!({
        "ok": "${{ inputs.who }}",
        "a/b": ["fine", "${{ inputs.who"],
        "c": { "d": "x ${{ nope }} y" }
    }))
    .unwrap_err();
    let shown: Vec<_> =
        problems.iter().map(|problem| (problem.pointer.as_str(), problem.detail.as_str())).collect();
    assert_eq!(
        shown,
        [("/a~1b/1", "this `${{` has no `}}`"), ("/c/d", "`nope` is not known here; did you mean `node`?"),]
    );
}

#[test]
fn conditions_are_false_for_nothing_and_emptiness() {
    let world = world();
    let is_true = |text: &str| Expression::compile(text).unwrap().is_true(&world.context()).unwrap();
    for text in ["inputs.none", "inputs.empty", "inputs.zero", "false", "''", "inputs.empty | length", "{}"] {
        assert!(!is_true(text), "{text}");
        assert!(is_true(&format!("not ({text})")), "not {text}");
    }
    for text in
        ["inputs.who", "inputs.list", "inputs.limit", "inputs.deep", "true", "${{ true }}", "inputs.ratio"]
    {
        assert!(is_true(text), "{text}");
    }
    let missing = Expression::compile("inputs.missing").unwrap().is_true(&world.context()).unwrap_err();
    assert_eq!(missing.kind, "expression");
    assert!(missing.message.contains("`inputs.missing` is undefined"), "{}", missing.message);
}

#[test]
fn secrets_are_there_only_for_a_context_that_was_given_them() {
    let world = world();
    let expression = Expression::compile("secrets.TOKEN").unwrap();
    assert_eq!(expression.eval(&world.context()).unwrap(), json!("t0p-secret"));
    let stored = Context::new(&world.plan, &world.state);
    assert_eq!(expression.eval(&stored).unwrap_err().kind, "expression");
}

#[test]
fn an_expression_names_everything_it_reads_in_order() {
    let expression =
        Expression::compile("nodes['save-it'].error.type if inputs.a.b[0] else inputs['x y'] ~ run.id")
            .unwrap();
    let names: Vec<String> = expression.references().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["nodes['save-it'].error.type", "inputs.a.b[0]", "inputs['x y']", "run.id"]);
}

#[test]
fn a_value_that_nests_deeper_than_readers_accept_is_not_made() {
    let mut deep = json!(1);
    for _ in 0..90 {
        deep = json!([deep]);
    }
    let world = World::new(json!({ "deep": deep }), Value::Null);
    assert!(world.eval("inputs.deep").is_ok());
    let deeper = world.render(json!([[[[[[[[[[["${{ [inputs.deep] }}"]]]]]]]]]]]));
    assert_eq!(deeper.unwrap_err().kind, "limit.expression");
}

#[test]
fn the_documentation_says_what_is_true() {
    let text = include_str!("../../../../docs/expressions.md");
    let blocks = |kind: &str| {
        let fence = format!("```{kind}\n");
        let inside = text.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap());
        inside.collect::<Vec<_>>()
    };
    let inputs: Value = serde_json::from_str(blocks("json")[0]).unwrap();
    let world = World::new(inputs, Value::Null);
    let examples: Vec<(&str, &str)> =
        blocks("text").into_iter().flat_map(str::lines).filter_map(|line| line.split_once("→")).collect();
    assert!(examples.len() > 50, "{}", examples.len());
    for (expression, result) in &examples {
        assert_eq!(world.shown(expression.trim()), result.trim(), "{expression}");
    }
    for filter in filter_names() {
        let uses = [format!("| {filter} "), format!("| {filter}(")];
        assert!(examples.iter().any(|(text, _)| uses.iter().any(|name| text.contains(name))), "{filter}");
    }
    let tests = text.split("Tests, for `is`").nth(1).unwrap().split("\n\n").next().unwrap();
    let named: Vec<&str> = tests.split('`').skip(3).step_by(2).collect();
    assert_eq!(named, test_names().collect::<Vec<_>>());
}
