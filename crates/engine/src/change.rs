//! Dockerfile instructions on a config: `commit --change`, `import --change`.

use crate::error::{EngineError, Result};
use wharf_image::ContainerConfig;

/// Applies one instruction.
///
/// # Errors
/// Instructions that change more than the config, and malformed ones.
pub(crate) fn apply(config: &mut ContainerConfig, text: &str) -> Result<()> {
    wharf_build::apply_change(config, text).map_err(|e| EngineError::invalid(e.to_string()))
}
