//! OAUTHBEARER (RFC 7628).
//!
//! Machine: no IO, no clock, no randomness.

use super::{After, Claim, Gs2, Proof, Step};
use crate::types::Secret;

/// RFC 7628, 3.2.2.
const REFUSED: &[u8] = br#"{"status":"invalid_token"}"#;

/// `n,a=user,^Ahost=...^Aport=...^Aauth=Bearer TOKEN^A^A` (RFC 7628, 3.1). Whoever gives no token
/// only wants to hear what is refused.
pub(super) fn respond(response: &[u8]) -> Option<Step> {
    let header = Gs2::parse(response)?;
    if !matches!(header.flag, b"n" | b"y") {
        return None;
    }
    let pairs = header.rest.strip_prefix(b"\x01")?;
    let pairs = pairs.strip_suffix(b"\x01")?;
    let mut token: &[u8] = b"";
    for pair in pairs.split(|b| *b == 1).filter(|pair| !pair.is_empty()) {
        let at = pair.iter().position(|b| *b == b'=')?;
        let (key, value) = (&pair[..at], &pair[at + 1..]);
        if key == b"auth" {
            let (scheme, rest) = value.split_at_checked(7)?;
            if !scheme.eq_ignore_ascii_case(b"Bearer ") {
                return None;
            }
            token = rest.trim_ascii();
        }
    }
    let claim = Claim {
        login: header.authzid.clone(),
        authzid: header.authzid,
        proof: Proof::Token(Secret::new(token)),
    };
    let after = After {
        right: None,
        wrong: Some(REFUSED.to_vec()),
    };
    Some(Step::Check(claim, after))
}

#[cfg(test)]
mod tests {
    use super::super::{Exchange, Offered};
    use super::*;
    use crate::auth::AuthError;

    fn exchange() -> Exchange {
        let offered = Offered {
            bearer: true,
            ..Offered::default()
        };
        Exchange::start("OAUTHBEARER", offered).expect("offered")
    }

    /// RFC 7628, 4.1 and 4.2.
    #[test]
    fn the_exchanges_of_the_rfc() {
        let mut bearer = exchange();
        let first = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
                      auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let Step::Check(claim, after) = bearer.begin(Some(first)) else {
            panic!("to be checked");
        };
        assert_eq!(claim.authzid, "user@example.com");
        let Proof::Token(token) = claim.proof else {
            panic!("a token");
        };
        assert_eq!(
            token.expose(),
            b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
        );
        let step = bearer.judged(Err(AuthError::Invalid), after);
        assert!(matches!(step, Step::Challenge(json) if json == REFUSED));
        let step = bearer.respond(b"\x01");
        assert!(matches!(step, Step::Done(Err(AuthError::Invalid))));
    }

    #[test]
    fn what_is_right_ends_at_once_and_what_is_busy_too() {
        for (result, ends) in [(Ok(()), true), (Err(AuthError::Throttled), true)] {
            let mut bearer = exchange();
            assert!(matches!(bearer.begin(None), Step::Challenge(c) if c.is_empty()));
            let Step::Check(_, after) = bearer.respond(b"n,,\x01auth=bearer x\x01\x01") else {
                panic!("to be checked");
            };
            assert_eq!(
                matches!(bearer.judged(result.clone(), after), Step::Done(r) if r == result),
                ends
            );
        }
    }

    #[test]
    fn nonsense_is_malformed() {
        for bad in [
            &b""[..],
            b"n,,",
            b"n,,\x01",
            b"p=tls-exporter,,\x01auth=Bearer x\x01\x01",
            b"n,,\x01auth=Basic x\x01\x01",
            b"n,,\x01auth=Be\x01\x01",
            b"n,,\x01auth\x01\x01",
            b"n,user,\x01auth=Bearer x\x01\x01",
        ] {
            assert!(
                matches!(exchange().respond(bad), Step::Malformed),
                "{bad:?}"
            );
        }
        // No token at all: refused like a wrong one (RFC 7628, 4.3).
        assert!(matches!(
            exchange().respond(b"n,,\x01\x01"),
            Step::Check(..)
        ));
    }
}
