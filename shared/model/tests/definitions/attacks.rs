//! Definitions and expressions that are meant to hurt: each must be answered soon, and within bounds.
//!
//! The numbers are those of the reliability plan (A20 to A25, A42). What is measured is the CPU time and
//! the memory of the thread that answers, so that other tests and busy machines don't count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;
use std::fs;

use serde_json::{Value, json};
use windlass_model::workflow::expression::Expression;
use windlass_model::workflow::{Document, Format, Problem, compile};

use crate::support::{catalog, plan, plan_of};
use crate::world::World;

/// Counts what the current thread has allocated and not freed.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

#[expect(unsafe_code, reason = "an allocator can only be wrapped this way; each call goes to the system's")]
// SAFETY: every method hands its arguments to the system's allocator and returns what that returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // As if both were there for a moment, which they may be.
        count(size.cast_signed());
        // SAFETY: the caller keeps the contract of `realloc`.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        count(-layout.size().cast_signed());
        moved
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Without optimization everything takes 8 to 17 times as long (measured here, attack by attack) as with it.
const SLOWNESS: u64 = if cfg!(debug_assertions) { 20 } else { 1 };
const MIB: isize = 1024 * 1024;

fn cpu_ms() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1_000_000
}

/// Runs what may take so long and so much memory beyond what was there before.
fn within<T>(ms_max: u64, mib_max: isize, what: &str, attack: impl FnOnce() -> T) -> T {
    let (before, started) = (LIVE.get(), cpu_ms());
    PEAK.set(before);
    let answer = attack();
    let (ms, mib) = (cpu_ms() - started, (PEAK.get() - before) / MIB);
    let shown: String = what.chars().take(60).collect();
    assert!(ms <= ms_max * SLOWNESS, "{shown}: {ms} ms");
    assert!(mib <= mib_max, "{shown}: {mib} MiB");
    answer
}

fn code(result: Result<impl Sized, Vec<Problem>>) -> &'static str {
    result.err().map_or("accepted", |problems| problems[0].code)
}

fn parse_code(text: &str, format: Format) -> &'static str {
    within(100, 50, text, || code(Document::parse(text, format)))
}

#[test]
fn yaml_bombs_are_refused_soon() {
    let aliases = (0..30).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |mut text, at| {
        let inner = vec![format!("*a{at}"); 9].join(", ");
        writeln!(text, "a{}: &a{} [{inner}]", at + 1, at + 1).unwrap();
        text
    });
    let anchors: String = (0..100_000).map(|at| format!("- &a{at}\n")).collect();
    let uses = format!("a: &a 1\nb: [{}]", "*a,".repeat(100_000));
    let large = format!("a: &a \"{}\"\nb: [{}]", "x".repeat(900_000), "*a,".repeat(50));
    let ladder: String = (0..99).fold("a0: &a0 {k: 1}\n".to_owned(), |mut text, at| {
        writeln!(text, "a{}: &a{} {{k: *a{at}}}", at + 1, at + 1).unwrap();
        text
    });
    let scalar = format!("a: \"{}\"", "x".repeat(1_000_000));
    for (text, expected) in [
        (aliases.as_str(), "yaml_limit"),
        (&anchors, "yaml_limit"),
        (&uses, "yaml_limit"),
        (&large, "yaml_limit"),
        (&ladder, "too_deep"),
        ("a: &a [*a]", "yaml_limit"),
        ("a: *nowhere", "syntax"),
        ("a: !!python/object:os.system 1", "yaml_tag"),
        ("!!map {a: 1}", "yaml_tag"),
        ("{a: 1, a: 2}", "duplicate_key"),
        ("a: {<<: {b: 1}}", "merge_key"),
        (&scalar, "accepted"),
        (&"[".repeat(100_000), "too_deep"),
        (&"{a: ".repeat(100_000), "too_deep"),
        (&"- ".repeat(100_000), "too_deep"),
        (&"? ".repeat(100_000), "bad_key"),
        (&"a:\n".repeat(100_000), "duplicate_key"),
        (&"- 1\n".repeat(260_000), "document_too_large"),
        (&"x".repeat(2_000_000), "document_too_large"),
        (&"#".repeat(1_000_000), "empty_document"),
        (&"\n".repeat(1_000_000), "empty_document"),
        (&"&a ".repeat(300_000), "syntax"),
        (&"%TAG ! x\n".repeat(100_000), "syntax"),
        (&"a b: ".repeat(200_000), "syntax"),
        (&"'".repeat(1_000_000), "accepted"),
        (&format!("\"{}\"", "\\x41".repeat(200_000)), "accepted"),
        (&format!("{}: 1", "k".repeat(1_000_000)), "syntax"),
    ] {
        assert_eq!(parse_code(text, Format::Yaml), expected, "{}", &text[..text.len().min(40)]);
    }
}

