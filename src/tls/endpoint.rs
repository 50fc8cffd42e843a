//! The channel binding `tls-server-end-point` (RFC 5929, 4.1): a hash of the certificate, by the
//! hash of its own signature.
//!
//! Machine: no IO, no clock, no randomness.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

use super::facts::{SEQUENCE, element};

const OBJECT_ID: u8 = 0x06;
/// 1.2.840.113549.1.1, RSA.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4, ECDSA.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// 2.16.840.1.101.3.4.2, where the SHA-2 hashes are.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// None where the RFC says nothing, as for Ed25519.
pub(super) fn of(certificate: &[u8]) -> Option<Vec<u8>> {
    let (inner, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(inner, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (name, parameters) = element(algorithm, OBJECT_ID)?;
    let hash = match (name.strip_prefix(RSA), name.strip_prefix(ECDSA)) {
        // MD5 and SHA-1 are replaced.
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => &SHA256,
        (Some([12]), _) | (_, Some([3, 3])) => &SHA384,
        (Some([13]), _) | (_, Some([3, 4])) => &SHA512,
        // RSASSA-PSS names its hash in its parameters; SHA-1 where it does not.
        (Some([10]), _) => pss(parameters),
        _ => return None,
    };
    Some(digest(hash, certificate).as_ref().to_vec())
}

fn pss(parameters: &[u8]) -> &'static Algorithm {
    let at = parameters.windows(SHA2.len()).position(|w| w == SHA2);
    match at.and_then(|at| parameters.get(at + SHA2.len())) {
        Some(2) => &SHA384,
        Some(3) => &SHA512,
        _ => &SHA256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["mx.test".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, &SHA256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, &SHA384),
        ] {
            let certificate = made(algorithm);
            let expected = digest(hash, &certificate);
            assert_eq!(of(&certificate).unwrap(), expected.as_ref());
        }
        assert_eq!(of(&made(&rcgen::PKCS_ED25519)), None);
        assert_eq!(of(b""), None);
        let certificate = made(&rcgen::PKCS_ECDSA_P256_SHA256);
        for cut in 0..certificate.len() {
            assert_eq!(of(&certificate[..cut]), None);
        }
    }
}
