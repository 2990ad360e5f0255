//! `wharf image layers`: images side by side, to see which layers they share.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::Value as Json;

use crate::commands::image::history::{self, HistoryItem};
use crate::error::Result;
use crate::http::path_part;
use crate::render::table;
use crate::render::text::{ellipsis, short_id};
use crate::session::Session;
use crate::units::human_size_short;

const INSTRUCTION_WIDTH: usize = 60;

/// Show the layers of images and which of them the images share
#[derive(Debug, Args)]
pub struct LayersArgs {
    /// Do not cut values short
    #[arg(long)]
    no_trunc: bool,
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// One layer, wherever it occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    diff_id: String,
    size_bytes: i64,
    instruction: String,
    /// Positions of the images that have it.
    images: Vec<usize>,
}

/// Runs `wharf image layers`.
pub async fn layers_command(session: &mut Session, args: LayersArgs) -> Result<()> {
    let mut layers: Vec<Layer> = Vec::new();
    for (position, image) in args.images.iter().enumerate() {
        let inspected: Json = session
            .client
            .get_json(format!("/images/{}/json", path_part(image)))
            .await?;
        let history = history::fetch(&session.client, image, None).await?;
        let diff_ids: Vec<String> =
            serde_json::from_value(inspected["RootFS"]["Layers"].clone()).unwrap_or_default();
        merge(&mut layers, position, &diff_ids, &history);
    }
    session
        .output
        .text(&render(&layers, &args.images, args.no_trunc))
}

/// Adds one image's layers; those already there are marked as shared.
fn merge(layers: &mut Vec<Layer>, image: usize, diff_ids: &[String], history: &[HistoryItem]) {
    let made = pair(diff_ids.len(), history);
    let mut insert_at = 0;
    for (index, diff_id) in diff_ids.iter().enumerate() {
        if let Some(known) = layers.iter().position(|layer| layer.diff_id == *diff_id) {
            if !layers[known].images.contains(&image) {
                layers[known].images.push(image);
            }
            insert_at = insert_at.max(known + 1);
            continue;
        }
        let (size_bytes, instruction) = made.get(index).cloned().unwrap_or_default();
        layers.insert(
            insert_at,
            Layer {
                diff_id: diff_id.clone(),
                size_bytes,
                instruction,
                images: vec![image],
            },
        );
        insert_at += 1;
    }
}

/// Pairs layers with the history entries that made them, from the lowest layer up.
///
/// History does not say which entries have a layer. Those with a size certainly do; where there are more layers than
/// that, the entries whose instruction can make an empty layer fill the rest.
fn pair(layer_count: usize, history: &[HistoryItem]) -> Vec<(i64, String)> {
    let oldest_first: Vec<&HistoryItem> = history.iter().rev().collect();
    let mut chosen: Vec<bool> = oldest_first.iter().map(|item| item.size > 0).collect();
    let mut missing =
        layer_count.saturating_sub(chosen.iter().filter(|has_layer| **has_layer).count());
    for (has_layer, item) in chosen.iter_mut().zip(&oldest_first) {
        if missing > 0 && !*has_layer && may_make_layer(&item.created_by) {
            *has_layer = true;
            missing -= 1;
        }
    }
    oldest_first
        .iter()
        .zip(chosen)
        .filter(|(_, has_layer)| *has_layer)
        .map(|(item, _)| (item.size, item.created_by.clone()))
        .collect()
}

fn may_make_layer(created_by: &str) -> bool {
    let instruction = created_by
        .rsplit("#(nop)")
        .next()
        .unwrap_or(created_by)
        .trim_start();
    let makes_none = [
        "ENV",
        "LABEL",
        "CMD",
        "ENTRYPOINT",
        "EXPOSE",
        "USER",
        "STOPSIGNAL",
        "SHELL",
        "VOLUME",
        "HEALTHCHECK",
        "ARG",
        "MAINTAINER",
    ];
    !makes_none
        .iter()
        .any(|word| instruction.split_whitespace().next() == Some(word))
}

fn render(layers: &[Layer], images: &[String], no_trunc: bool) -> String {
    let mut text = String::from("LAYER\tSIZE\t");
    for image in images {
        text.push_str(image);
        text.push('\t');
    }
    text.push_str("CREATED BY\n");
    for layer in layers {
        let id = if no_trunc {
            layer.diff_id.as_str()
        } else {
            short_id(&layer.diff_id)
        };
        text.push_str(&format!(
            "{id}\t{}\t",
            human_size_short(layer.size_bytes as f64)
        ));
        for position in 0..images.len() {
            text.push_str(if layer.images.contains(&position) {
                "x\t"
            } else {
                "-\t"
            });
        }
        let instruction = layer.instruction.replace(['\t', '\n'], " ");
        let shown = if no_trunc {
            instruction
        } else {
            ellipsis(&instruction, INSTRUCTION_WIDTH)
        };
        text.push_str(&shown);
        text.push('\n');
    }
    let mut aligned = table::align(&text);
    aligned.push_str(&summary(layers, images));
    aligned
}

/// Says how much is shared by how many, because that is what the command is asked for.
fn summary(layers: &[Layer], images: &[String]) -> String {
    if images.len() < 2 {
        return String::new();
    }
    let mut by_count: BTreeMap<usize, (usize, i64)> = BTreeMap::new();
    for layer in layers {
        let entry = by_count.entry(layer.images.len()).or_default();
        entry.0 += 1;
        entry.1 += layer.size_bytes;
    }
    let mut text = String::from("\n");
    for (count, (number, size)) in by_count.iter().rev() {
        let whose = match count {
            1 => "in one image only".to_owned(),
            count if *count == images.len() => "shared by all images".to_owned(),
            count => format!("shared by {count} images"),
        };
        text.push_str(&format!(
            "{}, {} {whose}\n",
            crate::units::counted(*number, "layer"),
            human_size_short(*size as f64)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(created_by: &str, size: i64) -> HistoryItem {
        serde_json::from_value(serde_json::json!({"CreatedBy": created_by, "Size": size})).unwrap()
    }

    #[test]
    fn shared_layers_are_shown_once() {
        let mut layers = Vec::new();
        let base = "sha256:1111111111111111".to_owned();
        merge(
            &mut layers,
            0,
            &[base.clone(), "sha256:2222222222222222".into()],
            &[
                item("CMD [\"sh\"]", 0),
                item("RUN a", 10),
                item("ADD rootfs", 100),
            ],
        );
        merge(
            &mut layers,
            1,
            &[base, "sha256:3333333333333333".into()],
            &[
                item("RUN true", 0),
                item("ENV A=1", 0),
                item("ADD rootfs", 100),
            ],
        );
        insta::assert_snapshot!(render(&layers, &["one".into(), "two".into()], false), @r"
        LAYER          SIZE      one       two       CREATED BY
        111111111111   100B      x         x         ADD rootfs
        333333333333   0B        -         x         RUN true
        222222222222   10B       x         -         RUN a

        1 layer, 100B shared by all images
        2 layers, 10B in one image only
        ");
    }
}
