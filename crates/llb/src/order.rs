//! Producers before those that use them, whatever order operations came in.

use std::collections::HashMap;

use wharf_image::Digest;

use crate::error::LlbError;
use crate::limits::MAX_DEPTH;

/// One operation: its digest and, as written, those of what it stands on.
pub(crate) struct Node<'a> {
    pub digest: Digest,
    pub inputs: &'a [(String, i64)],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    /// Done, with the number of operations below and itself.
    Done(usize),
}

/// Returns the places of all nodes, producers first, otherwise in the given order.
///
/// # Errors
/// Inputs that are not there, nodes that stand on themselves, chains that are too long.
pub(crate) fn order(nodes: &[Node<'_>]) -> Result<Vec<usize>, LlbError> {
    let places: HashMap<String, usize> = nodes
        .iter()
        .enumerate()
        .map(|(place, node)| (node.digest.to_string(), place))
        .collect();
    let mut inputs = Vec::with_capacity(nodes.len());
    for node in nodes {
        let find = |(input, _): &(String, i64)| {
            let place = places.get(input).copied();
            place.ok_or_else(|| LlbError::MissingInput {
                user: format!("operation {}", node.digest),
                input: input.clone(),
            })
        };
        inputs.push(
            node.inputs
                .iter()
                .map(find)
                .collect::<Result<Vec<_>, _>>()?,
        );
    }
    let mut marks = vec![Mark::New; nodes.len()];
    let mut ordered = Vec::with_capacity(nodes.len());
    for start in 0..nodes.len() {
        // Each entry is a node and how many of its inputs were looked at.
        let mut path = vec![(start, 0)];
        while let Some((place, seen)) = path.last_mut() {
            let place = *place;
            if *seen == 0 && matches!(marks[place], Mark::Done(_)) {
                path.pop();
                continue;
            }
            marks[place] = Mark::Open;
            let Some(input) = inputs[place].get(*seen).copied() else {
                marks[place] = Mark::Done(depth(&inputs[place], &marks)?);
                ordered.push(place);
                path.pop();
                continue;
            };
            *seen += 1;
            match marks[input] {
                Mark::New => path.push((input, 0)),
                Mark::Done(_) => {}
                Mark::Open => {
                    return Err(LlbError::Cycle {
                        digest: nodes[input].digest,
                    });
                }
            }
        }
    }
    Ok(ordered)
}

fn depth(inputs: &[usize], marks: &[Mark]) -> Result<usize, LlbError> {
    let below = inputs.iter().map(|input| match marks[*input] {
        Mark::Done(depth) => depth,
        Mark::New | Mark::Open => 0,
    });
    let depth = below.max().unwrap_or(0) + 1;
    if depth > MAX_DEPTH {
        return Err(LlbError::TooDeep);
    }
    Ok(depth)
}

#[cfg(test)]
mod tests {
    use super::{Node, order};
    use crate::error::LlbError;
    use crate::limits::MAX_DEPTH;
    use wharf_image::Digest;

    fn places(edges: &[&[usize]]) -> Result<Vec<usize>, LlbError> {
        let digest = |place: usize| Digest::of(place.to_string());
        let inputs: Vec<Vec<(String, i64)>> = edges
            .iter()
            .map(|list| {
                list.iter()
                    .map(|place| (digest(*place).to_string(), 0))
                    .collect()
            })
            .collect();
        let nodes: Vec<Node<'_>> = inputs
            .iter()
            .enumerate()
            .map(|(place, inputs)| Node {
                digest: digest(place),
                inputs,
            })
            .collect();
        order(&nodes)
    }

    #[test]
    fn producers_come_first() {
        assert_eq!(places(&[&[], &[0], &[0, 1]]), Ok(vec![0, 1, 2]));
        assert_eq!(places(&[&[2, 1], &[2], &[]]), Ok(vec![2, 1, 0]));
        assert_eq!(places(&[&[1, 1], &[]]), Ok(vec![1, 0]));
    }

    #[test]
    fn circles_and_gaps_are_found() {
        assert!(matches!(places(&[&[0]]), Err(LlbError::Cycle { .. })));
        assert!(matches!(
            places(&[&[], &[0, 3], &[1], &[2]]),
            Err(LlbError::Cycle { .. })
        ));
        assert!(matches!(
            places(&[&[7]]),
            Err(LlbError::MissingInput { .. })
        ));
    }

    #[test]
    fn chains_end_at_the_limit() {
        let chain = |length: usize| {
            let edges: Vec<Vec<usize>> = (0..length)
                .map(|place| place.checked_sub(1).into_iter().collect())
                .collect();
            let edges: Vec<&[usize]> = edges.iter().rev().map(Vec::as_slice).collect();
            // Turned around, so that the first stands on all others.
            let turned: Vec<Vec<usize>> = edges
                .iter()
                .map(|list| list.iter().map(|place| length - 1 - place).collect())
                .collect();
            places(&turned.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        assert!(chain(MAX_DEPTH).is_ok());
        assert_eq!(chain(MAX_DEPTH + 1), Err(LlbError::TooDeep));
    }
}
