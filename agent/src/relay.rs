//! The relay side: registering at a relay, staying registered, and the sessions that come from it.

pub mod announce;
pub(crate) mod diagnosis;
pub(crate) mod link;
pub mod registration;
pub(crate) mod sessions;
