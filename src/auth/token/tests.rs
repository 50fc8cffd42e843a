use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;

/// RFC 7515, A.1 and A.3; RFC 8037, A.4.
#[test]
fn signatures_of_the_rfcs() {
    let joe = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret = json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"});
    let p256 = json!({"kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let ed =
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let tokens = [
        (
            &secret,
            format!(
                "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{joe}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
            ),
        ),
        (
            &p256,
            format!(
                "eyJhbGciOiJFUzI1NiJ9.{joe}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
            ),
        ),
        (
            &ed,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg".to_owned(),
        ),
    ];
    let all = json!({"keys": [secret, p256, ed]}).to_string();
    let all = Keys::read(all.as_bytes()).unwrap();
    for (n, (key, token)) in tokens.iter().enumerate() {
        let one = Keys::read(json!({"keys": [key]}).to_string().as_bytes()).unwrap();
        assert!(one.signed(token.as_bytes()).is_some(), "{n}");
        assert!(all.signed(token.as_bytes()).is_some(), "{n}");
        // Keys of the others, and any other byte.
        for (m, (_, other)) in tokens.iter().enumerate() {
            assert_eq!(one.signed(other.as_bytes()).is_some(), n == m);
        }
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'Q' { b'w' } else { b'Q' };
            // The last character has bits that mean nothing; with them set it is refused too.
            assert_eq!(all.signed(&changed), None, "{n} {at}");
        }
    }
}

struct Issuer {
    ec: EcdsaKeyPair,
    keys: Keys,
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

impl Issuer {
    fn new() -> Self {
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = ec.public_key().as_ref();
        let set = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig",
             "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
             "y": URL_SAFE_NO_PAD.encode(&point[33..])},
            {"kty": "EC", "crv": "P-384", "x": "", "y": ""},
        ]});
        let keys = Keys::read(set.to_string().as_bytes()).unwrap();
        Self { ec, keys }
    }

    fn token(&self, header: &Value, claims: &Value) -> Vec<u8> {
        let message = format!("{}.{}", part(header), part(claims));
        let signed = self.ec.sign(&SystemRandom::new(), message.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signed.unwrap().as_ref());
        format!("{message}.{signature}").into_bytes()
    }
}

const NOW: i64 = 1_000_000;

#[test]
fn a_token_must_say_what_it_has_to() {
    let issuer = Issuer::new();
    let rules = Rules {
        issuer: "https://id.example".into(),
        audience: "mail".into(),
        claim: "email".into(),
    };
    let claims = |change: Value| {
        let mut claims = json!({"iss": "https://id.example", "aud": "mail",
            "exp": NOW + 300, "email": "alice@example.org"});
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone()),
            };
        }
        claims
    };
    let header = json!({"alg": "ES256", "kid": "1", "typ": "at+jwt"});
    let whose = |header: &Value, change: Value| {
        let token = issuer.token(header, &claims(change));
        issuer.keys.whose(&token, &rules, NOW)
    };
    for change in [
        json!({}),
        json!({"aud": ["web", "mail"]}),
        json!({"exp": NOW - 59}),
        json!({"exp": NOW as f64 + 0.5}),
        json!({"nbf": NOW + 60}),
        json!({"email_verified": true}),
    ] {
        let account = whose(&header, change.clone());
        assert_eq!(account.as_deref(), Some("alice@example.org"), "{change}");
    }
    for change in [
        json!({"iss": "https://id.example/"}),
        json!({"iss": null}),
        json!({"aud": "web"}),
        json!({"aud": ["web"]}),
        json!({"aud": null}),
        json!({"aud": 7}),
        json!({"exp": NOW - 60}),
        json!({"exp": null}),
        json!({"exp": "tomorrow"}),
        json!({"nbf": NOW + 61}),
        json!({"nbf": "today"}),
        json!({"email": null}),
        json!({"email": ""}),
        json!({"email": ["alice@example.org"]}),
        json!({"email_verified": false}),
        json!({"email_verified": "true"}),
    ] {
        assert_eq!(whose(&header, change.clone()), None, "{change}");
    }
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256"}),
        json!({"alg": "ES256", "kid": "2"}),
        json!({"alg": "ES256", "crit": ["exp"], "exp": 1}),
        json!({}),
    ] {
        assert_eq!(whose(&header, json!({})), None, "{header}");
    }
    assert!(whose(&json!({"alg": "ES256"}), json!({})).is_some());
    // A public key is no secret: who knows it can't sign with it.
    let message = format!(
        "{}.{}",
        part(&json!({"alg": "HS256"})),
        part(&claims(json!({})))
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, issuer.ec.public_key().as_ref());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    let forged = format!("{message}.{signature}");
    assert_eq!(issuer.keys.whose(forged.as_bytes(), &rules, NOW), None);
    for nonsense in ["", ".", "..", "...", "a.b.c", "e30.e30.", "e30.e30.e30.e30"] {
        assert_eq!(issuer.keys.whose(nonsense.as_bytes(), &rules, NOW), None);
    }
}

fn pem(der: &[u8]) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(der)
    )
}

#[test]
fn keys_are_read_from_pem_and_from_jwk_sets() {
    let message = format!(
        "{}.{}",
        part(&json!({"alg": "RS256"})),
        part(&json!({"a": 1}))
    );
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature));
    let public = pair.public_key();
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(public).unwrap();
    let rsa_pem = pem(der.as_ref());
    let set = json!({"keys": [{"kty": "RSA",
        // PKCS#1: a sequence of both.
        "n": URL_SAFE_NO_PAD.encode(&public.as_ref()[9..265]),
        "e": "AQAB"}]});
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(ed.public_key()).unwrap();
    let both = format!("{}{rsa_pem}", pem(ed.as_ref()));
    for file in [rsa_pem, set.to_string(), both] {
        let keys = Keys::read(file.as_bytes()).unwrap();
        assert!(keys.signed(token.as_bytes()).is_some(), "{file}");
    }
    let issuer = Issuer::new();
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(issuer.ec.public_key());
    let keys = Keys::read(pem(der.unwrap().as_ref()).as_bytes()).unwrap();
    let token = issuer.token(&json!({"alg": "ES256"}), &json!({}));
    assert!(keys.signed(&token).is_some());

    for (file, error) in [
        ("", "no key"),
        ("{}", "no JWK set"),
        ("{\"keys\":[]}", "no key"),
        // A secret that is too short is none.
        ("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "no key"),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "no key",
        ),
    ] {
        let found = Keys::read(file.as_bytes()).err().unwrap().to_string();
        assert!(found.contains(error), "{file}: {found}");
    }
}
