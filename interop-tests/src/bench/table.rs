//! Figures as a table for people, and as JSON for programs.

use super::{measures::Measure, peer::Kind};
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

/// What was measured of one thing: of each way, in each round.
pub struct Row<'a> {
    /// What it is.
    pub measure: &'a Measure,
    /// In the order of [`Kind::ALL`]; empty where there is nothing to measure, or it did not survive.
    pub figures: Vec<Vec<f64>>,
}

impl Row<'_> {
    fn goal(&self, kind: Kind) -> Option<f64> {
        match kind {
            Kind::Direct => None,
            Kind::Converge => self.measure.goals[0],
            Kind::ConvergeWebSocket => self.measure.goals[1],
        }
    }

    fn cell(&self, kind: Kind, figures: &[f64]) -> String {
        if figures.is_empty() {
            return "–".to_owned();
        }
        let (middle, least) = (median(figures), figures.iter().copied().fold(f64::INFINITY, f64::min));
        let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let digits = match middle.abs() {
            size if size < 10.0 => 2,
            size if size < 100.0 => 1,
            _ => 0,
        };
        let verdict = self.goal(kind).map_or_else(String::new, |goal| {
            let is_met = if self.measure.more_is_better { middle >= goal } else { middle <= goal };
            format!("; goal {goal}: {}", if is_met { "met" } else { "**missed**" })
        });
        format!("{middle:.digits$} ({least:.digits$} to {most:.digits$}){verdict}")
    }
}

/// In Markdown: medians, with the least and the most.
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
        let figures = Kind::ALL.iter().zip(&row.figures).map(
            |(kind, figures)| json!({ "way": kind.name(), "goal": row.goal(*kind), "figures": figures }),
        );
        let figures: Vec<_> = figures.collect();
        json!({ "measure": row.measure.name, "unit": row.measure.unit, "ways": figures })
    });
    Value::Array(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn median_is_in_the_middle() {
        assert!(median(&[]).is_nan());
        for (figures, middle) in [(&[3.0][..], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 1.0], 2.5)] {
            assert!((median(figures) - middle).abs() < 1e-9, "{figures:?}");
        }
    }
}
