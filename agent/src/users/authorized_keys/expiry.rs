//! The value of `expiry-time`: `YYYYMMDD[HHMM[SS]]Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Parses a time in UTC.
///
/// sshd reads a value without `Z` in the machine's time zone. A CI runner's time zone is an accident, so such a
/// value is refused instead of being off by up to a day.
pub(super) fn parse(text: &str) -> Result<SystemTime, &'static str> {
    const SHAPE: &str = "expected YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ";
    let Some(digits) = text.strip_suffix(['Z', 'z']) else {
        return Err("write the time in UTC with a Z at the end: the time zone of a CI machine is not known");
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return Err(SHAPE);
    }
    let number =
        |from: usize, to: usize| digits.get(from..to).and_then(|part| part.parse::<u64>().ok()).unwrap_or(0);
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let (hour, minute, second) = (number(8, 10), number(10, 12), number(12, 14));
    if year < 1970 || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return Err("there is no such day");
    }
    if hour > 23 || minute > 59 || second > 60 {
        return Err("there is no such time of day");
    }
    let days: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum::<u64>()
        + (1..month).map(|month| days_in(year, month)).sum::<u64>()
        + (day - 1);
    Ok(UNIX_EPOCH + Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

fn is_leap(year: u64) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_seconds_since_the_epoch() {
        for (text, seconds) in [
            ("19700101Z", 0),
            ("20000229Z", 951_782_400),
            ("202611210427Z", 1_795_235_220),
            ("20261121042733Z", 1_795_235_253),
            ("99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(parse(text), Ok(UNIX_EPOCH + Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "Z",
            "20261121",
            "20261321Z",
            "20270229Z",
            "2026112104Z",
            "202611212460Z",
            "2026-11-21Z",
            "１Z",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
