//! Message encryption for Web Push (RFC 8291 on RFC 8188).
//!
//! Machine: no IO, no clock, no randomness.
//!
//! The caller brings a fresh key pair and a fresh salt for every message; with the standards'
//! own ones the standards' vectors come out.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hmac;

/// Record size in the header; larger than any record that we make (RFC 8188, 2.1).
const RECORD_SIZE: u32 = 4096;
/// Header: salt, record size, key length, key.
const HEADER: usize = 16 + 4 + 1 + 65;
const TAG: usize = 16;
/// Sizes that plain text is padded to, so that the service learns nothing from its length.
const STEPS: [usize; 5] = [256, 512, 1024, 2048, MAX_PLAIN];
/// What one message may hold and still reach every service.
pub(crate) const MAX_PLAIN: usize = crate::push::payload::MAX_PLAIN;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CryptoError {
    #[error("the subscription's key is not a point on P-256")]
    BadKey,
    #[error("the plain text is too long")]
    TooLong,
    #[error("the cipher refused")]
    Cipher,
}

/// The receiver's half.
#[derive(Clone, Copy)]
pub(crate) struct Receiver<'a> {
    /// Uncompressed point, 65 bytes.
    pub(crate) public: &'a [u8],
    pub(crate) auth: &'a [u8],
}

/// Encrypts `plain`, padded to the next step.
pub(crate) fn encrypt_padded(
    plain: &[u8],
    to: Receiver<'_>,
    own: &PrivateKey,
    salt: &[u8; 16],
) -> Result<Vec<u8>, CryptoError> {
    let size = STEPS
        .iter()
        .find(|step| plain.len() <= **step)
        .ok_or(CryptoError::TooLong)?;
    encrypt(plain, size - plain.len(), to, own, salt)
}

/// Encrypts `plain` followed by `padding` zero bytes, as one record.
fn encrypt(
    plain: &[u8],
    padding: usize,
    to: Receiver<'_>,
    own: &PrivateKey,
    salt: &[u8; 16],
) -> Result<Vec<u8>, CryptoError> {
    let public = own.compute_public_key().map_err(|_| CryptoError::Cipher)?;
    let public = public.as_ref();
    let shared = agree(
        own,
        UnparsedPublicKey::new(&ECDH_P256, to.public),
        CryptoError::BadKey,
        |secret| Ok(secret.to_vec()),
    )?;
    let keys = derive(&shared, to, public, salt);

    let mut record = Vec::with_capacity(plain.len() + 1 + padding + TAG);
    record.extend_from_slice(plain);
    // 2 marks the last record; zeros after it are padding (RFC 8188, 2).
    record.push(2);
    record.resize(record.len() + padding, 0);
    if record.len() + TAG > RECORD_SIZE as usize {
        return Err(CryptoError::TooLong);
    }
    let cipher = UnboundKey::new(&AES_128_GCM, &keys.cek).map_err(|_| CryptoError::Cipher)?;
    LessSafeKey::new(cipher)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(keys.nonce),
            Aad::empty(),
            &mut record,
        )
        .map_err(|_| CryptoError::Cipher)?;

    let mut body = Vec::with_capacity(HEADER + record.len());
    body.extend_from_slice(salt);
    body.extend_from_slice(&RECORD_SIZE.to_be_bytes());
    body.push(65);
    body.extend_from_slice(public);
    body.extend_from_slice(&record);
    Ok(body)
}

struct Keys {
    cek: [u8; 16],
    nonce: [u8; 12],
}

