//! Which of a suite's kernels for an architecture.

use crate::arch::Arch;

/// Debian builds more than one kernel for an architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// The one for virtual machines; of 32-bit Arm, which has none, the one for everything.
    #[default]
    Usual,
    /// Of 32-bit Arm: with page tables that reach beyond 4 GiB.
    Lpae,
    /// The one for everything, where there is one for virtual machines, too.
    Generic,
    /// With PREEMPT_RT.
    Rt,
}

impl Flavour {
    /// Every one.
    pub(crate) const ALL: [Self; 4] = [Self::Usual, Self::Lpae, Self::Generic, Self::Rt];

    /// The end of its packages' names, if there is such a kernel.
    pub(crate) const fn debian(self, arch: Arch) -> Option<&'static str> {
        match (self, arch) {
            (Self::Usual, Arch::X86_64) => Some("cloud-amd64"),
            (Self::Usual, Arch::Aarch64) => Some("cloud-arm64"),
            (Self::Usual, Arch::Arm) => Some("armmp"),
            (Self::Lpae, Arch::Arm) => Some("armmp-lpae"),
            (Self::Generic, Arch::X86_64) => Some("amd64"),
            (Self::Generic, Arch::Aarch64) => Some("arm64"),
            (Self::Rt, Arch::X86_64) => Some("rt-amd64"),
            (Self::Rt, Arch::Aarch64) => Some("rt-arm64"),
            (Self::Rt, Arch::Arm) => Some("rt-armmp"),
            (Self::Lpae, _) | (Self::Generic, Arch::Arm) => None,
        }
    }

    /// What is added to an asset's name.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Lpae => "-lpae",
            Self::Generic => "-generic",
            Self::Rt => "-rt",
        }
    }
}
