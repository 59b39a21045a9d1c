//! What ACME servers ask for over HTTP (RFC 8555 section 8.3), while a certificate is being ordered.

use crate::shared::Shared;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// The proof behind a token.
pub(super) async fn proof(State(shared): State<Arc<Shared>>, Path(token): Path<String>) -> Response {
    match shared.tls.http_proofs.get(&token) {
        Some(proof) => proof.into_response(),
        None => (StatusCode::NOT_FOUND, "no certificate is being ordered with this token\n").into_response(),
    }
}
