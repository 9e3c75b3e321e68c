//! Tables in a document, each between two marks, and the programs' output that they come from, which has the same marks.

use std::collections::BTreeMap;

/// The name in a line that begins a table.
fn begun(line: &str) -> Option<&str> {
    line.strip_prefix("<!-- begin ")?.strip_suffix(" -->")
}

fn is_end(line: &str, name: &str) -> bool {
    line.strip_prefix("<!-- end ").and_then(|rest| rest.strip_suffix(" -->")) == Some(name)
}

/// The programs that make the tables which a document has a place for. The table `PROGRAM.PART` is one of several of a program.
pub(super) fn programs(document: &str) -> Vec<&str> {
    let tables = document.lines().filter_map(begun);
    let mut programs: Vec<&str> =
        tables.map(|name| name.split_once('.').map_or(name, |(program, _)| program)).collect();
    programs.dedup();
    programs
}

/// Tables that were measured.
#[derive(Default)]
pub(super) struct Tables {
    /// The one whose end has not come yet.
    begun: Option<(String, String)>,
    whole: BTreeMap<String, String>,
}

impl Tables {
    /// Takes a line of output.
    pub(super) fn line(&mut self, line: &str) {
        if let Some(name) = begun(line) {
            self.begun = Some((name.to_owned(), String::new()));
        } else if let Some((name, table)) = self.begun.take_if(|(name, _)| is_end(line, name)) {
            self.whole.insert(name, table);
        } else if let Some((_, table)) = &mut self.begun {
            table.push_str(line);
            table.push('\n');
        }
    }

    /// The document with these tables, each with the line `machine`, and what else it had.
    pub(super) fn put_into(&self, document: &str, machine: &str) -> String {
        let mut new = String::new();
        let mut replaced = None;
        for line in document.lines() {
            if replaced.is_some_and(|name| is_end(line, name)) {
                replaced = None;
            }
            if replaced.is_none() {
                new.push_str(line);
                new.push('\n');
            }
            if let Some(name) = begun(line)
                && let Some(table) = self.whole.get(name)
            {
                new.push_str(&format!("{table}\n{machine}\n"));
                replaced = Some(name);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "Text.\n<!-- begin one -->\nold 1\n<!-- end one -->\nMore.\n\
        <!-- begin two -->\nold 2\n<!-- end two -->\nThe end.\n";

    fn tables(output: &str) -> Tables {
        let mut tables = Tables::default();
        output.lines().for_each(|line| tables.line(line));
        tables
    }

    #[test]
    fn a_table_takes_its_own_place_and_no_other() {
        let output = "Running…\n<!-- begin two -->\n| new |\n<!-- end two -->\ndone\n";
        let expected = DOCUMENT.replace("old 2\n", "| new |\n\nA machine.\n");
        assert_eq!(tables(output).put_into(DOCUMENT, "A machine."), expected);
        // As often as it is measured.
        assert_eq!(tables(output).put_into(&expected, "A machine."), expected);
    }

    #[test]
    fn a_table_that_did_not_come_whole_leaves_the_old_one() {
        let output = "<!-- begin one -->\n| new |\nthread 'main' panicked\n";
        assert_eq!(tables(output).put_into(DOCUMENT, "A machine."), DOCUMENT);
    }

    #[test]
    fn programs_are_known_by_the_places_of_their_tables() {
        assert_eq!(programs(DOCUMENT), ["one", "two"]);
        assert_eq!(
            programs("<!-- begin one.a -->\n<!-- begin one.b -->\n<!-- begin two -->"),
            ["one", "two"]
        );
    }
}
