//! Clients that read slowly.

use std::io::{BufRead, Read};
use std::net::TcpStream;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::common::{IMAP, Imap, PASSWORD, PATIENCE};
use super::{ALICE, append_mail, configured, login};

/// A client on a thin line.
fn thin(port: u16) -> Imap {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let address: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut imap = Imap::over(stream);
    imap.line().unwrap();
    imap.ok(&format!("LOGIN {ALICE} {PASSWORD}"));
    imap
}

#[test]
fn who_reads_slowly_gets_it_all() {
    let (_home, server) = configured("write_timeout_secs = 2");
    let text = "Subject: s\n\n".to_owned() + &"some words in a line\n".repeat(400_000);
    append_mail(&mut login(&server), "INBOX", &text);
    let mut slow = thin(server.base + IMAP);
    slow.ok("SELECT INBOX");
    slow.send(b"f FETCH 1 BODY.PEEK[]\r\n");
    let mut head = String::new();
    slow.stream.read_line(&mut head).unwrap();
    let size = head.trim_end().strip_suffix('}').unwrap();
    let size: usize = size.rsplit_once('{').unwrap().1.parse().unwrap();
    let (mut got, mut piece) = (Vec::new(), [0; 10 * 1024]);
    // Meanwhile the time is over several times, and the system's buffers hardly become emptier.
    for _ in 0..120 {
        std::thread::sleep(Duration::from_millis(50));
        slow.stream.read_exact(&mut piece).unwrap();
        got.extend_from_slice(&piece);
    }
    let mut rest = vec![0; size - got.len()];
    slow.stream.read_exact(&mut rest).unwrap();
    got.extend_from_slice(&rest);
    assert!(got == text.replace('\n', "\r\n").as_bytes());
    assert!(slow.until("f").1.starts_with("OK"));
}
