//! Mail that is a weapon: on a small stack, within bounds, and nothing panics.

use crate::mail::*;

fn on_small_stack(name: &str, raw: Vec<u8>) {
    let label = name.to_owned();
    std::thread::Builder::new()
        .stack_size(512 * 1024)
        .spawn(move || {
            fuzz_walk(&raw);
            let summary = summarize(&raw);
            assert!(summary.envelope.len() < 1 << 20, "{label}");
            assert!(summary.body_structure.len() < 3 << 20, "{label}");
            super::grammar::check_message(&raw);
        })
        .unwrap()
        .join()
        .unwrap_or_else(|_| panic!("{name}"));
}

#[test]
fn nested_messages() {
    let raw = b"Content-Type: message/rfc822\r\n\r\n".repeat(100_000);
    assert!(Structure::parse(&raw).nodes().len() <= 52);
    on_small_stack("nested messages", raw);
    on_small_stack(
        "no blank lines",
        b"Content-Type: message/rfc822\r\n".repeat(100_000),
    );
}

#[test]
fn nested_multiparts() {
    let mut raw = Vec::new();
    for i in 0..20_000 {
        raw.extend_from_slice(
            format!("Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n").as_bytes(),
        );
    }
    on_small_stack("nested multiparts", raw);
    on_small_stack(
        "one boundary for all",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(20_000),
    );
}

#[test]
fn levels_inside_base64() {
    use base64::Engine as _;
    let inner = b"Content-Type: message/rfc822\r\n\r\n".repeat(5_000);
    let mut raw =
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n".to_vec();
    raw.extend(
        base64::engine::general_purpose::STANDARD
            .encode(inner)
            .bytes(),
    );
    on_small_stack("base64", raw);
}

#[test]
fn a_million_parts() {
    for piece in ["--b\r\n", "--b\n\n", "--b--\r\n", "--b\r\n\r\n"] {
        let mut raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
        raw.extend(piece.as_bytes().repeat(1_000_000));
        assert!(Structure::parse(&raw).nodes().len() <= 5_001);
        on_small_stack(piece, raw);
    }
    let mut raw = b"Content-Type: multipart/digest; boundary=b\r\n\r\n".to_vec();
    raw.extend(b"--b\r\n\r\nSubject: x\r\n\r\n\r\n".repeat(100_000));
    on_small_stack("digest", raw);
}

#[test]
fn one_past_the_limit_of_parts_is_opaque() {
    let message = |parts: usize| {
        let mut raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
        raw.extend(b"--b\r\n\r\nx\r\n".repeat(parts));
        raw
    };
    let last = |raw: &[u8]| Structure::parse(raw).nodes().last().cloned().unwrap();
    let fits = message(4_999);
    assert_eq!(Structure::parse(&fits).nodes().len(), 5_000);
    assert!(!last(&fits).opaque);
    let over = message(5_002);
    let rest = last(&over);
    assert!(rest.opaque && rest.body.end == over.len());
    assert_eq!(
        &over[rest.body],
        b"\r\nx\r\n--b\r\n\r\nx\r\n--b\r\n\r\nx\r\n"
    );
    assert_eq!(Structure::parse(&over).nodes().len(), 5_001);
}

#[test]
fn one_past_the_limit_of_depth_is_opaque() {
    let message = |levels: usize| {
        let mut raw = b"Content-Type: message/rfc822\r\n\r\n".repeat(levels);
        raw.extend(b"\r\nx");
        raw
    };
    let fits = message(50);
    let nodes = Structure::parse(&fits);
    assert!(nodes.nodes().len() == 51 && nodes.nodes().iter().all(|n| !n.opaque));
    let over = message(51);
    let nodes = Structure::parse(&over);
    assert!(nodes.nodes().len() == 51 && nodes.nodes()[50].opaque);
}

#[test]
fn large_headers() {
    on_small_stack("one name", vec![b'a'; 64 * 1024]);
    let mut raw = vec![b'a'; 64 * 1024];
    raw.extend(b": x\r\n\r\n");
    on_small_stack("one name with colon", raw);
    on_small_stack("many fields", b"a:\r\n".repeat(500_000));
    on_small_stack(
        "one folded field",
        [&b"To: "[..], &b"\r\n a,".repeat(500_000)].concat(),
    );
    for piece in [
        "a,", "<", "(", ")", "\"", "[", "@", ":", ";", "\\", "<@a,", "a:", "a@b,", "=?a?q? ", "=?",
        "<@", "\\\"",
    ] {
        for name in [
            "From",
            "To",
            "Subject",
            "Content-Type",
            "Content-Disposition",
            "Date",
        ] {
            let raw = format!("{name}: {}\r\n\r\n", piece.repeat(70_000 / piece.len()));
            on_small_stack(piece, raw.into_bytes());
        }
    }
    let mut params = "Content-Type: multipart/mixed; boundary=b".to_owned();
    for i in 0..20_000 {
        params.push_str(&format!("; x*{i}=y; n{i}=\"v\""));
    }
    on_small_stack("parameters", params.into_bytes());
}

#[test]
fn html_that_never_closes() {
    for piece in [
        "<",
        "&",
        "<a",
        "<style>",
        "&#",
        "<!--",
        "&#1114112;",
        "\u{e4}<",
    ] {
        let raw = format!(
            "Content-Type: text/html; charset=utf-8\r\n\r\n{}",
            piece.repeat(100_000)
        );
        on_small_stack(piece, raw.into_bytes());
    }
}

/// The limit is on what is looked into; the bytes stay whole.
#[test]
fn a_header_past_its_limit() {
    let mut raw = b"X: y\r\n".repeat(50_000);
    raw.extend(b"Content-Type: image/png\r\n\r\nbody");
    let structure = Structure::parse(&raw);
    assert_eq!(structure.root().content_type.main, "text");
    assert_eq!(&raw[structure.root().body.clone()], b"body");
    on_small_stack("large header", raw);
}

/// What strangers choose in every part must not multiply.
#[test]
fn long_strings_in_many_parts() {
    let filler = "x".repeat(4_000);
    let mut raw = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
    for _ in 0..5_200 {
        raw.push_str(&format!(
            "--b\r\nContent-Type: text/{}; name={filler}\r\nContent-ID: {filler}\r\n\r\n",
            "t".repeat(127)
        ));
    }
    on_small_stack("long strings", raw.into_bytes());
}
