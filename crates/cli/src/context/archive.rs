//! Contexts as archives, in docker's layout: `meta.json` and `tls/docker/*.pem` in a tar.

use std::collections::BTreeMap;
use std::io::Read;

use crate::context::store::{PEM_LIMIT_BYTES, check_name};
use crate::context::{ContextStore, Stored};
use crate::error::{CliError, Result};

/// Returns a context as a tar.
pub fn export(store: &ContextStore, name: &str) -> Result<Vec<u8>> {
    let context = store.load(name)?;
    let meta = serde_json::to_vec(&context).map_err(|source| CliError::Decode {
        request: name.to_owned(),
        source,
    })?;
    let mut builder = tar::Builder::new(Vec::new());
    let fail = |error| CliError::io("cannot make the archive", error);
    append(&mut builder, "meta.json", &meta).map_err(fail)?;
    append_directory(&mut builder, "tls").map_err(fail)?;
    let files = store.tls_files(name)?;
    if !files.is_empty() {
        append_directory(&mut builder, "tls/docker").map_err(fail)?;
    }
    for (file, content) in files {
        append(&mut builder, &format!("tls/docker/{file}"), &content).map_err(fail)?;
    }
    builder.into_inner().map_err(fail)
}

/// Takes a context from a tar, under another name.
pub fn import(store: &ContextStore, name: &str, archive: &[u8]) -> Result<()> {
    check_name(name)?;
    if store.exists(name) {
        return Err(CliError::Plain(format!("context {name:?} already exists")));
    }
    let fail = |error| CliError::io("cannot read the archive", error);
    let mut context: Option<Stored> = None;
    let mut files = BTreeMap::new();
    let mut reader = tar::Archive::new(archive);
    for entry in reader.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut content = Vec::new();
        (&mut entry)
            .take(PEM_LIMIT_BYTES)
            .read_to_end(&mut content)
            .map_err(fail)?;
        match path.as_str() {
            "meta.json" => {
                let parsed = serde_json::from_slice(&content).map_err(|error| {
                    CliError::usage(format!("the archive's meta.json is not a context: {error}"))
                })?;
                context = Some(parsed);
            }
            other => {
                let file = other.strip_prefix("tls/docker/");
                let is_known = |file: &&str| matches!(*file, "ca.pem" | "cert.pem" | "key.pem");
                match file.filter(is_known) {
                    Some(file) => files.insert(file.to_owned(), content),
                    None => {
                        return Err(CliError::usage(format!(
                            "the archive holds {other:?}, which belongs to no context"
                        )));
                    }
                };
            }
        }
    }
    let Some(mut context) = context else {
        return Err(CliError::Plain(
            "invalid context: no meta.json found".to_owned(),
        ));
    };
    name.clone_into(&mut context.name);
    store.save_tls(name, &files)?;
    store.save(&context)
}

fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(if name == "meta.json" { 0o644 } else { 0o600 });
    header.set_entry_type(tar::EntryType::Regular);
    builder.append_data(&mut header, name, content)
}

fn append_directory(builder: &mut tar::Builder<Vec<u8>>, name: &str) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o700);
    header.set_entry_type(tar::EntryType::Directory);
    builder.append_data(&mut header, name, std::io::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_makes_the_same_context() {
        let directory = tempfile::tempdir().unwrap();
        let store = ContextStore::below(directory.path());
        let mut context = Stored {
            name: "one".into(),
            ..Stored::default()
        };
        context.set_description("d");
        store.save(&context).unwrap();
        let files = BTreeMap::from([("key.pem".to_owned(), b"k".to_vec())]);
        store.save_tls("one", &files).unwrap();
        let archive = export(&store, "one").unwrap();
        import(&store, "two", &archive).unwrap();
        assert_eq!(store.load("two").unwrap().description(), "d");
        assert_eq!(store.tls_files("two").unwrap(), files);
        assert!(
            import(&store, "two", &archive).is_err(),
            "the name is taken"
        );
    }
}
