//! A configuration file with every key, made of the flags' own help texts, so that it cannot be out of date.

use crate::command_line::{self, Settings, Table};
use clap::Arg;
use std::any::TypeId;

/// How wide its comments are.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Configuration of converge-relay: every key there is, each with its default where it has one.
#
# A key is the flag of the same name. Flags go before environment variables, and those before this file.
# `converge-relay --config FILE --check-config` says whether a file is good and what would be used.
# On SIGHUP (systemctl reload) the file is read again; keys marked (live) then change at once.
";

/// The file. Every key is commented out; with the comment sign taken away, what has a default is that default.
pub fn file() -> String {
    let command = command_line::command();
    let mut text = HEAD.to_owned();
    for table in Settings::TABLES {
        text.push_str(&format!("\n[{}]\n", table.name));
        for argument in
            table.fields().filter_map(|field| command.get_arguments().find(|one| one.get_id() == field))
        {
            key(&mut text, table, argument);
        }
        for line in table.example.lines() {
            text.push_str(&format!("#{line}\n"));
        }
    }
    text
}

fn key(text: &mut String, table: Table, argument: &Arg) {
    let id = argument.get_id().as_str();
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let live = if table.live.contains(&id) { " (live)" } else { "" };
    for line in help.lines() {
        let last = if help.ends_with(line) { live } else { "" };
        let options = textwrap::Options::new(WIDTH).initial_indent("# ").subsequent_indent("# ");
        text.push_str(&textwrap::fill(&format!("{line}{last}"), options));
        text.push('\n');
    }
    let choices: Vec<_> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !choices.is_empty() && !is_bare(argument) {
        text.push_str(&format!("# One of: {}\n", choices.join(", ")));
    }
    text.push_str(&format!("#{} = {}\n", id.replace('_', "-"), value(argument)));
}

/// The default, else what the help calls the value.
fn value(argument: &Arg) -> String {
    let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
    let mut words: Vec<_> = defaults.collect();
    if words.is_empty() {
        let name = argument.get_value_names().and_then(<[_]>::first).map(|name| name.as_str().to_owned());
        words.extend(if is_bare(argument) { None } else { name });
    }
    let quoted = |word: &String| {
        if is_bare(argument) { word.clone() } else { toml::Value::String(word.clone()).to_string() }
    };
    let words: Vec<_> = words.iter().map(quoted).collect();
    match argument.get_value_delimiter() {
        Some(_) => format!("[{}]", words.join(", ")),
        None => words.into_iter().next().unwrap_or_else(|| {
            let is_switch = argument.get_value_parser().type_id() == TypeId::of::<bool>();
            if is_switch { "false" } else { "0" }.to_owned()
        }),
    }
}

/// Numbers and switches have no quotation marks in TOML.
fn is_bare(argument: &Arg) -> bool {
    let bare = [
        TypeId::of::<bool>(),
        TypeId::of::<u8>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<f64>(),
    ];
    let parser = argument.get_value_parser().type_id();
    bare.iter().any(|kind| parser == *kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::File;

    /// Takes the comment sign away from what follows one directly.
    fn uncommented(text: &str, wanted: impl Fn(&str) -> bool) -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') && wanted(key) => format!("{key}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn example_changes_nothing() {
        let text = file();
        assert!(
            File::parse(&text).unwrap().table.values().all(|table| table.as_table().unwrap().is_empty()),
            "{text}"
        );
    }

    #[test]
    fn every_default_in_the_example_is_the_flag_s() {
        let command = command_line::command();
        let default_of = |line: &str| {
            let id = line.split(' ').next().unwrap().replace('-', "_");
            let argument = command.get_arguments().find(|argument| argument.get_id() == id.as_str());
            argument.is_some_and(|argument| !argument.get_default_values().is_empty())
        };
        let text = uncommented(&file(), default_of);
        let settings = File::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).settings;
        let line = command_line::CommandLine::without_environment(&[]);
        assert_eq!(format!("{settings:?}"), format!("{:?}", line.settings()));
    }

    #[test]
    fn what_only_the_file_can_say_is_shown_as_it_must_be_written() {
        for table in Settings::TABLES {
            let text = format!("[{}]\n{}\n", table.name, table.example);
            File::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        }
    }
}
