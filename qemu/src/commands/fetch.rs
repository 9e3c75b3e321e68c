//! `rcapture-qemu fetch`.

use clap::{Args, ValueEnum};
use rcapture_qemu::{Outcome, Suite};

use super::Store;

/// Fetch stock kernels and tools into the cache
///
/// What is in the cache already, whole, is not fetched again and needs no network. Every other
/// subcommand fetches what it needs by itself; this one prepares a machine that will be without network.
#[derive(Args)]
#[command(after_help = "Examples:
  rcapture-qemu fetch
  rcapture-qemu fetch --suite bookworm,trixie --with crash,vmlinux
  rcapture-qemu fetch --suite sid --refresh
  rcapture-qemu fetch --verify")]
pub(crate) struct Fetch {
    /// Suites whose stock kernel is wanted
    #[arg(long, value_delimiter = ',', default_value = "bookworm")]
    suite: Vec<Suite>,
    /// What else is wanted
    #[arg(long, value_delimiter = ',')]
    with: Vec<Extra>,
    /// Forget these suites' kernels and all tools first, to get the archive's current ones
    #[arg(long)]
    refresh: bool,
    /// Read everything in the cache again and compare it with its recorded digests
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    store: Store,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Extra {
    /// crash(8) 9 or later
    Crash,
    /// makedumpfile(8) 1.7.8 or later
    Makedumpfile,
    /// The kernels' debug information (some 300 MB each to download)
    Vmlinux,
}

impl Fetch {
    pub(crate) fn run(&self) -> anyhow::Result<Outcome> {
        let lab = self.store.open()?;
        if self.verify {
            for name in lab.verify()? {
                println!("{name}: unchanged");
            }
            return Ok(Outcome::Passed);
        }
        for &suite in &self.suite {
            if self.refresh {
                lab.forget(suite)?;
            }
            let kernel = lab.kernel(suite)?;
            println!("{suite}: {} ({}) {}", kernel.release, kernel.version, kernel.vmlinuz.display());
            if self.with.contains(&Extra::Vmlinux) {
                println!("{suite}: {}", lab.vmlinux(&kernel)?.display());
            }
        }
        println!("userland: {}", lab.userland()?.kexec.display());
        if self.with.contains(&Extra::Crash) {
            println!("crash: {}", lab.crash()?.version());
        }
        if self.with.contains(&Extra::Makedumpfile) {
            println!("makedumpfile: {}", lab.makedumpfile()?.version());
        }
        Ok(Outcome::Passed)
    }
}
