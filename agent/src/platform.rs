//! What differs between operating systems.
//!
//! Every module here is one interface with a file per system behind it. The rest of the agent asks for no system: what
//! a system does not have is an error in words, or said to be absent. `docs/platforms.md` is the list of it.

pub(crate) mod control_socket;
pub(crate) mod files;
pub(crate) mod local_socket;
pub(crate) mod machine;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod shells;
pub mod signals;
pub(crate) mod step_signals;
pub(crate) mod stop_signals;
