//! Vector files.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wharf_safefs::{FileType, trusted};

/// Largest vector file.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// One input and what the reference answers.
#[derive(Debug)]
pub struct Vector {
    /// Its name, unique among all files.
    pub id: String,
    /// What is asked; its members depend on the area.
    pub input: Value,
    /// What the reference answers; the member `error` holds its message where it refuses.
    pub expected: Value,
}

/// A vector file.
#[derive(Debug)]
pub struct Document {
    /// The area, which says what the vectors ask.
    pub area: String,
    /// The vectors, in the file's order.
    pub vectors: Vec<Vector>,
    /// The file's other members, such as `bases`.
    pub header: Value,
}

impl Document {
    /// Reads a vector file.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes =
            trusted::read_limited(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
        let mut header: Value = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let (Some(area), Value::Array(vectors)) = (
            header["area"].as_str().map(str::to_owned),
            header["vectors"].take(),
        ) else {
            return Err(format!("{}: no vector file", path.display()));
        };
        let vectors = vectors.into_iter().map(|mut vector| Vector {
            id: vector["id"].as_str().unwrap_or_default().to_owned(),
            input: vector["input"].take(),
            expected: vector["expected"].take(),
        });
        Ok(Self {
            area,
            vectors: vectors.collect(),
            header,
        })
    }
}

/// Returns all vector files below a directory, sorted by path; a file is returned as itself.
///
/// # Errors
/// Says which directory cannot be read.
pub fn find_documents(path: &Path) -> Result<Vec<PathBuf>, String> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in trusted::read_dir_sorted(path).map_err(|error| error.to_string())? {
        let inner = path.join(&entry.name);
        if entry.file_type == FileType::Directory {
            found.append(&mut find_documents(&inner)?);
        } else if inner
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            found.push(inner);
        }
    }
    Ok(found)
}
