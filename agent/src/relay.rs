//! The relay side: registering at a relay, staying registered, and the sessions that come from it.

pub mod announce;
mod control_writer;
pub(crate) mod diagnosis;
pub(crate) mod link;
pub(crate) mod operator;
pub mod registration;
mod reporter;
pub(crate) mod sessions;
pub mod token;
