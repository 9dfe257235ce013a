//! The world outside: a server that answers everything with an empty object and counts how often each path was asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// How often each path was asked for.
#[derive(Clone, Default)]
pub(crate) struct Sink(Rc<RefCell<BTreeMap<String, usize>>>);

impl Sink {
    /// Opens one on a free port of the loopback; it answers as long as the current [`tokio::task::LocalSet`] runs.
    pub(crate) async fn open() -> io::Result<(Self, String)> {
        let sink = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let answering = sink.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(answering.clone().answer(stream));
            }
        });
        Ok((sink, url))
    }

    /// Requests that have arrived so far.
    pub(crate) fn count(&self) -> usize {
        self.0.borrow().values().sum()
    }

    /// Paths that were asked for more than once, and how often.
    pub(crate) fn repeated(&self) -> Vec<(String, usize)> {
        let paths = self.0.borrow();
        paths.iter().filter(|(_, times)| **times > 1).map(|(path, times)| (path.clone(), *times)).collect()
    }

    /// Answers requests without a body, one after the other.
    async fn answer(self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            while let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
                buffer.drain(..end + 4);
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                self.0.borrow_mut().entry(path).and_modify(|times| *times += 1).or_insert(1);
                stream.write_all(ANSWER).await?;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }
}
