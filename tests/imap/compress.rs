//! COMPRESS=DEFLATE (RFC 4978) and UNAUTHENTICATE (RFC 8437) on the real binary.

use std::io::{Read, Write};
use std::net::TcpStream;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::common::{IMAP, PASSWORD, PATIENCE};
use super::{ALICE, append, server};

struct Deflated {
    tcp: TcpStream,
    deflate: Compress,
    inflate: Decompress,
    text: Vec<u8>,
}

impl Deflated {
    fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            deflate: Compress::new(Compression::default(), false),
            inflate: Decompress::new(false),
            text: Vec::new(),
        }
    }

    fn tell(&mut self, text: &str) {
        let mut out = Vec::with_capacity(text.len() + 100);
        self.deflate
            .compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync)
            .expect("compressed");
        self.tcp.write_all(&out).expect("write");
    }

    /// All up to a line that begins so; the line last.
    fn until(&mut self, head: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.text).into_owned();
            let lines = text.split_inclusive("\r\n");
            let mut length = 0;
            for line in lines {
                length += line.len();
                if line.starts_with(head) && line.ends_with("\r\n") {
                    let rest = self.text.split_off(length);
                    let told = std::mem::replace(&mut self.text, rest);
                    return String::from_utf8(told).expect("text");
                }
            }
            // By bytes: what follows the end of compression must stay where it is.
            let mut byte = [0];
            assert_eq!(self.tcp.read(&mut byte).expect("read"), 1, "{text}");
            let before = self.inflate.total_in();
            while self.inflate.total_in() == before {
                self.text.reserve(1024);
                self.inflate
                    .decompress_vec(&byte, &mut self.text, FlushDecompress::Sync)
                    .expect("deflate");
            }
        }
    }
}

fn plain(tcp: &mut TcpStream, command: &str) -> String {
    tcp.write_all(command.as_bytes()).expect("write");
    let tag = command.split(' ').next().expect("a tag");
    let mut text = Vec::new();
    loop {
        let line = text.split(|b| *b == b'\n').rev().nth(1);
        if line.is_some_and(|line| line.starts_with(tag.as_bytes())) {
            return String::from_utf8_lossy(&text).into_owned();
        }
        let mut byte = [0];
        assert_eq!(tcp.read(&mut byte).expect("read"), 1);
        text.push(byte[0]);
    }
}

#[test]
fn a_conversation_is_compressed_and_goes_on_after_a_rest() {
    let (_home, server) = server();
    let mut other = server.imap(ALICE);
    for _ in 0..200 {
        append(&mut other, "INBOX", "");
    }
    let mut tcp = TcpStream::connect(("127.0.0.1", server.port(IMAP))).expect("connect");
    tcp.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let login = plain(&mut tcp, &format!("a LOGIN {ALICE} {PASSWORD}\r\n"));
    assert!(login.contains(" COMPRESS=DEFLATE"), "{login}");
    assert_eq!(
        plain(&mut tcp, "b COMPRESS DEFLATE\r\n"),
        "b OK DEFLATE active\r\n"
    );
    let mut client = Deflated::new(tcp);
    client.tell("c SELECT INBOX\r\n");
    assert!(client.until("c ").contains("* 200 EXISTS"));
    for round in 0..2 {
        let before = client.inflate.total_in();
        client.tell(&format!(
            "d{round} FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)\r\n"
        ));
        let text = client.until(&format!("d{round} "));
        assert_eq!(text.matches(" FETCH (").count(), 200 + round);
        let came = client.inflate.total_in() - before;
        assert!(came < text.len() as u64 / 4, "{came} of {}", text.len());

        // The server puts down what it can while nobody speaks, and tells what is new.
        client.tell(&format!("e{round} IDLE\r\n"));
        client.until("+ ");
        std::thread::sleep(std::time::Duration::from_millis(700));
        append(&mut other, "INBOX", "");
        client.until(&format!("* {} EXISTS", 201 + round));
        client.tell("DONE\r\n");
        client.until(&format!("e{round} OK"));
        other.ok("NOOP");
        client.tell("x FETCH 200 FLAGS\r\n");
        client.until("x OK");
        client.tell(&format!("y COPY {} Trash\r\n", 201 + round));
        client.until("y OK");
        if round == 0 {
            continue;
        }
        client.tell("f COMPRESS DEFLATE\r\n");
        assert!(client.until("f ").contains("NO [COMPRESSIONACTIVE]"));
    }
    // A large literal, in pieces.
    let message = format!(
        "Subject: large\r\n\r\n{}",
        "0123456789abcdef\r\n".repeat(30_000)
    );
    client.tell(&format!("g APPEND INBOX {{{}+}}\r\n", message.len()));
    client.tell(&message);
    client.tell("\r\n");
    assert!(client.until("g ").contains("OK [APPENDUID"));

    // RFC 8437, 4.1: the layer ends, and somebody else may come.
    client.tell("h UNAUTHENTICATE\r\n");
    client.tcp.write_all(b"i CAPABILITY\r\n").expect("write");
    let told = client.until("h OK");
    assert!(told.contains("AUTH=PLAIN"), "{told}");
    assert!(client.text.is_empty());
    let mut tcp = client.tcp;
    let told = plain(&mut tcp, "j NOOP\r\n");
    assert!(told.contains("i OK") && told.contains("LITERAL-"), "{told}");
    assert!(plain(&mut tcp, "k SELECT INBOX\r\n").starts_with("k BAD"));
    let login = plain(
        &mut tcp,
        &format!("l LOGIN bob@posthorn.test {PASSWORD}\r\n"),
    );
    assert!(login.contains("l OK"), "{login}");
    assert!(plain(&mut tcp, "m COMPRESS DEFLATE\r\n").starts_with("m OK"));
    let mut client = Deflated::new(tcp);
    client.tell("n SELECT INBOX\r\n");
    assert!(client.until("n ").contains("* 0 EXISTS"));
}
