use std::time::Duration;

use bidlock_core::Key;
use bidlock_ledger::{Admitted, AuditEntry, AuditQuery, LedgerError, State};

use super::scene::{SEND_WITHIN, Scene, key, not_sent, note, placed, sure, unknown};

pub(super) async fn dossiers_come_in_pages_by_name(scene: &Scene) {
    // By bytes: no language's own order.
    let names = ["B", "a", "a b", "b", "z", "Ä", "ä"];
    for name in names.iter().rev() {
        scene.reserve(&key(name), 5).await;
        let other = Key::new("fiverr", name).unwrap_or_else(|_| key(name));
        scene.recorded(&other, 5, &not_sent()).await;
        scene.reserve(&other, 6).await;
    }
    let mut expected: Vec<(String, String)> = ["upwork", "fiverr"]
        .into_iter()
        .flat_map(|market| names.map(|n| (market.to_owned(), key(n).posting_encoded().to_owned())))
        .collect();
    expected.sort();
    let (mut after, mut listed) = (None, Vec::new());
    for expected in [5, 5, 4, 0] {
        let page = sure(scene.ledger.dossiers(after.as_ref(), 5).await);
        assert_eq!(page.len(), expected);
        listed.extend(page.into_iter().map(|it| {
            assert_eq!(it.attempts.len(), if it.marketplace == "fiverr" { 2 } else { 1 });
            (it.marketplace, it.posting_encoded)
        }));
        after = listed.last().cloned();
        if expected == 0 {
            break;
        }
    }
    assert_eq!(listed, expected);
    for bad in [0, 1_001] {
        let answer = scene.ledger.dossiers(None, bad).await;
        assert!(matches!(answer, Err(LedgerError::Invalid(_))), "{answer:?}");
    }
}

pub(super) async fn counts_tell_what_everybody_reads(scene: &Scene) {
    let none = State::ALL.map(|state| (state, 0)).to_vec();
    assert_eq!(sure(scene.ledger.counts().await), none);
    let sender = scene.machine().another_process();
    scene.started_by(&sender, &key("orphan")).await;
    scene.started(&key("expired"), 5).await;
    scene.advance(SEND_WITHIN);
    scene.started_by(&sender, &key("by a process")).await;
    scene.started(&key("started"), 5).await;
    scene.recorded(&key("unknown"), 5, &unknown()).await;
    for n in 0..3 {
        scene.recorded(&key(&format!("placed {n}")), 5, &placed()).await;
    }
    scene.recorded(&key("gone"), 5, &not_sent()).await;
    let count = |started, unknown| {
        vec![
            (State::Reserved, 0),
            (State::Started, started),
            (State::Placed, 3),
            (State::Refused, 0),
            (State::Unknown, unknown),
            (State::Withdrawn, 0),
            (State::Abandoned, 1),
        ]
    };
    assert_eq!(sure(scene.ledger.counts().await), count(2, 3));
    sender.processes.end();
    assert_eq!(sure(scene.ledger.counts().await), count(1, 4), "nobody is left to tell (L5)");
}

/// An entry without its number, which is each ledger's own.
fn untold(entry: &AuditEntry) -> AuditEntry {
    AuditEntry { seq: 0, ..entry.clone() }
}

pub(super) async fn the_audit_is_taken_along(scene: &Scene) {
    let odd = key("Größe {1}: ★");
    scene.recorded(&odd, 5, &placed()).await;
    sure(scene.ledger.withdraw(&odd, &note()).await);
    scene.advance(Duration::from_secs(1));
    sure(scene.ledger.accept(&note()).await);
    sure(scene.ledger.reopen(&odd, &note()).await);
    let told = sure(scene.ledger.audit_forward(None, 100).await);
    let acts: Vec<_> = told.iter().map(|entry| entry.act.as_str()).collect();
    assert_eq!(acts, ["withdraw", "accept", "reopen"], "oldest first");
    let mut paged = sure(scene.ledger.audit_forward(None, 2).await);
    paged.extend(sure(scene.ledger.audit_forward(Some(paged[1].seq), 2).await));
    assert_eq!(paged, told);
    for entry in &told {
        let own = sure(scene.ledger.admit_audit(entry).await);
        assert_eq!(own, Admitted::Known, "its own");
        let given = AuditEntry { at: entry.at + SEND_WITHIN, seq: 77, ..entry.clone() };
        assert_eq!(sure(scene.ledger.admit_audit(&given).await), Admitted::Taken);
        assert_eq!(sure(scene.ledger.admit_audit(&given).await), Admitted::Known);
        let newest = AuditQuery { limit: 1, ..AuditQuery::default() };
        let kept = sure(scene.ledger.audit(&newest).await);
        assert_eq!(untold(&kept[0]), untold(&given));
    }
    assert_eq!(sure(scene.ledger.audit_forward(None, 100).await).len(), 6);
    let of_odd = AuditQuery { key: Some(odd), ..AuditQuery::default() };
    assert_eq!(sure(scene.ledger.audit(&of_odd).await).len(), 4, "it is found by its posting");
}
