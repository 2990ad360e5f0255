//! Turning API objects into what people and scripts read: tables, templates, durations.

pub(crate) mod list;
pub mod ports;
pub(crate) mod table;
pub mod text;

pub use wharf_template as template;

impl From<wharf_template::FormatError> for crate::error::CliError {
    fn from(error: wharf_template::FormatError) -> Self {
        Self::Template(error.to_string())
    }
}
