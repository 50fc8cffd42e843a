//! SEARCH as RFC 9051, 6.4.4 has it: which parts, which form of an address, which letters.

use crate::mail::*;

fn text_of(raw: &str, needle: &str) -> [bool; 2] {
    [SearchScope::Body, SearchScope::Text]
        .map(|scope| search_text(raw.as_bytes(), scope, &fold(needle)))
}

/// RFC 9051, 6.4.4 names text and message parts.
#[test]
fn reports_are_text() {
    let bounce = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
        --b\r\n\r\nNotification\r\n\
        --b\r\nContent-Type: message/delivery-status\r\n\r\n\
        Reporting-MTA: dns; example.org\r\n\r\nFinal-Recipient: rfc822; Lost@example.org\r\n\
        Status: 5.1.1\r\n\
        --b\r\nContent-Type: message/disposition-notification\r\n\r\n\
        Disposition: manual-action/MDN-sent-manually; displayed\r\n\
        --b\r\nContent-Type: message/partial; id=x; number=1; total=2\r\n\r\n\
        Subject: half\r\n\r\nfirst half\r\n\
        --b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        U3ViamVjdDogaGlkZGVuCgpkZWVwIGluc2lkZQo=\r\n\
        --b\r\nContent-Type: application/x-message\r\n\r\nnobody reads this\r\n--b--\r\n";
    for needle in [
        "lost@EXAMPLE.org",
        "5.1.1",
        "mdn-sent-manually",
        "subject: half",
        "first half",
        "deep inside",
        "Subject: hidden",
    ] {
        assert_eq!(text_of(bounce, needle), [true; 2], "{needle}");
    }
    assert_eq!(text_of(bounce, "nobody reads"), [false; 2]);
}
