//! The agent: runs in a CI job, dials a relay, and contains the SSH server that people reach through it.
//!
//! Start with [`Config`] and [`Agent`]. The SSH side ([`ssh`], [`sftp`]) knows nothing of relays; the relay side
//! (`registration`, [`announce`]) knows nothing of SSH but the host key.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod activity;
pub mod agent;
pub mod agent_dir;
pub mod announce;
pub mod authorized_keys;
pub mod ci;
pub mod command_line;
pub mod config;
pub mod control;
mod diagnosis;
pub mod dispatch;
pub mod event_log;
pub mod events;
pub mod hooks;
pub mod host_port;
pub mod life;
pub mod login_text;
pub mod notice;
pub mod place;
mod process_group;
pub mod program;
mod pty;
pub mod registration;
mod relay_link;
pub mod scrub;
mod sessions;
pub mod sftp;
pub mod signals;
pub mod ssh;
pub mod step;
pub mod user;
pub mod users;

pub use agent::{Agent, AgentError};
pub use agent_dir::{AgentDir, AgentDirError};
pub use config::Config;
