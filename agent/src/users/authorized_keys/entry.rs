//! One line: options, key type, key, comment.

use russh::keys::PublicKey;

use super::MAX_LINE_BYTES;
use super::options::{self, KeyOptions, OptionError};

/// One usable line: a public key and what its owner may do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The public key, without its comment.
    pub key: PublicKey,
    /// What the options in front of the key say.
    pub options: KeyOptions,
    /// The free text behind the key; for logs, and possibly empty.
    pub comment: String,
}

impl Entry {
    /// Whether the key is a user's own, and not that of a certificate authority.
    pub fn is_user(&self) -> bool {
        !self.options.cert_authority
    }
}

/// Why a line gives no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The secret half of a key pair.
    #[error(
        "this is a private key; put the one line of the matching .pub file here instead, and keep this one secret"
    )]
    PrivateKey,
    /// A certificate where a key belongs.
    #[error("this is a certificate, not a public key; use the key it was made for")]
    Certificate,
    /// No key could be found on the line.
    #[error("no public key on this line: expected [options] key-type key [comment]")]
    NoKey,
    /// The key type is known, the key behind it is damaged.
    #[error("damaged {algorithm} key: {source}")]
    BadKey {
        /// The key type that the line names.
        algorithm: String,
        /// What the key parser says.
        source: ssh_key::Error,
    },
    /// The options are not well-formed.
    #[error("options before the key: {0}")]
    Options(OptionError),
    /// The key is well-formed and refused, because of one of its options.
    #[error("key refused: {error}")]
    Option {
        /// The key that may not log in through this line.
        key: Box<PublicKey>,
        /// Which option, and why.
        error: OptionError,
    },
}

/// Parses a whole file: numbered lines that are neither blank nor comments.
pub(super) fn parse(data: &[u8]) -> impl Iterator<Item = (usize, Result<Entry, EntryError>)> + '_ {
    data.split(|&byte| byte == b'\n').enumerate().filter_map(|(index, line)| {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return None;
        }
        Some((index + 1, parse_line(line)))
    })
}

fn parse_line(line: &[u8]) -> Result<Entry, EntryError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(EntryError::TooLong);
    }
    if line.starts_with(b"-----BEGIN") && line.ends_with(b"PRIVATE KEY-----") {
        return Err(EntryError::PrivateKey);
    }
    // Comments in another encoding are common and harmless; in an option a replaced character is refused below.
    let line = String::from_utf8_lossy(line);
    let (first, _) = split_word(&line);
    if is_key_type(first) {
        let (key, comment) = parse_key(&line)?;
        return Ok(Entry { key, options: KeyOptions::default(), comment });
    }
    let (options, rest) = options::split(&line).map_err(EntryError::Options)?;
    let (key_type, _) = split_word(rest);
    if !is_key_type(key_type) {
        return Err(EntryError::NoKey);
    }
    let (key, comment) = parse_key(rest)?;
    match KeyOptions::parse(options) {
        Ok(options) => Ok(Entry { key, options, comment }),
        Err(error) => Err(EntryError::Option { key: Box::new(key), error }),
    }
}

fn parse_key(text: &str) -> Result<(PublicKey, String), EntryError> {
    let (algorithm, rest) = split_word(text);
    if algorithm.contains("-cert-v01@") {
        return Err(EntryError::Certificate);
    }
    let (key, comment) = split_word(rest);
    if key.is_empty() {
        return Err(EntryError::NoKey);
    }
    let key = PublicKey::from_openssh(&format!("{algorithm} {key}"))
        .map_err(|source| EntryError::BadKey { algorithm: algorithm.to_owned(), source })?;
    Ok((key, comment.trim_end().to_owned()))
}

/// Key types start like this in every OpenSSH release so far, and no option name does.
fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-", "webauthn-sk-"]
        .iter()
        .any(|prefix| word.starts_with(prefix))
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    match text.find([' ', '\t']) {
        Some(end) => (&text[..end], text[end..].trim_start_matches([' ', '\t'])),
        None => (text, ""),
    }
}
