//! What came of a matrix, for people.

use std::fmt::Write as _;

use super::report::Report;
use super::scenario::Bytes;

/// A line for each scenario: name, outcome, seconds, bytes on the wire, and the reason if it did not simply pass.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let head = ["scenario", "outcome", "seconds", "wire", "why"].map(str::to_owned);
    let rows: Vec<[String; 5]> = [head].into_iter().chain(reports.iter().map(row)).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let [name, outcome, seconds, bytes] = [0, 1, 2, 3].map(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for [a, b, c, d, why] in &rows {
        let line = format!("{a:<name$}  {b:<outcome$}  {c:>seconds$}  {d:>bytes$}  {why}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn row(report: &Report) -> [String; 5] {
    [
        report.name.clone(),
        report.outcome.to_string(),
        format!("{:.1}", report.times.total().as_secs_f64()),
        report.bytes.map(|bytes| Bytes(bytes).to_string()).unwrap_or_default(),
        report.reason.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::outcome::Outcome;
    use crate::run::Scenario;

    #[test]
    fn columns_stand_below_each_other() {
        let scenario = Scenario { name: "a-long-name".into(), ..Scenario::default() };
        let failed = Report::not_run(&scenario, Path::new("x"));
        let passed = Report {
            name: "b".into(),
            outcome: Outcome::Passed,
            bytes: Some(5),
            reason: None,
            ..failed.clone()
        };
        assert_eq!(
            table(&[failed, passed]),
            "scenario     outcome  seconds  wire  why\n\
             a-long-name  failed       0.0        interrupted before it began\n\
             b            passed       0.0   5 B\n"
        );
    }
}
