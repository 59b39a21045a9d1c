//! What the relay is shown, from wherever it is kept.

use crate::error::ClientError;
use converge_proto::rendezvous::Token;
use std::{fs::File, io::Read, path::Path};

/// What was typed, or what is in the file that was named.
///
/// # Errors
/// [`ClientError::Usage`], without what was typed in it.
pub fn given(token: Option<&str>, file: Option<&Path>) -> Result<Option<Token>, ClientError> {
    match (token.filter(|token| !token.is_empty()), file) {
        (Some(token), _) => {
            let token = token.trim().parse();
            token.map(Some).map_err(|error| ClientError::Usage(format!("cannot use --token: {error}")))
        }
        (None, Some(file)) => read(file).map(Some),
        (None, None) => Ok(None),
    }
}

/// The token in a file, which may have an end of line behind it.
///
/// # Errors
/// [`ClientError::Usage`].
pub fn read(path: &Path) -> Result<Token, ClientError> {
    let wrong = |why: String| {
        ClientError::Usage(format!("cannot use the token in {}: {why}; see --token-file", path.display()))
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(2 * Token::MAX_BYTES as u64)
        .read_to_string(&mut text)
        .map_err(|error| wrong(error.to_string()))?;
    text.trim().parse().map_err(|error| wrong(format!("{error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_read_from_its_file_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc\n").unwrap();
        assert_eq!(given(None, Some(file.path())).unwrap().unwrap().secret(), "abc");
        assert_eq!(given(Some("def"), Some(file.path())).unwrap().unwrap().secret(), "def");
        assert!(given(Some(""), None).unwrap().is_none());
        let error = given(Some("hunter 2"), None).unwrap_err().to_string();
        assert!(error.contains("--token") && !error.contains("hunter"), "{error}");
        assert!(read(Path::new("/dev/zero")).is_err());
    }
}
