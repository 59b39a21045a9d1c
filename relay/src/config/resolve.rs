//! From what was said to what is run with. Everything is checked here, once, and before any socket is opened.

mod access;
mod checks;
mod cluster;
mod identity;
mod limits;
mod watching;

use super::{Config, Live, Loaded, Problem, Problems};
use crate::{
    PagesSettings,
    command_line::{Listen, Pages, Settings, values::Time},
    downloads::Downloads,
    tls::{HSTS, Source},
};
use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// Makes a configuration of what was said.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn resolve(loaded: &Loaded) -> Result<Config, Problems> {
    check(loaded)?;
    let Settings { listen: Listen { listen, http, public_url }, tls, pages, .. } = &loaded.settings;
    let cluster = cluster::load(&loaded.settings.cluster)?;
    let (identity, certificate_source) = identity::load(tls, public_url.as_ref(), cluster.as_ref())?;
    // Without a command line there is no default.
    let listen = listen.unwrap_or(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 4433));
    Ok(Config {
        http: *http,
        public_url: public_url.clone().or_else(|| identity::url(tls, listen.port())),
        self_signed: matches!(certificate_source, Source::Kept),
        certificate_source,
        state_dir: Some(identity::state_directory(tls).to_owned()),
        hsts: tls.hsts.map_or(HSTS, |Time(time)| time),
        metrics: watching::metrics(&loaded.settings.metrics),
        session_log: watching::session_log(&loaded.settings.log),
        log_format: loaded.settings.log.log_format.unwrap_or_default(),
        cluster,
        downloads: downloads(pages)?,
        pages: pages_settings(pages),
        live: live(&loaded.settings)?,
        ..Config::new(listen, identity)
    })
}

/// Finds everything that is wrong, as far as it can without changing anything: files are read, none is written.
///
/// # Errors
/// All of it.
pub fn check(loaded: &Loaded) -> Result<(), Problems> {
    let mut problems = checks::all(loaded);
    problems.extend(identity::check(&loaded.settings.tls));
    problems.extend(cluster::check(&loaded.settings.cluster));
    problems.extend(access::settings(&loaded.settings).err().into_iter().flatten());
    problems.extend(downloads(&loaded.settings.pages).err());
    Problems::none_of(problems)
}

/// The programs to hand out; each is read, for its checksum.
fn downloads(pages: &Pages) -> Result<Option<Downloads>, Problem> {
    let opened = pages.downloads.clone().map(Downloads::open).transpose();
    opened.map_err(|error| Problem::about(&["downloads"], error))
}

/// The part that a running relay takes over.
///
/// # Errors
/// Everything that is wrong with the whole: a file that a relay would not start with is not reloaded in part.
pub fn reload(loaded: &Loaded) -> Result<Live, Problems> {
    check(loaded)?;
    live(&loaded.settings)
}

fn pages_settings(said: &Pages) -> PagesSettings {
    PagesSettings {
        sessions_page: said.sessions_page.unwrap_or_default(),
        hidden: said.sessions_hide.iter().flatten().copied().collect(),
        shows_addresses: said.sessions_show_addresses.unwrap_or_default(),
    }
}

fn live(settings: &Settings) -> Result<Live, Problems> {
    // Looked at a moment ago, but it is a file.
    let access = access::settings(settings).map_err(Problems::from)?;
    let Settings { limits: said, log, .. } = settings;
    let default = Live::default();
    Ok(Live {
        access: Arc::new(access),
        drain_timeout: said.drain_timeout.map_or(default.drain_timeout, |Time(time)| time),
        drain_rate: said.drain_rate.unwrap_or(default.drain_rate),
        log: log.log.clone().unwrap_or(default.log),
        limits: Arc::new(limits::limits(said)),
    })
}