#[test]
fn json_bombs_are_refused_soon() {
    let keys: String = (0..90_000).map(|at| format!("\"k{at}\":1,")).collect();
    for (text, expected) in [
        ("[".repeat(100_000).as_str(), "too_deep"),
        (&"{\"a\":".repeat(100_000), "too_deep"),
        (&format!("{{{}\"k0\":2}}", keys), "duplicate_key"),
        (&format!("[{}1]", "1,".repeat(400_000)), "document_too_large"),
        (&format!("[{}]", "9".repeat(1_000_000)), "number_range"),
        (&format!("[1e{}]", "9".repeat(1_000_000)), "number_range"),
        (&format!("[0.{}]", "3".repeat(1_000_000)), "accepted"),
        ("[9223372036854775808]", "accepted"),
        ("[18446744073709551616]", "number_range"),
        ("[-9223372036854775809]", "number_range"),
        ("[NaN]", "syntax"),
        ("[Infinity]", "syntax"),
        ("[01]", "syntax"),
        ("[1.]", "syntax"),
        ("[+1]", "syntax"),
        ("[\"\\ud800\"]", "syntax"),
        ("[\"\\u0000\"]", "nul_character"),
        ("[\"\u{1}\"]", "syntax"),
        ("\u{feff}[]", "syntax"),
        ("[] []", "syntax"),
        ("[1,]", "syntax"),
        ("", "syntax"),
        (&"\"".repeat(1_000_000), "syntax"),
        (&" ".repeat(1_000_000), "syntax"),
        (&format!("\"{}\"", "\\n".repeat(500_000)), "accepted"),
    ] {
        assert_eq!(parse_code(text, Format::Json), expected, "{}", &text[..text.len().min(40)]);
    }
}

fn nodes(count: usize, node: impl Fn(usize) -> Value) -> Value {
    let nodes: Vec<Value> = (0..count).map(node).collect();
    json!({ "version": 1, "name": "big", "type": "dag", "nodes": nodes })
}

