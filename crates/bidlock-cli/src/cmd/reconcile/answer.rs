use bidlock::Answer;
use serde_json::Value;

use crate::child::KEPT_BYTES_MAX;

/// The most of an odd answer that is told, in characters.
const TOLD_CHARS_MAX: usize = 200;

/// Reads what a command said; whatever is not exactly an answer is none.
pub(super) fn read(said: &str) -> Answer {
    // What is no UTF-8 was replaced by then, and is the name of no bid any more.
    if said.contains(char::REPLACEMENT_CHARACTER) {
        return cannot_tell(format!("it is no UTF-8: {}", told(said)));
    }
    // Only the beginning is kept of so much.
    if said.len() >= KEPT_BYTES_MAX {
        return cannot_tell(format!("it is longer than an answer: {}", told(said)));
    }
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let Some(line) = lines.next() else { return cannot_tell("it said nothing".to_owned()) };
    if lines.next().is_some() {
        return cannot_tell(format!("it said more than one line: {}", told(said)));
    }
    let answer = if line.starts_with('{') { object(line) } else { words(line) };
    answer.unwrap_or_else(|| cannot_tell(format!("no answer that is understood: {}", told(line))))
}

fn words(line: &str) -> Option<Answer> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = Some(rest.trim()).filter(|rest| !rest.is_empty()).map(str::to_owned);
    answer(word, rest)
}

fn object(line: &str) -> Option<Answer> {
    let object: Value = serde_json::from_str(line).ok()?;
    let word = object.get("answer")?.as_str()?;
    let field = match word {
        "found" => "reference",
        "refused" => "reason",
        _ => "why",
    };
    let text = match object.get(field) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        // A longer one, or one with a fraction, would be rounded.
        Some(Value::Number(number)) if number.is_u64() => Some(number.to_string()),
        Some(_) => return None,
    };
    answer(word, text)
}

/// A bid that was found has a name: a script whose search came out empty has found nothing.
fn answer(word: &str, text: Option<String>) -> Option<Answer> {
    match (word, text) {
        ("found", Some(reference)) => Some(Answer::Found { reference: Some(reference) }),
        ("refused", reason) => Some(Answer::Refused { reason }),
        ("not-found" | "not_found", _) => Some(Answer::NotFound),
        ("cannot-tell" | "cannot_tell", why) => Some(Answer::CannotTell { why }),
        _ => None,
    }
}

pub(super) fn cannot_tell(why: String) -> Answer {
    Answer::CannotTell { why: Some(why) }
}

/// What a command said, in one line that fits.
pub(super) fn told(said: &str) -> String {
    let mut line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(TOLD_CHARS_MAX) {
        line.truncate(at);
        line.push('…');
    }
    format!("{line:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(reference: &str) -> Answer {
        Answer::Found { reference: Some(reference.to_owned()) }
    }

    fn refused(reason: &str) -> Answer {
        Answer::Refused { reason: Some(reason.to_owned()) }
    }

    #[test]
    fn each_form_of_an_answer_is_read() {
        for (said, answer) in [
            ("found R-1\n", found("R-1")),
            ("\n  found\tR 1  \r\n\n", found("R 1")),
            ("refused", Answer::Refused { reason: None }),
            ("refused job closed", refused("job closed")),
            ("not-found", Answer::NotFound),
            ("cannot-tell", Answer::CannotTell { why: None }),
            ("cannot-tell HTTP 503", cannot_tell("HTTP 503".to_owned())),
            (r#"{"answer":"found","reference":"R-1"}"#, found("R-1")),
            (r#"{"answer":"found","reference":17}"#, found("17")),
            (r#"{"answer":"refused","reason":null}"#, Answer::Refused { reason: None }),
            (r#"{"answer":"not-found","x":1}"#, Answer::NotFound),
            (r#"{"answer":"cannot_tell","why":"y"}"#, cannot_tell("y".to_owned())),
        ] {
            assert_eq!(read(said), answer, "{said}");
        }
    }

    #[test]
    fn whatever_else_is_said_settles_nothing() {
        for said in [
            "",
            "\n \n",
            "found",
            "found   ",
            "FOUND R-1",
            "found: R-1",
            "foundR-1",
            "not found",
            "placed R-1",
            "found R-1\nfound R-2",
            "found R-1\nnot-found",
            "{\"answer\":\"found\"}",
            "{\"answer\":\"found\",\"reference\":\"\"}",
            "{\"answer\":\"found\",\"reference\":[\"R\"]}",
            "{\"answer\":\"found\",\"reference\":\"R\"",
            "{\"answer\":\"found\",\"reference\":123456789012345678901234}",
            "found R\u{fffd}",
            &format!("found R-1\n{}", "\n".repeat(KEPT_BYTES_MAX)),
            "{\"found\":\"R\"}",
            "[\"found\"]",
            "<html>503</html>",
        ] {
            let Answer::CannotTell { why: Some(why) } = read(said) else { panic!("{said}") };
            assert!(why.len() < 1_000, "{why}");
        }
        let long = read(&"x y\n".repeat(10_000));
        let Answer::CannotTell { why: Some(why) } = long else { panic!("{long:?}") };
        assert!(why.len() < 300 && why.ends_with("…\""), "{why}");
    }
}
