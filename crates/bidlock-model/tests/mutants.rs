//! Every mistake is found by the property that is there for it, by a way that a person can read.

/// A story with more steps than this is no explanation.
const STEPS_MAX: usize = 30;

#[test]
fn every_mistake_is_found_by_a_short_story_and_stands_in_the_docs() {
    let mut table = vec![bidlock_model::TABLE.to_owned(), "|---|---|---|".to_owned()];
    for mutant in bidlock_model::mutants() {
        let (name, property, steps) = (&mutant.name, mutant.property, mutant.steps());
        assert!(steps > 0, "{name} is not found by «{property}»: {:?}", mutant.report);
        assert!(steps <= STEPS_MAX, "{name} takes {steps} steps");
        table.push(format!("| {name} | {property} | {steps} |"));
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verification.md");
    let page = std::fs::read_to_string(page).unwrap();
    let told = page.lines().skip_while(|line| *line != bidlock_model::TABLE);
    let told: Vec<_> = told.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(told, table, "make the table again: cargo xtask mutants");
}

#[test]
fn the_hole_that_nothing_closes_is_the_one_that_is_named() {
    let reports: Vec<_> = bidlock_model::all("hole").collect();
    assert_eq!(reports.len(), 1);
    assert_eq!(bidlock_model::unreached(&reports), [""; 0]);
    assert!(reports[0].broken.is_empty(), "{:?}", reports[0].broken);
}
