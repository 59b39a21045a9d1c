//! What `make bench` measures: ways into a job beside each other, in one run.
//!
//! Over emulated networks a way that is compared is a [`Peer`](peer::Peer), a file of its own in `bench/peer/`; what is
//! measured of each is in [`measures`], and [`table`] shows the figures. What is measured on this machine alone is in
//! [`loopback`] and [`half_closed`], and what many agents and sessions
//! cost a relay in [`crowds`]. What a figure should be is a [`Goal`](goal::Goal), and what others had of the machine
//! meanwhile tells [`stolen`].

pub mod bulk;
pub mod crowds;
pub mod goal;
pub mod half_closed;
pub mod loopback;
pub mod measures;
pub mod peer;
pub mod stolen;
pub mod table;
pub mod typist;
