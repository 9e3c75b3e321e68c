//! What the lab needs of this project itself: the program `rcapture` and the capture images.

use std::env;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::arch::Arch;
use crate::outcome::{Error, IoContext, Result};

/// Names the program `rcapture`, should it be neither beside the running one nor in PATH.
const RCAPTURE_VARIABLE: &str = "RCAPTURE";

/// The program `rcapture`: what the variable names, else the one beside the running program (or, as for tests, a directory
/// above), else the one in PATH.
///
/// # Errors
/// [`Error::ToolMissing`] if it is in none of these places.
pub fn rcapture() -> Result<PathBuf> {
    if let Some(named) = env::var_os(RCAPTURE_VARIABLE) {
        return Ok(named.into());
    }
    let running = env::current_exe().on("find", "the running program")?;
    let beside = running.ancestors().skip(1).take(2).map(Path::to_owned);
    let path = env::var_os("PATH").unwrap_or_default();
    let places = beside.chain(env::split_paths(&path)).map(|directory| directory.join("rcapture"));
    places.into_iter().find(|program| program.is_file()).ok_or_else(|| {
        Error::missing(
            "rcapture",
            "neither beside this program nor in PATH",
            format!("cargo install --path hosttools, or name it in {RCAPTURE_VARIABLE}"),
        )
    })
}

/// The capture image for `arch`: below the current directory, or below one that the running program is in, where
/// `cargo xtask image` or an installation put it.
///
/// # Errors
/// [`Error::ToolMissing`] if there is none.
pub fn capture_image(arch: Arch) -> Result<PathBuf> {
    let running = env::current_exe().on("find", "the running program")?;
    let roots = [Path::new("")].into_iter().chain(running.ancestors().skip(1));
    let places = roots.flat_map(|root| ["dist", "share/rcapture"].map(|place| root.join(place)));
    places.map(|place| place.join(arch.name()).join("rcapture.bin")).find(|image| image.is_file()).ok_or_else(
        || {
            let what = format!("a capture image for {}", arch.name());
            let reason = format!("there is no dist/{}/rcapture.bin", arch.name());
            Error::missing(what, reason, "`cargo xtask image` builds it, or name one with --image")
        },
    )
}

/// A TCP port of the local host that was free a moment ago.
///
/// # Errors
/// If the system has none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").on("listen on", "the local host")?;
    Ok(listener.local_addr().on("listen on", "the local host")?.port())
}
