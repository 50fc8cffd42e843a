//! The receiving side of Web Push encryption (RFC 8291, 3; RFC 8188) and of VAPID (RFC 8292).
//!
//! May import: nothing of ours.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, ECDSA_P256_SHA256_FIXED};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::random;

const SALT: usize = 16;
const POINT: usize = 65;
/// Salt, record size, length of the key id, key id (RFC 8188, 2.1).
const HEADER: usize = SALT + 4 + 1 + POINT;
const TAG: usize = 16;

/// The phone's keys.
pub(super) struct Receiver {
    key: PrivateKey,
    public: Vec<u8>,
    auth: [u8; 16],
}

impl Receiver {
    pub(super) fn new() -> Result<Self, String> {
        let key = PrivateKey::generate(&ECDH_P256).map_err(|_| "no key pair".to_owned())?;
        let public = key
            .compute_public_key()
            .map_err(|_| "no public key".to_owned())?
            .as_ref()
            .to_vec();
        Ok(Self {
            key,
            public,
            auth: random()?,
        })
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    pub(super) fn auth(&self) -> &[u8] {
        &self.auth
    }

    /// The content of a push of one record, or None where it is not for us or was changed.
    pub(super) fn decrypt(&self, body: &[u8]) -> Option<Vec<u8>> {
        let (header, sealed) = body.split_at_checked(HEADER)?;
        let (salt, rest) = header.split_at_checked(SALT)?;
        let record_size = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
        let sender = rest.get(5..)?;
        // RFC 8291, 4: one record, so it must be at least as long as what came.
        if usize::from(*rest.get(4)?) != POINT
            || (record_size as usize) < sealed.len()
            || sealed.len() <= TAG
        {
            return None;
        }
        let peer = UnparsedPublicKey::new(&ECDH_P256, sender);
        let key_secret = agreement::agree(&self.key, peer, (), |shared| {
            Ok(hmac256(&self.auth, &[shared]))
        })
        .ok()?;
        let input = hmac256(
            &key_secret,
            &[b"WebPush: info\0", &self.public, sender, &[1]],
        );
        let secret = hmac256(salt, &[&input]);
        let key = hmac256(&secret, &[b"Content-Encoding: aes128gcm\0", &[1]]);
        let nonce = hmac256(&secret, &[b"Content-Encoding: nonce\0", &[1]]);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).ok()?);
        let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).ok()?;
        let mut opened = sealed.to_vec();
        let length = key
            .open_in_place(nonce, Aad::empty(), &mut opened)
            .ok()?
            .len();
        opened.truncate(length);
        // Padding: zeros behind a delimiter, 2 in the last record (RFC 8188, 2).
        let end = opened.iter().rposition(|byte| *byte != 0)?;
        if opened.get(end) != Some(&2) {
            return None;
        }
        opened.truncate(end);
        Some(opened)
    }
}

fn hmac256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// Checks `Authorization: vapid t=<JWT>, k=<key>`: signed by that key, for this origin.
pub(super) fn sender_is_genuine(authorization: &str, origin: &str) -> bool {
    genuine(authorization, origin).is_some()
}

fn genuine(authorization: &str, origin: &str) -> Option<()> {
    let parameters = authorization.strip_prefix("vapid ")?;
    let parameter = |name: &str| {
        parameters
            .split(',')
            .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let (token, key) = (parameter("t")?, parameter("k")?);
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let json = |text: &str| serde_json::from_slice::<serde_json::Value>(&decode(text)?).ok();
    if json(header)?.get("alg")? != "ES256" || json(claims)?.get("aud")? != origin {
        return None;
    }
    signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, decode(key)?)
        .verify(signed.as_bytes(), &decode(signature)?)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// RFC 8291, 5 and appendix A.
    fn rfc8291() -> (Receiver, Vec<u8>) {
        let private = bytes("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
        let receiver = Receiver {
            key: PrivateKey::from_private_key(&ECDH_P256, &private).unwrap(),
            public: bytes(
                "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            ),
            auth: bytes("BTBZMqHH6r4Tts7J_aSIgg").try_into().unwrap(),
        };
        let body = bytes(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        (receiver, body)
    }

    #[test]
    fn decrypts_the_example_of_the_rfc() {
        let (receiver, body) = rfc8291();
        assert_eq!(
            receiver.decrypt(&body).unwrap(),
            b"When I grow up, I want to be a watermelon"
        );
    }

    #[test]
    fn refuses_whatever_was_changed() {
        let (receiver, body) = rfc8291();
        for at in 0..body.len() {
            // The record size may be any that is large enough.
            if (16..20).contains(&at) {
                continue;
            }
            let mut changed = body.clone();
            changed[at] ^= 1;
            assert_eq!(receiver.decrypt(&changed), None, "byte {at}");
        }
        for length in 0..body.len() {
            assert_eq!(receiver.decrypt(&body[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn checks_the_example_token_of_rfc_8292() {
        let header = "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";
        assert!(sender_is_genuine(header, "https://push.example.net"));
        assert!(!sender_is_genuine(header, "https://other.example.net"));
        assert!(!sender_is_genuine(
            &header.replace("i3CY", "i3CZ"),
            "https://push.example.net"
        ));
        assert!(!sender_is_genuine("vapid ", "https://push.example.net"));
    }
}
