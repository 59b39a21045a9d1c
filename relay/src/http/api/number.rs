//! Numbers as they are written in requests.

use serde::{Deserialize, Deserializer, de::Error};
use std::fmt::Display;

/// The largest number of an event or a session: what `int64` in the description says.
const MAX_INT64: u64 = i64::MAX.cast_unsigned();

/// A whole number from `min` to `max`. `5.0` is one, as JSON Schema has it.
pub(super) fn whole<'de, D: Deserializer<'de>>(
    deserializer: D,
    min: u64,
    max: u64,
    unit: impl Display,
) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_u64().or_else(|| {
        // `{:.0}` of a whole float is all of its digits.
        let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
        format!("{float:.0}").parse().ok()
    });
    match whole.filter(|whole| (min..=max).contains(whole)) {
        Some(whole) => Ok(whole),
        None => Err(D::Error::custom(format!("{number}{unit}; it is a whole number from {min} to {max}"))),
    }
}

/// The number of an event or a session, in a query.
pub(super) fn position<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match u64::deserialize(deserializer)? {
        number @ 0..=MAX_INT64 => Ok(Some(number)),
        number => Err(D::Error::custom(format!("{number} is larger than any number there is"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_whole_however_they_are_written() {
        let read = |text: &str| {
            let mut json = serde_json::Deserializer::from_str(text);
            whole(&mut json, 1, 100, " seconds").map_err(|error| error.to_string())
        };
        assert_eq!((read("1"), read("100.0"), read("1e1")), (Ok(1), Ok(100), Ok(10)));
        for wrong in ["0", "101", "1.5", "-1", "1e300", "\"5\"", "null"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("1.5").unwrap_err().starts_with("1.5 seconds; it is a whole number from 1 to 100"));
    }
}
