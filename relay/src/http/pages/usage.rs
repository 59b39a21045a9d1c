//! A form, and the commands that come out of it: for the job, and for the person.
//!
//! It is an ordinary form. The script only sends it by itself while somebody types, and takes the result out of the
//! answer, so that what is shown is always what was made here.

mod ci;
mod commands;
mod form;

use super::{Layout, page};
use crate::{downloads::Download, shared::Shared};
use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, Uri, header},
    response::Response,
};
use ci::Ci;
use commands::{Commands, Lines};
use form::{Form, Shell};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "usage.html")]
struct Usage {
    layout: Layout,
    form: Form,
    result: Commands,
}

/// `/usage`
pub(in crate::http) async fn usage(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let browser = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = Form::parse(uri.query().unwrap_or_default(), browser);
    let has_windows_agent = match &shared.downloads {
        Some(downloads) => downloads.list().await.iter().any(Download::is_agent_for_windows),
        None => false,
    };
    let result = Commands::new(&form, shared.shown_url(), &shared.install_lines(), has_windows_agent);
    page(&Usage { layout: Layout::new(&shared, "/usage", "Usage"), form, result })
}

/// How the programs come to a machine, where this relay hands them out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstallLines {
    /// `curl … | sh`
    pub(crate) shell: Option<String>,
    /// The same for PowerShell.
    pub(crate) powershell: Option<String>,
    /// And for the agent, if there is one for Windows.
    pub(crate) powershell_agent: Option<String>,
}
