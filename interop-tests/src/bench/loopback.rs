//! What the programs cost on this machine alone: no delay and no loss, so what is measured is work.
//!
//! Each [`Way`] is compared with direct OpenSSH over the same loopback device. Each [`Measure`] gives a figure and, where
//! there is a relay, what the relay spent on it.

mod direct;
mod measure;
mod route;
mod table;
mod way;

pub use measure::{Figure, Measure, Work};
pub use route::Route;
pub use table::{Results, json, markdown};
pub use way::Way;
