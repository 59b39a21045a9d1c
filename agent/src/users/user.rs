//! Who has logged in.

use serde::Serialize;
use std::fmt;

/// A person who has logged in, as far as a key tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// The user name given to ssh. Anything goes; it proves nothing.
    pub login: String,
    /// The SHA-256 fingerprint of the key, as OpenSSH writes it: `SHA256:…`.
    pub key: String,
    /// The comment behind the key, or a certificate's key ID; possibly empty.
    pub comment: String,
    /// Where the key is allowed: a file with its line, a URL, a certificate authority.
    pub source: String,
}

/// What other people see: the comment where there is one, else the login name and the end of the fingerprint.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Written into other people's terminals.
        let comment = self.comment.trim();
        if !comment.is_empty() && !comment.contains(char::is_control) {
            return f.write_str(comment);
        }
        let end = self.key.char_indices().rev().nth(7).map_or("", |(at, _)| &self.key[at..]);
        write!(f, "{} (key …{end})", self.login.escape_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_controls_a_terminal_is_shown() {
        let user = |comment: &str| {
            let user = User {
                login: "a\x1b[2J".into(),
                key: "SHA256:0123456789abcdef".into(),
                comment: comment.into(),
                source: String::new(),
            };
            user.to_string()
        };
        assert_eq!(user("kim@laptop"), "kim@laptop");
        assert_eq!(user(" "), "a\\u{1b}[2J (key …89abcdef)");
        assert_eq!(user("\x1b]2;x\x07"), "a\\u{1b}[2J (key …89abcdef)");
    }
}
