//! Turning API objects into what people and scripts read: tables, templates, durations.

pub(crate) mod list;
pub(crate) mod ports;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod text;
