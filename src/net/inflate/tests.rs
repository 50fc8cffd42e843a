use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;

fn squeeze(compress: &mut Compress, text: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2 + 1000);
    compress.compress_vec(text, &mut out, flush).unwrap();
    assert!(out.len() < out.capacity());
    out
}

fn all(inflater: &mut Inflater, room: usize) -> Vec<u8> {
    let (mut text, mut out) = (Vec::new(), vec![0; room]);
    loop {
        match inflater.read(&mut out).unwrap() {
            0 => return text,
            n => text.extend_from_slice(&out[..n]),
        }
    }
}

#[test]
fn a_resting_reader_holds_what_the_peer_said_and_no_more() {
    let mut compress = Compress::new(Compression::new(6), false);
    let mut inflater = Inflater::new();
    assert!(inflater.held() < 200);
    let mut command = |inflater: &mut Inflater, text: &str| {
        inflater.feed(&squeeze(
            &mut compress,
            text.as_bytes(),
            FlushCompress::Sync,
        ));
        assert_eq!(all(inflater, 1000), text.as_bytes());
    };
    for n in 0..2000 {
        command(
            &mut inflater,
            &format!("A{n} UID FETCH {} (FLAGS BODY.PEEK[HEADER])\r\n", n * 7),
        );
        if n % 10 == 0 {
            assert!(inflater.is_warm());
            inflater.rest();
            assert!(!inflater.is_warm());
        }
        if n == 0 {
            assert!(inflater.held() < 300, "{}", inflater.held());
        }
    }
    // A whole window of commands.
    inflater.rest();
    assert!(inflater.held() < 8 * 1024, "{}", inflater.held());
    command(&mut inflater, "A2001 IDLE\r\n");
    assert!(inflater.held() > 32 * 1024);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut inflater = Inflater::new();
    inflater.feed(b"a2 NOOP\r\n and whatever follows it in the clear");
    let mut out = [0; 100];
    let mut read = Ok(1);
    while matches!(read, Ok(1..)) {
        read = inflater.read(&mut out);
    }
    assert!(read.is_err() || inflater.is_done());
}

#[test]
fn the_end_of_compression_is_found_to_the_byte() {
    for flush in [
        FlushCompress::Sync,
        FlushCompress::Full,
        FlushCompress::Finish,
    ] {
        let mut bytes = squeeze(
            &mut Compress::new(Compression::new(6), false),
            b"a UNAUTHENTICATE\r\n",
            flush,
        );
        bytes.extend_from_slice(b"b NOOP\r\n");
        // However it comes in.
        for cut in 0..bytes.len() {
            let (mut inflater, mut text) = (Inflater::new(), Vec::new());
            let mut rest = Vec::new();
            let mut ended = false;
            for piece in [&bytes[..cut], &bytes[cut..]] {
                if ended {
                    rest.extend_from_slice(piece);
                    continue;
                }
                inflater.feed(piece);
                let mut out = [0; 100];
                while !text.ends_with(b"\r\n") {
                    match inflater.read(&mut out).unwrap() {
                        0 => break,
                        n => text.extend_from_slice(&out[..n]),
                    }
                }
                if text.ends_with(b"\r\n")
                    && let Some(more) = inflater.end().unwrap()
                {
                    ended = true;
                    rest.extend_from_slice(&more);
                }
            }
            assert_eq!(text, b"a UNAUTHENTICATE\r\n", "{flush:?} {cut}");
            assert_eq!(rest, b"b NOOP\r\n", "{flush:?} {cut}");
        }
    }
}

proptest! {
    /// Texts come out as they went in, however they are cut, and whenever the reader rests.
    #[test]
    fn rest_changes_nothing(
        texts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20_000), 0..40usize, any::<bool>()), 1..8),
        room in 1..40_000usize,
        step in 1..5000usize,
    ) {
        let mut compress = Compress::new(Compression::new(6), false);
        let mut inflater = Inflater::new();
        for (text, repeat, rest) in texts {
            let text = text[..text.len().min(500)].repeat(repeat);
            let bytes = squeeze(&mut compress, &text, FlushCompress::Sync);
            let mut got = Vec::new();
            for piece in bytes.chunks(step) {
                inflater.feed(piece);
                got.extend(all(&mut inflater, room));
            }
            prop_assert!(got == text);
            if rest {
                inflater.rest();
                prop_assert!(!inflater.is_warm());
            }
        }
    }

    #[test]
    fn no_input_hurts(bytes in prop::collection::vec(any::<u8>(), 0..2000), step in 1..100usize) {
        let mut inflater = Inflater::new();
        let mut out = [0; 300];
        'all: for piece in bytes.chunks(step) {
            inflater.feed(piece);
            loop {
                match inflater.read(&mut out) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(_) => break 'all,
                }
            }
            inflater.rest();
        }
    }
}
