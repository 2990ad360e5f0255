//! Limits on what is stored; each has a test at the limit and one past it.

/// Most bytes of an image config: as much as a registry accepts of a manifest twice over.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// Most bytes of a manifest or an index (a registry accepts 4 MiB; OCI distribution, "pushing manifests").
pub const MAX_MANIFEST_BYTES: u64 = 8 << 20;
/// Most layers of one image or container: overlayfs takes at most 500 (kernel, `ovl_entry.h`, `OVL_MAX_STACK`).
pub const MAX_LAYERS: usize = 500;
/// Most bytes of a container's or any other JSON document.
pub const MAX_DOCUMENT_BYTES: u64 = 16 << 20;
/// Most characters of a container's, volume's or document's name.
pub const MAX_NAME_CHARS: usize = 255;
/// Most bytes of a setting's value.
pub const MAX_SETTING_BYTES: u64 = 64 << 10;
/// Most bytes of all implied directories' or pending links' paths of one layer.
pub const MAX_LAYER_PATHS_BYTES: u64 = 64 << 20;
/// Most bytes of a layer's recipe on disk: several parts, each within the layer room's limit.
pub const MAX_RECIPE_BYTES: u64 = 4 * wharf_layer::MAX_RECIPE_BYTES;
/// Most bytes of the list of what a layer's files hold.
pub const MAX_CONTENTS_BYTES: u64 = 512 << 20;
/// Fewest hexadecimal characters that are looked up as the start of an ID.
pub const MIN_PREFIX_CHARS: usize = 1;
