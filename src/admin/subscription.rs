//! A Web Push subscription as a browser gives it: parsed and checked before it is kept.
//!
//! Machine: no IO, no clock, no randomness.

use aws_lc_rs::agreement::{ECDH_P256, ParsedPublicKey, UnparsedPublicKey};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::net::guard::{Guard, Refusal};
use crate::types::UnixMillis;

/// The JSON of `PushSubscription.toJSON()`; other keys are ignored.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    pub endpoint: String,
    /// Milliseconds since 1970; browsers may give a fraction.
    #[serde(default)]
    pub expiration_time: Option<f64>,
    pub keys: SubscriptionKeys,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SubscriptionKeys {
    pub p256dh: String,
    pub auth: String,
}

/// What a subscription comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub endpoint: String,
    pub p256dh: Vec<u8>,
    pub auth: Vec<u8>,
}

/// Why a subscription is refused: always the asker's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    #[error(transparent)]
    Endpoint(#[from] Refusal),
    #[error("keys.p256dh is not an uncompressed point on P-256 in base64url")]
    P256dh,
    #[error("keys.auth is not 16 bytes in base64url")]
    Auth,
    #[error("the subscription has expired")]
    Expired,
}

impl Subscription {
    pub fn check(&self, guard: &Guard, now: UnixMillis) -> Result<Checked, SubscriptionError> {
        guard.url(&self.endpoint)?;
        let p256dh = decode(&self.keys.p256dh, 65).ok_or(SubscriptionError::P256dh)?;
        let on_curve =
            ParsedPublicKey::try_from(UnparsedPublicKey::new(&ECDH_P256, &p256dh)).is_ok();
        if p256dh[0] != 4 || !on_curve {
            return Err(SubscriptionError::P256dh);
        }
        let auth = decode(&self.keys.auth, 16).ok_or(SubscriptionError::Auth)?;
        // Not a number, or in the past.
        if self
            .expiration_time
            .is_some_and(|at| at.is_nan() || at <= now.0 as f64)
        {
            return Err(SubscriptionError::Expired);
        }
        Ok(Checked {
            endpoint: self.endpoint.clone(),
            p256dh,
            auth,
        })
    }
}

/// Both alphabets, with or without padding: libraries differ.
fn decode(text: &str, length: usize) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if text.contains(['+', '/']) {
        STANDARD
    } else {
        URL_SAFE
    };
    let bytes = (text.len() <= 2 * length)
        .then(|| GeneralPurpose::new(&alphabet, config).decode(text).ok())??;
    (bytes.len() == length).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256DH: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    fn check(json: &serde_json::Value) -> Result<Checked, SubscriptionError> {
        let guard = Guard::new(&[], false).expect("valid");
        serde_json::from_value::<Subscription>(json.clone())
            .expect("shape")
            .check(&guard, UnixMillis::from_secs(1_800_000_000))
    }

    fn json(p256dh: &str, auth: &str) -> serde_json::Value {
        serde_json::json!({
            "endpoint": "https://push.example/abc",
            "expirationTime": null,
            "keys": { "p256dh": p256dh, "auth": auth },
        })
    }

    #[test]
    fn takes_every_spelling_of_the_keys() {
        let standard = P256DH.replace('-', "+").replace('_', "/");
        for p256dh in [
            P256DH,
            &format!("{P256DH}="),
            &standard,
            &format!("{standard}="),
        ] {
            for auth in [AUTH, &format!("{AUTH}==")] {
                let checked = check(&json(p256dh, auth)).expect(p256dh);
                assert_eq!((checked.p256dh.len(), checked.auth.len()), (65, 16));
                assert_eq!(checked.endpoint, "https://push.example/abc");
            }
        }
    }

    #[test]
    fn refuses_what_can_never_work() {
        let bad_point = P256DH.replacen("BCVx", "BCVy", 1);
        let compressed = "AyVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcx";
        for p256dh in [
            "",
            "!",
            &bad_point,
            compressed,
            &P256DH[..80],
            &P256DH.repeat(9),
        ] {
            assert_eq!(
                check(&json(p256dh, AUTH)),
                Err(SubscriptionError::P256dh),
                "{p256dh}"
            );
        }
        for auth in ["", "AAAA", &AUTH[..20], &AUTH.repeat(5)] {
            assert_eq!(
                check(&json(P256DH, auth)),
                Err(SubscriptionError::Auth),
                "{auth}"
            );
        }
        let mut value = json(P256DH, AUTH);
        value["expirationTime"] = 1_800_000_000_000u64.into();
        assert_eq!(check(&value), Err(SubscriptionError::Expired));
        value["expirationTime"] = serde_json::json!(1_800_000_000_000.5);
        assert!(check(&value).is_ok());
        value["endpoint"] = "https://10.0.0.1/".into();
        assert_eq!(
            check(&value),
            Err(SubscriptionError::Endpoint(Refusal::Address))
        );
    }
}
