//! The configuration file: TOML, with a table for each group of flags.

use super::problem::Problem;
use crate::command_line::Settings;
use std::{
    fmt, fs,
    io::{self, Read},
    ops::Range,
    path::Path,
};

/// Larger files are refused.
const MAX_BYTES: u64 = 1024 * 1024;

/// A file that was read.
#[derive(Debug)]
pub struct File {
    /// As settings.
    pub settings: Settings,
    /// As it is written, to say which keys it has.
    pub table: toml::Table,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// A [`Problem`] with file, line, column and key.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let text = read(path).map_err(|error| {
            Problem::new(format_args!("cannot read {}: {error}; see --config", path.display()))
        })?;
        Self::parse(&text).map_err(|wrong| Problem::new(format_args!("{}:{wrong}", path.display())))
    }

    /// Parses its text.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let at = |error: toml::de::Error, key: String| Wrong::new(text, error.span(), key, error.message());
        let table: toml::Table = toml::from_str(text).map_err(|error| at(error, String::new()))?;
        let deserializer = toml::Deserializer::parse(text).map_err(|error| at(error, String::new()))?;
        let settings = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let key = error.path().to_string();
            at(error.into_inner(), key)
        })?;
        Ok(Self { settings, table })
    }
}

/// The whole file, as long as it is not larger than it may be: also of one that grows, or is no file.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {} KiB", MAX_BYTES / 1024)));
    }
    Ok(text)
}

/// `LINE:COLUMN: key: what`
#[derive(Debug)]
pub(super) struct Wrong {
    line: usize,
    column: usize,
    key: String,
    what: String,
}

impl Wrong {
    fn new(text: &str, span: Option<Range<usize>>, key: String, what: &str) -> Self {
        let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        // The top of the file has the path ".".
        let key = if key == "." { String::new() } else { key };
        Self { line: before.matches('\n').count() + 1, column, key, what: what.replace('\n', ", ") }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, key, what } = self;
        write!(f, "{line}:{column}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        write!(f, "{what}; `converge-relay --example-config` prints a file with every key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wrong(text: &str) -> String {
        File::parse(text).map(|_| ()).map_err(|wrong| wrong.to_string()).unwrap_err()
    }

    #[test]
    fn keys_are_read() {
        let file = File::parse("[listen]\nhttp = '127.0.0.1:80'\n[limits]\ndrain-timeout = '1m'\n").unwrap();
        assert_eq!(file.settings.listen.http, Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!(file.settings.listen.listen, None);
        assert_eq!(file.settings.limits.drain_timeout.unwrap().0.as_secs(), 60);
        assert!(File::parse("").is_ok());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, place, what) in [
            ("lisen = 1", "1:1: ", "unknown field `lisen`"),
            ("[listen]\nhttps = ''", "2:1: listen", "unknown field `https`"),
            ("[listen]\n\n http = 80", "3:9: listen.http: ", "expected"),
            ("[listen]\nhttp = '80'", "2:8: listen.http: ", "invalid socket address"),
            ("[limits]\ndrain-timeout = 'soon'", "2:17: limits.drain-timeout: ", "number"),
            ("[limits]\ndrain-timeout = 10", "2:17: limits.drain-timeout: ", "expected a string"),
            ("[log]\nlog = 'a=b=c'", "2:7: log.log: ", "level"),
            ("[listen]\npublic-url = 'relay'", "2:14: listen.public-url: ", "https://"),
            ("listen = 1", "1:10: listen: ", "expected"),
            ("[tls]\ncert = 'a'\ncert = 'b'", "3:1: ", "duplicate key"),
            ("[tls\n", "1:5: ", ""),
        ] {
            let error = wrong(text);
            assert!(error.starts_with(place) && error.contains(what), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn files_have_a_largest_size() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.toml");
        let comment = |length: u64| "#".repeat(usize::try_from(length).unwrap());
        fs::write(&path, comment(MAX_BYTES)).unwrap();
        assert!(File::read(&path).is_ok());
        fs::write(&path, comment(MAX_BYTES + 1)).unwrap();
        let error = File::read(&path).unwrap_err().to_string();
        assert!(error.contains("relay.toml") && error.contains("larger than 1024 KiB"), "{error}");
    }

    #[test]
    fn unreadable_files_are_named() {
        let error = File::read(Path::new("/no/such/relay.toml")).unwrap_err().to_string();
        assert!(error.contains("/no/such/relay.toml") && error.contains("--config"), "{error}");
        assert!(File::read(Path::new("/")).is_err());
        assert!(File::read(Path::new("/dev/zero")).is_err());
    }
}
