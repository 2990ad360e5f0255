//! `wharf system …`, `version`, `info`, `events`.

pub(crate) mod disk_usage;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod version;
