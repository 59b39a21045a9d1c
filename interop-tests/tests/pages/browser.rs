//! A real browser without a window: Debian's Chromium, driven through its chromedriver.

use anyhow::{Context, Result, bail, ensure};
use converge_interop_tests::{
    process::{PATIENCE, Process, eventually},
    programs,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use thirtyfour::{
    By, ChromiumLikeCapabilities, DesiredCapabilities, LoggingPrefsLogLevel, WebDriver, WebElement,
};
use tokio::runtime::Runtime;

/// What keeps Chromium to what a test tells it, and away from any network but ours.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Light or dark, as the person has set their machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Scheme {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Light, Self::Dark];

    /// As CSS calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A browser with one page.
#[derive(Debug)]
pub(crate) struct Browser {
    driver: Option<WebDriver>,
    runtime: Runtime,
    _process: Process,
}

impl Browser {
    /// Starts one, with its files in `directory`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, json!({}))
    }

    /// One whose pages run no scripts.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn without_scripts(directory: &Path) -> Result<Self> {
        // 2 is "block", as in its settings.
        Self::start_with(directory, json!({ "profile.managed_default_content_settings.javascript": 2 }))
    }

    fn start_with(directory: &Path, preferences: Value) -> Result<Self> {
        let mut command = Command::new(programs::installed("chromedriver")?);
        // It takes a port of its own, and says which.
        command.arg("--port=0").env("TMPDIR", directory);
        let mut process = Process::start("chromedriver", &mut command, directory)?;
        let port: u16 = process.wait_for("its port", |line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        })?;
        let profile = tempfile::Builder::new().prefix("profile-").tempdir_in(directory)?.keep();
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(&programs::installed("chromium")?.display().to_string())?;
        for argument in ARGUMENTS {
            wanted.add_arg(argument)?;
        }
        wanted.add_arg(&format!("--user-data-dir={}", profile.display()))?;
        wanted.add_experimental_option("prefs", preferences)?;
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let driver = runtime.block_on(async {
            WebDriver::builder(format!("http://127.0.0.1:{port}"), wanted).request_timeout(PATIENCE).await
        })?;
        let browser = Self { driver: Some(driver), runtime, _process: process };
        browser.show(1280, 900, Scheme::Light)?;
        Ok(browser)
    }

    fn driver(&self) -> Result<&WebDriver> {
        self.driver.as_ref().context("the browser is closed")
    }

    fn command(&self, name: &str, parameters: Value) -> Result<Value> {
        Ok(self.runtime.block_on(self.driver()?.cdp().send_raw(name, parameters))?)
    }

    /// How wide and high the page is shown, and how.
    ///
    /// # Errors
    /// When the browser does not do it.
    pub(crate) fn show(&self, width: u32, height: u32, scheme: Scheme) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", size)?;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme.name() }] });
        self.command("Emulation.setEmulatedMedia", scheme)?;
        Ok(())
    }

    /// Opens a page.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub(crate) fn open(&self, url: &str) -> Result<()> {
        self.runtime.block_on(self.driver()?.goto(url)).with_context(|| format!("cannot open {url}"))
    }

    /// Where it is.
    ///
    /// # Errors
    /// When the browser does not tell.
    pub(crate) fn url(&self) -> Result<String> {
        Ok(self.runtime.block_on(self.driver()?.current_url())?.to_string())
    }

    /// The page as it is now.
    ///
    /// # Errors
    /// When the browser does not tell.
    pub(crate) fn source(&self) -> Result<String> {
        Ok(self.runtime.block_on(self.driver()?.source())?)
    }

    fn element(&self, selector: &str) -> Result<WebElement> {
        let found = self.runtime.block_on(self.driver()?.find(By::Css(selector)));
        found.with_context(|| format!("{selector} is not on the page"))
    }

    /// What people read in an element.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn text(&self, selector: &str) -> Result<String> {
        Ok(self.runtime.block_on(self.element(selector)?.text())?)
    }

    /// Whether there is such an element.
    pub(crate) fn has(&self, selector: &str) -> bool {
        self.element(selector).is_ok()
    }

    /// Clicks on an element.
    ///
    /// # Errors
    /// When it is not there, or not to be clicked on.
    pub(crate) fn click(&self, selector: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.element(selector)?.click())?)
    }

    /// Types into a field, as a person does.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.element(selector)?.send_keys(text))?)
    }

    /// Runs a script in the page and returns what it returns.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn run(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        let result = self.runtime.block_on(self.driver()?.execute(script, arguments))?;
        Ok(result.json().clone())
    }

    /// Waits until the page is as wanted. On failure the page is part of the error.
    ///
    /// # Errors
    /// When it is not within [`PATIENCE`].
    pub(crate) fn wait(&self, what: &str, is_there: impl Fn(&Self) -> bool) -> Result<()> {
        let found = eventually(what, || is_there(self).then_some(()));
        found.with_context(|| self.source().unwrap_or_default())
    }

    /// The same for an element with this text in it.
    ///
    /// # Errors
    /// When there is none within [`PATIENCE`].
    pub(crate) fn wait_for_text(&self, selector: &str, wanted: &str) -> Result<()> {
        let what = format!("{wanted:?} in {selector}");
        self.wait(&what, |browser| browser.text(selector).is_ok_and(|text| text.contains(wanted)))
    }

    /// A picture of the whole page, in `target/screenshots`.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn take_picture(&self, name: &str) -> Result<()> {
        let directory = pictures();
        fs::create_dir_all(&directory)?;
        let size = self.command("Page.getLayoutMetrics", json!({}))?;
        let size = size.get("cssContentSize").context("a page has a size")?;
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let parameters = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = self.command("Page.captureScreenshot", parameters)?;
        let picture = picture.get("data").and_then(Value::as_str).context("a picture has data")?;
        let picture = data_encoding::BASE64.decode(picture.as_bytes())?;
        fs::write(directory.join(format!("{name}.png")), picture)?;
        Ok(())
    }

    /// Fails when anything has gone wrong in the page: scripts, policies, what could not be loaded. What is expected is
    /// left out.
    ///
    /// # Errors
    /// With what the console says.
    pub(crate) fn has_clean_console(&self, expected: &[&str]) -> Result<()> {
        let log = self.runtime.block_on(self.driver()?.get_log("browser"))?;
        let complaints: Vec<_> = log
            .iter()
            .filter(|entry| ["SEVERE", "WARNING"].contains(&&*entry.level))
            .map(|entry| entry.message.as_str())
            .filter(|message| !expected.iter().any(|expected| message.contains(expected)))
            .collect();
        ensure!(complaints.is_empty(), "the console of {} says: {complaints:#?}", self.url()?);
        Ok(())
    }

    /// Fails when axe-core finds anything on the page that keeps people from using it.
    ///
    /// # Errors
    /// With what it has found.
    pub(crate) fn is_accessible(&self) -> Result<()> {
        let axe = fs::read_to_string(axe()?)?;
        self.run(&axe, vec![])?;
        self.run("window.found = null; axe.run().then((found) => (window.found = found));", vec![])?;
        let summary = "return window.found && window.found.violations.map((violation) => [violation.id, violation.help, \
                       violation.nodes.map((node) => node.html + ' ' + node.failureSummary)])";
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            match self.run(summary, vec![])? {
                Value::Array(found) => break found,
                _ if Instant::now() > deadline => bail!("axe-core does not come to an end"),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        ensure!(found.is_empty(), "{} is not accessible: {found:#?}", self.url()?);
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            // It ends with chromedriver at the latest.
            let _ = self.runtime.block_on(driver.quit());
        }
    }
}

/// Where pictures of pages are kept.
fn pictures() -> PathBuf {
    target().join("screenshots")
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

fn axe() -> Result<PathBuf> {
    let script = target().join("tools/axe-core/package/axe.min.js");
    ensure!(script.is_file(), "{} is not installed; run: scripts/install-tools test", script.display());
    Ok(script)
}