#[test]
fn graphs_are_checked_within_a_second_whatever_their_shape() {
    let noop =
        |at: usize, needs: Vec<String>| json!({ "id": format!("n{at}"), "type": "noop", "needs": needs });
    let id = |at: usize| format!("n{at}");
    let reader = |at: usize| {
        let output: Vec<String> =
            (at.saturating_sub(20)..at).map(|at| format!("${{{{ nodes.n{at}.output }}}}")).collect();
        let needs: Vec<String> = at.checked_sub(1).map(id).into_iter().collect();
        json!({ "id": id(at), "type": "transform", "needs": needs, "output": output })
    };
    let mut million = nodes(2, |at| noop(at, vec![]));
    million["edges"] = Value::Array((0..1_000_000).map(|_| json!({ "from": "n0", "to": "n1" })).collect());
    let shapes = [
        ("chain", nodes(5_000, |at| noop(at, at.checked_sub(1).map(id).into_iter().collect())), "accepted"),
        (
            "fan in",
            nodes(5_000, |at| noop(at, if at == 4_999 { (0..4_999).map(id).collect() } else { vec![] })),
            "accepted",
        ),
        ("fan out", nodes(5_000, |at| noop(at, if at > 0 { vec![id(0)] } else { vec![] })), "accepted"),
        ("dense", nodes(5_000, |at| noop(at, (at.saturating_sub(9)..at).map(id).collect())), "accepted"),
        ("readers", nodes(5_000, reader), "accepted"),
        ("one cycle", nodes(5_000, |at| noop(at, vec![id((at + 1) % 5_000)])), "cycle"),
        ("many cycles", nodes(5_000, |at| noop(at, vec![id(at ^ 1)])), "cycle"),
        ("each itself", nodes(5_000, |at| noop(at, vec![id(at)])), "cycle"),
        ("unknown", nodes(5_000, |at| noop(at, vec![format!("nothing_like_it_{at}")])), "unknown_node"),
        ("same id", nodes(5_000, |_| noop(1, vec![])), "duplicate_id"),
        (
            "too dense",
            nodes(5_000, |at| noop(at, (at.saturating_sub(11)..at).map(id).collect())),
            "too_many_edges",
        ),
        ("a node too many", nodes(5_001, |at| noop(at, vec![])), "too_many_nodes"),
        ("a hundred thousand", nodes(100_000, |at| noop(at, vec![])), "too_many_nodes"),
        ("a million edges", million, "too_many_edges"),
    ];
    for (name, spec, expected) in shapes {
        let document = Document::from_value(spec);
        let found = within(1_000, 100, name, || code(compile(&document, &catalog())));
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn ids_that_programs_trip_over_are_refused() {
    for id in ["__proto__", "../x", "🙂", "", " ", "a b", "a/b", "a.b", "a\u{202e}b", "é", "-", "0"] {
        let spec = json!({ "version": 1, "name": "ids", "type": "dag", "nodes": { id: { "type": "noop" } } });
        assert_eq!(code(plan_of(spec)), "bad_id", "{id}");
    }
    let long = "x".repeat(300);
    let spec = json!({ "version": 1, "name": "ids", "type": "dag", "nodes": { long: { "type": "noop" } } });
    assert_eq!(code(plan_of(spec)), "bad_id");
}

#[test]
fn a_value_that_nests_too_deep_for_recursion_is_refused_before_any() {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let spec = json!({
        "version": 1, "name": "deep", "type": "dag", "nodes": { "a": { "type": "transform", "output": deep } }
    });
    assert_eq!(code(plan_of(spec)), "too_deep");
}

#[test]
fn a_key_that_would_make_every_pointer_long_is_refused() {
    let long = "k".repeat(1_025);
    let spec =
        json!({ "version": 1, "name": "a", "type": "dag", "nodes": { "a": { "type": "noop", long: 1 } } });
    let problems = plan_of(spec).unwrap_err();
    assert_eq!((problems.len(), problems[0].code), (1, "key_too_long"));
    assert!(problems[0].detail.len() < 200);
}

#[test]
fn messages_are_bounded_and_hold_no_control_characters() {
    let text = format!(
        "version: 1\nname: a\ntype: dag\nnodes:\n  a: {{ type: \"\\e[31m{}\", needs: [\"{}\\n\\u202e\"], if: \"{}\" }}\n",
        "x".repeat(100_000),
        "y".repeat(100_000),
        "(".repeat(2_000)
    );
    let problems = plan(&text).unwrap_err();
    assert_eq!(problems.len(), 3);
    for problem in problems {
        assert!(problem.detail.len() < 500, "{}", problem.detail.len());
        assert!(!problem.detail.chars().any(|c| c.is_control() || c == '\u{202e}'), "{}", problem.detail);
    }
}

/// A run that has read eight megabytes from somewhere.
fn rich_world() -> World {
    let list: Vec<Value> = (0..200_000).map(|at| json!(at % 1_000)).collect();
    let rows: Vec<Value> = (0..50_000).map(|at| json!({ "id": at, "name": format!("row {at}") })).collect();
    World::new(
        json!({
            "big": "x".repeat(8_000_000), "lines": "\n".repeat(8_000_000), "list": list, "rows": rows,
            "kib": "k".repeat(1024), "n": 1_000_000
        }),
        Value::Null,
    )
}

#[test]
fn expressions_that_ask_for_too_much_end_soon_and_small() {
    let world = rich_world();
    let repeated = |text: &str, times: usize, by: &str| vec![text; times].join(by);
    let attacks = [
        "'-' * 10000000000".into(),
        "'-' * 100000000".into(),
        "'-' * 9999999".into(),
        "'-' * 1000 * 1000 * 1000".into(),
        "inputs.big * 100".into(),
        "[1] * 100000000".into(),
        "inputs.list * 1000".into(),
        "range(1000000000)".into(),
        "range(0, 1000000000, 100000) | map('string') | join(inputs.kib) | length".into(),
        repeated("inputs.big", 300, " ~ "),
        repeated("inputs.big", 30, " + "),
        format!("inputs.big ~ {}", repeated("'x'", 200, " ~ ")),
        format!("inputs.big + {}", repeated("'x'", 31, " + ")),
        format!("[{}]", repeated("inputs.big", 300, ", ")),
        format!("[{}]", repeated("inputs.list", 300, ", ")),
        format!("[{}] | tojson | length", repeated("inputs.list", 300, ", ")),
        format!("[{}] | string | length", repeated("inputs.rows", 300, ", ")),
        format!("[{}] | unique | list | length", repeated("inputs.rows", 300, ", ")),
        format!("({}) | length", repeated("inputs.list", 32, " + ")),
        format!("({}) | list | length", repeated("inputs.list", 32, " + ")),
        format!("5000 in ({})", repeated("inputs.list", 32, " + ")),
        repeated("5000 in inputs.list", 100, " or "),
        repeated("inputs.list == inputs.list", 80, " and "),
        repeated("inputs.big == inputs.big", 80, " and "),
        repeated("inputs.rows != inputs.rows", 80, " or "),
        repeated("inputs.list[1:] == inputs.list[1:]", 60, " and "),
        repeated("inputs.rows[1:] == inputs.rows[1:]", 60, " and "),
        "'abc'[0:2:-1]".into(),
        "inputs.list[5:100000:-1] | list".into(),
        "'abc'[::-9223372036854775808]".into(),
        "inputs.list[9223372036854775807:-9223372036854775808:1] | list".into(),
        "inputs.big | list | length".into(),
        "inputs.big | map('upper') | list | length".into(),
        "inputs.big | sort | length".into(),
        "inputs.big | unique | list | length".into(),
        "inputs.big | batch(1) | length".into(),
        "inputs.big | split('') | length".into(),
        "inputs.big | split('x') | length".into(),
        "inputs.lines | lines | length".into(),
        "inputs.lines | lines | list | length".into(),
        "inputs.lines | split | length".into(),
        "inputs.big | replace('x', 'xxxxxxxxxxxxxxxx') | length".into(),
        "inputs.big | replace('', 'xxxxxxxxxxxxxxxx') | length".into(),
        "inputs.big | replace('', inputs.big) | length".into(),
        "inputs.list | join(inputs.kib) | length".into(),
        "inputs.list | map('default', inputs.big, true) | list | length".into(),
        "range(10000) | map('default', inputs.big) | list | length".into(),
        "range(10000) | map('replace', '', inputs.kib) | list | length".into(),
        "range(10000) | select('in', range(10000)) | list | length".into(),
        "range(10000) | select('in', inputs.list) | list | length".into(),
        "range(10000) | reject('in', inputs.list) | list | length".into(),
        "inputs.list | select('in', inputs.big) | list | length".into(),
        "inputs.rows | map('tojson') | join | length".into(),
        "inputs.rows | groupby('name') | length".into(),
        "inputs.rows | sort(attribute='name') | length".into(),
        "inputs.rows | map('items') | map('list') | list | length".into(),
        "inputs.rows | map('dictsort') | list | length".into(),
        "inputs.list | sort | unique | batch(2) | map('sort') | list | length".into(),
        "inputs.list | batch(1) | map('batch', 10000, 1) | list | length".into(),
        "inputs.list | sum(start='')".into(),
        "inputs.list | sum(start=[])".into(),
        format!("inputs.list{} | list | length", "[::-1]".repeat(100)),
        format!("inputs.list{} | length", "[1:]".repeat(100)),
        format!("inputs.list{} | length", " | reverse".repeat(100)),
        format!("inputs.list{} | length", " | list".repeat(100)),
        format!("inputs.big{} | length", " | upper".repeat(100)),
        format!("inputs.big{} | length", "[::-1]".repeat(60)),
        repeated("9", 100, " ** "),
        "9 ** 9 ** 9".into(),
        "2 ** 1000000".into(),
        "1.5 ** 1000000000".into(),
        format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000)),
        format!("{}1{}", "[".repeat(30), "]".repeat(30)),
        "[".repeat(4_000),
        "{".repeat(4_000),
        format!("{}1", "-".repeat(4_000)),
        format!("{}1", "not ".repeat(1_000)),
        repeated("1", 2_000, "+"),
        repeated("1", 2_000, "-"),
        repeated("1", 1_300, "~"),
        repeated("1", 2_000, "<"),
        repeated("1 if 0 else 2", 250, " if 1 else "),
        format!("inputs{}", ".a".repeat(2_000)),
        format!("(inputs){}", ".a".repeat(2_000)),
        format!("1{}", "|abs".repeat(1_000)),
        format!("'{}'", "\\u0041".repeat(680)),
        "99999999999999999999999999999999999999999999999".into(),
        "1e999999999".into(),
        "x".repeat(5_000),
        "'".repeat(4_001),
    ];
    for text in &attacks {
        within(200, 64, text, || world.eval(text).map(|_| ()).map_err(|_| ())).ok();
    }
    for text in ["'-' * 10000000000", "inputs.big * 100", "inputs.big | list | length"] {
        assert_eq!(world.eval(text).unwrap_err().kind, "limit.expression", "{text}");
    }
}

