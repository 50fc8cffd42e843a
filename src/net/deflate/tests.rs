use flate2::{Decompress, FlushDecompress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(client, listener.accept());
    (Stream::Plain(server.unwrap().0), client.unwrap())
}

struct Client {
    tcp: TcpStream,
    inflate: Decompress,
    deflate: Compress,
}

impl Client {
    /// Reads until so much came out; gives how much came in.
    async fn expect(&mut self, text: &[u8]) -> usize {
        let (mut got, mut came) = (Vec::with_capacity(text.len() + 1), 0);
        let mut bytes = [0; 4096];
        while got.len() < text.len() {
            let n = self.tcp.read(&mut bytes).await.unwrap();
            assert!(n > 0, "{} of {}", got.len(), text.len());
            came += n;
            let before = self.inflate.total_in();
            while self.inflate.total_in() - before < n as u64 {
                let at = (self.inflate.total_in() - before) as usize;
                got.reserve(8192);
                self.inflate
                    .decompress_vec(&bytes[at..n], &mut got, FlushDecompress::Sync)
                    .unwrap();
            }
        }
        assert!(got == text);
        came
    }

    async fn say(&mut self, text: &[u8]) {
        let mut out = Vec::with_capacity(text.len() + 1000);
        self.deflate
            .compress_vec(text, &mut out, FlushCompress::Sync)
            .unwrap();
        self.tcp.write_all(&out).await.unwrap();
    }
}

fn client(tcp: TcpStream) -> Client {
    Client {
        tcp,
        inflate: Decompress::new(false),
        deflate: Compress::new(Compression::new(6), false),
    }
}

async fn tell(stream: &mut Stream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    stream.flush().await.unwrap();
}

async fn hear(stream: &mut Stream, text: &[u8]) {
    let mut got = Vec::new();
    while got.len() < text.len() {
        stream.readable().await.unwrap();
        let mut bytes = [0; 100];
        if let Some(n) = stream.try_read(&mut bytes).unwrap() {
            assert!(n > 0);
            got.extend_from_slice(&bytes[..n]);
        }
    }
    assert_eq!(got, text);
    // The flush behind it.
    assert_eq!(stream.try_read(&mut [0; 10]).unwrap(), None);
}

#[tokio::test]
async fn both_ways_with_rests_between() {
    let (stream, tcp) = pair().await;
    let mut stream = stream.compress(6);
    let mut client = client(tcp);
    let long = b"* 1 FETCH (FLAGS (\\Seen) UID 1)\r\n".repeat(5000);
    for round in 0..5 {
        let word = format!("* {round} EXISTS\r\n");
        client.say(b"a FETCH 1:* FLAGS\r\n").await;
        hear(&mut stream, b"a FETCH 1:* FLAGS\r\n").await;
        assert!(stream.is_warm());
        // Small words: stored where nothing is warm, else compressed.
        stream.rest();
        assert!(!stream.is_warm());
        tell(&mut stream, word.as_bytes()).await;
        assert!(!stream.is_warm(), "no compressor for a word");
        assert_eq!(client.expect(word.as_bytes()).await, word.len() + 5);
        tell(&mut stream, &long).await;
        let came = client.expect(&long).await;
        assert!(came < long.len() / 20, "{came}");
        assert!(stream.is_warm());
        tell(&mut stream, word.as_bytes()).await;
        client.expect(word.as_bytes()).await;
        if round % 2 == 0 {
            stream.rest();
        }
    }
}

#[tokio::test]
async fn compression_ends_and_begins_again() {
    let (stream, tcp) = pair().await;
    let mut stream = stream.compress(1);
    let mut one = client(tcp);
    one.say(b"a UNAUTHENTICATE\r\n").await;
    one.tcp.write_all(b"b LOGIN\r\n").await.unwrap();
    let mut heard = [0; 18];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"a UNAUTHENTICATE\r\n");
    tell(&mut stream, b"a OK\r\n").await;
    one.expect(b"a OK\r\n").await;
    stream.end_compression();
    hear(&mut stream, b"b LOGIN\r\n").await;
    tell(&mut stream, b"b OK\r\n").await;
    let mut plain = [0; 6];
    one.tcp.read_exact(&mut plain).await.unwrap();
    assert_eq!(&plain, b"b OK\r\n");
    one.tcp.write_all(b"c COMPRESS\r\n").await.unwrap();
    hear(&mut stream, b"c COMPRESS\r\n").await;
    let mut stream = stream.compress(1);
    let mut two = client(one.tcp);
    two.say(b"d NOOP\r\n").await;
    hear(&mut stream, b"d NOOP\r\n").await;
    tell(&mut stream, &b"x".repeat(1000)).await;
    two.expect(&b"x".repeat(1000)).await;
}
