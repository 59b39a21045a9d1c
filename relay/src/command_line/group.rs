//! What the groups of flags have in common.

/// A table of the file: its name, and its keys as fields are named (`drain_timeout` for `drain-timeout`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// `listen` for `[listen]`.
    pub name: &'static str,
    /// What a running relay takes over when the file is read again.
    pub live: &'static [&'static str],
    /// What a relay takes over only when it is started again.
    pub restart: &'static [&'static str],
    /// Lines of TOML for `--example-config` that show what only the file can say.
    pub example: &'static str,
}

impl Table {
    /// Every field.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.live.iter().chain(self.restart).copied()
    }
}

/// A group of flags that is a table of the file. Every field is an `Option`: `None` is "not said".
///
/// Implemented by `group!`, which does not compile when a field is in neither of its lists.
///
/// Conventions:
/// * A default is clap's `default_value`, so that help, example and `--check-config` show it.
/// * A switch is an `Option<bool>` with `num_args = 0..=1, default_missing_value = "true"`, so that it can be
///   switched off, too.
/// * A list is an `Option<Vec<_>>` with `value_delimiter = ','`, for the environment; in the file it is an array.
/// * A type without `Deserialize` takes `#[serde(deserialize_with = "values::from_text")]` (in lists `from_texts`).
/// * A secret has `hide_env_values = true`; it is then never shown.
/// * What only the file can say is `#[arg(skip)]`, and is shown in `example`.
/// * What few people need is `hide_short_help = true`.
pub trait Group: Sized {
    /// The table.
    const TABLE: Table;

    /// Each field from here where `typed` says so of its name, else from the file, else from here (the default).
    #[must_use]
    fn over(self, file: Self, typed: &dyn Fn(&str) -> bool) -> Self;
}

/// Implements [`Group`]: `group!(Listen, "listen", live: [a, b], restart: [c])`, and `example: "[[listen.more]]…"` where there is
/// something that only the file can say.
macro_rules! group {
    ($group:ident, $name:literal, live: [$($live:ident),* $(,)?], restart: [$($restart:ident),* $(,)?] $(, example: $example:expr)?) => {
        impl $crate::command_line::Group for $group {
            const TABLE: $crate::command_line::Table = $crate::command_line::Table {
                name: $name,
                live: &[$(stringify!($live)),*],
                restart: &[$(stringify!($restart)),*],
                example: concat!($($example)?),
            };

            #[allow(unused_variables, reason = "a group may be empty")]
            fn over(self, file: Self, typed: &dyn Fn(&str) -> bool) -> Self {
                // Without `..`: a new field must be named in one of the lists.
                let Self { $($live,)* $($restart,)* } = self;
                Self {
                    $($live: if typed(stringify!($live)) { $live } else { file.$live.or($live) },)*
                    $($restart: if typed(stringify!($restart)) { $restart } else { file.$restart.or($restart) },)*
                }
            }
        }
    };
}
pub(crate) use group;
