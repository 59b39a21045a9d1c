//! What can be typed: every flag, in groups that are also the tables of the configuration file.
//!
//! To add a flag, add an `Option` field to its group and name it in the group's `group!` line; it then also has its
//! variable and its key in the file. What it becomes is for [`crate::config::resolve`] to say.

mod access;
mod cluster;
mod cluster_files;
mod drain;
mod group;
mod limits;
mod listen;
mod log;
mod metrics;
mod pages;
mod tls;
mod token;
pub mod values;

pub use access::Access;
pub use cluster::Cluster;
pub use cluster_files::{ClusterCommand, InitCluster, JoinCluster};
pub use drain::DrainRelay;
pub use group::{Group, Table};
pub use limits::Limits;
pub use listen::Listen;
pub use log::Log;
pub use metrics::Metrics;
pub use pages::Pages;
pub use tls::Tls;
pub use token::{CreateToken, TokenCommand};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};
use converge_proto::version::ProtocolVersion;
use serde::Deserialize;
use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

const VARIABLES: &str = "\
Every flag is also a variable (CONVERGE_PUBLIC_URL for --public-url) and a key of the file;
flags go before variables, and those before the file.";

/// Pairs CI jobs that run converge-agent with people who run converge, and copies bytes it cannot read.
#[derive(Debug, Parser)]
#[command(
    name = "converge-relay",
    version,
    long_version = long_version(),
    max_term_width = 100,
    after_help = VARIABLES,
    args_conflicts_with_subcommands = true
)]
struct Typed {
    /// A file with any of these settings, in TOML
    #[arg(long, env = "CONVERGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check everything, print what would be used and why, and start nothing
    #[arg(long, conflicts_with = "example_config")]
    check_config: bool,
    /// Print a configuration file with every key
    #[arg(long)]
    example_config: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What else can be done than being a relay.
#[derive(Debug, Subcommand)]
enum Command {
    /// Make tokens that --tokens-file lets in
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make the files of relays that act as one
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Let a running relay hand its agents and sessions to the others of its cluster, and end
    ///
    /// It takes nothing new, sends who is there to the other relays, as many per second as its --drain-rate says, and ends
    /// when all have gone; --drain-timeout says how long the last of them may take. SIGTERM does the same. A relay that is
    /// alone lets go of everybody at once. Prints who is still there, and returns when the relay has ended.
    ///
    /// Exit status: 0, or 1 when sessions had to be cut or no relay was found.
    Drain(DrainRelay),
}

/// What the program is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Be a relay.
    Run,
    /// `--check-config`
    CheckConfig,
    /// `--example-config`
    ExampleConfig,
}

fn long_version() -> &'static str {
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (protocol {})", ProtocolVersion::list()).leak()
}

/// Every setting: a group for each table of the file.
#[derive(Args, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `[listen]`
    #[command(flatten)]
    pub listen: Listen,
    /// `[tls]`
    #[command(flatten)]
    pub tls: Tls,
    /// `[access]`
    #[command(flatten)]
    pub access: Access,
    /// `[limits]`
    #[command(flatten)]
    pub limits: Limits,
    /// `[cluster]`
    #[command(flatten)]
    pub cluster: Cluster,
    /// `[pages]`
    #[command(flatten)]
    pub pages: Pages,
    /// `[metrics]`
    #[command(flatten)]
    pub metrics: Metrics,
    /// `[log]`
    #[command(flatten)]
    pub log: Log,
}

impl Settings {
    /// The tables of the file, in the order of the fields.
    pub const TABLES: [Table; 8] = [
        Listen::TABLE,
        Tls::TABLE,
        Access::TABLE,
        Limits::TABLE,
        Cluster::TABLE,
        Pages::TABLE,
        Metrics::TABLE,
        Log::TABLE,
    ];

