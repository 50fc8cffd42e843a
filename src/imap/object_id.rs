//! EMAILID and THREADID (RFC 8474, 5.1 and 5.2).
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Both are derived from what never changes of a message, so nothing has to be kept: what is
//! copied or moved keeps them, and so does a store that was built anew.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::mail::References;
use crate::types::BlobId;

/// Of a message with this body; `variant`: of the header lines that its recipient has in front of
/// it, 0 where there are none. So one mail to two recipients has two, as BODY[] and RFC822.SIZE are
/// not the same.
pub fn email_id(blob: BlobId, variant: u32) -> String {
    match variant {
        0 => format!("M{blob}"),
        _ => format!("M{blob}{variant:08x}"),
    }
}

/// Of a message with this body: a hash of the Message-ID that its conversation began with, as far
/// as it says. One that says nothing is alone.
pub fn thread_id(references: &References, blob: BlobId) -> String {
    match references.root() {
        Some(root) => {
            let hash = digest(&SHA256, root);
            let short = hash.as_ref().get(..16).unwrap_or_default();
            format!("T{}", URL_SAFE_NO_PAD.encode(short))
        }
        None => format!("T{blob}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_has_one_thread_id_and_it_stays() {
        let blob = BlobId([7; 16]);
        let of = |text: &str| thread_id(&References::read(text.as_bytes()), blob);
        let first = of("Message-ID: <a@x>\r\n\r\n");
        assert_eq!(first, "TvTnm_q_YNwEcZOiinD_f_g");
        assert_eq!(of("Message-ID: <b@x>\r\nIn-Reply-To: <a@x>\r\n\r\n"), first);
        assert_eq!(of("References: <a@x> <b@x>\r\n\r\n"), first);
        assert_ne!(of("Message-ID: <c@x>\r\n\r\n"), first);
        assert_eq!(of("\r\n"), format!("T{blob}"));
        assert_eq!(email_id(blob, 0), "M07070707070707070707070707070707");
        let other = email_id(blob, 255);
        assert_eq!(other, "M07070707070707070707070707070707000000ff");
        // RFC 8474, 4: objectid = 1*255(ALPHA / DIGIT / "_" / "-")
        for id in [first, email_id(blob, 0), other] {
            assert!(
                id.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
            );
        }
    }
}
