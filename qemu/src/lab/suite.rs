//! The Debian suites whose stock kernels the lab crashes.

use std::fmt;
use std::str::FromStr;

/// A suite of Debian's archive, named after the kernel series it carried when this was written.
///
/// Suites move: what was really fetched is in [`Kernel::release`](super::Kernel::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Debian 11, Linux 5.10.
    Bullseye,
    /// Debian 12, Linux 6.1.
    Bookworm,
    /// Debian 13, Linux 6.12.
    Trixie,
    /// Unstable, Linux 7.2 and later.
    Sid,
}

impl Suite {
    /// Every suite, oldest kernel first.
    pub const ALL: [Self; 4] = [Self::Bullseye, Self::Bookworm, Self::Trixie, Self::Sid];

    /// The suite's name in the archive.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|suite| suite.name() == name)
            .ok_or_else(|| format!("no suite {name:?}: bullseye, bookworm, trixie or sid"))
    }
}
