//! What `make bench` measures over emulated networks: ways into a job beside each other, in one run.
//!
//! A way that is compared is a [`Peer`](peer::Peer), a file of its own in `bench/peer/`. What is measured of each is in
//! [`measures`], and [`table`] shows the figures.

pub mod bulk;
pub mod measures;
pub mod peer;
pub mod table;
pub mod typist;
