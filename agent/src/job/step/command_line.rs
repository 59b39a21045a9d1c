//! What a step runs, for programs and for people.

use serde::{Deserialize, Serialize};
use std::{
    ffi::{OsStr, OsString},
    fmt::{self, Write},
    io,
    path::{Path, PathBuf},
};

/// Longer command lines are cut where people read them.
const MAX_SHOWN_CHARACTERS: usize = 1000;

/// A command line and its working directory. It can be kept as JSON and run again as it was, whatever bytes are in it.
///
/// Displays as a line that can be pasted into bash, without the directory; what would control a terminal is escaped,
/// and a very long line is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCommand {
    argv: Vec<OsString>,
    // Not a path: serde writes paths only if they are UTF-8.
    working_dir: OsString,
}

impl StepCommand {
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] without a program.
    pub fn new(argv: Vec<OsString>, working_dir: PathBuf) -> io::Result<Self> {
        if argv.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no command to run"));
        }
        Ok(Self { argv, working_dir: working_dir.into() })
    }

    /// The program and its arguments.
    pub fn argv(&self) -> &[OsString] {
        &self.argv
    }

    /// Where it runs.
    pub fn working_dir(&self) -> &Path {
        Path::new(&self.working_dir)
    }

    pub(super) fn program(&self) -> &OsStr {
        // One that was read from JSON may be empty; then no program is found.
        self.argv.first().map_or(OsStr::new(""), OsString::as_os_str)
    }

    pub(super) fn arguments(&self) -> &[OsString] {
        self.argv.get(1..).unwrap_or_default()
    }

    pub(super) fn quoted_program(&self) -> String {
        cut(&quote(self.program()))
    }
}

impl fmt::Display for StepCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.argv.iter().map(|word| quote(word)).collect();
        f.write_str(&cut(&words.join(" ")))
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARACTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A word as a shell reads it back; one with control characters as bash, zsh and ksh do (`$'…'`).
fn quote(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    if !text.chars().any(must_be_escaped) {
        // The only error is a NUL, which is a control character.
        return shlex::try_quote(&text).map_or_else(|_| text.to_string(), Into::into);
    }
    let mut quoted = "$'".to_owned();
    for character in text.chars() {
        match character {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' | '\'' => quoted.extend(['\\', character]),
            // A string takes everything.
            _ if must_be_escaped(character) => _ = write!(quoted, "\\U{:08x}", u32::from(character)),
            _ => quoted.push(character),
        }
    }
    quoted.push('\'');
    quoted
}

/// Control characters, and the marks that change the direction of the text around them.
fn must_be_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn shown(argv: &[&str]) -> String {
        let argv = argv.iter().map(Into::into).collect();
        StepCommand::new(argv, "/".into()).unwrap().to_string()
    }

    #[test]
    fn line_can_be_pasted_into_a_shell() {
        assert_eq!(shown(&["make", "-j8", "all"]), "make -j8 all");
        assert_eq!(shown(&["sh", "-c", "echo $HOME; exit 3"]), "sh -c 'echo $HOME; exit 3'");
        assert_eq!(shown(&["echo", "", "it's", "a b"]), r#"echo '' "it's" 'a b'"#);
    }

    #[test]
    fn nothing_in_it_controls_a_terminal() {
        let line = shown(&["sh", "-c", "a\nb\t'\\", "\x1b[2J\u{202e}"]);
        assert_eq!(line, r"sh -c $'a\nb\t\'\\' $'\U0000001b[2J\U0000202e'");
        for words in [["a\nb\t'\\", "\x1b[2J\u{202e}ä"], ["$x `y`", "!*?~{}"]] {
            let pasted = format!("printf '%s\\0' {}", shown(&words));
            let output =
                std::process::Command::new("bash").args(["-c", &pasted]).env("LC_ALL", "C.UTF-8").output();
            assert_eq!(output.unwrap().stdout, format!("{}\0{}\0", words[0], words[1]).into_bytes());
        }
    }

    #[test]
    fn long_lines_are_cut_where_people_read_them() {
        let line = shown(&["echo", &"ä".repeat(MAX_SHOWN_CHARACTERS)]);
        assert_eq!(line.chars().count(), MAX_SHOWN_CHARACTERS + 1);
        assert!(line.ends_with("ä…"));
    }

    #[test]
    fn any_bytes_survive_json() {
        let odd = || OsString::from_vec(b"a\xff\xfe\nb".to_vec());
        let command = StepCommand::new(vec!["echo".into(), odd()], odd().into()).unwrap();
        let json = serde_json::to_string(&command).unwrap();
        assert_eq!(serde_json::from_str::<StepCommand>(&json).unwrap(), command);
    }

    #[test]
    fn nothing_is_no_command() {
        assert_eq!(StepCommand::new(Vec::new(), "/".into()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
