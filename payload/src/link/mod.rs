//! Links: what the capture pipeline sends its frames over.

mod serial;

pub(crate) use serial::SerialLink;
