//! What a figure should be.

/// Where a figure should be beyond. It is shown, and nothing fails for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Goal {
    /// The goal, and what became of it: `goal 0.9: met`.
    pub fn verdict(self, figure: f64) -> String {
        let (goal, is_met) = match self {
            Self::AtLeast(goal) => (goal, figure >= goal),
            Self::AtMost(goal) => (goal, figure <= goal),
        };
        format!("goal {goal}: {}", if is_met { "met" } else { "**missed**" })
    }

    /// The bare number.
    pub fn value(self) -> f64 {
        match self {
            Self::AtLeast(goal) | Self::AtMost(goal) => goal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Goal::{AtLeast, AtMost};

    #[test]
    fn goal_is_met_by_itself_and_by_what_is_better() {
        for (goal, figure, verdict) in [
            (AtLeast(0.9), 0.9, "goal 0.9: met"),
            (AtLeast(0.9), 0.89, "goal 0.9: **missed**"),
            (AtMost(24.0), 24.0, "goal 24: met"),
            (AtMost(24.0), 24.1, "goal 24: **missed**"),
            // Nothing was measured.
            (AtMost(24.0), f64::NAN, "goal 24: **missed**"),
        ] {
            assert_eq!(goal.verdict(figure), verdict);
        }
    }
}
