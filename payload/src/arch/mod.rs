//! What differs from one architecture to the next, under the same list of names:
//! `clock`, `encryption`, `exceptions`, `paging`, `power`, `NAME`.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub(crate) use self::x86_64::*;
