//! What the house costs: CPU and memory of its processes, flushes and bytes of its disk.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::house::House;
use crate::program::Program;
use crate::report::Report;

/// The kernel counts CPU time in these.
const TICKS_PER_SECOND: f64 = 100.0;
const SECTOR_BYTES: f64 = 512.0;
/// As often as a Redis that has nothing to do.
const BARE_SLEEP: Duration = Duration::from_millis(100);

/// The state of all counters at one moment.
pub(crate) struct Meter {
    cpu: Cpu,
    disk: Option<Disk>,
    journal: Option<(f64, f64)>,
}

/// Seconds of the Windlass processes, and in a fleet of PostgreSQL and Redis.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) windlass: f64,
    pub(crate) servers: Option<(f64, f64)>,
}

/// Of the device that the database lies on, and of everybody who uses it.
#[derive(Clone, Copy)]
struct Disk {
    flushes: f64,
    bytes_written: f64,
}

impl Meter {
    pub(crate) fn begin(house: &House) -> Result<Self> {
        // Asking costs PostgreSQL a process, too: that one lies outside of what is measured.
        let journal = house.journal()?;
        Ok(Self { cpu: Cpu::of(house)?, disk: Disk::below(house.folder.path()), journal })
    }

    /// CPU seconds of everything but the load generator since then.
    pub(crate) fn cpu_seconds(&self, house: &House) -> Result<f64> {
        Ok(Cpu::of(house)?.total() - self.cpu.total())
    }

    /// How much of one core each part has used on average since then.
    pub(crate) fn percent_of_a_core(&self, house: &House, span: Duration) -> Result<Cpu> {
        let cpu = Cpu::of(house)?.since(self.cpu);
        let percent = |seconds: f64| seconds / span.as_secs_f64() * 100.0;
        let servers = cpu.servers.map(|(postgres, redis)| (percent(postgres), percent(redis)));
        Ok(Cpu { windlass: percent(cpu.windlass), servers })
    }

    /// What was used since then.
    pub(crate) fn read(&self, house: &House) -> Result<Used> {
        let cpu = Cpu::of(house)?;
        let disk = Disk::below(house.folder.path());
        let journal = house.journal()?;
        Ok(Used {
            cpu: cpu.since(self.cpu),
            disk: disk.zip(self.disk).map(|(after, before)| Disk {
                flushes: after.flushes - before.flushes,
                bytes_written: after.bytes_written - before.bytes_written,
            }),
            journal: journal
                .zip(self.journal)
                .map(|(after, before)| (after.0 - before.0, after.1 - before.1)),
        })
    }
}

pub(crate) struct Used {
    cpu: Cpu,
    disk: Option<Disk>,
    /// Write transactions, and bytes of write-ahead log.
    journal: Option<(f64, f64)>,
}

impl Used {
    pub(crate) fn write_to(&self, report: &mut Report, steps: f64) {
        let per_1k = |seconds: f64| seconds / steps * 1_000.0;
        report.set("cpu_s_per_1k_steps", per_1k(self.cpu.total()));
        if let Some((postgres, redis)) = self.cpu.servers {
            report
                .set("cpu_s_per_1k_windlass", per_1k(self.cpu.windlass))
                .set("cpu_s_per_1k_postgres", per_1k(postgres))
                .set("cpu_s_per_1k_redis", per_1k(redis));
        }
        if let Some(disk) = self.disk {
            report
                .set("flushes_per_step", disk.flushes / steps)
                .set("bytes_written_per_step", disk.bytes_written / steps);
        }
        if let Some((transactions, bytes)) = self.journal {
            report
                .set("write_transactions_per_step", transactions / steps)
                .set("wal_bytes_per_step", bytes / steps);
        }
    }
}

