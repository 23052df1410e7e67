use std::time::Duration;

use bidlock_core::Refusal;
use bidlock_ledger::{AuditQuery, Freshness, LedgerError, Reservation, Verdict};

use super::scene::{Scene, key, note, placed, sure};

pub(super) async fn a_ledger_keeps_its_identity(scene: &Scene) {
    let standing = sure(scene.ledger.standing().await);
    assert!(standing.schema >= 1, "{standing:?}");
    assert_eq!((standing.accepted_at, standing.changed.as_deref()), (None, None));
    scene.started(&key("a"), 5).await;
    assert_eq!(sure(scene.open_again().standing().await), standing);
}

pub(super) async fn an_acceptance_is_kept(scene: &Scene) {
    scene.advance(Duration::from_secs(1));
    sure(scene.ledger.accept(&note()).await);
    let accepted = scene.now();
    for ledger in [scene.ledger.clone(), scene.open_again()] {
        assert_eq!(sure(ledger.standing().await).accepted_at, Some(accepted));
    }
    let audit = sure(scene.ledger.audit(&AuditQuery::default()).await);
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!((audit[0].act.as_str(), audit[0].actor.as_str()), ("accept", "ann"));
    assert_eq!(audit[0].because, note().because);
    let nobody = bidlock_ledger::OperatorNote { actor: String::new(), ..note() };
    let answer = scene.ledger.accept(&nobody).await;
    assert!(matches!(answer, Err(LedgerError::Invalid(_))), "{answer:?}");
}

/// The next process on this machine, which finds what was remembered.
fn next(scene: &Scene, folder: &tempfile::TempDir) -> bidlock_ledger::Ledger {
    scene.open_again().remembering(folder.path())
}

async fn is_given_out(ledger: &bidlock_ledger::Ledger, scene: &Scene, posting: &str) -> bool {
    match ledger.reserve(&key(posting), &scene.request(5)).await {
        Ok(Reservation::Reserved(_)) => true,
        Err(LedgerError::Refused { reason: Refusal::Restored(_), .. }) => false,
        other => panic!("reserved or restored, not {other:?}"),
    }
}

pub(super) async fn a_ledger_that_forgot_a_start_gives_nothing_out(scene: &Scene) {
    let folder = crate::temp_dir();
    let (a, first) = (key("a"), next(scene, &folder));
    let request = scene.request(5);
    sure(first.reserve(&a, &request).await);
    sure(first.start(&request.attempt, &scene.start_request(5)).await);
    assert!(is_given_out(&next(scene, &folder), scene, "b").await, "this ledger knows it");
    // Another machine's bids are not in its place; this machine's mark is (L12).
    let id = sure(first.standing().await).id;
    let mark = folder.path().join(id.to_string());
    let stranger = bidlock_ledger::AttemptId::random(scene.machine().rng.as_ref());
    let line = format!("{stranger} {}\n", scene.now().as_micros());
    assert!(std::fs::write(&mark, line).is_ok());
    let later = next(scene, &folder);
    assert!(!is_given_out(&later, scene, "c").await, "this ledger has forgotten it");
    let start = later.start(&request.attempt, &scene.start_request(6)).await;
    assert!(matches!(&start, Err(error) if !error.is_retryable()), "{start:?}");
    // All else goes on.
    let verdict = sure(later.should_bid(&a, &Freshness::default()).await);
    assert!(matches!(verdict, Verdict::InProgress(_)), "{verdict:?}");
    sure(later.record(&request.attempt, &placed()).await);
    scene.advance(Duration::from_secs(1));
    sure(later.accept(&note()).await);
    assert!(is_given_out(&later, scene, "c").await, "a person has accepted it");
    assert!(is_given_out(&next(scene, &folder), scene, "d").await);
}

pub(super) async fn a_ledger_that_was_made_anew_gives_nothing_out(scene: &Scene) {
    let folder = crate::temp_dir();
    let first = next(scene, &folder);
    let request = scene.request(5);
    sure(first.reserve(&key("a"), &request).await);
    sure(first.start(&request.attempt, &scene.start_request(5)).await);
    // What is left of a ledger that was lost: the mark of its place, and one of an id that is no
    // more (L12). The attempt is one that this ledger, as new as that, does not know.
    let id = sure(first.standing().await).id.to_string();
    assert!(std::fs::remove_file(folder.path().join(&id)).is_ok());
    assert!(is_given_out(&next(scene, &folder), scene, "b").await, "this ledger knows it");
    let Ok(files) = folder.path().read_dir() else { panic!("a folder of marks") };
    let left: Vec<_> = files.flatten().map(|file| file.path()).collect();
    assert_eq!(left.len(), 1, "the mark of the place: {left:?}");
    let stranger = bidlock_ledger::AttemptId::random(scene.machine().rng.as_ref());
    let line = format!("{stranger} {}\n", scene.now().as_micros());
    assert!(std::fs::write(&left[0], line).is_ok());
    assert!(!is_given_out(&next(scene, &folder), scene, "c").await, "it was another ledger's");
}

pub(super) async fn what_was_pruned_is_not_missed(scene: &Scene) {
    let folder = crate::temp_dir();
    let first = next(scene, &folder);
    let request = scene.request(5);
    sure(first.reserve(&key("a"), &request).await);
    sure(first.start(&request.attempt, &scene.start_request(5)).await);
    sure(first.record(&request.attempt, &placed()).await);
    scene.advance(Duration::from_secs(1));
    assert_eq!(sure(first.prune(scene.now(), 100).await).attempts, 1);
    assert!(is_given_out(&next(scene, &folder), scene, "b").await);
}
