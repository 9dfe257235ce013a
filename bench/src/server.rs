//! The program under measurement, as a process of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::connection::Connection;

/// What the program prints when it listens.
const READY_LINE: &str = "listening on http://";
/// The kernel counts CPU time in these.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) struct Server {
    process: Child,
    folder: TempDir,
    /// `127.0.0.1:port`
    pub(crate) address: String,
}

impl Server {
    /// Starts on an empty database below `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("windlass-bench-").tempdir_in(folder)?;
        let log = std::fs::File::create(folder.path().join("server.log"))?;
        let mut process = Command::new(program()?)
            .args(["dev", "--port", "0", "--db"])
            .arg(folder.path().join("windlass.db"))
            .current_dir(folder.path())
            .env("WINDLASS_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("the program cannot be started")?;
        let mut lines = BufReader::new(process.stdout.take().context("it was asked for")?).lines();
        let address = loop {
            let Some(line) = lines.next() else {
                bail!("the server ended: {}", std::fs::read_to_string(folder.path().join("server.log"))?)
            };
            if let Some((_, address)) = line?.split_once(READY_LINE) {
                break address.split_whitespace().next().unwrap_or_default().to_owned();
            }
        };
        // Nobody must ever wait for a reader of this pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { process, folder, address })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.address).await.context("the server does not take a connection")
    }

    /// Publishes a serial workflow of so many steps that do nothing.
    pub(crate) async fn publish(&self, name: &str, steps: usize) -> Result<()> {
        let list: Vec<_> =
            (0..steps).map(|n| serde_json::json!({"id": format!("s{n}"), "type": "noop"})).collect();
        let spec = serde_json::json!({"version": 1, "name": name, "type": "steps", "steps": list});
        let body = serde_json::json!({ "spec": spec }).to_string();
        let request = format!(
            "POST /v1/workflows HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, body) = self.connect().await?.exchange(request.as_bytes()).await?;
        ensure!(status == 201, "the workflow was refused: {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    fn proc_file(&self, name: &str) -> Result<String> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{name}", self.process.id()))?)
    }

    /// CPU seconds that all threads of the server have used so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc_file("stat")?;
        // The second field is the program's name and may hold anything; utime and stime are the 14th and 15th.
        let (_, rest) = stat.rsplit_once(')').context("a stat line names its program")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// The most memory that the server ever had in use.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let status = self.proc_file("status")?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("Linux tells the peak")?;
        let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Flushes of the device that the database lies on, so far; of everybody who uses it.
    /// None when the device does not count them.
    pub(crate) fn device_flushes(&self) -> Option<f64> {
        let device = std::fs::metadata(self.folder.path()).ok()?.dev();
        // The kernel's split of a device number, as in sys/sysmacros.h.
        let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
        let minor = (device & 0xff) | ((device >> 12) & !0xff);
        let stats = std::fs::read_to_string("/proc/diskstats").ok()?;
        let line = stats.lines().find(|line| {
            let mut fields = line.split_whitespace();
            fields.next() == Some(major.to_string().as_str())
                && fields.next() == Some(minor.to_string().as_str())
        })?;
        // Two numbers and a name, then eleven of reads and writes, four of discards, and the flushes.
        line.split_whitespace().nth(18)?.parse().ok()
    }

    /// Stops the server in peace. Returns the bytes of its database, its bounded write-ahead log included.
    pub(crate) fn stop(mut self) -> Result<u64> {
        let kill = format!("kill -TERM {}", self.process.id());
        Command::new("/bin/sh").args(["-c", &kill]).status()?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        let mut bytes = 0;
        for file in std::fs::read_dir(self.folder.path())? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with("windlass.db") {
                bytes += file.metadata()?.len();
            }
        }
        Ok(bytes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`; a failed round leaves nothing behind.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program beside this one: `target/release/windlass`.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.with_file_name("windlass");
    ensure!(
        program.is_file(),
        "{} is missing: build it with `cargo build --release -p windlass -p bench`",
        program.display()
    );
    Ok(program)
}
