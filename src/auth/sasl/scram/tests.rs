use std::sync::Arc;

use super::super::{Exchange, Offered};
use super::*;
use crate::auth::keys;
use crate::store::Account;
use crate::types::{Address, Secret};

const OVER_TLS: Offered = Offered {
    scram: true,
    bearer: false,
    binding: true,
};

fn found(binding: Option<&[u8]>) -> Found {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    Found {
        account: Some(Arc::new(Account {
            id: crate::types::AccountId(1),
            address: Address::parse("user@example.org").unwrap(),
            password_hash: String::new(),
            created: crate::types::UnixMillis(0),
            disabled: false,
        })),
        keys: keys::derive(&Secret::new("pencil"), salt.try_into().unwrap(), 4096).unwrap(),
        nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(),
        binding: binding.map(<[u8]>::to_vec),
    }
}

fn challenge(step: Step) -> String {
    match step {
        Step::Challenge(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn right(step: &Step) -> bool {
    match step {
        Step::Check(claim, _) => matches!(claim.proof, Proof::Scram { right: true, .. }),
        other => panic!("{other:?}"),
    }
}

/// A client that proves that it knows `pencil`.
fn client(bare: &str, server_first: &str, without_proof: &str) -> String {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let mut salted = [0u8; 32];
    aws_lc_rs::pbkdf2::derive(
        aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256,
        4096.try_into().unwrap(),
        &salt,
        b"pencil",
        &mut salted,
    );
    let client_key = sign(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client_key.as_ref());
    let signature = sign(
        stored.as_ref(),
        format!("{bare},{server_first},{without_proof}").as_bytes(),
    );
    let proof: Vec<u8> = client_key
        .as_ref()
        .iter()
        .zip(signature.as_ref())
        .map(|(a, b)| a ^ b)
        .collect();
    format!("{without_proof},p={}", STANDARD.encode(proof))
}

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

/// RFC 7677, 3.
#[test]
fn the_exchange_of_rfc_7677() {
    let mut scram = Exchange::start("SCRAM-SHA-256", OVER_TLS).unwrap();
    assert_eq!(challenge(scram.begin(None)), "");
    let Step::Lookup(lookup) = scram.respond(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO") else {
        panic!("a lookup");
    };
    assert_eq!((lookup.login.as_str(), lookup.binding), ("user", None));
    assert_eq!(
        challenge(scram.found(Ok(found(None)))),
        format!("r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    );
    let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let step = scram.respond(format!("c=biws,r={NONCE},{proof}").as_bytes());
    assert!(right(&step));
    let Step::Check(_, after) = step else {
        panic!("checked");
    };
    assert_eq!(
        challenge(scram.judged(Ok(()), after)),
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
    assert!(matches!(scram.respond(b""), Step::Done(Ok(()))));
}

/// One exchange with this header, mechanism and binding on both sides.
fn run(mechanism: &str, gs2: &str, theirs: &[u8], ours: Option<&[u8]>) -> Result<bool, String> {
    let mut scram = Exchange::start(mechanism, OVER_TLS).ok_or("not offered")?;
    let bare = "n=user,r=rOprNGfwEbeRWgbNEkqO";
    match scram.respond(format!("{gs2}{bare}").as_bytes()) {
        Step::Lookup(_) => {}
        other => return Err(format!("{other:?}")),
    }
    let server_first = match scram.found(Ok(found(ours))) {
        Step::Challenge(bytes) => String::from_utf8(bytes).unwrap(),
        other => return Err(format!("{other:?}")),
    };
    let bound = STANDARD.encode([gs2.as_bytes(), theirs].concat());
    let last = client(bare, &server_first, &format!("c={bound},r={NONCE}"));
    Ok(right(&scram.respond(last.as_bytes())))
}

#[test]
fn a_login_is_bound_to_its_connection() {
    const PLUS: &str = "SCRAM-SHA-256-PLUS";
    let invalid = Err("Done(Err(Invalid))".to_owned());
    let malformed = Err("Malformed".to_owned());
    let here = Some(&b"binding"[..]);
    for (mechanism, gs2, theirs, ours, outcome) in [
        (PLUS, "p=tls-exporter,,", "binding", here, Ok(true)),
        (PLUS, "p=tls-server-end-point,,", "binding", here, Ok(true)),
        // Somebody is in between.
        (PLUS, "p=tls-exporter,,", "another", here, Ok(false)),
        (PLUS, "p=tls-exporter,,", "", here, Ok(false)),
        (PLUS, "p=tls-exporter,,", "binding", None, invalid.clone()),
        (PLUS, "p=tls-unique,,", "binding", here, invalid.clone()),
        (PLUS, "n,,", "", here, malformed.clone()),
        (PLUS, "y,,", "", here, malformed.clone()),
        ("SCRAM-SHA-256", "n,,", "", None, Ok(true)),
        ("SCRAM-SHA-256", "n,a=user@example.org,", "", None, Ok(true)),
        // It can bind, and believes that we can't.
        ("SCRAM-SHA-256", "y,,", "", None, invalid),
        ("SCRAM-SHA-256", "p=tls-exporter,,", "", None, malformed),
    ] {
        let result = run(mechanism, gs2, theirs.as_bytes(), ours);
        assert_eq!(result, outcome, "{mechanism} {gs2} {theirs}");
    }
}

#[test]
fn without_tls_a_client_that_can_bind_is_let_in() {
    let plain = Offered {
        binding: false,
        ..OVER_TLS
    };
    let mut scram = Exchange::start("SCRAM-SHA-256", plain).unwrap();
    assert!(matches!(scram.respond(b"y,,n=user,r=abc"), Step::Lookup(_)));
}

#[test]
fn what_is_changed_on_the_way_proves_nothing() {
    let first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let respond = |last: String, nobody: bool| {
        let mut scram = Exchange::start("SCRAM-SHA-256", OVER_TLS).unwrap();
        scram.begin(Some(first.as_bytes()));
        let mut found = found(None);
        if nobody {
            found.account = None;
        }
        scram.found(Ok(found));
        scram.respond(last.as_bytes())
    };
    assert!(right(&respond(format!("c=biws,r={NONCE},{proof}"), false)));
    for (last, nobody) in [
        // Right keys of somebody who is not here any more.
        (format!("c=biws,r={NONCE},{proof}"), true),
        (format!("c=eSws,r={NONCE},{proof}"), false),
        (format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,{proof}"), false),
        (format!("c=biws,r={NONCE},x=y,{proof}"), false),
        (format!("c=biws,r={NONCE},p=dHzb"), false),
        (
            format!("c=biws,r={NONCE},p={}", STANDARD.encode([0; 32])),
            false,
        ),
    ] {
        assert!(!right(&respond(last.clone(), nobody)), "{last}");
    }
    for bad in ["", "c=biws", "c=biws,p=", "r=x,c=biws,p=", "c=!,r=x,p=AAAA"] {
        assert!(
            matches!(respond(bad.into(), false), Step::Malformed),
            "{bad}"
        );
    }
}

#[test]
fn nonsense_is_malformed() {
    for bad in [
        &b""[..],
        b"n,,",
        b"n,,n=user",
        b"n,,n=user,r=",
        b"n,,n=,r=x",
        b"n,,m=x,n=user,r=x",
        b"n,,n=us=er,r=x",
        b"n,user,n=user,r=x",
        b"x,,n=user,r=x",
        b"n,,n=user,r=a b",
        b"n,,n=\xff,r=x",
    ] {
        let mut scram = Exchange::start("SCRAM-SHA-256", OVER_TLS).unwrap();
        assert!(matches!(scram.respond(bad), Step::Malformed), "{bad:?}");
        // And it does not begin again.
        assert!(matches!(scram.respond(b"n,,n=user,r=x"), Step::Malformed));
    }
    let mut scram = Exchange::start("SCRAM-SHA-256", OVER_TLS).unwrap();
    scram.respond(b"n,,n=user,r=x");
    let step = scram.found(Err(AuthError::Throttled));
    assert!(matches!(step, Step::Done(Err(AuthError::Throttled))));
    assert!(matches!(scram.respond(b"c=biws"), Step::Malformed));
}
