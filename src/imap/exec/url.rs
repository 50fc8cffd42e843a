//! GENURLAUTH, RESETKEY, URLFETCH (RFC 4467, 7).

use super::{Answer, Exec, Gone, Out, Refusal};
use crate::imap::encode;
use crate::store::{INTERNAL, UrlReader};

impl Exec {
    pub(super) async fn gen_url_auth(
        &self,
        rumps: &[(String, String)],
        out: &mut Out<'_>,
    ) -> Answer {
        if rumps.iter().any(|(_, mechanism)| mechanism != INTERNAL) {
            return Err(Refusal::Bad("The only mechanism is INTERNAL".into()));
        }
        let mut signed = Vec::with_capacity(rumps.len());
        for (rump, _) in rumps {
            let url = self
                .store
                .url_signed(self.account.id, rump, &self.config.hostname)
                .await?;
            match url {
                Some(url) => signed.push(url),
                // RFC 4467, 7: each URL is looked at, and one that does not do is BAD.
                None => {
                    return Err(Refusal::Bad(
                        "Not a URL of a message of yours, with ;URLAUTH= at its end".into(),
                    ));
                }
            }
        }
        out.buf.extend_from_slice(b"* GENURLAUTH");
        for url in signed {
            out.buf.push(b' ');
            encode::string(&mut out.buf, url.as_bytes());
        }
        out.line("");
        Ok("Signed".into())
    }

    pub(super) async fn reset_key(&self, mailbox: Option<&str>) -> Answer {
        let key = match mailbox {
            Some(name) => Some(self.find(name)?.key),
            None => None,
        };
        self.store.url_keys_reset(self.account.id, key).await?;
        Ok(match key {
            Some(_) => format!("[URLMECH {INTERNAL}] Reset"),
            None => "All keys are reset".into(),
        })
    }

    pub(super) async fn url_fetch(&self, urls: &[String], out: &mut Out<'_>) -> Answer {
        let reader = UrlReader::User(self.account.id);
        for url in urls {
            let passage = self
                .store
                .url_passage(url, reader, &self.config.hostname)
                .await?;
            out.buf.extend_from_slice(b"* URLFETCH ");
            encode::string(&mut out.buf, url.as_bytes());
            let Some(mut passage) = passage else {
                out.line(" NIL");
                continue;
            };
            // The first piece is read before anything is promised.
            let length = passage.len();
            let mut piece = passage.next_piece();
            match &piece {
                Ok(_) => out.line(&format!(" {{{length}}}")),
                Err(_) => {
                    out.line(" NIL");
                    continue;
                }
            }
            loop {
                match piece {
                    Ok(Some(bytes)) => out.put(&bytes).await?,
                    Ok(None) => break,
                    // Announced, and not there any more: there is no other way to say so.
                    Err(_) => return Err(Gone { stalled: false }.into()),
                }
                piece = passage.next_piece();
            }
            out.line("");
            tokio::task::yield_now().await;
        }
        Ok("Fetched".into())
    }
}
