//! What differs between operating systems: terminals, process groups and signals.

pub(crate) mod process_group;
pub(crate) mod pty;
pub mod signals;
