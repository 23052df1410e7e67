//! Sizes of Rust functions and files, and words that no Rust file may have.

use std::ops::RangeInclusive;

use super::lexer::Rust;
use super::{Finding, SourceFile};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 400;
const INLINE_TESTS_LINES_MAX: usize = 200;

/// Macros that stand for work that was not done, or were left behind by a search for a mistake.
const FORBIDDEN_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let rust = Rust::read(&file.text);
    let mut findings = Vec::new();
    for (name, lines) in functions(&rust) {
        let length = length(&lines);
        if length > FUNCTION_LINES_MAX {
            let what = format!("fn {name} has {length} lines, more than {FUNCTION_LINES_MAX}");
            findings.push(Finding::new(file, *lines.start(), what));
        }
    }
    let tests = inline_tests(&rust);
    for lines in &tests {
        let length = length(lines);
        if length > INLINE_TESTS_LINES_MAX {
            let what = format!(
                "{length} lines of tests, more than {INLINE_TESTS_LINES_MAX}: move them to a \
                 file of their own, foo/tests.rs"
            );
            findings.push(Finding::new(file, *lines.start(), what));
        }
    }
    let own = file.text.lines().count() - tests.iter().map(length).sum::<usize>();
    if own > FILE_LINES_MAX && !is_test_file(&file.path) {
        let what = format!("{own} lines without tests, more than {FILE_LINES_MAX}");
        findings.push(Finding::new(file, 0, what));
    }
    findings.extend(forbidden(file, &rust));
    findings
}

fn length(lines: &RangeInclusive<usize>) -> usize {
    lines.end() - lines.start() + 1
}

/// Whether a file holds tests and nothing else.
pub(super) fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests" || part == "benches")
}

/// Every function with a body, by name, with its lines.
fn functions(rust: &Rust) -> Vec<(String, RangeInclusive<usize>)> {
    let mut found = Vec::new();
    for place in 0..rust.code.len() {
        if rust.code[place] != 'f' || rust.word_at(place).as_deref() != Some("fn") {
            continue;
        }
        let after = &rust.code[place + 2..];
        let gap = after.iter().take_while(|c| c.is_whitespace()).count();
        // `fn(u8)` is a type.
        let Some(name) = rust.word_at(place + 2 + gap).filter(|_| gap > 0) else { continue };
        let Some(end) = body(rust, place).and_then(|open| rust.closing(open)) else { continue };
        found.push((name, rust.line_of(place)..=rust.line_of(end)));
    }
    found
}

/// Where the body of the function declared at `place` opens, when it has one.
fn body(rust: &Rust, place: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, c) in rust.code.iter().enumerate().skip(place) {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The lines of each `#[cfg(test)] mod … { … }`, with its attribute.
fn inline_tests(rust: &Rust) -> Vec<RangeInclusive<usize>> {
    let code: String = rust.code.iter().collect();
    let mut found: Vec<RangeInclusive<usize>> = Vec::new();
    for (byte, _) in code.match_indices("#[cfg(test)]") {
        let start = code[..byte].chars().count();
        let after = start + "#[cfg(test)]".len();
        let item: Vec<String> = code
            .chars()
            .skip(after)
            .collect::<String>()
            .split_whitespace()
            .take(4)
            .map(ToOwned::to_owned)
            .collect();
        let is_module = item.first().is_some_and(|word| word == "mod" || word.starts_with("pub"))
            && item.iter().any(|word| word == "mod");
        let Some(open) = is_module.then(|| body(rust, after)).flatten() else { continue };
        if let Some(end) = rust.closing(open) {
            found.push(rust.line_of(start)..=rust.line_of(end));
        }
    }
    found
}

fn forbidden(file: &SourceFile, rust: &Rust) -> Vec<Finding> {
    let mut findings = Vec::new();
    let code: String = rust.code.iter().collect();
    for (n, line) in code.lines().enumerate() {
        if line.contains("#[ignore") {
            findings.push(Finding::new(file, n + 1, "a test is run or is not there: no ignore"));
        }
        for name in FORBIDDEN_MACROS {
            let called = line
                .match_indices(&format!("{name}!"))
                .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
            if called {
                findings.push(Finding::new(file, n + 1, format!("{name}! left in the code")));
            }
        }
    }
    for (line, comment) in &rust.comments {
        let words = comment.split(|c: char| !c.is_alphanumeric());
        if let Some(mark) = words.into_iter().find(|word| matches!(*word, "TODO" | "FIXME" | "XXX"))
        {
            findings.push(Finding::new(file, *line, format!("{mark}: do it, or say why not")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn says(path: &str, text: &str) -> Vec<String> {
        check(&sample(path, text)).iter().map(ToString::to_string).collect()
    }

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_over_70_lines_is_found_and_one_of_70_is_not() {
        assert!(says("a.rs", &function("fits", 70)).is_empty());
        let found = says("a.rs", &format!("\n{}", function("long", 71)));
        assert_eq!(found, ["a.rs:2: fn long has 71 lines, more than 70"]);
    }

    #[test]
    fn brackets_in_text_and_types_of_functions_confuse_nothing() {
        let text = format!(
            "type F = fn(u8) -> u8;\ntrait T {{ fn none(&self); fn arr(x: [u8; 4]) -> u8; }}\n\
             fn a() {{ let s = \"}}\"; let c = '{{'; }} // {{\n{}",
            function("b", 70)
        );
        assert!(says("a.rs", &text).is_empty());
    }

    #[test]
    fn a_file_over_400_lines_is_found_but_its_tests_do_not_count() {
        let lines = "const A: u8 = 1;\n";
        assert!(says("a.rs", &lines.repeat(400)).is_empty());
        assert_eq!(
            says("a.rs", &lines.repeat(401)),
            ["a.rs:0: 401 lines without tests, more than 400"]
        );
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines.repeat(150));
        assert!(says("a.rs", &format!("{}{tests}", lines.repeat(400))).is_empty());
        assert!(says("crates/a/tests/big.rs", &lines.repeat(900)).is_empty());
        assert!(says("crates/a/src/b/tests.rs", &lines.repeat(900)).is_empty());
    }

    #[test]
    fn inline_tests_over_200_lines_are_found() {
        let tests = |lines: usize| {
            format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 1;\n".repeat(lines - 3))
        };
        assert!(says("a.rs", &tests(200)).is_empty());
        let found = says("a.rs", &tests(201));
        assert!(found[0].starts_with("a.rs:1: 201 lines of tests"), "{found:?}");
        assert!(says("a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n").is_empty());
    }

    #[test]
    fn work_left_undone_is_found_in_code_but_not_in_text() {
        let bad = "#[test]\n#[ignore]\nfn a() { todo!() }\nfn b() { unimplemented!(); dbg!(1); }\n\
                   // TODO: more\n";
        assert_eq!(says("a.rs", bad).len(), 5, "{:?}", says("a.rs", bad));
        let good = "// nothing is todo! here\nfn a() -> &'static str { \"todo!() #[ignore]\" }\n\
                    my_todo!();\n";
        assert!(says("a.rs", good).is_empty(), "{:?}", says("a.rs", good));
    }
}
