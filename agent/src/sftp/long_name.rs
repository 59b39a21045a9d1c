//! A directory entry as `ls -l` shows it.
//!
//! Clients print the line as it comes. The time is UTC: a time zone is not part of the protocol, and a CI machine's
//! own is UTC nearly always.

use std::io::Write;

use super::{accounts::Accounts, system::FileStat};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// For this long a file's time is shown to the minute, as `ls` does; before and after, and in the future, with the year.
const RECENT_SECONDS: i64 = 365 * 86_400 / 2;

/// The line for `name`; `now` is seconds since 1970.
pub(super) fn long_name(name: &[u8], stat: &FileStat, accounts: &Accounts, now: i64) -> Vec<u8> {
    let attrs = &stat.attrs;
    let (uid, gid) = attrs.owner.map_or((0, 0), |owner| (owner.uid, owner.gid));
    let modified = attrs.times.map_or(0, |times| i64::from(times.modified));
    let mut line = Vec::with_capacity(64 + name.len());
    line.extend_from_slice(&mode(attrs.mode.unwrap_or(0)));
    // Writing to memory cannot fail.
    let _ = write!(line, "  {:>3} ", stat.links);
    account(&mut line, accounts.user(uid), uid);
    account(&mut line, accounts.group(gid), gid);
    let _ = write!(line, "{:>8} {} ", attrs.size.unwrap_or(0), date(modified, now));
    line.extend_from_slice(name);
    line
}

/// A name, or the number of somebody without one, in a column of at least eight.
fn account(line: &mut Vec<u8>, name: Option<&[u8]>, id: u32) {
    let start = line.len();
    match name {
        Some(name) => line.extend_from_slice(name),
        None => line.extend_from_slice(id.to_string().as_bytes()),
    }
    let width = (line.len() - start).max(8) + 1;
    line.resize(start + width, b' ');
}

fn mode(mode: u32) -> [u8; 10] {
    let file_type = match mode & 0o170_000 {
        0o010_000 => b'p',
        0o020_000 => b'c',
        0o040_000 => b'd',
        0o060_000 => b'b',
        0o100_000 => b'-',
        0o120_000 => b'l',
        0o140_000 => b's',
        _ => b'?',
    };
    let bit = |bit, letter| if mode & bit == 0 { b'-' } else { letter };
    let execute = |bit, special, both, only| match (mode & bit != 0, mode & special != 0) {
        (true, true) => both,
        (false, true) => only,
        (true, false) => b'x',
        (false, false) => b'-',
    };
    [
        file_type,
        bit(0o400, b'r'),
        bit(0o200, b'w'),
        execute(0o100, 0o4000, b's', b'S'),
        bit(0o040, b'r'),
        bit(0o020, b'w'),
        execute(0o010, 0o2000, b's', b'S'),
        bit(0o004, b'r'),
        bit(0o002, b'w'),
        execute(0o001, 0o1000, b't', b'T'),
    ]
}

fn date(time: i64, now: i64) -> String {
    let (year, month, day) = civil(time.div_euclid(86_400));
    let month = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"???");
    if (now - RECENT_SECONDS..=now).contains(&time) {
        let minute = time.rem_euclid(86_400) / 60;
        format!("{month} {day:>2} {:02}:{:02}", minute / 60, minute % 60)
    } else {
        format!("{month} {day:>2}  {year}")
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts in years that begin in March, so that the leap day is a year's last.
fn civil(day: i64) -> (i64, i64, i64) {
    const DAYS_PER_400_YEARS: i64 = 146_097;
    let day = day + 719_468;
    let era = day.div_euclid(DAYS_PER_400_YEARS);
    let day_of_era = day.rem_euclid(DAYS_PER_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sftp::{
        accounts,
        attrs::{Attrs, Owner, Times},
    };

    #[test]
    fn a_line_looks_like_that_of_ls() {
        let stat = FileStat {
            attrs: Attrs {
                size: Some(4096),
                owner: Some(Owner { uid: 1001, gid: 99 }),
                mode: Some(0o40_755),
                times: Some(Times { accessed: 0, modified: 1_700_000_000 }),
            },
            links: 12,
        };
        let line =
            |now| String::from_utf8(long_name(b"src", &stat, &accounts::tests::accounts(), now)).unwrap();
        assert_eq!(line(1_700_000_100), "drwxr-xr-x   12 ci       99           4096 Nov 14 22:13 src");
        assert_eq!(line(1_800_000_000), "drwxr-xr-x   12 ci       99           4096 Nov 14  2023 src");
        assert_eq!(line(1_600_000_000), "drwxr-xr-x   12 ci       99           4096 Nov 14  2023 src");
    }

    #[test]
    fn modes_show_type_and_special_bits() {
        for (bits, shown) in [
            (0o100_644, "-rw-r--r--"),
            (0o104_755, "-rwsr-xr-x"),
            (0o102_644, "-rw-r-Sr--"),
            (0o41_777, "drwxrwxrwt"),
            (0o120_777, "lrwxrwxrwx"),
            (0o140_000, "s---------"),
            (0o010_000, "p---------"),
            (0o020_001, "c--------x"),
            (0o060_000, "b---------"),
            (0, "?---------"),
        ] {
            assert_eq!(mode(bits), shown.as_bytes(), "{bits:o}");
        }
    }

    #[test]
    fn dates_around_leap_days_are_right() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
            (-1, (1969, 12, 31)),
        ] {
            assert_eq!(civil(day), date);
        }
    }
}
