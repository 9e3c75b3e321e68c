//! A file with scenarios: TOML, with what they have in common in `[defaults]`, and a `[[scenario]]` for each.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use toml::Table;

use super::scenario::Scenario;
use crate::outcome::{Error, IoContext, Result};

/// A scenario's own key is instead of these among the defaults: a suite's kernel has nothing of a user's own, nor the other
/// way round.
const INSTEAD: [(&str, &[&str]); 4] = [
    ("kernel", &["suite", "arch", "flavour"]),
    ("suite", &["kernel", "vmlinux", "headers", "modules"]),
    ("crash", &["crash-command"]),
    ("crash-command", &["crash"]),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    #[serde(default)]
    defaults: Table,
    scenario: Vec<Table>,
}

/// Reads the scenarios in the file at `path`. Relative paths are seen from its directory.
///
/// # Errors
/// [`Error::Malformed`] names the scenario that is not one, or the line.
pub fn read(path: &Path) -> Result<Vec<Scenario>> {
    let text = fs::read_to_string(path).on("read", path)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&text, directory).map_err(|reason| Error::malformed(path, reason))
}

fn parse(text: &str, directory: &Path) -> Result<Vec<Scenario>, String> {
    let matrix: Matrix = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut names = BTreeSet::new();
    matrix.scenario.into_iter().map(|own| scenario(&matrix.defaults, own, directory, &mut names)).collect()
}

fn scenario(
    defaults: &Table,
    own: Table,
    directory: &Path,
    names: &mut BTreeSet<String>,
) -> Result<Scenario, String> {
    let mut keys = defaults.clone();
    let replaced = INSTEAD.iter().filter(|(key, _)| own.contains_key(*key)).flat_map(|(_, others)| *others);
    for key in replaced {
        keys.remove(*key);
    }
    keys.extend(own);
    let name = keys.get("name").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
    let mut scenario: Scenario = keys.try_into().map_err(|error| format!("scenario {name:?}: {error}"))?;
    scenario.resolve(directory);
    if name.is_empty() {
        return Err("a scenario has no name".into());
    }
    scenario.check().map_err(|error| format!("scenario {error}"))?;
    if !names.insert(name.clone()) {
        return Err(format!("two scenarios are called {name:?}"));
    }
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Suite;
    use crate::run::{Link, Way};

    fn parse(text: &str) -> Result<Vec<Scenario>, String> {
        super::parse(text, Path::new("/matrix"))
    }

    #[test]
    fn a_scenario_has_what_it_says_and_else_the_defaults() {
        let text = "[defaults]\nsuite = 'bookworm'\nmemory = 1024\nlink = 'tcp'\n\
                    [[scenario]]\nname = 'a'\nmemory = 256\n[[scenario]]\nname = 'b'\nkernel = 'k/bzImage'\n";
        let scenarios = parse(text).unwrap();
        let [a, b] = scenarios.as_slice() else { panic!("{scenarios:?}") };
        assert_eq!((a.memory, a.suite, a.link), (256, Some(Suite::Bookworm), Link::Tcp));
        assert_eq!((b.memory, b.suite), (1024, None));
        assert_eq!(b.kernel.as_deref(), Some(Path::new("/matrix/k/bzImage")));
    }

    #[test]
    fn what_a_scenario_says_is_instead_of_defaults_that_do_not_go_with_it() {
        let text = "[defaults]\nkernel = 'bzImage'\nvmlinux = 'vmlinux'\nheaders = 'build'\ncrash = 'bug'\n\
                    [[scenario]]\nname = 'a'\n[[scenario]]\nname = 'b'\nsuite = 'sid'\ncrash-command = 'x'\n";
        let scenarios = parse(text).unwrap();
        let [a, b] = scenarios.as_slice() else { panic!("{scenarios:?}") };
        assert!(a.kernel.is_some() && a.vmlinux.is_some() && a.headers.is_some());
        assert!(b.kernel.is_none() && b.vmlinux.is_none() && b.headers.is_none());
        assert_eq!((a.crash, b.crash), (Way::Bug, Way::Sysrq));
    }

    #[test]
    fn a_mistake_is_told_with_the_scenario_it_is_in() {
        let named =
            |keys: &str| parse(&format!("[[scenario]]\nname = 'x'\nsuite = 'sid'\n{keys}\n")).unwrap_err();
        for (keys, word) in [
            ("memroy = 1", "memroy"),
            ("crash = 'gently'", "gently"),
            ("expect-log = ['(']", "x"),
            ("max-bytes = 'much'", "much"),
            ("[[scenario]]\nname = 'x'\nsuite = 'sid'", "two scenarios"),
            ("[[scenario]]\nsuite = 'sid'", "no name"),
        ] {
            let error = named(keys);
            assert!(error.contains(word), "{keys}: {error}");
        }
        assert!(parse("scenario = 3").is_err());
        assert!(parse("[[scenario]]\nname = 'x'").unwrap_err().contains("either a kernel or a suite"));
    }
}
