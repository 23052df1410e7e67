use proptest::prelude::*;

use super::*;

#[test]
fn plain_ids_stay_as_they_are() {
    let key = Key::new("upwork", "~0123_a-b.c/d?e=f&g").unwrap();
    assert_eq!(key.as_str(), "bid_lock:upwork:~0123_a-b.c/d?e=f&g");
    assert_eq!((key.prefix(), key.marketplace()), ("bid_lock", "upwork"));
    assert!(!key.is_encoded());
}

#[test]
fn what_would_change_the_shape_of_a_key_is_encoded() {
    let key = Key::new("upwork", "a b:{c}%#é🚀").unwrap();
    assert_eq!(key.posting_encoded(), "a%20b%3A%7Bc%7D%25%23%C3%A9%F0%9F%9A%80");
    assert_eq!(key.posting(), "a b:{c}%#é🚀");
    assert!(key.is_encoded());
}

#[test]
fn two_spellings_of_one_text_are_one_key() {
    assert_eq!(Key::new("x", "caf\u{e9}").unwrap(), Key::new("x", "cafe\u{301}").unwrap());
}

#[test]
fn what_people_cannot_see_is_refused_by_name() {
    for (id, said) in [
        ("", "empty"),
        (" a", "white space at an end"),
        ("a ", "white space at an end"),
        ("a\u{3000}", "white space at an end"),
        ("a\nb", "control character U+000A"),
        ("a\u{0}b", "control character U+0000"),
        ("a\u{7f}b", "control character U+007F"),
        ("a\u{200b}b", "invisible character U+200B"),
        ("a\u{feff}b", "invisible character U+FEFF"),
        ("a\u{fe0f}b", "invisible character U+FE0F"),
        ("a\u{202e}b", "bidi control character U+202E"),
        ("a\u{a0}b", "white space other than U+0020 U+00A0"),
        ("a\u{2028}b", "line separator U+2028"),
        ("a\u{e000}b", "private-use character U+E000"),
    ] {
        let refused = Key::new("upwork", id).unwrap_err().to_string();
        assert!(refused.contains(said), "{id:?}: {refused}");
        assert!(!refused.contains('\n'), "an error is one line: {refused}");
    }
}

#[test]
fn ids_are_bounded_once_encoded() {
    assert!(Key::new("x", &"a".repeat(512)).is_ok());
    let refused = Key::new("x", &"a".repeat(513)).unwrap_err();
    assert!(refused.to_string().contains("512 bytes"), "{refused}");
    assert!(Key::new("x", &"é".repeat(86)).is_err(), "86 × 6 bytes are more than 512");
}

#[test]
fn another_spelling_of_a_marketplace_is_refused_with_the_right_one() {
    let refused = Key::new("UpWork", "a").unwrap_err().to_string();
    assert!(refused.contains("\"upwork\""), "{refused}");
    for bad in ["", "up work", "up:work", "ü", &"a".repeat(65)] {
        assert!(Key::new(bad, "a").is_err(), "{bad:?}");
    }
}

#[test]
fn a_named_key_never_meets_a_posting() {
    assert_eq!(Key::named("nightly-report").unwrap().as_str(), "bid_lock::nightly-report");
    assert_ne!(Key::named("upwork:a").unwrap(), Key::new("upwork", "a").unwrap());
}

#[test]
fn a_prefix_cannot_bend_a_key() {
    for bad in ["", "a{b", "a}b", "a b", "a%b", "é", &"a".repeat(65)] {
        assert!(Prefix::new(bad).is_err(), "{bad:?}");
    }
    let other = Prefix::new("prod:bids").unwrap();
    let key = Key::new("upwork", "a b").unwrap().with_prefix(&other);
    assert_eq!(key.as_str(), "prod:bids:upwork:a%20b");
    assert_eq!(Key::parse(&other, key.as_str()).unwrap(), key);
    assert!(Key::parse(&Prefix::default(), key.as_str()).is_err());
    assert_eq!(Key::read(key.as_str()).unwrap(), key);
}

#[test]
fn only_the_one_spelling_of_a_key_is_read() {
    let prefix = Prefix::default();
    for bad in [
        "",
        "bid_lock",
        "bid_lock:a",
        "bid_lock:A:b",
        "bid_lock:a:b c",
        "bid_lock:a:%2f",
        "bid_lock:a:%61",
        "bid_lock:a:b%",
        "bid_lock:a:",
        "bid_lock:a:b:c",
    ] {
        assert!(Key::parse(&prefix, bad).is_err(), "{bad:?}");
        assert!(Key::read(bad).is_err() || bad == "bid_lock:a:b:c", "{bad:?}");
    }
}

proptest! {
    #[test]
    fn different_pairs_never_share_a_key(
        m1 in "[a-z0-9._-]{1,8}", p1 in "\\PC{1,12}", m2 in "[a-z0-9._-]{1,8}", p2 in "\\PC{1,12}",
    ) {
        use unicode_normalization::UnicodeNormalization;
        if let (Ok(a), Ok(b)) = (Key::new(&m1, &p1), Key::new(&m2, &p2)) {
            let same = m1 == m2 && p1.nfc().eq(p2.nfc());
            prop_assert_eq!(a == b, same, "{} {}", a, b);
        }
    }

    #[test]
    fn a_key_is_read_back_and_has_no_tag_of_its_own(m in "[a-z0-9._-]{1,8}", p in any::<String>()) {
        if let Ok(key) = Key::new(&m, &p) {
            prop_assert!(key.as_str().bytes().all(|b| b.is_ascii_graphic()));
            let tagged = key.as_str().contains(['{', '}']);
            prop_assert!(!tagged);
            prop_assert_eq!(Key::parse(&Prefix::default(), key.as_str()).unwrap(), key.clone());
            prop_assert_eq!(Key::new(&m, &key.posting()).unwrap(), key);
        }
    }
}
