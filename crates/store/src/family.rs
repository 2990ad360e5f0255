//! Layers that have files in common, and whose bytes those are.
//!
//! A layer may hold files of an earlier one by a second name; both are of one family then. On disk such a file is
//! there once, so its bytes count once: for the newest layer of the family that has it, because older ones go first.
//! What a layer's row says is then what comes free with it, and the rows add up to what `du` says.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction};
use wharf_safefs::trusted::{self, NamedFile};

use crate::db::{Database, Durability, sql_size};
use crate::error::{Kind, Result, StoreError};
use crate::layers::Linked;
use crate::layout::Layout;

/// How often a layer is measured again because its family changed meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// Puts a new layer into the family of the one that it has files of.
pub(crate) fn join(transaction: &Transaction<'_>, number: i64, linked: &Linked) -> Result<()> {
    let (base, family, disk_bytes): (i64, i64, Option<i64>) = transaction
        .prepare_cached(
            "SELECT number, coalesce(family, number), disk_bytes FROM layers WHERE diff_id = ?1",
        )?
        .query_row([linked.diff_id.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?
        .ok_or_else(|| StoreError::not_found(Kind::Layer, linked.diff_id))?;
    let is_newest = !transaction
        .prepare_cached("SELECT 1 FROM layers WHERE family = ?1 AND number > ?2")?
        .exists((family, base))?;
    transaction
        .prepare_cached("UPDATE layers SET family = ?1 WHERE number IN (?2, ?3)")?
        .execute((family, base, number))?;
    match disk_bytes {
        // All that is common now counted for the earlier layer until now.
        Some(before) if is_newest => {
            let left = before.saturating_sub(sql_size(linked.disk_bytes)).max(0);
            transaction
                .prepare_cached("UPDATE layers SET disk_bytes = ?2 WHERE number = ?1")?
                .execute((base, left))?;
        }
        _ => {
            transaction
                .prepare_cached(
                    "UPDATE layers SET disk_bytes = NULL WHERE family = ?1 AND number < ?2",
                )?
                .execute((family, number))?;
        }
    }
    Ok(())
}

/// Notes that a layer leaves its family; returns the layers that are to be measured again.
pub(crate) fn leave(transaction: &Transaction<'_>, family: i64, number: i64) -> Result<Vec<i64>> {
    transaction
        .prepare_cached("UPDATE layers SET disk_bytes = NULL WHERE family = ?1 AND number < ?2")?
        .execute((family, number))?;
    let mut statement = transaction
        .prepare_cached("SELECT number FROM layers WHERE family = ?1 AND number < ?2")?;
    let older = statement.query_map((family, number), |row| row.get(0))?;
    Ok(older.collect::<rusqlite::Result<_>>()?)
}

/// What a family looks like at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Members {
    family: Option<i64>,
    /// Numbers of the layers that are newer than the measured one.
    newer: Vec<i64>,
}

/// Counts a layer's own blocks and writes them into its row.
pub(crate) fn measure(database: &Database, layout: &Layout, number: i64) -> Result<u64> {
    for _ in 0..MAX_ATTEMPTS {
        let members = database.read("look up a layer's family", |connection| {
            members(connection, number)
        })?;
        let disk_bytes = own_bytes(layout, number, &members)?;
        let is_written =
            database.write(Durability::Process, "write a layer's size", |transaction| {
                if self::members(transaction, number)? != members {
                    return Ok(false);
                }
                transaction
                    .prepare_cached("UPDATE layers SET disk_bytes = ?2 WHERE number = ?1")?
                    .execute((number, sql_size(disk_bytes)))?;
                Ok(true)
            })?;
        if is_written {
            return Ok(disk_bytes);
        }
    }
    // A family that grows this fast is measured when somebody asks.
    Ok(0)
}

fn members(connection: &Connection, number: i64) -> Result<Members> {
    let family: Option<Option<i64>> = connection
        .prepare_cached("SELECT family FROM layers WHERE number = ?1")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    let family = family.flatten();
    let mut statement = connection.prepare_cached(
        "SELECT number FROM layers WHERE family = ?1 AND number > ?2 ORDER BY number",
    )?;
    let newer = statement.query_map((family, number), |row| row.get(0))?;
    Ok(Members {
        family,
        newer: newer.collect::<rusqlite::Result<_>>()?,
    })
}

/// Returns what a layer takes on disk without the files that newer layers have, too.
fn own_bytes(layout: &Layout, number: i64, members: &Members) -> Result<u64> {
    let place = layout.layer(number);
    let mut disk_bytes = trusted::disk_usage(&place)?.disk_bytes;
    if members.newer.is_empty() {
        return Ok(disk_bytes);
    }
    let mut own = trusted::files_with_names(&place)?;
    for newer in &members.newer {
        let theirs = match trusted::files_with_names(layout.layer(*newer)) {
            // Deleted meanwhile: its row tells.
            Err(error) if error.is_not_found() => continue,
            result => result?,
        };
        for inode in theirs.keys() {
            if let Some(file) = own.remove(inode) {
                disk_bytes = disk_bytes.saturating_sub(file.disk_bytes);
            }
        }
    }
    Ok(disk_bytes)
}

/// Returns what comes free when layers of families are removed together: files that nothing else has.
pub(crate) fn freed_bytes(layout: &Layout, numbers: &[i64]) -> Result<u64> {
    let mut named: HashMap<(u64, u64), NamedFile> = HashMap::new();
    let mut freed = 0;
    for number in numbers {
        let place = layout.layer(*number);
        let (usage, files) = match (
            trusted::disk_usage(&place),
            trusted::files_with_names(&place),
        ) {
            (Ok(usage), Ok(files)) => (usage, files),
            // What is gone already comes free no more.
            (Err(error), _) | (_, Err(error)) if error.is_not_found() => continue,
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        };
        freed += usage.disk_bytes;
        for (inode, file) in files {
            freed = freed.saturating_sub(file.disk_bytes);
            let known = named.entry(inode).or_insert(NamedFile { names: 0, ..file });
            known.names += file.names;
        }
    }
    let gone = named.values().filter(|file| file.names >= file.nlink);
    Ok(freed + gone.map(|file| file.disk_bytes).sum::<u64>())
}