/// RFC 8291, 3.4. Every HKDF output is one block, so expanding is one HMAC with 1 appended.
fn derive(shared: &[u8], to: Receiver<'_>, own_public: &[u8], salt: &[u8; 16]) -> Keys {
    let prk_key = mac(to.auth, &[shared]);
    let ikm = mac(
        prk_key.as_ref(),
        &[b"WebPush: info\0", to.public, own_public, &[1]],
    );
    let prk = mac(salt, &[ikm.as_ref()]);
    let cek = mac(prk.as_ref(), &[b"Content-Encoding: aes128gcm\0", &[1]]);
    let nonce = mac(prk.as_ref(), &[b"Content-Encoding: nonce\0", &[1]]);
    Keys {
        cek: first(cek.as_ref()),
        nonce: first(nonce.as_ref()),
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    pub(crate) fn b64(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    }

    const UA_PRIVATE: &str = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";
    const UA_PUBLIC: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AS_PUBLIC: &str =
        "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    /// Opens a message of one record, as a phone does; gives the plain text without padding.
    pub(crate) fn decrypt(body: &[u8], own: &PrivateKey, auth: &[u8]) -> Vec<u8> {
        let (salt, rest) = body.split_at(16);
        assert_eq!(rest[4], 65);
        let sender = &rest[5..70];
        let public = own.compute_public_key().expect("key");
        let secret = agree(own, UnparsedPublicKey::new(&ECDH_P256, sender), (), |s| {
            Ok(s.to_vec())
        })
        .expect("on the curve");
        let to = Receiver {
            public: public.as_ref(),
            auth,
        };
        let keys = derive(&secret, to, sender, &first(salt));
        let mut record = rest[70..].to_vec();
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &keys.cek).expect("key"));
        let nonce = Nonce::assume_unique_for_key(keys.nonce);
        let opened = cipher
            .open_in_place(nonce, Aad::empty(), &mut record)
            .expect("authentic");
        let end = opened.iter().rposition(|b| *b != 0).expect("delimiter");
        assert_eq!(opened[end], 2);
        opened[..end].to_vec()
    }

    /// Opens records of the bare content coding (RFC 8188).
    fn decode_8188(body: &[u8], ikm: &[u8]) -> Vec<u8> {
        let rs = u32::from_be_bytes(body[16..20].try_into().expect("4")) as usize;
        let at = 21 + usize::from(body[20]);
        let prk = mac(&body[..16], &[ikm]);
        let cek: [u8; 16] =
            first(mac(prk.as_ref(), &[b"Content-Encoding: aes128gcm\0", &[1]]).as_ref());
        let nonce: [u8; 12] =
            first(mac(prk.as_ref(), &[b"Content-Encoding: nonce\0", &[1]]).as_ref());
        let mut plain = vec![];
        for (number, record) in body[at..].chunks(rs).enumerate() {
            let mut nonce = nonce;
            nonce[11] ^= u8::try_from(number).expect("few");
            let cipher = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &cek).expect("key"));
            let mut record = record.to_vec();
            let opened = cipher
                .open_in_place(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::empty(),
                    &mut record,
                )
                .expect("authentic");
            let end = opened.iter().rposition(|b| *b != 0).expect("delimiter");
            plain.extend_from_slice(&opened[..end]);
        }
        plain
    }

    #[test]
    fn rfc_8291_section_5() {
        let own = PrivateKey::from_private_key(
            &ECDH_P256,
            &b64("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"),
        )
        .expect("key");
        let salt = first(&b64("DGv6ra1nlYgDCS1FRnbzlw"));
        let (public, auth) = (b64(UA_PUBLIC), b64(AUTH));
        let to = Receiver {
            public: &public,
            auth: &auth,
        };
        assert_eq!(
            own.compute_public_key().expect("key").as_ref(),
            b64(AS_PUBLIC)
        );
        let shared = agree(&own, UnparsedPublicKey::new(&ECDH_P256, &public), (), |s| {
            Ok(s.to_vec())
        })
        .expect("on the curve");
        assert_eq!(shared, b64("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs"));
        assert_eq!(
            mac(&auth, &[&shared]).as_ref(),
            b64("Snr3JMxaHVDXHWJn5wdC52WjpCtd2EIEGBykDcZW32k")
        );
        let keys = derive(&shared, to, &b64(AS_PUBLIC), &salt);
        assert_eq!(keys.cek.to_vec(), b64("oIhVW04MRdy2XN9CiKLxTg"));
        assert_eq!(keys.nonce.to_vec(), b64("4h_95klXJ5E_qnoN"));
        let body = encrypt(
            b"When I grow up, I want to be a watermelon",
            0,
            to,
            &own,
            &salt,
        );
        assert_eq!(
            body,
            Ok(b64(
                "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
            ))
        );
        let phone = PrivateKey::from_private_key(&ECDH_P256, &b64(UA_PRIVATE)).expect("key");
        assert_eq!(
            decrypt(&body.expect("encrypted"), &phone, &auth),
            b"When I grow up, I want to be a watermelon"
        );
    }

    #[test]
    fn rfc_8188_section_3() {
        for (key, body) in [
            (
                "yqdlZ-tYemfogSmv7Ws5PQ",
                "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg",
            ),
            (
                "BO3ZVPxUlnLORbVGMpbT1Q",
                "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA",
            ),
        ] {
            assert_eq!(decode_8188(&b64(body), &b64(key)), b"I am the walrus");
        }
    }

    #[test]
    fn length_is_hidden_in_steps() {
        let phone = PrivateKey::generate(&ECDH_P256).expect("key");
        let own = PrivateKey::generate(&ECDH_P256).expect("key");
        let public = phone.compute_public_key().expect("key");
        let to = Receiver {
            public: public.as_ref(),
            auth: &[7; 16],
        };
        for (length, padded) in [
            (0, 256),
            (1, 256),
            (256, 256),
            (257, 512),
            (513, 1024),
            (2048, 2048),
            (2049, 2641),
            (2641, 2641),
        ] {
            let plain = vec![b'x'; length];
            let body = encrypt_padded(&plain, to, &own, &[1; 16]).expect("fits");
            assert_eq!(body.len(), HEADER + padded + 1 + TAG, "{length}");
            assert!(body.len() <= 2744);
            assert_eq!(decrypt(&body, &phone, &[7; 16]), plain);
        }
        assert_eq!(
            encrypt_padded(&[0; 2642], to, &own, &[1; 16]),
            Err(CryptoError::TooLong)
        );
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let own = PrivateKey::generate(&ECDH_P256).expect("key");
        let mut public = b64(UA_PUBLIC);
        public[64] ^= 1;
        for public in [&public[..], &[4; 65], &[], &public[..64]] {
            let to = Receiver {
                public,
                auth: &[7; 16],
            };
            assert_eq!(
                encrypt_padded(b"x", to, &own, &[1; 16]),
                Err(CryptoError::BadKey)
            );
        }
    }
}
