//! Windows has no signals. Their names are SSH's, their numbers those of other systems.

use std::io;

/// A signal that a client asks for, or what stands for it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

#[expect(missing_docs, reason = "the names are those of RFC 4254 section 6.10")]
impl Signal {
    pub const HUP: Self = Self(1);
    pub const INT: Self = Self(2);
    pub const QUIT: Self = Self(3);
    pub const ILL: Self = Self(4);
    pub const ABORT: Self = Self(6);
    pub const FPE: Self = Self(8);
    pub const KILL: Self = Self(9);
    pub const USR1: Self = Self(10);
    pub const SEGV: Self = Self(11);
    pub const USR2: Self = Self(12);
    pub const PIPE: Self = Self(13);
    pub const ALARM: Self = Self(14);
    pub const TERM: Self = Self(15);

    /// Its number.
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

/// Nothing can be ignored here.
#[derive(Clone, Copy, Debug)]
pub struct Ignored;

/// Nothing has to be done here.
///
/// # Errors
/// None.
pub fn reset_signals() -> io::Result<Ignored> {
    Ok(Ignored)
}
