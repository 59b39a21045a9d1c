//! What people do with Converge, with the programs they use, on each carrier.
//!
//! Every story gets a relay, an agent and a key of its own, and may start more. A failure shows what all of them
//! logged.

use converge_interop_tests::{Carrier, Setup};

/// Makes two tests of each story: `quic::…` and `websocket::…`.
macro_rules! on_both_carriers {
    ($($story:ident),+ $(,)?) => {
        mod quic {
            $(#[test] fn $story() { crate::tell(converge_interop_tests::Carrier::Quic, super::$story); })+
        }
        mod websocket {
            $(#[test] fn $story() { crate::tell(converge_interop_tests::Carrier::WebSocket, super::$story); })+
        }
    };
}

fn tell(carrier: Carrier, story: fn(&mut Setup) -> anyhow::Result<()>) {
    let mut setup = Setup::start(carrier).unwrap_or_else(|error| panic!("{error:?}"));
    // Here, where the setup is still alive: dropping it in a panic shows the logs.
    story(&mut setup).unwrap_or_else(|error| panic!("{error:?}"));
}

mod stories {
    mod access;
    mod acme;
    mod agent_life;
    mod ansible;
    mod bad_input;
    mod balancers;
    mod certificates;
    mod clocks;
    mod cluster;
    mod doctor;
    mod dropbear;
    mod editor;
    mod exec;
    mod flood;
    mod foreign;
    mod forward;
    mod full_screen;
    mod git;
    mod libraries;
    mod metrics;
    mod operator;
    mod outage;
    mod relay_life;
    mod rsync;
    mod scp;
    mod several_relays;
    mod sftp;
    mod shell;
    mod sshfs;
    mod step;
    mod stolen_session;
    mod tidy;
    mod trust;
    mod two_agents;
}
