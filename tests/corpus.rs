//! Every input of the fuzz corpus, once: what fuzzing found stays mended where no fuzzer runs.

mod oracle;

use std::path::Path;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 12] = [
    ("config", posthorn::config::fuzz_config),
    ("frame", posthorn::store::fuzz_frame),
    ("fulltext", posthorn::store::fuzz_fulltext),
    ("image", posthorn::store::fuzz_image),
    ("imap_oracle", oracle::fuzz),
    ("imap_parser", posthorn::imap::fuzz_parser),
    ("imap_response", posthorn::transfer::imap::response::fuzz),
    ("imap_session", posthorn::imap::fuzz_session),
    ("mbox", posthorn::transfer::mbox::fuzz),
    ("mime", posthorn::mail::fuzz_walk),
    ("smtp_session", posthorn::smtp::fuzz_session),
    ("subscription", posthorn::push::fuzz_subscription),
];

#[test]
fn no_known_input_breaks_a_parser() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut known: Vec<_> = std::fs::read_dir(&corpus)
        .expect("the corpus")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("name")
        })
        .collect();
    known.sort();
    assert_eq!(known, TARGETS.map(|(name, _)| name), "a target per corpus");
    for (name, target) in TARGETS {
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpus.join(name)).expect("corpus") {
            let path = entry.expect("entry").path();
            eprintln!("{}", path.display());
            target(&std::fs::read(path).expect("input"));
            inputs += 1;
        }
        assert!(inputs > 1, "{name} has no seeds");
    }
}
