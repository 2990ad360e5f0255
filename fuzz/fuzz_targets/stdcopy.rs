//! Multiplexed streams: the server's and the client's reader agree, however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_api::stdcopy::{Decoder, Stream};
use wharf_cli::internals::stdcopy::{Channel, Demultiplexer};

fuzz_target!(|data: (u8, &[u8])| {
    let (cut, bytes) = data;
    let size = usize::from(cut) + 1;
    let (mut decoder, mut served, mut failed) =
        (Decoder::default(), [Vec::new(), Vec::new()], false);
    for piece in bytes.chunks(size) {
        decoder.push(piece);
    }
    loop {
        match decoder.next_frame() {
            Ok(Some((stream, payload))) => {
                served[usize::from(stream == Stream::Error)].extend_from_slice(&payload);
            }
            Ok(None) => break,
            Err(_) => {
                failed = true;
                break;
            }
        }
    }
    let (mut demultiplexer, mut seen) = (Demultiplexer::default(), [Vec::new(), Vec::new()]);
    let refused = bytes.chunks(size).any(|piece| {
        let pushed = demultiplexer.push(piece, |channel, bytes| {
            seen[usize::from(channel != Channel::Stdout)].extend_from_slice(bytes);
            Ok(())
        });
        pushed.is_err()
    });
    assert_eq!(failed, refused);
    if !failed {
        // The client passes on what it has of an unfinished frame; the server waits for the rest.
        assert!(seen[0].starts_with(&served[0]) && seen[1].starts_with(&served[1]));
    }
});
