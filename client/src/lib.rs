//! The client: what a person runs to be in a CI job.
//!
//! It never speaks SSH itself: it carries the bytes of the person's own `ssh` to the agent, and hands `ssh` the
//! agent's host key, so that nobody is asked and nobody can be in between.
//!
//! Start with [`session::connect`], which joins a session; [`proxy`], [`listen`] and [`openssh`] are what is done with
//! one.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod ask;
pub mod command_line;
pub mod config_file;
pub mod doctor;
pub mod error;
pub mod handoff;
pub mod host_key;
pub mod list;
pub mod listen;
pub mod openssh;
pub mod operator;
pub mod proxy;
pub mod reserve;
pub mod session;
pub mod ssh_config;
pub mod target;
pub mod token;

mod platform;

pub use error::{ClientError, ExitStatus};
pub use target::Target;
