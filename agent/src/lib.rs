//! The Converge agent: runs in a CI job, dials a relay and contains the SSH server