    /// These, where `typed` says so of a field, else those of the file, else these (which are then defaults).
    pub(crate) fn over(self, file: Self, typed: &dyn Fn(&str) -> bool) -> Self {
        Self {
            listen: self.listen.over(file.listen, typed),
            tls: self.tls.over(file.tls, typed),
            access: self.access.over(file.access, typed),
            limits: self.limits.over(file.limits, typed),
            cluster: self.cluster.over(file.cluster, typed),
            pages: self.pages.over(file.pages, typed),
            metrics: self.metrics.over(file.metrics, typed),
            log: self.log.over(file.log, typed),
        }
    }
}

/// A command line that was parsed, with the environment.
#[derive(Clone, Debug)]
pub struct CommandLine {
    matches: clap::ArgMatches,
}

impl CommandLine {
    /// What this process was started with. Ends the process when it makes no sense, or asked for help or version.
    pub fn of_this_process() -> Self {
        Self { matches: command().get_matches() }
    }

    /// The same from given words; the environment is still the process's.
    ///
    /// # Errors
    /// When they make no sense, or ask for help or version.
    pub fn parse<T: Into<OsString> + Clone>(words: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        Ok(Self { matches: command().try_get_matches_from(words)? })
    }

    /// The same, whatever is in the environment of the tests.
    #[cfg(test)]
    pub(crate) fn without_environment(words: &[&str]) -> Self {
        let command = command().mut_args(|argument| argument.env(clap::builder::Resettable::Reset));
        let matches = command.try_get_matches_from(["converge-relay"].iter().chain(words)).unwrap();
        Self { matches }
    }

    /// What the program is to do.
    pub fn action(&self) -> Action {
        match self.typed() {
            Some(Typed { check_config: true, .. }) => Action::CheckConfig,
            Some(Typed { example_config: true, .. }) => Action::ExampleConfig,
            _ => Action::Run,
        }
    }

    /// `converge-relay token …`, if it is that.
    pub fn token(&self) -> Option<TokenCommand> {
        match self.typed()?.command? {
            Command::Token(command) => Some(command),
            Command::Cluster(_) | Command::Drain(_) => None,
        }
    }

    /// `converge-relay cluster …`, if it is that.
    pub fn cluster(&self) -> Option<ClusterCommand> {
        match self.typed()?.command? {
            Command::Cluster(command) => Some(command),
            Command::Token(_) | Command::Drain(_) => None,
        }
    }

    /// `converge-relay drain`, if it is that.
    pub fn drain(&self) -> Option<DrainRelay> {
        match self.typed()?.command? {
            Command::Drain(command) => Some(command),
            Command::Token(_) | Command::Cluster(_) => None,
        }
    }

    /// The configuration file, if one was named.
    pub fn config_file(&self) -> Option<PathBuf> {
        self.typed().and_then(|typed| typed.config)
    }

    /// Flags, variables and defaults.
    pub fn settings(&self) -> Settings {
        self.typed().map(|typed| typed.settings).unwrap_or_default()
    }

    /// Cannot fail: `matches` come from the same derive.
    fn typed(&self) -> Option<Typed> {
        Typed::from_arg_matches(&self.matches).ok()
    }

    /// Where each flag's value comes from, as far as it has one; by the field's name.
    pub(crate) fn sources(&self) -> BTreeMap<String, ValueSource> {
        let ids = self.matches.ids().map(clap::Id::as_str);
        ids.filter_map(|id| Some((id.to_owned(), self.matches.value_source(id)?))).collect()
    }

    /// A flag's value as it was typed, several with commas between them.
    pub(crate) fn text(&self, field: &str) -> Option<String> {
        let words = self.matches.try_get_raw(field).ok()??;
        Some(words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(","))
    }
}

