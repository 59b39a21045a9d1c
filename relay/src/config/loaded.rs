//! Flags, environment and file as one, and where each value came from.

use super::{file::File, problem::Problem};
use crate::{
    command_line::{self, CommandLine, Settings},
    sockets::Passed,
};
use clap::parser::ValueSource;
use std::{fmt, path::PathBuf};

/// Settings with flags over environment over file over defaults.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// All of them for people, in the order of the tables.
    pub given: Vec<Given>,
    /// The file, if there was one.
    pub file: Option<PathBuf>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A socket that the relay was given.
    Socket,
    /// A flag.
    Flag,
    /// A variable.
    Environment,
    /// The file.
    File,
    /// Nobody said anything, and there is a default.
    Default,
    /// Nobody said anything.
    Unset,
}

/// A setting as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its table in the file.
    pub table: &'static str,
    /// The field's name: `drain_timeout`.
    pub field: &'static str,
    /// The value as it was written.
    pub text: Option<Text>,
    /// Where it came from.
    pub origin: Origin,
    /// Whether a running relay takes it over.
    pub live: bool,
}

/// What was written: shown, unless it is a secret or may hold one.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    text: String,
    shown: bool,
}

impl Loaded {
    /// Reads the file that the command line names, and puts the command line over it.
    ///
    /// # Errors
    /// A [`Problem`] of the file.
    pub fn new(command_line: &CommandLine) -> Result<Self, Problem> {
        let path = command_line.config_file();
        let file = path.as_deref().map(File::read).transpose()?;
        let (in_file, table) = file.map(|file| (file.settings, file.table)).unwrap_or_default();
        let given = given(command_line, &table);
        let typed = |field: &str| {
            let origin = given.iter().find(|given| given.field == field).map(|given| given.origin);
            matches!(origin, Some(Origin::Flag | Origin::Environment))
        };
        let settings = command_line.settings().over(in_file, &typed);
        Ok(Self { settings, given, file: path })
    }

    /// Puts the addresses of sockets that were passed over all that was said, so that checks see where the relay will
    /// really listen.
    #[must_use]
    pub fn on(mut self, passed: Passed) -> Self {
        let listen = &mut self.settings.listen;
        for (field, setting, address) in
            [("listen", &mut listen.listen, passed.listen), ("http", &mut listen.http, passed.http)]
        {
            let given = self.given.iter_mut().find(|given| given.field == field);
            let (Some(address), Some(given)) = (address, given) else { continue };
            *setting = Some(address);
            given.text = Some(Text { text: address.to_string(), shown: true });
            given.origin = Origin::Socket;
        }
        self
    }

    /// Where a field's value came from.
    pub fn origin(&self, field: &str) -> Origin {
        self.given.iter().find(|given| given.field == field).map_or(Origin::Unset, |given| given.origin)
    }

    /// Whether the operator has said something about it, and be it the default.
    pub fn is_said(&self, field: &str) -> bool {
        !matches!(self.origin(field), Origin::Default | Origin::Unset)
    }
}

fn given(command_line: &CommandLine, file: &toml::Table) -> Vec<Given> {
    let sources = command_line.sources();
    let command = command_line::command();
    let of = |table: &'static str, field: &'static str, live| {
        let in_file = file.get(table).and_then(|table| table.get(field.replace('_', "-")));
        let (origin, text) = match (sources.get(field), in_file) {
            (Some(ValueSource::CommandLine), _) => (Origin::Flag, command_line.text(field)),
            (Some(ValueSource::EnvVariable), _) => (Origin::Environment, command_line.text(field)),
            (_, Some(value)) => (Origin::File, Some(text(value))),
            (Some(_), None) => (Origin::Default, command_line.text(field)),
            (None, None) => (Origin::Unset, None),
        };
        let argument = command.get_arguments().find(|argument| argument.get_id() == field);
        // What is in the file only has a structure of its own, in which secrets may be.
        let shown = argument.is_some_and(|argument| !argument.is_hide_env_values_set());
        let text = text.map(|text| Text { text, shown });
        Given { table, field, text, origin, live }
    };
    let tables = Settings::TABLES.into_iter();
    tables
        .flat_map(|table| table.fields().map(move |field| (table, field)))
        .map(|(table, field)| of(table.name, field, table.live.contains(&field)))
        .collect()
}

/// A value of the file as one would type it.
fn text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        value => value.to_string(),
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.shown { &self.text } else { "(not shown)" })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "socket",
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
            Self::Unset => "not set",
        })
    }
}

/// For `--check-config`: every setting with its value, and where that came from.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => writeln!(f, "The configuration is good. The file is {}.", file.display())?,
            None => writeln!(f, "The configuration is good. There is no file.")?,
        }
        let width = self.given.iter().map(|given| given.field.len()).max().unwrap_or_default();
        let mut table = "";
        for given in &self.given {
            if given.table != table {
                table = given.table;
                writeln!(f, "\n[{table}]")?;
            }
            let key = given.field.replace('_', "-");
            match &given.text {
                Some(text) => writeln!(f, "{key:width$}  {text}  ({})", given.origin)?,
                None => writeln!(f, "{key:width$}  ({})", given.origin)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any error but that of the file is a problem of the test.
    fn loaded(file: &str, words: &[&str]) -> Loaded {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.toml");
        std::fs::write(&path, file).unwrap();
        let mut all = vec!["--config", path.to_str().unwrap()];
        all.extend(words);
        Loaded::new(&CommandLine::without_environment(&all)).unwrap()
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let file = "[limits]\ndrain-timeout = '1m'\n[listen]\nlisten = '127.0.0.1:1'\n";
        let loaded = loaded(file, &["--listen", "127.0.0.1:2"]);
        assert_eq!(loaded.settings.listen.listen, Some("127.0.0.1:2".parse().unwrap()));
        assert_eq!(loaded.settings.limits.drain_timeout.unwrap().0.as_secs(), 60);
        assert!(loaded.settings.tls.state_dir.is_some() && loaded.settings.tls.cert.is_none());
        let origins = ["listen", "drain_timeout", "state_dir", "cert"].map(|field| loaded.origin(field));
        assert_eq!(origins, [Origin::Flag, Origin::File, Origin::Default, Origin::Unset]);
        assert_eq!(
            [true, true, false, false],
            ["listen", "drain_timeout", "state_dir", "cert"].map(|field| loaded.is_said(field))
        );
    }

    #[test]
    fn default_that_was_typed_is_said_and_goes_before_the_file() {
        let loaded = loaded("[limits]\ndrain-timeout = '1m'\n", &["--drain-timeout", "10s"]);
        assert_eq!(loaded.settings.limits.drain_timeout.unwrap().0.as_secs(), 10);
        assert!(loaded.is_said("drain_timeout"));
    }

    #[test]
    fn sockets_that_were_passed_go_before_everything() {
        let passed = Passed { listen: Some("192.0.2.1:3".parse().unwrap()), http: None };
        let loaded = loaded("", &["--listen", "127.0.0.1:2"]).on(passed);
        assert_eq!(loaded.settings.listen.listen, passed.listen);
        assert_eq!((loaded.origin("listen"), loaded.origin("http")), (Origin::Socket, Origin::Unset));
        assert!(loaded.to_string().contains("192.0.2.1:3  (socket)"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Text { text: "hunter2".to_owned(), shown: false };
        assert_eq!(format!("{secret} {secret:?}"), "(not shown) (not shown)");
    }
}
