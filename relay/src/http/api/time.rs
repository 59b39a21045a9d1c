//! Times as they are written in answers.

use serde::{Serialize, Serializer};
use std::time::{Duration, SystemTime};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type},
};

/// A moment, as [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339) has it, in UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) SystemTime);

impl Time {
    /// So long from now.
    pub(super) fn after(time: Duration) -> Self {
        Self(SystemTime::now() + time)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A moment, in UTC."))
            .examples(["2026-11-21T14:00:00.000Z"])
            .into()
    }
}

impl ToSchema for Time {}
