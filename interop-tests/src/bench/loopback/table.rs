//! Figures as tables for people, and as JSON for programs.

use super::{Figure, Measure, Way};
use crate::bench::{goal::Goal, table::median};
use serde_json::{Value, json};

/// What a way over two relays should reach of that over one.
const TWO_RELAYS: Goal = Goal::AtLeast(0.8);

/// What was measured on one way.
#[derive(Clone, Debug)]
pub struct Results {
    /// Which one.
    pub way: Way,
    /// Of each round, in the order of [`Measure::ALL`].
    pub figures: [Vec<Figure>; Measure::ALL.len()],
}

impl Results {
    /// Nothing yet.
    pub fn new(way: Way) -> Self {
        Self { way, figures: [const { Vec::new() }; Measure::ALL.len()] }
    }

    fn of_each(&self) -> impl Iterator<Item = (Measure, Spread)> {
        let spreads =
            self.figures.iter().map(|figures| Spread::of(figures.iter().map(|figure| figure.value)));
        Measure::ALL.into_iter().zip(spreads)
    }

    fn cpu_of_each(&self) -> impl Iterator<Item = (Measure, Spread)> {
        let spreads = self
            .figures
            .iter()
            .map(|figures| Spread::of(figures.iter().filter_map(|figure| figure.relay_cpu)));
        Measure::ALL.into_iter().zip(spreads).filter(|(measure, _)| measure.is_transfer())
    }

    fn median(&self, wanted: Measure) -> f64 {
        self.of_each().find(|(measure, _)| *measure == wanted).map_or(f64::NAN, |(_, spread)| spread.median)
    }
}

/// The figures of all rounds.
#[derive(Clone, Copy, Debug)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let figures: Vec<_> = figures.collect();
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self { median: median(&figures), least, most }
    }

    fn text(self, digits: usize) -> String {
        let Self { median, least, most } = self;
        format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

/// In Markdown: speeds with their ratios, what a second relay costs, and what relays spend.
pub fn markdown(results: &[Results]) -> String {
    [speeds(results), second_relay(results), relay_cpu(results)].join("\n")
}

fn speeds(results: &[Results]) -> String {
    let mut text = head("route", Measure::ALL.map(Measure::name));
    for one in results {
        let direct = results.iter().find(|other| other.way == one.way.direct());
        let cells = one.of_each().map(|(measure, spread)| {
            let ratio = direct.map_or(f64::NAN, |direct| spread.median / direct.median(measure));
            let verdict = one.way.ratio_goal(measure).map(|goal| format!("; {}", goal.verdict(ratio)));
            format!("{} {ratio:.2}x{}", spread.text(0), verdict.unwrap_or_default())
        });
        text += &row(&one.way.name(), cells);
    }
    text
}

/// What the way over a second relay costs: the figures of each route over two of them, by those of the same over one.
fn second_relay(results: &[Results]) -> String {
    let mut text = head("two relays : one", Measure::ALL.map(Measure::name));
    for one in results {
        let Way::OneRelay(carrier) = one.way else { continue };
        let Some(two) = results.iter().find(|two| two.way == Way::TwoRelays(carrier)) else { continue };
        let cells = one.of_each().map(|(measure, spread)| {
            let ratio = two.median(measure) / spread.median;
            let verdict = measure.is_transfer().then(|| format!("; {}", TWO_RELAYS.verdict(ratio)));
            format!("{ratio:.2}{}", verdict.unwrap_or_default())
        });
        text += &row(&one.way.name(), cells);
    }
    text
}

fn relay_cpu(results: &[Results]) -> String {
    let transfers = ["ssh cat", "sftp get", "sftp put"];
    let mut text = head("CPU seconds of the relay (of both) per GiB", transfers);
    for one in results.iter().filter(|one| one.cpu_of_each().all(|(_, spread)| spread.median.is_finite())) {
        let cells = one.cpu_of_each().map(|(_, spread)| {
            let verdict = one.way.cpu_goal().map(|goal| format!("; {}", goal.verdict(spread.median)));
            format!("{}{}", spread.text(2), verdict.unwrap_or_default())
        });
        text += &row(&one.way.name(), cells);
    }
    text
}

fn head<const N: usize>(title: &str, columns: [&str; N]) -> String {
    format!("| {title} | {} |\n| --- |{}\n", columns.join(" | "), " --- |".repeat(N))
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    format!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// Every figure of every round.
pub fn json(results: &[Results]) -> Value {
    let ways = results.iter().map(|one| {
        let measures = Measure::ALL.iter().zip(&one.figures).map(|(measure, figures)| {
            let values: Vec<_> = figures.iter().map(|figure| figure.value).collect();
            let relay_cpu: Vec<_> = figures.iter().filter_map(|figure| figure.relay_cpu).collect();
            json!({
                "measure": measure.name(),
                "figures": values,
                "ratio_goal": one.way.ratio_goal(*measure).map(Goal::value),
                "relay_cpu_seconds_per_gib": relay_cpu,
                "relay_cpu_goal": one.way.cpu_goal().filter(|_| measure.is_transfer()).map(Goal::value),
            })
        });
        json!({ "way": one.way.name(), "direct": one.way.direct().name(), "measures": measures.collect::<Vec<_>>() })
    });
    Value::Array(ways.collect())
}

#[cfg(test)]
mod tests {
    use super::{Figure, Results, Way, markdown};
    use crate::Carrier;

    fn results(way: Way, speed: f64, relay_cpu: Option<f64>) -> Results {
        let figures = [speed, speed, speed, 50.0].map(|value| vec![Figure { value, relay_cpu }]);
        Results { way, figures }
    }

    #[test]
    fn each_way_is_compared_with_the_direct_one_over_the_same_device() {
        let text = markdown(&[
            results(Way::Direct, 400.0, None),
            results(Way::OneRelay(Carrier::Quic), 300.0, Some(3.0)),
            results(Way::TwoRelays(Carrier::Quic), 270.0, Some(6.0)),
            results(Way::DirectSmallPackets, 200.0, None),
            results(Way::QuicSmallPackets, 160.0, Some(1.4)),
        ]);
        for expected in [
            "| converge, quic | 300 (300 to 300) 0.75x; goal 1: **missed** |",
            "| converge, quic, MTU 1500 | 160 (160 to 160) 0.80x; goal 0.75: met |",
            "| converge, quic | 0.90; goal 0.8: met |",
            "| converge, quic | 3.00 (3.00 to 3.00) |",
            "| converge, quic, MTU 1500 | 1.40 (1.40 to 1.40); goal 1.5: met |",
        ] {
            assert!(text.contains(expected), "{expected}\nis not in\n{text}");
        }
    }
}
