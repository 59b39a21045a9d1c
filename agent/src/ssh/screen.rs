//! What a terminal's output has done to the person's screen, as far as it matters for writing a line in between.

/// Longer lines are not repeated after a notice.
const MAX_LINE_BYTES: usize = 4096;
/// Longer control sequences say nothing that matters here.
const MAX_PARAMETER_BYTES: usize = 32;

/// Follows the output of a program on a terminal.
///
/// It knows three things: whether a line may be put in here at all (not within a control sequence or a character),
/// whether the program has switched to the alternate screen, and what has been written since the last line feed, so
/// that a prompt with what was typed behind it can be written again below the line.
#[derive(Debug, Default)]
pub(super) struct Screen {
    state: State,
    is_alternate: bool,
    /// Output since the last line feed.
    line: Vec<u8>,
    /// There was more of it than is kept, or it moved around.
    line_is_lost: bool,
    parameters: Vec<u8>,
    /// Bytes of a character that has begun.
    character: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// Behind ESC.
    Escape,
    /// Behind ESC and an intermediate byte.
    Intermediate,
    /// Behind ESC `[`.
    Control,
    /// In a string that ends with BEL or ESC `\`: a title, for instance.
    String,
}

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;

impl Screen {
    /// The program has written this.
    pub(super) fn feed(&mut self, mut output: &[u8]) {
        while !output.is_empty() {
            if self.state == State::Ground {
                let end = output.iter().position(|&byte| byte == ESCAPE).unwrap_or(output.len());
                let (text, rest) = output.split_at(end);
                self.text(text);
                output = rest;
                if let Some((escape, rest)) = output.split_first() {
                    self.keep(&[*escape]);
                    self.state = State::Escape;
                    output = rest;
                }
            } else if let Some((byte, rest)) = output.split_first() {
                self.keep(&[*byte]);
                self.control(*byte);
                output = rest;
            }
        }
    }

