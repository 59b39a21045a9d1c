//! The relay's pages in a real browser, with a real relay and real agents.
//!
//! Pictures of every page, light and dark, wide and narrow, are kept in `target/screenshots`.

mod pages {
    mod browser;
    mod proxy;
    mod sessions;
    mod usage;
    mod whole;

    use anyhow::Result;
    use converge_interop_tests::{Carrier, Setup};

    /// A relay and an agent, and a directory for everything.
    fn setup() -> Result<Setup> {
        Setup::start(Carrier::Quic)
    }

    /// The relay's pages without TLS, whose certificate the browser could not check.
    fn pages(setup: &Setup) -> String {
        setup.relay.http.replacen("ws://", "http://", 1)
    }

    /// Runs a story, and shows every log when it fails.
    fn tell(story: fn(&mut Setup) -> Result<()>) {
        let mut setup = setup().unwrap_or_else(|error| panic!("{error:?}"));
        story(&mut setup).unwrap_or_else(|error| panic!("{error:?}"));
    }
}
