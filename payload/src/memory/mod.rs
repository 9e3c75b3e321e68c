//! The image's own memory, and its view of the crashed machine's.

pub(crate) mod heap;
pub(crate) mod layout;
pub(crate) mod paging;
pub(crate) mod window;
