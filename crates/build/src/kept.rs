//! Contents of small files, kept in memory from the moment they are hashed for a step's key until the step copies them:
//! what was hashed is what is stored, and nothing is read twice.

use std::sync::atomic::{AtomicU64, Ordering};

/// Files up to this size are kept.
pub(crate) const MAX_KEPT_FILE_BYTES: u64 = 16 << 10;
/// Most bytes that all builds keep together; what is beyond is read again.
const MAX_KEPT_BYTES: u64 = 64 << 20;
/// What keeping a file takes besides its content.
const OVERHEAD_BYTES: u64 = 64;

static KEPT_BYTES: AtomicU64 = AtomicU64::new(0);

/// The content of one file.
#[derive(Debug)]
pub(crate) struct KeptFile(Box<[u8]>);

impl KeptFile {
    /// Keeps a content; nothing where too much is kept already.
    pub fn new(content: &[u8]) -> Option<Self> {
        let cost = cost_of(content);
        let taken = KEPT_BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
            let sum = kept + cost;
            (sum <= MAX_KEPT_BYTES).then_some(sum)
        });
        taken.ok().map(|_| Self(content.into()))
    }

    /// Returns the content.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        KEPT_BYTES.fetch_sub(cost_of(&self.0), Ordering::Relaxed);
    }
}

fn cost_of(content: &[u8]) -> u64 {
    content.len() as u64 + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::{KeptFile, MAX_KEPT_BYTES, MAX_KEPT_FILE_BYTES, cost_of};

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let content = vec![1; MAX_KEPT_FILE_BYTES as usize];
        let most = MAX_KEPT_BYTES / cost_of(&content);
        let mut kept: Vec<KeptFile> = Vec::new();
        while let Some(file) = KeptFile::new(&content) {
            assert_eq!(file.bytes(), content);
            kept.push(file);
        }
        // Other tests keep files, too.
        assert!(kept.len() as u64 <= most && !kept.is_empty());
        kept.truncate(kept.len() - 1);
        assert!(KeptFile::new(&content[1..]).is_some());
    }
}
