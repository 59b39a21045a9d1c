//! The programs that this relay hands out.

use super::{InstallLines, Layout, page, size::size};
use crate::{downloads::Download, shared::Shared};
use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "downloads.html")]
struct Downloads {
    layout: Layout,
    shell_line: String,
    powershell_line: Option<String>,
    files: Vec<Download>,
}

impl Downloads {
    #[allow(
        clippy::unused_self,
        clippy::trivially_copy_pass_by_ref,
        reason = "templates call what they are made of"
    )]
    fn size(&self, bytes: &u64) -> String {
        size(*bytes)
    }
}

/// `/downloads`
pub(in crate::http) async fn downloads(State(shared): State<Arc<Shared>>) -> Response {
    let InstallLines { shell, powershell, .. } = shared.install_lines();
    let (Some(downloads), Some(shell_line)) = (&shared.downloads, shell) else {
        let words = "this relay offers no programs for download\n";
        return (StatusCode::NOT_FOUND, words).into_response();
    };
    page(&Downloads {
        layout: Layout::new(&shared, "/downloads", "Downloads"),
        shell_line,
        powershell_line: powershell,
        files: downloads.list().await,
    })
}
