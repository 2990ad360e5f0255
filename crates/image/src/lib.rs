//! Names and documents of images: digests, references, platforms, configs, manifests.
//!
//! Pure: no I/O, no async. Everything here is either an identifier with a checked grammar or a
//! document whose bytes are hashed. Bytes that came from outside are never written anew: parse to
//! read, keep the bytes (spec image-store §1).

mod config;
mod cpu;
mod digest;
mod document;
mod glob;
mod go_json;
mod manifest;
pub mod media_type;
mod platform;
mod reference;
mod reference_grammar;

pub use config::{
    ContainerConfig, Empty, Healthcheck, HistoryEntry, ImageConfig, RootFs, string_or_list,
};
pub use digest::{ChainId, DiffId, Digest, DigestError, Hasher, ImageId, chain_ids};
pub use document::{Document, DocumentError};
pub use glob::Glob;
pub use manifest::{Descriptor, DescriptorPlatform, Index, Manifest};
pub use media_type::{LayerCompression, MediaType};
pub use platform::{Platform, PlatformError};
pub use reference::{AnyReference, DEFAULT_DOMAIN, Reference, ReferenceError, ReferenceParts};
