//! The relay as a program: its configuration, its signals, and its service manager.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken fails the test")]

mod cluster;
mod configuration;
mod drain;
mod relay;
mod reload;
mod service;
mod sockets;
