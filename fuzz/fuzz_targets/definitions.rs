//! A build graph as it comes over a wire: bytes are taken or refused, and what was taken is written again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_llb::Definition;

fuzz_target!(|bytes: &[u8]| {
    let _ = Definition {
        ops: vec![bytes.to_vec(), bytes.to_vec()],
        ..Definition::default()
    }
    .graph();
    let Ok(definition) = Definition::decode(bytes) else {
        return;
    };
    let encoded = definition.encode();
    assert_eq!(Definition::decode(&encoded).as_ref(), Ok(&definition));
    let Ok((graph, result)) = definition.graph() else {
        return;
    };
    let again = Definition::of(&graph, result);
    let (read, found) = again.graph().expect("what was read can be written");
    let digest = |graph: &wharf_llb::Graph, edge: wharf_llb::Edge| graph.vertex(edge.vertex).digest;
    assert_eq!(
        found.map(|edge| digest(&read, edge)),
        result.map(|edge| digest(&graph, edge))
    );
});
