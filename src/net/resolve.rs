//! Resolves names that users gave, and lets only allowed addresses through.
//!
//! May import: `guard`, `lookup`. Used when a device is registered and at every connection, which then goes
//! to just these addresses: no look-up in between (DNS rebinding).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::guard::{Guard, Refusal, literal};
use super::lookup::{LookupError, Lookups, Most};
use crate::types::AccountId;

/// This machine's addresses. Binding to one proves nothing: `ip_nonlocal_bind` allows all.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let found = if_addrs::get_if_addrs()?;
    Ok(found.iter().map(|interface| interface.ip()).collect())
}

/// May a connection to `ip` be made? `own`: this machine's addresses, public ones included.
pub fn check(
    guard: &Guard,
    ip: IpAddr,
    port: u16,
    plain: bool,
    own: &[IpAddr],
) -> Result<(), Refusal> {
    guard.address(ip, port, plain)?;
    if !guard.allows(ip, port) && own.contains(&ip.to_canonical()) {
        return Err(Refusal::Address);
    }
    Ok(())
}

/// Who looks names up, with what.
#[derive(Clone)]
pub struct Asker {
    pub lookups: Arc<Lookups>,
    pub account: Option<AccountId>,
    pub most: Most,
}

/// Where `host` may be reached: at least one address, or why none; Err: it can't be told.
pub async fn resolve(
    guard: &Guard,
    asker: &Asker,
    host: &str,
    port: u16,
    plain: bool,
) -> Result<Result<Vec<SocketAddr>, Refusal>, LookupError> {
    let own = own_addresses()?;
    if let Some(ip) = literal(host) {
        let checked = check(guard, ip, port, plain, &own);
        return Ok(checked.map(|()| vec![SocketAddr::new(ip, port)]));
    }
    let mut allowed = Vec::new();
    let mut refusal = None;
    let (account, most) = (asker.account, asker.most);
    for address in asker.lookups.look_up(account, most, host, port).await? {
        match check(guard, address.ip(), port, plain, &own) {
            Ok(()) => allowed.push(address),
            Err(why) => refusal = Some(why),
        }
    }
    match refusal {
        Some(why) if allowed.is_empty() => Ok(Err(why)),
        _ if allowed.is_empty() => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        _ => Ok(Ok(allowed)),
    }
}

/// Does the error of a look-up say that there is no host of that name, and not just that it
/// can't be told now? The standard library keeps the resolver's code to itself, so its text must
/// do: of glibc, musl, and the BSDs. It is not translated, as this process sets no locale.
pub fn is_no_host(error: &io::Error) -> bool {
    const TEXTS: [&str; 3] = [
        "Name or service not known",
        "Name does not resolve",
        "nodename nor servname provided, or not known",
    ];
    let text = error.to_string();
    TEXTS.iter().any(|known| text.contains(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker {
            lookups: Lookups::new(),
            account: None,
            most: Most {
                all: 8,
                per_account: 2,
                patience: std::time::Duration::from_secs(10),
            },
        }
    }

    #[test]
    fn own_public_addresses_are_refused_unless_listed() {
        let own = own_addresses().expect("interfaces");
        assert!(own.contains(&IpAddr::from([127, 0, 0, 1])), "{own:?}");
        assert!(!own.contains(&IpAddr::from([1, 1, 1, 1])));
        let ip: IpAddr = "1.2.3.4".parse().expect("valid");
        let mapped: IpAddr = "::ffff:1.2.3.4".parse().expect("valid");
        let strict = Guard::default();
        let open = Guard::new(&["1.2.3.4/32:443".to_owned()], false).expect("valid");
        for ip in [ip, mapped] {
            assert_eq!(check(&strict, ip, 443, false, &[]), Ok(()));
            let own = [ip.to_canonical()];
            assert_eq!(check(&strict, ip, 443, false, &own), Err(Refusal::Address));
            assert_eq!(check(&open, ip, 443, false, &own), Ok(()));
        }
    }

    #[tokio::test]
    async fn no_host_is_told_from_no_answer() {
        // No name server is asked for what can't be a name.
        let impossible = format!("{}.invalid", "a".repeat(64));
        let found = resolve(&Guard::default(), &asker(), &impossible, 443, false).await;
        let Err(LookupError::Io(error)) = found else {
            panic!("{found:?}")
        };
        assert!(is_no_host(&error), "{error}");
        for text in ["Temporary failure in name resolution", "timed out"] {
            assert!(!is_no_host(&io::Error::other(text)), "{text}");
        }
        assert!(!is_no_host(&io::ErrorKind::NotFound.into()));
    }

    #[tokio::test]
    async fn names_are_judged_by_their_addresses() {
        let guard = Guard::default();
        let found = resolve(&guard, &asker(), "localhost", 443, false).await;
        assert_eq!(found.expect("resolved"), Err(Refusal::Address));
        let found = resolve(&guard, &asker(), "1.1.1.1", 443, false).await;
        assert_eq!(found.expect("an address").map(|all| all.len()), Ok(1));
        assert!(
            resolve(&guard, &asker(), "no.such.invalid", 443, false)
                .await
                .is_err()
        );
    }
}
