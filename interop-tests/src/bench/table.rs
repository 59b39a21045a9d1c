//! Figures as a table for people, and as JSON for programs.

use super::{goal::Goal, measures::Measure, peer::Kind};
use serde_json::{Value, json};

/// The middle one, or the middle of the two middle ones.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(one), 1) => *one,
        (Some(one), _) => f64::midpoint(*one, sorted.get(middle - 1).copied().unwrap_or(*one)),
    }
}

/// Rounds in which more was stolen than in the quietest, by more than this, do not count.
const QUIET: f64 = 0.05;

/// What was measured once.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// In the unit of the measure.
    pub value: f64,
    /// The [part of the processors](super::stolen::Processors::stolen_since) that others had meanwhile.
    pub stolen: f64,
}

/// The median of the quietest rounds, and the part that was stolen in the quietest of all.
fn in_quiet(figures: &[Figure]) -> (f64, f64) {
    let least = figures.iter().map(|figure| figure.stolen).fold(f64::INFINITY, f64::min);
    let quiet = figures.iter().filter(|figure| figure.stolen <= least + QUIET);
    (median(&quiet.map(|figure| figure.value).collect::<Vec<_>>()), least)
}

/// What was measured of one thing: of each way, in each round.
pub struct Row<'a> {
    /// What it is.
    pub measure: &'a Measure,
    /// In the order of [`Kind::ALL`]; empty where there is nothing to measure, or it did not survive.
    pub figures: Vec<Vec<Figure>>,
}

impl Row<'_> {
    fn goal(&self, kind: Kind) -> Option<f64> {
        match kind {
            Kind::Direct => None,
            Kind::Converge => self.measure.goals[0],
            Kind::ConvergeWebSocket => self.measure.goals[1],
        }
    }

    fn cell(&self, kind: Kind, figures: &[Figure]) -> String {
        if figures.is_empty() {
            return "–".to_owned();
        }
        let (middle, stolen) = in_quiet(figures);
        let values = || figures.iter().map(|figure| figure.value);
        let (least, most) =
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let stolen = if stolen < QUIET { String::new() } else { format!(", {:.0} % stolen", stolen * 100.0) };
        let digits = match middle.abs() {
            size if size < 10.0 => 2,
            size if size < 100.0 => 1,
            _ => 0,
        };
        let verdict = self.goal(kind).map_or_else(String::new, |goal| {
            let goal = if self.measure.more_is_better { Goal::AtLeast(goal) } else { Goal::AtMost(goal) };
            format!("; {}", goal.verdict(middle))
        });
        format!("{middle:.digits$} ({least:.digits$} to {most:.digits$}){stolen}{verdict}")
    }
}

/// In Markdown: medians of the quietest rounds, with the least and the most of all, and what was stolen where it was much.
pub fn markdown(rows: &[Row<'_>]) -> String {
    let names = Kind::ALL.map(Kind::name).join(" | ");
    let mut text = format!("| | unit | {names} |\n| --- | --- |{}\n", " --- |".repeat(Kind::ALL.len()));
    for row in rows {
        let cells = Kind::ALL.iter().zip(&row.figures).map(|(kind, figures)| row.cell(*kind, figures));
        let cells = cells.collect::<Vec<_>>().join(" | ");
        text += &format!("| {} | {} | {cells} |\n", row.measure.name, row.measure.unit);
    }
    text
}

/// Every figure of every round.
pub fn json(rows: &[Row<'_>]) -> Value {
    let rows = rows.iter().map(|row| {
        let figures = Kind::ALL.iter().zip(&row.figures).map(|(kind, figures)| {
            let values: Vec<_> = figures.iter().map(|figure| figure.value).collect();
            let stolen: Vec<_> = figures.iter().map(|figure| figure.stolen).collect();
            json!({ "way": kind.name(), "goal": row.goal(*kind), "figures": values, "stolen": stolen })
        });
        let figures: Vec<_> = figures.collect();
        json!({ "measure": row.measure.name, "unit": row.measure.unit, "ways": figures })
    });
    Value::Array(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::{Figure, in_quiet, median};

    #[test]
    fn median_is_in_the_middle() {
        assert!(median(&[]).is_nan());
        for (figures, middle) in [(&[3.0][..], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 1.0], 2.5)] {
            assert!((median(figures) - middle).abs() < 1e-9, "{figures:?}");
        }
    }

    #[test]
    fn rounds_that_others_disturbed_do_not_count() {
        let figures = |rounds: &[(f64, f64)]| -> Vec<_> {
            rounds.iter().map(|(value, stolen)| Figure { value: *value, stolen: *stolen }).collect()
        };
        for (rounds, expected) in [
            (&[(1.0, 0.0), (5.0, 0.01), (2.0, 0.04)][..], (2.0, 0.0)),
            (&[(1.0, 0.7), (5.0, 0.2), (2.0, 0.5)], (5.0, 0.2)),
            (&[(1.0, 0.7), (5.0, 0.2), (2.0, 0.21)], (3.5, 0.2)),
        ] {
            let (value, stolen) = in_quiet(&figures(rounds));
            assert!((value - expected.0).abs() + (stolen - expected.1).abs() < 1e-9, "{rounds:?}");
        }
    }
}
