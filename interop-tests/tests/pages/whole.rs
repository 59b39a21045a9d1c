//! Every page: accessible in light and dark, without complaints, and a picture of it.

use super::{
    browser::{Browser, Scheme},
    pages, tell,
};
use anyhow::{Context, Result, ensure};
use converge_interop_tests::Setup;
use std::process::Command;

/// Name and path.
const PAGES: [(&str, &str); 6] = [
    ("about", ""),
    ("usage", "usage?ci=gitlab&id=my-build&github=octocat&step=make+test"),
    ("usage-wrong", "usage?ci=other&id=My+Build&keys=nonsense"),
    ("sessions", "sessions"),
    ("agent", "client/"),
    ("nothing", "no/such/page"),
];

#[test]
fn every_page_is_accessible_and_quiet_in_light_and_dark() {
    tell(|setup| {
        let browser = Browser::start(setup.path())?;
        // Something to see on the page of sessions.
        let job = setup.new_job("another-job")?;
        let mut agent = setup.agent_command(&job)?;
        agent.envs([
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "octocat/hello-world"),
            ("GITHUB_WORKFLOW", "test"),
            ("GITHUB_RUN_NUMBER", "3"),
            ("GITHUB_RUN_ID", "42"),
        ]);
        let _agent = converge_interop_tests::Agent::start_as("another-agent", &mut agent, setup.path())?;
        for (name, path) in PAGES {
            let url =
                format!("{}/{path}{}", pages(setup), if path.ends_with('/') { &setup.agent.id } else { "" });
            for scheme in Scheme::ALL {
                for (width, size) in [(1280, "wide"), (390, "narrow")] {
                    browser.show(width, 900, scheme)?;
                    browser.open(&url)?;
                    if name == "sessions" {
                        browser.wait_for_text("#live", "Live")?;
                    }
                    let overflow = browser.run(
                        "return document.documentElement.scrollWidth - document.documentElement.clientWidth",
                        vec![],
                    )?;
                    ensure!(overflow == 0, "{url} is wider than {width}");
                    browser.is_accessible().with_context(|| format!("{name}, {size}, {}", scheme.name()))?;
                    browser.take_picture(&format!("{name}-{size}-{}", scheme.name()))?;
                }
            }
            // A page that is not there is told as such.
            browser.has_clean_console(&["the server responded with a status of 404"])?;
        }
        Ok(())
    });
}

#[test]
fn everything_but_live_updates_works_without_scripts() {
    tell(|setup| {
        let browser = Browser::without_scripts(setup.path())?;
        let pages = pages(setup);
        browser.open(&pages)?;
        browser.click("nav a[href$=usage]")?;
        browser.type_into("#id", "my-build")?;
        browser.type_into("#step", "make test")?;
        browser.click("button[type=submit]")?;
        browser.wait_for_text("#connect", "/client/my-build")?;
        ensure!(browser.url()?.contains("/usage?"), "the form was sent: {}", browser.url()?);
        let lines = browser.source()?;
        ensure!(lines.contains("--id my-build -- make test"), "{lines}");
        ensure!(!browser.has(".copy"), "buttons that do nothing without a script are not there");

        browser.click("nav a[href$=sessions]")?;
        let row = format!("#a-{}", setup.agent.id);
        browser.wait_for_text(&row, &setup.agent.id)?;
        browser.type_into("#q", "nothing-like-it")?;
        browser.click("button[type=submit]")?;
        browser.wait_for_text("#summary", "0 of 1 job")?;
        ensure!(!browser.has(&row), "a search that finds nothing shows nothing");
        browser.open(&format!("{pages}/sessions"))?;
        browser.click(&format!("{row} a.id"))?;
        browser.wait_for_text("main", "waiting for you")?;
        Ok(())
    });
}

/// The address of a relay below a path is what every command on its pages has to have in it; see `proxy`.
pub(super) fn links_lead_somewhere(browser: &Browser, root: &str) -> Result<()> {
    for (name, words) in [("usage", "Your commands"), ("sessions", "Sessions"), ("", "Be inside your CI job")]
    {
        let link = if name.is_empty() { "a.brand".to_owned() } else { format!("nav a[href$={name}]") };
        browser.click(&link)?;
        browser.wait_for_text("h1", words)?;
        ensure!(browser.url()? == format!("{root}{name}"), "{} instead of {root}{name}", browser.url()?);
    }
    Ok(())
}

/// `sh` with our own programs where people have them.
pub(super) fn shell(setup: &Setup) -> Result<Command> {
    let program = converge_interop_tests::programs::own("converge")?;
    let own = program.parent().context("programs are in a directory")?.to_path_buf();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([own].into_iter().chain(std::env::split_paths(&path)))?;
    let mut command = Command::new("sh");
    converge_interop_tests::setup::clean(&mut command);
    let home = setup.path().join("home");
    std::fs::create_dir_all(home.join(".ssh"))?;
    command.env("PATH", path).env("HOME", home).env("TMPDIR", setup.path());
    Ok(command)
}
