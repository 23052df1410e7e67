//! Tells code, comments and literals of Rust apart: as much as the checks need.

/// A Rust text taken apart. `code` has the same lines and columns (in characters) as the text,
/// with comments and the insides of literals blanked.
#[derive(Debug)]
pub(super) struct Rust {
    pub(super) code: Vec<char>,
    /// Each line of each comment, with its line counted from 1.
    pub(super) comments: Vec<(usize, String)>,
}

impl Rust {
    pub(super) fn read(text: &str) -> Self {
        let mut lexer = Lexer {
            text: text.chars().collect(),
            at: 0,
            rust: Self { code: Vec::new(), comments: Vec::new() },
            line: 1,
        };
        while lexer.at < lexer.text.len() {
            lexer.step();
        }
        lexer.rust
    }

    /// The line of a place in the code, counted from 1.
    pub(super) fn line_of(&self, place: usize) -> usize {
        1 + self.code[..place].iter().filter(|c| **c == '\n').count()
    }

    /// The word that begins at `place`, when one begins there.
    pub(super) fn word_at(&self, place: usize) -> Option<String> {
        let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
        if place > 0 && self.code.get(place - 1).is_some_and(is_word) {
            return None;
        }
        let word: String = self.code[place..].iter().copied().take_while(|c| is_word(c)).collect();
        (!word.is_empty()).then_some(word)
    }

    /// Where the bracket that opens at `open` closes.
    pub(super) fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (place, c) in self.code.iter().enumerate().skip(open) {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return Some(place),
                '}' => depth -= 1,
                _ => {}
            }
        }
        None
    }
}

struct Lexer {
    text: Vec<char>,
    at: usize,
    rust: Rust,
    line: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.line_comment(),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(),
            ('r', '"' | '#') if !self.inside_word() => self.raw_string(),
            ('b' | 'c', 'r') if !self.inside_word() && matches!(self.peek(2), '"' | '#') => {
                self.keep();
                self.raw_string();
            }
            ('\'', _) => self.quote(),
            _ => self.keep(),
        }
    }

    /// Whether a word goes on here, as that of `for` does at its `r`.
    fn inside_word(&self) -> bool {
        self.at > 0 && matches!(self.text[self.at - 1], 'a'..='z' | 'A'..='Z' | '0'..='9' | '_')
    }

    fn keep(&mut self) {
        let c = self.peek(0);
        self.line += usize::from(c == '\n');
        self.rust.code.push(c);
        self.at += 1;
    }

    fn blank(&mut self) {
        if self.at == self.text.len() {
            return;
        }
        if self.peek(0) == '\n' {
            self.keep();
        } else {
            self.rust.code.push(' ');
            self.at += 1;
        }
    }

    fn line_comment(&mut self) {
        let start = self.at;
        while self.at < self.text.len() && self.peek(0) != '\n' {
            self.blank();
        }
        let words = self.text[start..self.at].iter().collect();
        self.rust.comments.push((self.line, words));
    }

    fn block_comment(&mut self) {
        let (start, first) = (self.at, self.line);
        let mut depth = 0_usize;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => {
                    depth += 1;
                    self.blank();
                }
                ('*', '/') => {
                    depth -= 1;
                    self.blank();
                }
                _ => {}
            }
            self.blank();
            if depth == 0 {
                break;
            }
        }
        let words: String = self.text[start..self.at].iter().collect();
        let lines = words.lines().enumerate();
        self.rust.comments.extend(lines.map(|(n, line)| (first + n, line.to_owned())));
    }

    fn string(&mut self) {
        self.keep();
        while self.at < self.text.len() && self.peek(0) != '"' {
            if self.peek(0) == '\\' {
                self.blank();
            }
            self.blank();
        }
        if self.at < self.text.len() {
            self.keep();
        }
    }

    /// Reads `r"…"` and `r#"…"#`; a raw name such as `r#type` is code.
    fn raw_string(&mut self) {
        let hashes = self.text[self.at + 1..].iter().take_while(|c| **c == '#').count();
        if self.peek(1 + hashes) != '"' {
            self.keep();
            return;
        }
        for _ in 0..hashes + 2 {
            self.keep();
        }
        let ends = |lexer: &Self| {
            lexer.peek(0) == '"' && (1..=hashes).all(|ahead| lexer.peek(ahead) == '#')
        };
        while self.at < self.text.len() && !ends(self) {
            self.blank();
        }
        for _ in 0..(hashes + 1).min(self.text.len() - self.at) {
            self.keep();
        }
    }

    /// Reads a character literal; the quote of a lifetime is code.
    fn quote(&mut self) {
        let is_literal = self.peek(1) == '\\' || self.peek(2) == '\'';
        self.keep();
        if !is_literal {
            return;
        }
        if self.peek(0) == '\\' {
            self.blank();
        }
        self.blank();
        while self.at < self.text.len() && self.peek(0) != '\'' {
            self.blank();
        }
        if self.at < self.text.len() {
            self.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Rust::read(text).code.into_iter().collect()
    }

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let text = "a // {\nb /* { /* { */ \n} */ c \"{\\\"{\" d '{' e '\\'' f r#\"{\"{\"# g\n";
        let code = code(text);
        assert_eq!(code.chars().count(), text.chars().count());
        assert!(!code.contains('{') && !code.contains('}'), "{code}");
        for kept in ['a', 'b', 'c', 'd', 'e', 'f', 'g'] {
            assert!(code.contains(kept), "{kept} in {code}");
        }
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn lifetimes_raw_names_and_words_that_end_in_r_are_code() {
        let text = "fn f<'a>(x: &'a str, r#type: u8) { for\"x\"; br\"{\"; b'{' }";
        let code = code(text);
        assert!(code.contains("<'a>(x: &'a str, r#type: u8)"), "{code}");
        assert_eq!(code.matches('{').count(), 1, "{code}");
    }

    #[test]
    fn comments_keep_their_lines() {
        let rust = Rust::read("x\n// one\ny /* two\nthree */\n");
        let found: Vec<_> = rust.comments.iter().map(|(n, text)| (*n, text.as_str())).collect();
        assert_eq!(found, [(2, "// one"), (3, "/* two"), (4, "three */")]);
    }

    #[test]
    fn an_unfinished_literal_ends_with_the_text() {
        for text in ["\"abc", "r#\"abc", "'\\", "/* abc", "\"abc\\"] {
            assert_eq!(code(text).chars().count(), text.chars().count(), "{text}");
        }
    }
}
