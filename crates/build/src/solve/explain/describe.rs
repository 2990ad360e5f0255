//! The structured key of a vertex, with the names by which users know its parts.

use serde_json::{Value, json};
use wharf_image::Digest;
use wharf_llb::{Edge, Op, VertexId};

use crate::listing::Listing;
use crate::solve::Solver;
use crate::solve::key::{self, Taking};
use crate::solve::lookup::output_key;
use crate::solve::source::{Scheme, scheme};

impl Solver<'_> {
    /// Returns the structured key of a vertex, with what explains it.
    pub(in crate::solve) fn explanation(&self, id: VertexId) -> Value {
        let vertex = self.input.graph.vertex(id);
        let (kind, parts) = key::parts(vertex);
        let label = self.input.labels.get(&id).cloned().unwrap_or_default();
        let inputs: Vec<Value> = (0..vertex.inputs.len())
            .map(|input| self.explain_input(id, input))
            .collect();
        json!({
            "kind": kind,
            "step": if label.text.is_empty() { self.name(id) } else { label.text.clone() },
            "number": label.number,
            "slot": label.slot,
            "place": label.place,
            "args": label.args,
            "parts": parts,
            "inputs": inputs,
            "changed": self.changed_file(id),
        })
    }

    fn explain_input(&self, id: VertexId, input: usize) -> Value {
        let vertex = self.input.graph.vertex(id);
        let Some(edge) = vertex.inputs.get(input) else {
            return Value::Null;
        };
        let label = self.input.labels.get(&edge.vertex);
        let mut told = json!({
            "name": self.name(edge.vertex),
            "number": label.map_or(0, |label| label.number),
        });
        if let Op::Source(source) = &self.input.graph.vertex(edge.vertex).op
            && let Scheme::Image(image) = scheme(&source.identifier)
        {
            told["image"] = json!(image);
        }
        let contents = self.explain_contents(id, input);
        if contents.is_empty() {
            told["key"] = json!(self.key_of(edge));
        } else {
            told["contents"] = json!(contents);
        }
        told
    }

    fn key_of(&self, edge: &Edge) -> Option<Digest> {
        let state = self.lock();
        output_key(state.nodes.get(&edge.vertex)?, edge)
    }

    fn explain_contents(&self, id: VertexId, input: usize) -> Vec<Value> {
        let selectors = key::selectors(self.input.graph.vertex(id), input);
        let contents: Vec<(Digest, Listing)> = self
            .with_node(id, |node| {
                let Some(Taking::Content(_)) = node.takings.get(input) else {
                    return Vec::new();
                };
                let of_input = node.contents.iter().filter(|((at, _), _)| *at == input);
                of_input
                    .map(|(_, content)| (content.digest, content.listing.clone()))
                    .collect()
            })
            .unwrap_or_default();
        let tell = |(source, (digest, listing)): (&str, (Digest, Listing))| {
            // Without its listing a change is told without its files.
            let kept = listing.keep(self.store).unwrap_or_default();
            json!({ "source": source, "digest": digest, "files": listing.count, "listing": kept })
        };
        selectors.into_iter().zip(contents).map(tell).collect()
    }

    /// Returns what to call a vertex (spec llb §1, names).
    pub(in crate::solve) fn name(&self, id: VertexId) -> String {
        let vertex = self.input.graph.vertex(id);
        if !vertex.metadata.custom_name.is_empty() {
            return vertex.metadata.custom_name.clone();
        }
        if let Some(label) = self.input.labels.get(&id)
            && !label.text.is_empty()
        {
            return label.text.clone();
        }
        match &vertex.op {
            Op::Exec(exec) => exec.meta.args.join(" "),
            Op::Source(source) => source.identifier.clone(),
            Op::Merge(_) => "merge".to_owned(),
            Op::Diff(_) => "diff".to_owned(),
            Op::Build(_) => "build".to_owned(),
            Op::File(file) => file.actions.first().map_or_else(String::new, |action| {
                use wharf_llb::FileActionKind as Kind;
                match &action.kind {
                    Kind::Copy(copy) => format!("copy {} {}", copy.source, copy.destination),
                    Kind::Mkfile(file) => format!("mkfile {}", file.path),
                    Kind::Mkdir(directory) => format!("mkdir {}", directory.path),
                    Kind::Rm(remove) => format!("rm {}", remove.path),
                    Kind::Symlink(link) => format!("symlink {} {}", link.target, link.path),
                }
            }),
        }
    }
}