/// The parser. Variables are described once, instead of with each flag.
pub fn command() -> clap::Command {
    Typed::command().mut_args(|argument| argument.hide_env(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::{Deserializer, Visitor, value::Error};
    use std::collections::BTreeSet;

    /// What is typed only: it is about the file, or instead of a start.
    const NOT_IN_FILE: &[&str] = &["config", "check-config", "example-config", "help", "version"];
    /// What has a structure that no flag can say; its table's `example` shows it.
    const FILE_ONLY: &[(&str, &str)] = &[("access", "tokens"), ("access", "oidc")];

    /// Tells which keys a table takes.
    struct KeysOf<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for KeysOf<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("this is no table"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            keys: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            *self.0 = keys;
            Err(serde::de::Error::custom("the keys are known now"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
        let mut keys: &'static [&'static str] = &[];
        let _ = T::deserialize(KeysOf(&mut keys));
        keys
    }

    fn keys_in_file() -> BTreeSet<(&'static str, &'static str)> {
        let tables = [
            (Listen::TABLE, keys_of::<Listen>()),
            (Tls::TABLE, keys_of::<Tls>()),
            (Access::TABLE, keys_of::<Access>()),
            (Limits::TABLE, keys_of::<Limits>()),
            (Cluster::TABLE, keys_of::<Cluster>()),
            (Pages::TABLE, keys_of::<Pages>()),
            (Metrics::TABLE, keys_of::<Metrics>()),
            (Log::TABLE, keys_of::<Log>()),
        ];
        assert_eq!(tables.map(|(table, _)| table), Settings::TABLES);
        assert_eq!(&tables.map(|(table, _)| table.name), keys_of::<Settings>());
        tables.into_iter().flat_map(|(table, keys)| keys.iter().map(move |key| (table.name, *key))).collect()
    }

    #[test]
    fn every_flag_is_a_key_of_the_file_and_every_key_a_flag() {
        let command = command();
        let flags: BTreeSet<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let flags: BTreeSet<_> = flags.into_iter().filter(|flag| !NOT_IN_FILE.contains(flag)).collect();
        let mut keys = keys_in_file();
        for key in FILE_ONLY {
            assert!(keys.remove(key), "{key:?} is not in the file");
        }
        assert_eq!(
            keys.len(),
            keys.iter().map(|(_, key)| key).collect::<BTreeSet<_>>().len(),
            "twice: {keys:?}"
        );
        assert_eq!(flags, keys.into_iter().map(|(_, key)| key).collect());
    }

    #[test]
    fn every_key_is_in_the_table_of_its_field() {
        let fields = Settings::TABLES.into_iter();
        let fields =
            fields.flat_map(|table| table.fields().map(move |field| (table.name, field.replace('_', "-"))));
        let keys = keys_in_file().into_iter().map(|(table, key)| (table, key.to_owned()));
        assert_eq!(fields.collect::<BTreeSet<_>>(), keys.collect());
    }

    #[test]
    fn every_flag_has_its_variable_and_a_help_text() {
        let command = command();
        let settings: Vec<_> = Settings::TABLES.iter().flat_map(Table::fields).chain(["config"]).collect();
        for argument in
            command.get_arguments().filter(|argument| settings.contains(&argument.get_id().as_str()))
        {
            let id = argument.get_id().as_str();
            assert_eq!(argument.get_long().map(|long| long.replace('-', "_")).as_deref(), Some(id));
            let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(variable, Some(format!("CONVERGE_{}", id.to_uppercase())));
            assert!(argument.get_help().is_some(), "{id} has no help");
        }
    }

    #[test]
    fn short_help_fits_a_screen_and_the_long_one_has_everything() {
        let short = command().render_help().to_string();
        assert!(short.lines().count() <= 40, "what few need has `hide_short_help`:\n{short}");
        let long = command().render_long_help().to_string();
        for field in Settings::TABLES.iter().flat_map(Table::fields) {
            let flag = format!("--{}", field.replace('_', "-"));
            assert!(
                long.contains(&flag) || FILE_ONLY.iter().any(|(_, key)| flag.ends_with(key)),
                "{flag}:\n{long}"
            );
        }
    }

    #[test]
    fn command_is_well_formed() {
        command().debug_assert();
    }
}
