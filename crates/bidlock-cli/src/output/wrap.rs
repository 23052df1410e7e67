use unicode_width::UnicodeWidthStr as _;

use super::visible;

/// What a text has at least beside its head, however narrow the terminal is.
const ROOM_MIN: usize = 30;

/// What starts a command that people paste into a shell: a line break would cut it in two, so the
/// terminal itself has to wrap it.
const COMMAND: &str = "redis-cli ";

/// A head, and beside it a text in lines of a width, each with a line break.
pub(crate) fn wrapped(head: &str, text: &str, width: usize) -> String {
    let indent = head.width();
    let room = width.saturating_sub(indent).max(ROOM_MIN);
    let text = visible(text);
    let command = text.find(COMMAND).map_or(text.len(), |at| {
        // With what opens before it, such as a parenthesis.
        text[..at].rfind(' ').map_or(0, |space| space + 1)
    });
    let (prose, command) = text.split_at(command);
    let words = prose.split(' ').chain([command]).filter(|word| !word.is_empty());
    let (mut lines, mut line) = (head.to_owned(), String::new());
    for word in words {
        if !line.is_empty() && line.width() + 1 + word.width() > room {
            lines.push_str(&line);
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_wrapped_beside_its_head() {
        let text = wrapped("why: ", "locks are the first keys to go when memory is short", 37);
        let lines =
            ["why: locks are the first keys to go", "     when memory is short"].join("\n") + "\n";
        assert_eq!(text, lines);
        assert_eq!(wrapped("  ", "a\nb", 80), "  a\\u{a}b\n");
        assert_eq!(wrapped("why: ", "short", 0), "why: short\n");
        assert!(wrapped("é ", &"日本 ".repeat(40), 60).lines().all(|line| line.width() <= 60));
    }

    #[test]
    fn a_command_stays_in_one_line() {
        let command = "(redis-cli -h h -p 6379 CONFIG SET maxmemory-policy noeviction)";
        let text = wrapped("mend: ", &format!("make room on its disk {command}"), 40);
        assert_eq!(text, format!("mend: make room on its disk\n      {command}\n"));
        assert_eq!(wrapped("mend: ", &command[1..], 40), format!("mend: {}\n", &command[1..]));
    }
}
