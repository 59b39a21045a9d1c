//! What Converge does in networks as they are: with delay and loss, without UDP, behind routers and proxies, cut and
//! healed. Every scenario has a lab of its own; a failure shows what everything in it has logged.

use anyhow::Result;
use converge_interop_tests::lab::{Access, Lab};

/// Makes a test of each scenario, in a lab whose job and laptop get to the internet like this.
macro_rules! in_a_lab {
    (job $job:ident, laptop $laptop:ident: $($scenario:ident),+ $(,)?) => {
        mod promises {
            $(#[test] fn $scenario() {
                use converge_interop_tests::lab::Access;
                crate::play(stringify!($scenario), Access::$job, Access::$laptop, super::$scenario);
            })+
        }
    };
}

fn play(name: &str, job: Access, laptop: Access, scenario: fn(&Lab) -> Result<()>) {
    let lab = Lab::with_access(name, job, laptop).unwrap_or_else(|error| panic!("{error:?}"));
    // Here, where the lab is still alive: dropping it in a panic shows the logs and keeps them.
    scenario(&lab).unwrap_or_else(|error| panic!("{error:?}\nlogs: {}", lab.path().display()));
}

mod lab {
    mod carriers;
    mod doctor;
    mod emulation;
    mod gateways;
    mod partition;
    mod proxies;
    mod remains;
    mod shell;
    mod slow;
    mod survival;
    mod talk;
    mod throughput;
    mod traffic;
    mod transfer;
    mod watch;
}
