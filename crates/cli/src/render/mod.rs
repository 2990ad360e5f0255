//! Turning API objects into what people and scripts read: tables, templates, durations.

pub(crate) mod list;
pub mod ports;
pub(crate) mod table;
pub mod template;
pub mod text;
