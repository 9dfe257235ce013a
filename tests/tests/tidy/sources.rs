//! Files: how long, how they open, what must not stand in them.

use super::{TextFile, nothing, text_files};

/// Lines of code in one file, its tests at the end aside: about 500, and some grace. More is asking for a
/// second room.
const LINES_MAX: usize = 550;
/// The same for files that hold nothing but tests: they are lists, and read as such.
const TEST_LINES_MAX: usize = 800;
/// Folders of people, and of the machines that build.
const MACHINE_FOLDERS: &[&str] = &["work", "root", "home", "Users", "builds", "workspace"];

/// Words that say that something is not done. In pieces, so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/")
        || path.contains("/conformance/")
        || path.ends_with("/tests.rs")
        || path.starts_with("tests/")
}

fn code_lines(file: &TextFile) -> usize {
    if is_test_file(&file.path) {
        return file.text.lines().count();
    }
    file.text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

fn rust_files() -> Vec<TextFile> {
    text_files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

#[test]
fn no_file_is_too_long_to_be_read_in_one_go() {
    let mut found = Vec::new();
    for file in rust_files() {
        let max = if is_test_file(&file.path) { TEST_LINES_MAX } else { LINES_MAX };
        let lines = code_lines(&file);
        if lines > max {
            found.push(format!("{} has {lines} lines; {max} are allowed", file.path));
        }
    }
    nothing(&found, "A file this long is asking for a second room:");
}

#[test]
fn every_module_opens_with_a_sentence_that_says_what_it_is_for() {
    let found: Vec<String> = rust_files()
        .into_iter()
        .filter(|file| file.path.contains("/src/") || file.path.contains("/tests/"))
        // Tests beside their module say by their name what they are for.
        .filter(|file| !file.path.ends_with("/tests.rs"))
        .filter(|file| !file.text.trim_start().starts_with("//!"))
        .map(|file| file.path)
        .collect();
    nothing(&found, "These files do not begin with `//!`:");
}

#[test]
fn nothing_is_left_to_be_done_later() {
    let mut found = Vec::new();
    for file in text_files().iter().filter(|file| !file.path.starts_with("tests/tests/tidy")) {
        for (number, line) in file.text.lines().enumerate() {
            if UNFINISHED.iter().any(|word| has_word(line, word)) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    nothing(&found, "Do it now, or write an issue:");
}

#[test]
fn no_path_of_somebodys_machine_is_written_down() {
    let mut found = Vec::new();
    for file in &text_files() {
        for (number, line) in file.text.lines().enumerate() {
            if names_a_machine_folder(line) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    nothing(&found, "A path of one machine means nothing on another:");
}

/// One of those folders at the beginning of a path, with something in it.
fn names_a_machine_folder(line: &str) -> bool {
    MACHINE_FOLDERS.iter().any(|folder| {
        let beginning = format!("/{folder}/");
        line.match_indices(&beginning).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + beginning.len()..].chars().next();
            let begins = before.is_none_or(|it| !(it.is_alphanumeric() || "._-~$}>*/".contains(it)));
            begins && after.is_some_and(char::is_alphanumeric)
        })
    })
}

/// Whether `word` stands in the line on its own.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_part = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
        !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next())
    })
}

#[test]
fn these_checks_see_what_they_look_for() {
    let path = |folder: &str| format!("see /{folder}/ada/notes");
    assert!(names_a_machine_folder(&path("home")) && names_a_machine_folder(&path("work")));
    assert!(!names_a_machine_folder("tests/work/notes, ~/work/notes, https://example.com/home/notes"));
    assert!(has_word(concat!("// FIX", "ME: later"), UNFINISHED[2]));
    assert!(!has_word(concat!("let xFIX", "MEs = 1;"), UNFINISHED[2]));
}
