//! The passes: what each sends. Their order is `dump`'s.

mod early;
mod image;
mod late;
mod meta;
mod walks;
