//! The passes: what each sends. Their order is `dump`'s.

mod early;
mod late;
mod meta;
mod walks;
