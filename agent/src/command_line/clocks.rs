//! When the agent ends by itself.

use clap::Args;
use converge_proto::expiry::ExpiryLimits;
use std::time::Duration;

/// When the agent ends by itself.
#[derive(Args, Debug)]
#[command(next_help_heading = "When it ends (times such as 90s, 10m or 2h; 0 switches a clock off)")]
pub struct ClockArguments {
    /// End when nobody has logged in for this long
    #[arg(long, env = "CONVERGE_FIRST_TIMEOUT", value_name = "TIME", default_value = "30m", value_parser = duration)]
    pub first_timeout: Duration,
    /// End when nobody does anything for this long
    #[arg(long, env = "CONVERGE_IDLE_TIMEOUT", value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub idle_timeout: Duration,
    /// End after this long, whatever anybody does
    #[arg(long, env = "CONVERGE_MAX_LIFETIME", value_name = "TIME", default_value = "6h", value_parser = duration)]
    pub max_lifetime: Duration,
    /// Warn users so long before
    #[arg(long, env = "CONVERGE_WARN", hide_short_help = true, value_name = "LIST", value_delimiter = ',', default_value = "5m,1m", value_parser = duration)]
    pub warn: Vec<Duration>,
    /// The exit status when one of these clocks ends the agent [default: 0, or that of the step after `run`]
    #[arg(long, env = "CONVERGE_TIMEOUT_STATUS", hide_short_help = true, value_name = "N")]
    pub timeout_status: Option<u8>,
    /// Stay when the last user leaves, as if somebody had said `converge-agent hold`
    #[arg(long, env = "CONVERGE_HOLD")]
    pub hold: bool,
}

impl ClockArguments {
    /// For the state machine, in which a clock that is off is not there.
    pub(super) fn limits(&self) -> ExpiryLimits {
        let on = |time: Duration| (!time.is_zero()).then_some(time);
        ExpiryLimits {
            first: on(self.first_timeout),
            idle: on(self.idle_timeout),
            lifetime: on(self.max_lifetime),
            warn: self.warn.iter().copied().filter(|time| !time.is_zero()).collect(),
        }
    }
}

/// The longest time that can be given; more is a mistake.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// A time as people write it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let time =
        humantime::parse_duration(text).map_err(|error| format!("{error}; write 90s, 10m or 1h30m"))?;
    if time > LONGEST { Err("more than a year".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        for wrong in ["", "10", "-5m", "soon", "400d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
