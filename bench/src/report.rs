//! The one line that a workload prints.

use serde_json::{Map, Value};

use crate::Mode;

/// Numbers by name, in the order in which they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    workload: &'static str,
    /// None when it says something about all of them.
    mode: Option<&'static str>,
    numbers: Vec<(String, f64)>,
}

impl Report {
    pub(crate) fn new(workload: &'static str, mode: Mode) -> Self {
        Self { workload, mode: Some(mode.name()), numbers: Vec::new() }
    }

    pub(crate) fn of_all_modes(workload: &'static str) -> Self {
        Self { workload, mode: None, numbers: Vec::new() }
    }

    pub(crate) fn set(&mut self, name: impl Into<String>, number: f64) -> &mut Self {
        self.numbers.push((name.into(), number));
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.numbers.iter().find(|it| it.0 == name).map(|it| it.1)
    }

    /// As [`Self::set`], when there is a number.
    pub(crate) fn set_if(&mut self, name: &'static str, number: Option<f64>) -> &mut Self {
        self.numbers.extend(number.map(|number| (name.to_owned(), number)));
        self
    }

    /// The median of every number over all rounds.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let mut median = rounds[0].clone();
        for (name, number) in &mut median.numbers {
            let mut all: Vec<f64> = rounds
                .iter()
                .flat_map(|round| round.numbers.iter().filter(|it| it.0 == *name).map(|it| it.1))
                .collect();
            *number = percentile(&mut all, 50.0).unwrap_or(*number);
        }
        median
    }

    pub(crate) fn line(&self) -> String {
        let mut line = Map::new();
        line.insert("workload".into(), self.workload.into());
        if let Some(mode) = self.mode {
            line.insert("mode".into(), mode.into());
        }
        for (name, number) in &self.numbers {
            line.insert(name.clone(), rounded(*number));
        }
        Value::Object(line).to_string()
    }
}

/// Four significant digits say all that a measurement knows; counts stay whole.
fn rounded(number: f64) -> Value {
    if number.fract() == 0.0 {
        return Value::from(number as i64);
    }
    let digits = 3 - number.abs().log10().floor() as i32;
    let scale = 10f64.powi(digits);
    let rounded = (number * scale).round() / scale;
    if rounded.fract() == 0.0 { Value::from(rounded as i64) } else { Value::from(rounded) }
}

/// The nearest-rank percentile; none of nothing.
pub(crate) fn percentile(numbers: &mut [f64], percent: f64) -> Option<f64> {
    numbers.sort_unstable_by(f64::total_cmp);
    let rank = (percent / 100.0 * numbers.len() as f64).ceil().max(1.0) as usize;
    numbers.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_holds_the_median_of_each_number() {
        let round = |steps_per_s: f64, peak: f64| {
            let mut report = Report::new("w1", Mode::Embedded);
            report.set("steps_per_s", steps_per_s).set("peak_mib", peak);
            report
        };
        let median = Report::median(&[round(12_345.678, 30.0), round(9_000.0, 10.0), round(20_000.0, 20.0)]);
        let expected = r#"{"workload":"w1","mode":"embedded","steps_per_s":12350,"peak_mib":20}"#;
        assert_eq!(median.line(), expected);
    }

    #[test]
    fn percentiles_are_numbers_that_were_measured() {
        let mut numbers: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut numbers, 50.0), Some(50.0));
        assert_eq!(percentile(&mut numbers, 99.0), Some(99.0));
        assert_eq!(percentile(&mut [7.0], 99.0), Some(7.0));
        assert_eq!(percentile(&mut [], 50.0), None);
    }
}
