//! Sockets that listen.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{is_without_family, may_be_bound_again};
#[cfg(windows)]
pub(crate) use windows::{is_without_family, may_be_bound_again};
