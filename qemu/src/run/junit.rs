//! What came of a matrix, for CI: JUnit's XML, as Jenkins, GitLab and others read it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::report::Report;
use super::setup::SERIAL_LOG;
use crate::outcome::Outcome;

const SUITE: &str = "rcapture";
/// So much of the end of a console's text is shown.
const SHOWN_BYTES: usize = 8 << 10;

/// The document: a test case for each scenario. What failed is a failure; what could not be tried because of the machine
/// or its tools an error; what the kernel cannot do was skipped.
pub(super) fn document(reports: &[Report]) -> io::Result<String> {
    let count =
        |element| reports.iter().filter(|report| end(report.outcome) == Some(element)).count().to_string();
    let time = seconds(reports.iter().map(|report| report.times.total()).sum());
    let (tests, failures, errors) = (reports.len().to_string(), count("failure"), count("error"));
    let numbers = [("tests", &*tests), ("failures", &*failures), ("errors", &*errors), ("time", &*time)];
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let root = writer.create_element("testsuites").with_attribute(("name", SUITE)).with_attributes(numbers);
    root.write_inner_content(|writer| {
        let suite =
            writer.create_element("testsuite").with_attribute(("name", SUITE)).with_attributes(numbers);
        suite
            .with_attribute(("skipped", &*count("skipped")))
            .write_inner_content(|writer| reports.iter().try_for_each(|report| case(writer, report)))
            .map(drop)
    })?;
    let mut bytes = writer.into_inner();
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// The element that says how it ended, if it did not pass.
const fn end(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Passed => None,
        Outcome::Failed => Some("failure"),
        Outcome::MachineLost | Outcome::ToolMissing => Some("error"),
        Outcome::NotSupported => Some("skipped"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

fn case(writer: &mut Writer<Vec<u8>>, report: &Report) -> io::Result<()> {
    let class = format!("{SUITE}.{}", report.arch.unwrap_or("unknown"));
    let case = writer.create_element("testcase").with_attributes([
        ("name", &*report.name),
        ("classname", &*class),
        ("time", &*seconds(report.times.total())),
    ]);
    case.write_inner_content(|writer| {
        if let Some(element) = end(report.outcome) {
            let reason = text(report.reason.as_deref().unwrap_or_default());
            let attributes = [("type", &*report.outcome.to_string()), ("message", &*reason)];
            writer.create_element(element).with_attributes(attributes).write_empty()?;
        }
        writer.create_element("system-out").write_text_content(BytesText::new(&said(report))).map(drop)
    })
    .map(drop)
}

/// What was checked, where the files are and, unless it passed, what the console said last.
fn said(report: &Report) -> String {
    let checks = report.checks.iter().map(|check| {
        format!("{} {}: {}\n", if check.passed { "met:" } else { "NOT MET:" }, check.name, check.said)
    });
    let mut said: String = checks.collect();
    said.push_str(&format!("files: {}\n", report.directory.display()));
    if report.outcome != Outcome::Passed {
        said.push_str(&last_of(&report.directory.join(SERIAL_LOG)));
    }
    text(&said)
}

/// Without the characters that no XML document may have, nor others that are not to be seen (XML 1.0, 2.2).
fn text(any: &str) -> String {
    any.chars()
        .filter(|it| matches!(it, '\n' | '\t') || !it.is_control() && !matches!(it, '\u{fffe}' | '\u{ffff}'))
        .collect()
}

/// The end of a console's log, without what is not text.
fn last_of(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let end = bytes.get(bytes.len().saturating_sub(SHOWN_BYTES)..).unwrap_or_default();
    let is_text = |it: &char| matches!(it, '\n' | '\t' | ' '..='~');
    String::from_utf8_lossy(end).chars().filter(is_text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Check, Scenario};

    fn report(name: &str, outcome: Outcome, reason: &str) -> Report {
        let scenario = Scenario { name: name.into(), ..Scenario::default() };
        let mut report = Report::not_run(&scenario, Path::new("x"));
        report.outcome = outcome;
        report.reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
        report.times.boot = Some(Duration::from_millis(1500));
        report
    }

    /// What the schema of the Jenkins xUnit plugin (junit-10.xsd) asks for, of what we write.
    fn validate(text: &str) {
        let document = roxmltree::Document::parse(text).unwrap();
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "testsuites");
        let number = |node: roxmltree::Node<'_, '_>, name: &str| {
            let text = node.attribute(name).unwrap_or_else(|| panic!("no {name}: {node:?}"));
            assert!(text.parse::<f64>().unwrap() >= 0.0, "{name}={text}");
            text.to_owned()
        };
        let elements = |node: roxmltree::Node<'_, '_>| -> Vec<String> {
            node.children().filter(|it| it.is_element()).map(|it| it.tag_name().name().to_owned()).collect()
        };
        let allowed = |node: roxmltree::Node<'_, '_>, names: &[&str]| {
            for attribute in node.attributes() {
                assert!(
                    names.contains(&attribute.name()),
                    "{} in {}",
                    attribute.name(),
                    node.tag_name().name()
                );
            }
        };
        allowed(root, &["name", "time", "tests", "failures", "errors"]);
        for suite in root.children().filter(|it| it.is_element()) {
            assert_eq!(suite.tag_name().name(), "testsuite");
            allowed(suite, &["name", "tests", "failures", "errors", "time", "skipped"]);
            assert!(suite.attribute("name").is_some());
            let cases: Vec<_> = suite.children().filter(|it| it.is_element()).collect();
            assert_eq!(number(suite, "tests"), cases.len().to_string());
            let count =
                |name: &str| cases.iter().filter(|case| elements(**case).iter().any(|it| it == name)).count();
            assert_eq!(number(suite, "skipped"), count("skipped").to_string());
            for (attribute, element) in [("failures", "failure"), ("errors", "error")] {
                assert_eq!(number(suite, attribute), count(element).to_string());
                assert_eq!(number(root, attribute), count(element).to_string());
            }
            for case in &cases {
                assert_eq!(case.tag_name().name(), "testcase");
                allowed(*case, &["name", "classname", "time"]);
                assert!(case.attribute("name").is_some() && case.attribute("classname").is_some());
                let _ = number(*case, "time");
                for element in case.children().filter(|it| it.is_element()) {
                    match element.tag_name().name() {
                        "failure" | "error" | "skipped" => allowed(element, &["message", "type"]),
                        "system-out" | "system-err" => allowed(element, &[]),
                        other => panic!("{other} in a testcase"),
                    }
                }
            }
        }
    }

    #[test]
    fn every_end_is_what_ci_takes_it_for() {
        let mut failed = report("b", Outcome::Failed, "log: <no> \"match\" & \u{1b}[0m \u{0}");
        failed.checks.push(Check { name: "log", passed: false, said: "]]> & \u{8}".into() });
        let reports = [
            report("a", Outcome::Passed, ""),
            failed,
            report("c", Outcome::MachineLost, "it hangs"),
            report("d", Outcome::ToolMissing, "no QEMU"),
            report("e", Outcome::NotSupported, "no kexec"),
        ];
        let text = document(&reports).unwrap();
        validate(&text);
        let document = roxmltree::Document::parse(&text).unwrap();
        let of = |name: &str| {
            let cases = document.descendants().filter(|it| it.has_tag_name("testcase"));
            let case = cases.into_iter().find(|case| case.attribute("name") == Some(name)).unwrap();
            let ends = case.children().filter(|it| it.is_element() && !it.has_tag_name("system-out"));
            ends.map(|it| (it.tag_name().name().to_owned(), it.attribute("message").unwrap_or("").to_owned()))
                .next()
        };
        assert_eq!(of("a"), None);
        assert_eq!(of("b").unwrap().0, "failure");
        assert!(of("b").unwrap().1.contains("<no> \"match\" &"));
        assert_eq!(of("c"), Some(("error".into(), "it hangs".into())));
        assert_eq!(of("d"), Some(("error".into(), "no QEMU".into())));
        assert_eq!(of("e"), Some(("skipped".into(), "no kexec".into())));
    }

    #[test]
    fn a_console_full_of_frames_is_shown_as_its_text() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join(SERIAL_LOG);
        let bytes: Vec<u8> = (0..=255).cycle().take(40_000).chain(*b"last words\n").collect();
        fs::write(&log, bytes).unwrap();
        let shown = last_of(&log);
        assert!(shown.ends_with("last words\n") && shown.len() < SHOWN_BYTES, "{}", shown.len());
        assert_eq!(last_of(Path::new("/nonexistent")), "");
    }
}
