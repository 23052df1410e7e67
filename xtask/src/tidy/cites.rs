//! Citations: invariants, promises and requirements by number, outside facts by source.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::Rust;
use super::{Finding, SourceFile};

const PROTOCOL: &str = "docs/protocol.md";
const REQUIREMENTS: &str = "docs/verification.md";
const REFERENCES: &str = "docs/references.md";

/// A line of a comment, with where it stands.
struct Comment<'a> {
    file: &'a SourceFile,
    line: usize,
    text: String,
}

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let page = |path: &str| files.iter().find(|file| file.path == path);
    let rows = |path: &str| page(path).map(|file| defined(&file.text)).unwrap_or_default();
    let (protocol, requirements) = (rows(PROTOCOL), rows(REQUIREMENTS));
    let sources = page(REFERENCES).map(|file| first_cells(&file.text)).unwrap_or_default();
    let mut findings = Vec::new();
    let mut cited = BTreeSet::new();
    for comment in files.iter().flat_map(comments) {
        for (kind, number) in numbers(&comment.text) {
            let (page, known) =
                if kind == 'R' { (REQUIREMENTS, &requirements) } else { (PROTOCOL, &protocol) };
            if !known.contains_key(&(kind, number)) {
                let what = format!("{kind}{number} is not in {page}");
                findings.push(Finding::new(comment.file, comment.line, what));
            }
            cited.insert((kind, number));
        }
        if let Some((_, source)) = comment.text.split_once("Source: ")
            && !sources.iter().any(|name| begins_with(source, name))
        {
            let what = format!("{REFERENCES} has no row for the source of {source:?}");
            findings.push(Finding::new(comment.file, comment.line, what));
        }
    }
    let invariants = protocol.iter().filter(|((kind, _), _)| matches!(kind, 'I' | 'L'));
    for ((kind, number), line) in invariants.filter(|(id, _)| !cited.contains(*id)) {
        let what = format!("{kind}{number} is cited nowhere in the code");
        findings.push(Finding { path: PROTOCOL.to_owned(), line: *line, what });
    }
    findings
}

/// The comments of what is shipped or tested; xtask speaks of citations without making any.
fn comments(file: &SourceFile) -> Vec<Comment<'_>> {
    if !file.path.starts_with("crates/") {
        return Vec::new();
    }
    let lines: Vec<(usize, String)> = if file.is("rs") {
        Rust::read(&file.text).comments
    } else if file.is("sql") || file.is("lua") {
        let comment = |line: &str| line.split_once("--").map(|(_, text)| text.to_owned());
        file.text.lines().enumerate().filter_map(|(n, l)| Some((n + 1, comment(l)?))).collect()
    } else {
        Vec::new()
    };
    lines.into_iter().map(|(line, text)| Comment { file, line, text }).collect()
}

/// Citations in a text: a letter of I, L, P, R and one or two digits, as a word of their own.
fn numbers(text: &str) -> Vec<(char, u32)> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')));
    words.filter_map(|word| number(word.trim_end_matches('.'))).collect()
}

fn number(word: &str) -> Option<(char, u32)> {
    let kind = word.chars().next().filter(|c| matches!(c, 'I' | 'L' | 'P' | 'R'))?;
    let digits = &word[1..];
    let sound = (1..=2).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0');
    sound.then(|| Some((kind, digits.parse().ok()?)))?
}

/// What a page defines by number: at the head of a list item, a table's row or a heading.
fn defined(page: &str) -> BTreeMap<(char, u32), usize> {
    let mut found = BTreeMap::new();
    for (n, line) in page.lines().enumerate() {
        let Some(rest) =
            ["- **", "| **", "| ", "### ", "## "].iter().find_map(|h| line.strip_prefix(h))
        else {
            continue;
        };
        let word = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if let Some(id) = number(word) {
            found.entry(id).or_insert(n + 1);
        }
    }
    found
}

/// The first cell of each row of a page's tables.
fn first_cells(page: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" |").next());
    cells.map(|cell| cell.replace('`', "")).filter(|cell| !cell.starts_with('-')).collect()
}

fn begins_with(source: &str, name: &str) -> bool {
    let plain = source.replace('`', "");
    plain.strip_prefix(name).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn says(code: &str) -> Vec<String> {
        let files = [
            sample(
                PROTOCOL,
                "- **I1 Tokens.** They rise.\n| L2 | start |\nI9 is only spoken of.\n",
            ),
            sample(REQUIREMENTS, "| R29 | keys |\n"),
            sample(
                REFERENCES,
                "| name | what |\n|---|---|\n| `proc(5)` | page |\n| UAX9 | bidi |\n",
            ),
            sample("crates/a/src/lib.rs", code),
        ];
        check(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn citations_of_what_is_defined_are_fine() {
        let code = "/// Rises (I1). See R29.\n// L2, and I1 too\n\
                    // Source: `proc(5)`, field 3.\n// Source: UAX9 §2.\n";
        assert!(says(code).is_empty(), "{:?}", says(code));
    }

    #[test]
    fn unknown_numbers_and_sources_are_found() {
        let found = says("// I1 L2\n// I9\n// R30\n// Source: UAX95.\n// Source: Somebody07.\n");
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("crates/a/src/lib.rs:2: I9 is not in docs/protocol.md"));
    }

    #[test]
    fn an_invariant_that_no_code_cites_is_found() {
        let found = says("// I1\nlet text = \"L2\";\n");
        assert_eq!(found, ["docs/protocol.md:2: L2 is cited nowhere in the code"]);
    }

    #[test]
    fn comments_of_sql_count_and_other_words_do_not() {
        let files = [
            sample(PROTOCOL, "- **I1 Tokens.**\n"),
            sample("crates/a/src/schema.sql", "CREATE TABLE x; -- I1\nSELECT 'I7';\n"),
            sample("crates/a/src/lib.rs", "// PI3 IP4 I/O L10n I123 U+L2x R-7\n"),
        ];
        assert_eq!(check(&files), []);
    }
}
