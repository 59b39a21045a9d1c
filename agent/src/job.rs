//! The CI job: which system runs it, the step that may fail, and the environment's secrets.

pub mod ci;
pub mod scrub;
pub mod step;
