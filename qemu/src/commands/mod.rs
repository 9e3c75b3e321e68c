//! The subcommands.

pub(crate) mod boot;
pub(crate) mod ether;
pub(crate) mod fetch;
pub(crate) mod line;
pub(crate) mod run;

use clap::Args;
use clap::error::ErrorKind;
use rcapture_qemu::{Arch, Flavour, Lab, Mirror};

/// Where things come from, and where they are kept.
#[derive(Args)]
pub(crate) struct Store {
    /// Debian mirror to fetch from [default: the one in this system's apt sources]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Directory fetched things are kept in [default: $XDG_CACHE_HOME/rcapture]
    #[arg(long, value_name = "DIRECTORY")]
    cache: Option<std::path::PathBuf>,
    /// What the machines are
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// Which of a suite's kernels for it
    #[arg(long, value_enum, default_value_t = Flavour::Usual)]
    flavour: Flavour,
}

impl Store {
    pub(crate) fn open(&self) -> rcapture_qemu::Result<Lab> {
        let lab = match &self.cache {
            Some(cache) => Lab::open_at(std::path::absolute(cache).unwrap_or_else(|_| cache.clone())),
            None => Lab::open()?,
        };
        let lab = lab.for_arch(self.arch).with_flavour(self.flavour);
        Ok(match &self.mirror {
            Some(url) => lab.with_mirror(Mirror::at(url)),
            None => lab,
        })
    }
}

/// Ends the program as it ends when its arguments are wrong, which some can be told to be only by a second look.
pub(crate) fn wrong_usage(error: &anyhow::Error) -> ! {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")).exit()
}