impl Cpu {
    fn of(house: &House) -> Result<Self> {
        let own = house.doors.iter().chain(&house.workers).map(|program| cpu_seconds(program.id()));
        let servers = house.servers.as_ref().map(|servers| -> Result<_> {
            let postgres = servers.postgres.process_ids().into_iter().map(|id| {
                // A child that has ended since it was listed is in its parent's sum by now.
                cpu_seconds(id).unwrap_or_default()
            });
            let redis = servers.redis.process_ids().into_iter().map(cpu_seconds);
            Ok((postgres.sum(), redis.sum::<Result<f64>>()?))
        });
        Ok(Self { windlass: own.sum::<Result<f64>>()?, servers: servers.transpose()? })
    }

    fn since(self, before: Self) -> Self {
        let servers = self.servers.zip(before.servers);
        let servers = servers.map(|(after, before)| (after.0 - before.0, after.1 - before.1));
        Self { windlass: self.windlass - before.windlass, servers }
    }

    fn total(&self) -> f64 {
        self.windlass + self.servers.map_or(0.0, |(postgres, redis)| postgres + redis)
    }
}

/// CPU seconds of all threads of a process so far, and of its children that have ended.
pub(crate) fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the program's name and may hold anything; the 14th to 17th are the times.
    let (_, rest) = stat.rsplit_once(')').context("a stat line names its program")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let mut ticks = 0.0;
    for field in &fields[11..15] {
        ticks += field.parse::<f64>()?;
    }
    Ok(ticks / TICKS_PER_SECOND)
}

/// What the system charges a thread that does nothing for each time that it wakes, in microseconds: on a virtual machine
/// far more than on a bare one, and several times more in one hour than in another.
pub(crate) fn bare_wake_us(span: Duration) -> Result<f64> {
    let wakes = (span.as_secs_f64() / BARE_SLEEP.as_secs_f64()).ceil().max(1.0) as u32;
    for _ in 0..wakes {
        std::thread::sleep(BARE_SLEEP);
    }
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = stat.split_whitespace().next().context("three numbers")?.parse()?;
    Ok(nanoseconds / 1_000.0 / f64::from(wakes))
}

/// The most memory that the Windlass processes ever had in use, and how much of it by role.
pub(crate) fn write_peaks(house: &House, report: &mut Report) -> Result<()> {
    let sum = |programs: &[Program]| {
        programs.iter().map(|program| memory_mib(program.id(), "VmHWM:")).sum::<Result<f64>>()
    };
    let (doors, workers) = (sum(&house.doors)?, sum(&house.workers)?);
    report.set("peak_mib", doors + workers);
    if house.servers.is_some() {
        report.set("peak_mib_apis", doors).set("peak_mib_workers", workers);
    }
    Ok(())
}

/// Memory that all Windlass processes have in use now.
pub(crate) fn resident_bytes(house: &House) -> Result<f64> {
    let programs = house.doors.iter().chain(&house.workers);
    let mib = programs.map(|program| memory_mib(program.id(), "VmRSS:")).sum::<Result<f64>>()?;
    Ok(mib * 1_048_576.0)
}

fn memory_mib(process: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name)).context("Linux tells it")?;
    let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024.0)
}

impl Disk {
    /// None when the device does not count.
    fn below(folder: &Path) -> Option<Self> {
        let device = std::fs::metadata(folder).ok()?.dev();
        // The kernel's split of a device number, as in sys/sysmacros.h.
        let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
        let minor = (device & 0xff) | ((device >> 12) & !0xff);
        let stats = std::fs::read_to_string("/proc/diskstats").ok()?;
        let numbers = stats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = numbers
            .into_iter()
            .find(|line| line.len() > 18 && line[0] == major.to_string() && line[1] == minor.to_string())?;
        // Two numbers and a name, then eleven of reads and writes, four of discards, and the flushes.
        let sectors: f64 = line[9].parse().ok()?;
        Some(Self { flushes: line[18].parse().ok()?, bytes_written: sectors * SECTOR_BYTES })
    }
}
