//! What pages need beside themselves: style, scripts, icon. They are part of the program; their URLs carry a hash of what
//! they are, so that browsers keep them for good and never mix two versions.

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// As long as browsers care to.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

const SVG: &str = "image/svg+xml";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type, content.
const ASSETS: [(&str, &str, &str); 5] = [
    ("style.css", STYLE, include_str!("../../assets/style.css")),
    ("copy.js", SCRIPT, include_str!("../../assets/copy.js")),
    ("usage.js", SCRIPT, include_str!("../../assets/usage.js")),
    ("sessions.js", SCRIPT, include_str!("../../assets/sessions.js")),
    ("icon.svg", SVG, include_str!("../../assets/icon.svg")),
];

/// One hash for all: they are changed together or not at all.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, _, content) in ASSETS {
        hash.update(name);
        hash.update(content);
    }
    let mut version = HEXLOWER.encode(&hash.finalize());
    version.truncate(16);
    version
});

/// Where an asset is, from the root of the relay.
pub(super) fn path(name: &str) -> String {
    format!("assets/{}/{name}", *VERSION)
}

/// `assets/VERSION/NAME`. Of another version there is none: the page that asks for it is about to be loaded again.
pub(super) async fn serve(Path((version, name)): Path<(String, String)>) -> Response {
    let asset = ASSETS.iter().find(|(known, ..)| *known == name).filter(|_| version == *VERSION);
    let Some((_, content_type, content)) = asset else {
        return (StatusCode::NOT_FOUND, "there is no such file on this relay\n").into_response();
    };
    let headers = [(header::CONTENT_TYPE, *content_type), (header::CACHE_CONTROL, FOR_GOOD)];
    (headers, *content).into_response()
}
