//! The data root: blobs, layers, images, names, containers, volumes, build cache records and garbage.
//!
//! The only room that writes below the data root (design §3). Everything is published by rename and then
//! by a row; an image is durable, with all it needs, before its row is; what nothing owns is swept.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::disallowed_methods))]

mod blobs;
mod build_area;
mod cache;
mod containers;
mod db;
mod deletion;
mod documents;
mod error;
mod family;
mod image_rows;
mod images;
mod layers;
mod layout;
mod leases;
pub mod limits;
mod lock_file;
mod names;
mod owners;
mod placed;
mod recovery;
mod seal;
mod staging;
mod store;
mod sweep;
mod tars;
#[cfg(test)]
mod tests;
mod usage;
mod variants;
mod volumes;
mod worker;

pub use blobs::BlobWriter;
pub use build_area::BuildPart;
pub use cache::CacheRecord;
pub use containers::ContainerRow;
pub use error::{Kind, Result, StoreError};
pub use images::{Image, NewImage};
pub use layers::{Applied, Layer, LayerBlob, LayerSummary, Linked, NewLayer, Recipe};
pub use leases::Lease;
pub use owners::LayerOwners;
pub use placed::PlacedLayer;
pub use recovery::OpenReport;
pub use staging::Staging;
pub use store::Store;
pub use sweep::SweepReport;
pub use usage::{CacheUsage, DiskUsage, ImageUsage};
pub use volumes::{NewVolume, Volume};
