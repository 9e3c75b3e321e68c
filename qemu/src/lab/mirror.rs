//! Where Debian's archive is: what this system's own apt sources say, or what the user names.

use std::fs;
use std::path::{Path, PathBuf};

use crate::outcome::{Error, Result};

/// A mirror of Debian's archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Its address, as apt writes it.
    pub url: String,
    /// The keys its releases are signed with; `None`: apt's own trusted keys.
    pub signed_by: Option<PathBuf>,
}

/// Debian's archive keys, where the package debian-archive-keyring puts them.
const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Mirror {
    /// The mirror at `url`, trusted by Debian's archive keys.
    pub fn at(url: impl Into<String>) -> Self {
        let keyring = PathBuf::from(ARCHIVE_KEYRING);
        Self { url: url.into(), signed_by: keyring.exists().then_some(keyring) }
    }

    /// The mirror this system takes its packages from.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] if the system has no source of Debian's main archive.
    pub fn of_system() -> Result<Self> {
        Self::in_directory(Path::new("/etc/apt"))
    }

    fn in_directory(apt: &Path) -> Result<Self> {
        let mut files = vec![apt.join("sources.list")];
        let mut parts: Vec<PathBuf> = fs::read_dir(apt.join("sources.list.d"))
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        parts.sort();
        files.extend(parts);
        files
            .iter()
            .filter_map(|file| {
                let text = fs::read_to_string(file).ok()?;
                match file.extension()?.to_str()? {
                    "list" => one_line_sources(&text),
                    "sources" => deb822_sources(&text),
                    _ => None,
                }
            })
            .next()
            .map(|url| Self::at(url.trim_end_matches('/')))
            .ok_or_else(|| {
                Error::missing(
                    "a Debian mirror",
                    format!("no source of Debian's main archive in {}", apt.display()),
                    "name one with --mirror URL",
                )
            })
    }
}

/// Whether a source with this suite is Debian's main archive (not its security or a third party's).
fn is_main_archive(suite: &str, components: &[&str]) -> bool {
    const SUITES: [&str; 9] =
        ["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];
    SUITES.contains(&suite) && components.contains(&"main")
}

/// `deb [options] URL suite component…`, sources.list(5), one-line style.
fn one_line_sources(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let (url, suite) = (words.next()?, words.next()?);
        let components: Vec<&str> = words.collect();
        is_main_archive(suite, &components).then(|| url.to_owned())
    })
}

/// Stanzas of `Field: values`, sources.list(5), deb822 style.
fn deb822_sources(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let field = |name: &str| -> Vec<&str> {
            stanza
                .iter()
                .filter_map(|line| line.split_once(':'))
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .flat_map(|(_, values)| values.split_whitespace())
                .collect()
        };
        let enabled = !field("Enabled").iter().any(|value| value.eq_ignore_ascii_case("no"));
        let components = field("Components");
        let ours = field("Types").contains(&"deb")
            && field("Suites").iter().any(|suite| is_main_archive(suite, &components));
        (enabled && ours).then(|| field("URIs").first().map(|url| (*url).to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_found_in_one_line_sources() {
        let text = "# a comment\ndeb-src http://m.example/debian bookworm main\n\
                    deb http://s.example/debian-security bookworm-security main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian bookworm main contrib\n";
        assert_eq!(one_line_sources(text).as_deref(), Some("http://m.example/debian"));
    }

    #[test]
    fn the_main_archive_is_found_in_deb822_sources() {
        let text = "Types: deb\nURIs: http://s.example/sec\nSuites: bookworm-security\nComponents: main\n\n\
                    Types: deb\n# a comment inside\nURIs: http://m.example/debian/\n\
                    Suites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(deb822_sources(text).as_deref(), Some("http://m.example/debian/"));
    }

    #[test]
    fn disabled_and_foreign_sources_are_not_taken() {
        let text = "Enabled: no\nTypes: deb\nURIs: http://m.example/debian\nSuites: sid\nComponents: main\n\n\
                    Types: deb\nURIs: http://node.example/\nSuites: nodistro\nComponents: main\n";
        assert_eq!(deb822_sources(text), None);
        assert_eq!(one_line_sources("deb http://x.example/ubuntu noble main"), None);
    }

    #[test]
    fn a_system_without_debian_sources_is_told_about_mirror() {
        let empty = tempfile::tempdir().unwrap();
        let error = Mirror::in_directory(empty.path()).unwrap_err().to_string();
        assert!(error.contains("--mirror"), "{error}");
    }
}
