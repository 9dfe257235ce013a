//! The world outside: a server that answers everything with an empty object and remembers when it was asked.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// When each path was asked for.
#[derive(Clone, Default)]
pub(crate) struct Sink(Rc<RefCell<BTreeMap<String, Vec<Timestamp>>>>);

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
        self.0.borrow().values().map(Vec::len).sum()
    }

    /// Paths that were asked for more than once, and when they were for the last time.
    pub(crate) fn repeated(&self) -> Vec<(String, Timestamp)> {
        let paths = self.0.borrow();
        let repeated = paths.iter().filter(|(_, times)| times.len() > 1);
        repeated.filter_map(|(path, times)| Some((path.clone(), *times.last()?))).collect()
    }

    /// Answers requests without a body, one after the other.
    async fn answer(self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            while let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
                buffer.drain(..end + 4);
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                self.0.borrow_mut().entry(path).or_default().push(Timestamp::now());
                stream.write_all(ANSWER).await?;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }
}
