//! Every mistake is found by the property that is there for it, by a way that a person can read.

/// A story with more steps than this is no explanation.
const STEPS_MAX: usize = 30;

#[test]
fn every_mistake_is_found_by_a_short_story() {
    let mut count = 0;
    for mutant in bidlock_model::mutants() {
        let (name, property) = (&mutant.name, mutant.property);
        let story = mutant.report.broken.iter().find(|story| story.property == property);
        let steps = story.map_or(0, |story| story.steps.len());
        assert!(steps > 0, "{name} is not found by «{property}»: {:?}", mutant.report);
        assert!(steps <= STEPS_MAX, "{name} takes {steps} steps");
        count += 1;
    }
    assert!(count >= 30, "{count}");
}

#[test]
fn the_hole_that_nothing_closes_is_the_one_that_is_named() {
    let reports: Vec<_> = bidlock_model::all("hole").collect();
    assert_eq!(reports.len(), 1);
    assert_eq!(bidlock_model::unreached(&reports), [""; 0]);
    assert!(reports[0].broken.is_empty(), "{:?}", reports[0].broken);
}
