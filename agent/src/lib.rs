//! The agent: runs in a CI job, dials a relay, and contains the SSH server that people reach through it.
//!
//! Start with [`Config`] and [`Agent`]. The SSH side ([`ssh`], [`sftp`]) knows nothing of relays; the relay side
//! ([`relay`]) knows nothing of SSH but the host key.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod agent;
pub mod agent_dir;
pub mod command_line;
pub mod config;
pub mod control;
pub mod events;
pub mod host_port;
pub mod job;
pub mod life;
pub mod place;
pub mod platform;
pub mod program;
pub mod relay;
pub mod sftp;
pub mod ssh;
pub mod users;

pub use agent::{Agent, AgentError};
pub use agent_dir::{AgentDir, AgentDirError};
pub use config::Config;
