//! What the fuzz targets reach: no part of the interface.

use crate::cache_config::CacheConfig;

/// A cache config as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfigRead {
    /// How many layers it has.
    pub layers: usize,
    /// The layers of each record, lowest first; nothing where they make no sense.
    pub chains: Vec<Option<Vec<usize>>>,
    /// The document, written again.
    pub written: Vec<u8>,
}

/// Reads a cache config; `None` where it is none. Of many records only the chains of the first `records` are told.
pub fn read_cache_config(bytes: &[u8], records: usize) -> Option<CacheConfigRead> {
    let document = CacheConfig::parse(bytes).ok()?;
    let asked = document.records.iter().take(records);
    Some(CacheConfigRead {
        layers: document.layers.len(),
        chains: asked.map(|record| document.chain(record)).collect(),
        written: document.to_bytes(),
    })
}
