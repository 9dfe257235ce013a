//! Frames of PostgreSQL's protocol, version 3.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// One message, as it came: a tag, four bytes of length, and the rest.
pub(super) struct Frame(pub(super) Vec<u8>);

impl Frame {
    pub(super) fn tag(&self) -> u8 {
        self.0[0]
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.0[5..]
    }

    /// The strings that a body begins with.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.body().split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned())
    }
}

/// Cuts what arrives into frames. Giving up a call loses nothing.
pub(super) struct Frames<R> {
    from: R,
    arrived: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn of(from: R) -> Self {
        Self { from, arrived: Vec::new() }
    }

    /// The next message; none when the other side has hung up.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        Ok(self.take(1).await?.map(Frame))
    }

    /// The first message of a client, which has no tag.
    pub(super) async fn greeting(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.take(0).await
    }

    /// A message whose length stands after so many bytes, and counts itself and what follows.
    async fn take(&mut self, before_length: usize) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(length) = self.arrived[before_length.min(self.arrived.len())..].first_chunk::<4>() {
                let end = before_length + u32::from_be_bytes(*length) as usize;
                if self.arrived.len() >= end {
                    let rest = self.arrived.split_off(end);
                    return Ok(Some(std::mem::replace(&mut self.arrived, rest)));
                }
            }
            if self.from.read_buf(&mut self.arrived).await? == 0 {
                return Ok(None);
            }
        }
    }
}
