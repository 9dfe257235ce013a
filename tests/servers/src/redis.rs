//! A Redis server of one test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::free_port;
use crate::process::{self, Process};

const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A server that keeps nothing on disk. Stopped and removed when dropped.
pub struct Redis {
    process: Process,
    program: PathBuf,
    port: u16,
}

impl Redis {
    /// # Panics
    /// When neither Redis nor Valkey is installed, with the command that installs one.
    pub fn start() -> Self {
        Self::start_at(free_port())
    }

    /// A server on a port that was chosen.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub fn start_at(port: u16) -> Self {
        let program = program().expect("Redis is not installed: run `cargo xtask setup`");
        let mut server = Self { process: Process::named("redis"), program, port };
        server.start_again();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server has said so far lies there.
    pub fn log(&self) -> PathBuf {
        self.process.log()
    }

    /// Its process, for whoever wants to be unkind to it by hand.
    pub fn process_ids(&self) -> Vec<u32> {
        self.process.ids()
    }

    /// Forgets everything, as if it had lost its disk.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn flush(&self) {
        let answer = ask(self.port, "FLUSHALL").expect("the server answers");
        assert_eq!(answer, "+OK");
    }

    /// What it holds at this moment.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn holdings(&self) -> RedisHoldings {
        let count = |script: &str| {
            let answer = ask(self.port, &format!(r#"EVAL "return {script}" 0"#)).expect("the server answers");
            let number = answer.strip_prefix(':').and_then(|number| number.parse().ok());
            number.unwrap_or_else(|| panic!("{script}: {answer}"))
        };
        RedisHoldings {
            clients: count(
                "tonumber(string.match(redis.call('info', 'clients'), 'connected_clients:(%d+)'))",
            ),
            channels: count("#redis.call('pubsub', 'channels')"),
            keys: count("#redis.call('keys', '*')"),
        }
    }

    /// Hears from now on whatever anybody says to the server.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn overhear(&self) -> Overhearing {
        Overhearing::at(self.port).expect("the server answers")
    }

    /// `kill -9`; everything in it is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty, on the same port.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn start_again(&mut self) {
        let Self { process, program, port } = self;
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]).arg("--dir").arg(&process.folder);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        let is_ready = || ask(*port, "PING").is_ok_and(|answer| answer == "+PONG");
        if let Err(problem) = process.start(&mut command, is_ready) {
            panic!("Redis: {problem}");
        }
    }

    /// Stops the clockwork: connections stay open, and nothing answers.
    pub fn freeze(&self) {
        self.process.send_to_all("STOP");
    }

    pub fn thaw(&self) {
        self.process.send_to_all("CONT");
    }
}

/// How much a server has of what it could have too much of.
#[derive(Clone, Copy, Debug)]
pub struct RedisHoldings {
    /// The one who asks among them.
    pub clients: u64,
    /// Those that somebody listens to.
    pub channels: u64,
    pub keys: u64,
}

/// An ear on a server. What the server has, and what passed through it, was said to it.
pub struct Overhearing {
    stream: TcpStream,
    port: u16,
}

impl Overhearing {
    fn at(port: u16) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(b"MONITOR\r\n")?;
        stream.read_exact(&mut [0; b"+OK\r\n".len()])?;
        Ok(Self { stream, port })
    }

    /// All that was said since the beginning.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn end(mut self) -> Vec<u8> {
        // The server tells what it hears in that order.
        const LAST: &str = "that-was-all";
        ask(self.port, &format!("ECHO {LAST}")).expect("the server answers");
        let mut heard = Vec::new();
        let mut buffer = [0; 16 * 1024];
        while !heard.windows(LAST.len()).any(|window| window == LAST.as_bytes()) {
            let bytes = self.stream.read(&mut buffer).expect("the server tells");
            assert!(bytes > 0, "the server has hung up");
            heard.extend_from_slice(&buffer[..bytes]);
        }
        heard
    }
}

/// Whichever server the variable names, such as a Valkey beside the Redis that is installed.
fn program() -> Option<PathBuf> {
    match std::env::var_os("WINDLASS_TEST_REDIS") {
        Some(path) => Some(path.into()),
        None => process::find(&["redis-server", "valkey-server"], &[]),
    }
}

/// One word to the server, and the first line of what it says.
fn ask(port: u16, word: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(format!("{word}\r\n").as_bytes())?;
    let mut answer = [0; 256];
    let bytes = stream.read(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..bytes]);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