    /// Whether something may be written here without damaging what the program is writing.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Ground && self.character.is_empty()
    }

    /// Whether the program has a screen of its own.
    pub(super) fn is_alternate(&self) -> bool {
        self.is_alternate
    }

    /// Lines of ours, with what is needed around them: they begin at the left, and the line that was being written or
    /// edited is there again below them.
    pub(super) fn put_in(&self, lines: &str) -> Vec<u8> {
        let mut text = Vec::with_capacity(lines.len() + self.line.len() + 8);
        if !self.line.is_empty() || self.line_is_lost {
            text.extend_from_slice(b"\r\n");
        }
        for line in lines.lines() {
            text.extend_from_slice(line.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        if !self.line_is_lost {
            text.extend_from_slice(&self.line);
        }
        text
    }

    fn text(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        if let Some(end) = text.iter().rposition(|&byte| byte == b'\n') {
            self.new_line();
            self.keep(text.get(end + 1..).unwrap_or_default());
        } else {
            self.keep(text);
        }
        // A character has at most four bytes.
        self.character.extend_from_slice(text.get(text.len().saturating_sub(4)..).unwrap_or_default());
        let begun = (0..self.character.len())
            .rev()
            .take(4)
            .find(|&at| self.character.get(at).is_some_and(|byte| byte & 0xc0 != 0x80));
        let incomplete = begun.filter(|&at| {
            let last = self.character.get(at..).unwrap_or_default();
            std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none())
        });
        match incomplete {
            Some(at) => drop(self.character.drain(..at)),
            None => self.character.clear(),
        }
    }

    #[allow(clippy::match_same_arms, reason = "the order of the rules is what can be understood")]
    fn control(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (_, CANCEL | SUBSTITUTE) => State::Ground,
            (State::String, BELL) => State::Ground,
            // The end of a string, or of a sequence that was broken off.
            (_, ESCAPE) => State::Escape,
            (State::String, _) => State::String,
            (State::Escape, b'[') => {
                self.parameters.clear();
                State::Control
            }
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
            (State::Escape | State::Intermediate, 0x20..=0x2f) => State::Intermediate,
            (State::Escape, b'c') => {
                self.is_alternate = false;
                self.new_line();
                State::Ground
            }
            // A reversed line feed, and the restoring of a position, move around.
            (State::Escape, b'M' | b'8') => {
                self.line_is_lost = true;
                State::Ground
            }
            (State::Control, 0x40..=0x7e) => {
                self.control_sequence(byte);
                State::Ground
            }
            (State::Control, _) => {
                if self.parameters.len() < MAX_PARAMETER_BYTES {
                    self.parameters.push(byte);
                }
                State::Control
            }
            (State::Escape | State::Intermediate | State::Ground, _) => State::Ground,
        };
    }

    fn control_sequence(&mut self, last: u8) {
        match last {
            b'h' | b'l' => {
                let Some(modes) = self.parameters.strip_prefix(b"?") else { return };
                if modes.split(|&byte| byte == b';').any(|mode| matches!(mode, b"47" | b"1047" | b"1049")) {
                    self.is_alternate = last == b'h';
                    self.new_line();
                }
            }
            // Cleared, or somewhere else: what was before is not there to be repeated.
            b'H' | b'J' | b'f' | b'd' => self.new_line(),
            // Up, and to lines above.
            b'A' | b'F' => self.line_is_lost = true,
            _ => {}
        }
    }

    fn new_line(&mut self) {
        self.line.clear();
        self.line_is_lost = false;
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.line.len() + bytes.len() > MAX_LINE_BYTES {
            self.line.clear();
            self.line_is_lost = true;
        }
        if !self.line_is_lost {
            self.line.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn screen(output: &[u8]) -> Screen {
        let mut screen = Screen::default();
        screen.feed(output);
        screen
    }

    fn put_in(output: &str) -> String {
        String::from_utf8(screen(output.as_bytes()).put_in("hello")).unwrap()
    }

    #[test]
    fn prompt_is_there_again_below_the_line() {
        assert_eq!(put_in(""), "hello\r\n");
        assert_eq!(put_in("done\r\n"), "hello\r\n");
        assert_eq!(put_in("done\r\njob> ls -"), "\r\nhello\r\njob> ls -");
        assert_eq!(
            put_in("a\r\n\x1b[1mjob\x1b[0m> l\x08\x1b[K"),
            "\r\nhello\r\n\x1b[1mjob\x1b[0m> l\x08\x1b[K"
        );
    }

    #[test]
    fn cleared_screens_are_not_cleared_again() {
        assert_eq!(put_in("x\r\njob> \x1b[H\x1b[2Jjob> "), "\r\nhello\r\njob> ");
    }

    #[test]
    fn what_is_too_long_or_moves_around_is_not_repeated() {
        assert_eq!(put_in(&"x".repeat(MAX_LINE_BYTES + 1)), "\r\nhello\r\n");
        assert_eq!(put_in("two\x1b[Alines"), "\r\nhello\r\n");
        assert_eq!(put_in(&format!("{}\nend", "x".repeat(MAX_LINE_BYTES + 1))), "\r\nhello\r\nend");
    }

    #[test]
    fn alternate_screen_is_seen_whatever_else_is_switched_with_it() {
        assert!(screen(b"\x1b[?1049h").is_alternate());
        assert!(screen(b"\x1b[?12;1049h").is_alternate());
        assert!(screen(b"\x1b[?47h\x1b[2J").is_alternate());
        assert!(!screen(b"\x1b[?1049h text \x1b[?1049l").is_alternate());
        assert!(!screen(b"\x1b[?1049h\x1bc").is_alternate());
        assert!(!screen(b"\x1b[1049h\x1b[?2004h").is_alternate());
        assert!(!screen(b"\x1b]2;[?1049h\x07").is_alternate());
    }

    #[test]
    fn nothing_is_put_into_sequences_and_characters() {
        for begun in
            ["\x1b", "\x1b[", "\x1b[?10", "\x1b]2;title", "\x1b]2;title\x1b", "\x1bP", "\x1b(", "x\x1b[3"]
        {
            assert!(!screen(begun.as_bytes()).is_between(), "{begun:?}");
        }
        for whole in
            ["", "x", "\x1b[0m", "\x1b]2;title\x07", "\x1b]2;t\x1b\\", "\x1b(B", "\x1b[?10\x18", "é", "✓x"]
        {
            assert!(screen(whole.as_bytes()).is_between(), "{whole:?}");
        }
        assert!(!screen(&"é".as_bytes()[..1]).is_between());
        assert!(!screen(&"x✓".as_bytes()[..3]).is_between());
        // What is no character at all does not keep notices away for ever.
        assert!(screen(b"\xff").is_between());
        assert!(screen(b"\x80\x80\x80\x80\x80").is_between());
    }

    proptest! {
        /// How output is cut into pieces changes nothing.
        #[test]
        fn pieces_do_not_matter(
            output in prop::collection::vec(
                prop_oneof![
                    Just(b"\x1b".to_vec()), Just(b"[".to_vec()), Just(b"?1049h".to_vec()), Just(b"\n".to_vec()),
                    Just("✓é".as_bytes().to_vec()), Just(b"]0;".to_vec()), Just(b"\x07".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..6), Just(vec![b'x'; 3000]),
                ],
                0..20,
            ),
            cuts in prop::collection::vec(1_usize..40, 0..200),
        ) {
            let output = output.concat();
            let whole = screen(&output);
            let mut pieces = Screen::default();
            let mut rest = &output[..];
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.feed(piece);
                rest = after;
            }
            pieces.feed(rest);
            prop_assert_eq!(pieces.is_between(), whole.is_between());
            prop_assert_eq!(pieces.is_alternate(), whole.is_alternate());
            prop_assert_eq!(pieces.put_in("x"), whole.put_in("x"));
        }
    }
}