#[test]
fn large_values_can_be_passed_on_searched_and_summed() {
    let world = rich_world();
    within(200, 64, "passed on", || {
        assert_eq!(world.eval("inputs.big").unwrap().as_str().unwrap().len(), 8_000_000)
    });
    for (text, expected) in [
        ("inputs.list | length", json!(200_000)),
        ("inputs.list | sum", json!(99_900_000)),
        ("inputs.rows | map(attribute='id') | sum", json!(1_249_975_000)),
        (
            "inputs.rows | selectattr('id', 'lt', 3) | map(attribute='name') | list",
            json!(["row 0", "row 1", "row 2"]),
        ),
        ("inputs.rows[49999].name", json!("row 49999")),
        ("(inputs.rows | last).name", json!("row 49999")),
        ("'y' in inputs.big", json!(false)),
        ("inputs.big | length", json!(8_000_000)),
        ("999 in inputs.list", json!(true)),
    ] {
        assert_eq!(within(200, 64, text, || world.eval(text)), Ok(expected), "{text}");
    }
}

#[test]
fn a_template_makes_no_more_than_a_step_may_have() {
    let world = rich_world();
    let twice = json!(["${{ inputs.big }}", "${{ inputs.big }}"]);
    let text = json!("${{ inputs.big }}${{ inputs.big }}");
    let many = Value::Array(vec![json!("${{ inputs.rows }}"); 1_000]);
    for template in [twice, text, many] {
        let error = within(200, 64, "template", || world.render(template)).unwrap_err();
        assert_eq!(error.kind, "limit.expression", "{error:?}");
    }
}

