//! `converge reserve`: an ID for a job that has not started.

use crate::{
    error::ClientError,
    list::Format,
    operator::{Operator, clean, id_in},
};
use converge_proto::Id;
use serde_json::json;
use std::{io::Write, time::Duration};

/// Reserves an ID, this one or a new one, and prints it with the token that the job needs.
///
/// # Errors
/// [`ClientError`].
pub async fn run(
    operator: &Operator,
    id: Option<&Id>,
    time: Duration,
    format: Format,
) -> Result<(), ClientError> {
    let wanted = json!({ "id": id.map(Id::as_str), "seconds": time.as_secs().max(1) });
    let answer = operator.connect().await?.post("reservations", &wanted).await?;
    let text = |name: &str| answer.get(name).and_then(|value| value.as_str()).map(clean);
    let text = match (format, id_in(&answer), text("token"), text("expires")) {
        (Format::Json, ..) => format!("{answer}\n"),
        // As the job's environment wants it.
        (Format::Table, Some(id), Some(token), Some(expires)) => {
            format!("# until {expires}\nCONVERGE_ID={id}\nCONVERGE_TOKEN={token}\n")
        }
        _ => return Err(ClientError::ApiBroken("its answer lacks the ID or the token".to_owned())),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(ClientError::local("cannot write"))
}
