use std::time::Duration;

use super::*;
use crate::auth::tests::{HERE, config, with_alice};
use crate::config::AuthConfig;
use crate::store::ScramKeys;

fn lookup(login: &str) -> Lookup {
    Lookup {
        login: login.into(),
        binding: None,
    }
}

fn plain(login: &str, password: &str) -> Claim {
    Claim {
        authzid: String::new(),
        login: login.into(),
        proof: Proof::Password(Secret::new(password)),
    }
}

fn scram(found: &Found, login: &str, right: bool) -> Claim {
    Claim {
        authzid: String::new(),
        login: login.into(),
        proof: Proof::Scram {
            account: found.account.clone(),
            right,
        },
    }
}

/// Logs in until there are other keys than `before`: a login that comes while some are made
/// already makes none.
async fn keys_of(auth: &Auth, before: Option<&ScramKeys>) -> ScramKeys {
    for _ in 0..10_000 {
        let right = Secret::new("right");
        let account = auth.login("alice", &right, HERE, "imap").await.unwrap();
        match auth.inner.store.scram_keys(account.id).unwrap() {
            Some(keys) if Some(&keys) != before => return keys,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    panic!("no keys");
}

#[tokio::test]
async fn nobody_learns_who_is_here_or_has_keys() {
    let (_dir, _store, auth, _) = with_alice(&config()).await;
    // Made without keys.
    let before = auth.look_up(&lookup("alice"), HERE).unwrap();
    assert!(before.account.is_none());
    let spelled = auth.look_up(&lookup("ALICE@posthorn.test"), HERE).unwrap();
    assert_eq!(before.keys, spelled.keys);
    assert_ne!(before.nonce, spelled.nonce);

    let first = auth.check(&plain("alice", "right"), HERE, "imap").await;
    assert!(first.is_ok());
    let keys = keys_of(&auth, None).await;
    let after = auth.look_up(&lookup("alice"), HERE).unwrap();
    assert_eq!(after.keys, keys);
    assert!(after.account.is_some());
    let shown = |found: &Found| (found.keys.salt, found.keys.iterations);
    assert_eq!(shown(&before), shown(&after), "the same as before");
    assert_ne!(before.keys.stored_key, keys.stored_key);

    let bob = auth.look_up(&lookup("bob"), HERE).unwrap();
    let again = auth.look_up(&lookup("bob@posthorn.test"), HERE).unwrap();
    assert_eq!(bob.keys, again.keys);
    assert_ne!(bob.keys.salt, keys.salt);
    assert_eq!(bob.keys.iterations, keys.iterations);
    for strange in ["", "@", "a@b@c", "nul\0"] {
        assert!(
            auth.look_up(&lookup(strange), HERE)
                .unwrap()
                .account
                .is_none()
        );
    }
}

#[tokio::test]
async fn keys_come_and_go_with_the_password() {
    let (_dir, store, auth, _) = with_alice(&config()).await;
    let (right, new) = (Secret::new("right"), Secret::new("new"));
    let address = Address::parse("alice@posthorn.test").unwrap();
    let account = auth.login("alice", &right, HERE, "http").await.unwrap();
    let old = keys_of(&auth, None).await;

    let credentials = auth.credentials(&address, &new).await.unwrap();
    assert_eq!(credentials.scram.clone().map(|k| k.salt), Some(old.salt));
    store
        .account_set_credentials(account.id, credentials.clone())
        .await
        .unwrap();
    assert_eq!(store.scram_keys(account.id), Ok(credentials.scram));
    // Keys of the old password come too late.
    store
        .account_add_scram(&account, old.clone())
        .await
        .unwrap();
    assert_ne!(store.scram_keys(account.id), Ok(Some(old)));
    // A hash alone takes them away.
    let hash = auth.hash(&right).await.unwrap();
    store.account_set_password(account.id, hash).await.unwrap();
    assert_eq!(store.scram_keys(account.id), Ok(None));

    let more = AuthConfig {
        scram_iterations: 5000,
        ..config()
    };
    let cheap = keys_of(&auth, None).await;
    auth.reconfigure(&more);
    let dear = keys_of(&auth, Some(&cheap)).await;
    assert_eq!((cheap.iterations, dear.iterations), (10_000, 5000));

    let off = AuthConfig {
        scram_iterations: 0,
        ..config()
    };
    auth.reconfigure(&off);
    let credentials = auth.credentials(&address, &new).await.unwrap();
    assert_eq!(credentials.scram, None);
    assert!(!auth.offered().scram);
    auth.reconfigure(&more);
    assert!(auth.offered().scram);

    store.account_remove(account.id).await.unwrap();
    assert_eq!(store.scram_keys(account.id), Ok(None));
}

#[tokio::test]
async fn wrong_proofs_count_as_wrong_passwords() {
    let (_dir, _store, auth, _) = with_alice(&config()).await;
    keys_of(&auth, None).await;
    let found = auth.look_up(&lookup("alice"), HERE).unwrap();
    let right = auth
        .check(&scram(&found, "alice", true), HERE, "imap")
        .await;
    assert_eq!(right.unwrap().address.to_string(), "alice@posthorn.test");
    for _ in 0..3 {
        let wrong = auth
            .check(&scram(&found, "alice", false), HERE, "imap")
            .await;
        assert_eq!(wrong.unwrap_err(), AuthError::Invalid);
    }
    let late = auth
        .check(&scram(&found, "alice", true), HERE, "imap")
        .await;
    assert_eq!(late.unwrap_err(), AuthError::Throttled);
    let refused = auth.look_up(&lookup("alice"), HERE);
    assert_eq!(refused.unwrap_err(), AuthError::Throttled);
}

#[tokio::test]
async fn whom_to_act_as_must_be_oneself() {
    let (_dir, _store, auth, _) = with_alice(&config()).await;
    for (authzid, fits) in [
        ("", true),
        ("alice", true),
        ("Alice@Posthorn.test", true),
        ("bob@posthorn.test", false),
        ("al", false),
    ] {
        let claim = Claim {
            authzid: authzid.into(),
            ..plain("alice", "right")
        };
        let result = auth.check(&claim, HERE, "submission").await;
        assert_eq!(result.is_ok(), fits, "{authzid}");
    }
}
