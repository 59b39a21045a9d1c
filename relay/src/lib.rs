//! The relay: the public server that pairs agents and clients and copies bytes between them.
//!
//! What it deliberately is not: it holds no SSH key, terminates no SSH, and looks at nothing it copies.
//!
//! Start with [`Config`] and [`Relay`]: bind, look at the addresses, run until stopped.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod access;
pub mod command_line;
pub mod config;
pub mod directory;
pub mod downloads;
mod drain;
pub mod limits;
pub mod metrics;
pub mod peer;
pub mod program;
pub mod registry;
pub mod server;
pub mod session_log;
pub mod tls;

mod accept;
mod agent_link;
mod client_stream;
mod cluster;
mod first_frame;
mod http;
mod link;
mod pairing;
mod shared;
mod sockets;

pub use config::Config;
pub use downloads::{Download, Downloads, DownloadsError};
pub use http::pages::{HiddenField, PagesSettings, SessionsPage, UnknownField};
pub use server::{Addresses, BindError, Counts, Relay, Stopped};
pub use sockets::{Passed, Sockets};
