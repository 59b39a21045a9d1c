//! What is measured on every way.

use std::path::PathBuf;

/// One of the things that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A file through `ssh cat`.
    Cat,
    /// A file down with sftp.
    Get,
    /// A file up with sftp.
    Put,
    /// A session that does nothing.
    True,
}

impl Measure {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Cat, Self::Get, Self::Put, Self::True];

    /// As the table calls it, with its unit.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cat => "ssh cat, MiB/s",
            Self::Get => "sftp get, MiB/s",
            Self::Put => "sftp put, MiB/s",
            Self::True => "ssh true, ms",
        }
    }

    /// Whether it moves the file.
    pub fn is_transfer(self) -> bool {
        self != Self::True
    }
}

/// How much there is to do for one figure.
#[derive(Clone, Debug)]
pub struct Work {
    /// What is copied.
    pub file: PathBuf,
    /// How long it is, in MiB.
    pub mib: u32,
    /// How many sessions make one figure.
    pub sessions: usize,
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// In the unit of the measure.
    pub value: f64,
    /// What the relays spent, in CPU seconds per GiB, where there are any and a file was moved.
    pub relay_cpu: Option<f64>,
}
