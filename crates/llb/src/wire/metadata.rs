//! Definitions and what they say of vertices, from and to their messages.

use wharf_image::Digest;

use super::decode::map;
use super::encode::pairs;
use super::message;
use crate::definition::{Definition, Location, Position, SourceInfo, SourceMap};
use crate::error::LlbError;
use crate::metadata::{CUSTOM_NAME, Metadata, ProgressGroup, Resources};

/// Returns a definition's message.
pub(crate) fn definition_message(definition: &Definition) -> message::Definition {
    let entry = |(digest, metadata): (&Digest, &Metadata)| message::MetadataEntry {
        key: Some(digest.to_string()),
        value: Some(metadata_message(metadata)),
    };
    message::Definition {
        def: definition.ops.clone(),
        metadata: definition.metadata.iter().map(entry).collect(),
        source: definition.source.as_ref().map(source_message),
    }
}

/// Reads a definition's message.
pub(crate) fn definition(message: message::Definition) -> Result<Definition, LlbError> {
    let mut definition = Definition {
        ops: message.def,
        ..Definition::default()
    };
    for entry in message.metadata {
        let digest = digest("metadata", &entry.key.unwrap_or_default())?;
        let read = metadata(entry.value.unwrap_or_default());
        definition.metadata.insert(digest, read);
    }
    definition.source = message.source.map(source_map).transpose()?;
    Ok(definition)
}

fn digest(what: &str, text: &str) -> Result<Digest, LlbError> {
    text.parse().map_err(|error| LlbError::Malformed {
        what: format!("the {what} of a definition"),
        reason: format!("{error}"),
    })
}

fn metadata_message(metadata: &Metadata) -> message::OpMetadata {
    let mut description = metadata.description.clone();
    if !metadata.custom_name.is_empty() {
        description.insert(CUSTOM_NAME.to_owned(), metadata.custom_name.clone());
    }
    message::OpMetadata {
        ignore_cache: metadata.ignore_cache,
        description: pairs(&description),
        export_cache: metadata
            .export_cache
            .map(|value| message::ExportCache { value }),
        caps: metadata
            .caps
            .iter()
            .map(|cap| message::Flag {
                key: Some(cap.clone()),
                value: Some(true),
            })
            .collect(),
        progress_group: metadata
            .progress_group
            .as_ref()
            .map(|group| message::ProgressGroup {
                id: group.id.clone(),
                name: group.name.clone(),
                weak: group.weak,
            }),
        linux_resources: metadata
            .resources
            .as_ref()
            .map(|resources| message::LinuxResources {
                memory: resources.memory_bytes,
                memory_swap: resources.memory_swap_bytes,
                cpu_shares: resources.cpu_shares,
                cpu_period: resources.cpu_period_us,
                cpu_quota: resources.cpu_quota_us,
                cpuset_cpus: resources.cpuset_cpus.clone(),
                cpuset_mems: resources.cpuset_mems.clone(),
            }),
    }
}

fn metadata(message: message::OpMetadata) -> Metadata {
    let mut description = map(message.description);
    Metadata {
        ignore_cache: message.ignore_cache,
        custom_name: description.remove(CUSTOM_NAME).unwrap_or_default(),
        description,
        caps: message
            .caps
            .into_iter()
            .filter_map(|flag| flag.key)
            .collect(),
        export_cache: message.export_cache.map(|export| export.value),
        progress_group: message.progress_group.map(|group| ProgressGroup {
            id: group.id,
            name: group.name,
            weak: group.weak,
        }),
        resources: message.linux_resources.map(|resources| Resources {
            memory_bytes: resources.memory,
            memory_swap_bytes: resources.memory_swap,
            cpu_shares: resources.cpu_shares,
            cpu_period_us: resources.cpu_period,
            cpu_quota_us: resources.cpu_quota,
            cpuset_cpus: resources.cpuset_cpus,
            cpuset_mems: resources.cpuset_mems,
        }),
    }
}

fn source_message(source: &SourceMap) -> message::Source {
    let position = |position: &Position| {
        Some(message::Position {
            line: position.line,
            character: position.character,
        })
    };
    let location = |location: &Location| message::Location {
        source_index: location.source,
        ranges: location
            .ranges
            .iter()
            .map(|(start, end)| message::Range {
                start: position(start),
                end: position(end),
            })
            .collect(),
    };
    message::Source {
        locations: source
            .locations
            .iter()
            .map(|(digest, list)| message::LocationsEntry {
                key: Some(digest.to_string()),
                value: Some(message::Locations {
                    locations: list.iter().map(location).collect(),
                }),
            })
            .collect(),
        infos: source
            .infos
            .iter()
            .map(|info| message::SourceInfo {
                filename: info.filename.clone(),
                data: info.data.clone(),
                definition: info.definition.as_ref().map(definition_message),
                language: info.language.clone(),
            })
            .collect(),
    }
}

fn source_map(message: message::Source) -> Result<SourceMap, LlbError> {
    let position = |position: Option<message::Position>| {
        let position = position.unwrap_or_default();
        Position {
            line: position.line,
            character: position.character,
        }
    };
    let location = |location: message::Location| Location {
        source: location.source_index,
        ranges: location
            .ranges
            .into_iter()
            .map(|range| (position(range.start), position(range.end)))
            .collect(),
    };
    let mut source = SourceMap::default();
    for entry in message.locations {
        let digest = digest("locations", &entry.key.unwrap_or_default())?;
        let list = entry.value.unwrap_or_default().locations;
        source
            .locations
            .insert(digest, list.into_iter().map(location).collect());
    }
    for info in message.infos {
        source.infos.push(SourceInfo {
            filename: info.filename,
            data: info.data,
            definition: info.definition.map(definition).transpose()?,
            language: info.language,
        });
    }
    Ok(source)
}