#[test]
fn an_expression_reaches_nothing_but_what_it_is_given() {
    let world = World::new(json!({ "a": { "__class__": 1 } }), Value::Null);
    for text in [
        "env.HOME",
        "self",
        "__class__",
        "''.__class__.__mro__",
        "inputs.a.constructor.constructor('x')()",
        "nodes.other.output",
        "nodes.load.output.__proto__",
        "inputs.a.__dict__",
        "range.__globals__",
        "inputs.a | attr('__class__')",
        "(1).real",
        "debug()",
        "lipsum()",
        "cycler('a')",
        "include('x')",
        "inputs | pprint",
        "run.inputs",
        "secrets",
        "_r0",
        "_times(1, 2)",
        "1 | _times(2)",
    ] {
        let error = world.eval(text).unwrap_err();
        assert!(["expression", "does not compile"].contains(&error.kind.as_str()), "{text}: {error:?}");
    }
    assert_eq!(world.eval("inputs.a.__class__").unwrap(), json!(1), "data is only data");
}

#[test]
fn compiling_an_expression_takes_no_more_than_a_small_stack() {
    let deep = [
        format!("{}1{}", "(".repeat(24), ")".repeat(24)),
        format!("{}1{}", "1 * (".repeat(12), ")".repeat(12)),
        format!("{}1{}", "'a' ~ 1 * (".repeat(8), ")".repeat(8)),
        format!("1{}", " / 1 * 1".repeat(24)),
        format!("1 * (1{})", " / 1 * 1".repeat(20)),
        format!("{}1", "-".repeat(250)),
        format!("{}1", "not ".repeat(250)),
        vec!["1 if 0 else 2"; 80].join(" if 1 else "),
        vec!["1"; 250].join("-"),
        vec!["1"; 250].join("~"),
        vec!["1"; 250].join("*"),
        vec!["1"; 250].join("**"),
        format!("1{}", "|abs".repeat(250)),
        format!("[1]{}", "[0]".repeat(250)),
    ];
    let compile_all = move || deep.iter().filter(|text| Expression::compile(text).is_ok()).count();
    // Half of what an async runtime gives its threads.
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(compile_all).unwrap();
    assert!(thread.join().unwrap() >= 13);
}
