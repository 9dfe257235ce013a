//! Broken definitions, and what their authors are told.
//!
//! Each file of `broken/` has a snapshot that shows every problem under the line it is about.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use windlass_model::workflow::{Document, Format, Problem, compile};

use crate::support::{catalog, codes, plan_of};

fn problems_of(text: &str, format: Format) -> Vec<Problem> {
    Document::parse(text, format)
        .and_then(|document| compile(&document, &catalog()))
        .err()
        .unwrap_or_default()
}

fn report(text: &str, problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut out, problem| {
        let (line, column) = (problem.line.unwrap_or(0) as usize, problem.column.unwrap_or(0) as usize);
        writeln!(out, "{line}:{column} {} {}", problem.code, problem.pointer.escape_debug()).unwrap();
        if let Some(source) = line.checked_sub(1).and_then(|line| text.lines().nth(line)) {
            writeln!(out, "    {source}\n    {}^", " ".repeat(column - 1)).unwrap();
        }
        writeln!(out, "    {}\n", problem.detail).unwrap();
        out
    })
}

#[test]
fn every_problem_of_a_broken_definition_is_reported_where_it_stands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/definitions/broken");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 20, "the folder was found");
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let problems = problems_of(&text, Format::of_name(name));
        assert!(!problems.is_empty(), "{name} is not broken");
        insta::with_settings!({ omit_expression => true, snapshot_path => "snapshots/broken", prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, report(&text, &problems));
        });
    }
}

#[test]
fn a_definition_that_came_as_values_has_pointers_and_no_positions() {
    let problems = plan_of(serde_json::json!({
        "version": 1, "name": "a", "type": "dag", "nodes": { "a": { "type": "noop", "needs": ["b"] } }, "zzz": 1
    }))
    .unwrap_err();
    let shown: Vec<_> = problems.iter().map(|p| (p.pointer.as_str(), p.code, p.line)).collect();
    assert_eq!(shown, [("/nodes/a/needs/0", "unknown_node", None), ("/zzz", "unknown_field", None)]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it is the test that looks at the clock")]
fn a_hundred_thousand_nodes_are_refused_within_a_second() {
    let nodes: serde_json::Map<_, _> =
        (0..100_000).map(|n| (format!("n{n}"), serde_json::json!({ "type": "noop" }))).collect();
    let of = |nodes| serde_json::json!({ "version": 1, "name": "a", "type": "dag", "nodes": nodes });
    let inside =
        of(serde_json::json!({ "each": { "type": "map", "each": [1], "do": { "nodes": nodes.clone() } } }));
    for (spec, code, pointer) in
        [(of(nodes.into()), "too_many_nodes", "/nodes"), (inside, "document_too_large", "")]
    {
        // The best of three: a busy machine is not what this is about.
        let tries = (0..3).map(|_| {
            let (spec, began) = (spec.clone(), std::time::Instant::now());
            let problems = plan_of(spec).unwrap_err();
            (began.elapsed(), problems)
        });
        let (took, problems) = tries.min_by_key(|(took, _)| *took).unwrap();
        assert!(took < std::time::Duration::from_secs(1), "{took:?}");
        assert_eq!((problems[0].code, problems[0].pointer.as_str(), problems.len()), (code, pointer, 1));
    }
}

#[test]
fn positions_count_characters_from_one_in_both_formats() {
    let yaml = "version: 1\nname: ä\n\"ключ\": 1\ntype: steps\nsteps: [{id: é, type: noop}]\n";
    let json = "{\"version\": 1,\n\t\"name\": \"ä\", \"ключ\": 1,\n\"type\": \"steps\",\r\n\"steps\": [{\"id\": \"é\", \"type\": \"noop\"}]}";
    let at = |problems: Vec<Problem>| {
        problems.iter().map(|p| (p.code, p.line.unwrap(), p.column.unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(
        at(problems_of(yaml, Format::Yaml)),
        [("bad_name", 2, 7), ("unknown_field", 3, 1), ("bad_id", 5, 10)]
    );
    assert_eq!(
        at(problems_of(json, Format::Json)),
        [("bad_name", 2, 10), ("unknown_field", 2, 15), ("bad_id", 4, 12)]
    );
}

#[test]
fn a_report_ends_after_a_hundred_problems() {
    let mut text = String::from("version: 1\nname: many\ntype: dag\nnodes:\n");
    for at in 0..400 {
        writeln!(text, "  n{at}: {{ type: nop, needs: [zz{at}], wrong: 1 }}").unwrap();
    }
    let problems = problems_of(&text, Format::Yaml);
    assert_eq!(problems.len(), 100);
    assert!(problems.is_sorted_by_key(|problem| (problem.line, problem.column)));
}

#[test]
fn the_largest_allowed_id_and_name_are_accepted_and_longer_ones_are_not() {
    let with = |name: usize, id: usize| {
        format!(
            "version: 1\nname: {}\ntype: steps\nsteps: [{{id: {}, type: noop}}]\n",
            "n".repeat(name),
            "i".repeat(id)
        )
    };
    crate::support::good(&with(63, 64));
    assert_eq!(codes(&with(64, 64)), ["bad_name"]);
    assert_eq!(codes(&with(63, 65)), ["bad_id"]);
}
