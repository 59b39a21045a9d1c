//! What is wrong with a configuration, for its operator.

use crate::command_line::Settings;
use std::fmt;

/// One thing that is wrong, and where to change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// Something about no flag.
    pub fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }

    /// Something about these settings, by their fields' names (`state_dir`): they are named as flags and as keys.
    pub fn about(fields: &[&str], what: impl fmt::Display) -> Self {
        let places: Vec<_> = fields.iter().map(|field| place(field)).collect();
        Self(format!("{what}; see {}", places.join(" and ")))
    }
}

/// `--state-dir ([tls] state-dir in the file)`
fn place(field: &str) -> String {
    let key = field.replace('_', "-");
    let table = Settings::TABLES.into_iter().find(|table| table.fields().any(|known| known == field));
    match table {
        Some(table) => format!("--{key} ([{}] {key} in the file)", table.name),
        None => format!("--{key}"),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is wrong; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `Ok` when there are none.
    ///
    /// # Errors
    /// These problems.
    pub fn none_of(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }
}

/// Of at least one.
impl From<Vec<Problem>> for Problems {
    fn from(problems: Vec<Problem>) -> Self {
        Self(problems)
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// One line each.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
