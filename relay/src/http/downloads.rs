//! `downloads/NAME`, and the scripts that install from there.

use crate::{
    downloads::{Download, Installer},
    shared::Shared,
};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use tower_http::services::ServeFile;

/// For people, and harmless to a shell that was given it because curl was not told `-f`.
const NO_DOWNLOADS: &str =
    "# this relay offers no programs for download; its operator can with --downloads\n";

/// A file: all of it, a range of it, or that it has not changed.
pub(super) async fn file(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let Some(downloads) = &shared.downloads else { return none() };
    let Some((path, is_compressed_too)) = downloads.find(&name).await else {
        return (StatusCode::NOT_FOUND, "this relay has no such file to download\n").into_response();
    };
    // Whatever a file's name ends with, a browser is to keep it and not to show it.
    let mut file = ServeFile::new_with_mime(path, &mime::APPLICATION_OCTET_STREAM);
    if is_compressed_too {
        file = file.precompressed_gzip();
    }
    match file.try_call(request).await {
        Ok(response) => {
            let mut response = response.map(Body::new);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            // To be asked for again each time; the answer is short when nothing has changed.
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            response
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// `install.sh`.
pub(super) async fn shell_script(State(shared): State<Arc<Shared>>) -> Response {
    script(&shared, Installer::shell_script).await
}

/// `install.ps1`.
pub(super) async fn powershell_script(State(shared): State<Arc<Shared>>) -> Response {
    script(&shared, Installer::powershell_script).await
}

async fn script(
    shared: &Shared,
    render: impl FnOnce(&Installer, &[Download]) -> Result<String, askama::Error>,
) -> Response {
    let Some(downloads) = &shared.downloads else { return none() };
    let files = downloads.list().await;
    let Ok(text) = render(&Installer::new(shared.shown_url().clone()), &files) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        // So that people can read it before they run it.
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

fn none() -> Response {
    (StatusCode::NOT_FOUND, NO_DOWNLOADS).into_response()
}
