//! What a process holds of its machine.

use std::path::Path;

use super::process::Process;

/// How a worker's keeper of scripts calls itself.
const KEEPER: &str = "windlass-keeper";

/// At one moment.
#[derive(Clone, Debug)]
pub struct Holdings {
    pub descriptors: u64,
    pub threads: u64,
    /// What is its own alone: pages of files come and go as the machine likes.
    pub memory_bytes: u64,
    pub children: Vec<Child>,
}

/// A process that another one started, and has not taken leave of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub pid: u32,
    /// Empty of one that has ended.
    pub command: String,
}

impl Child {
    /// A worker that has run a script has one, which stays.
    pub fn is_keeper(&self) -> bool {
        self.command.contains(KEEPER)
    }

    pub fn kill(&self) {
        let status = std::process::Command::new("kill").args(["-KILL", &self.pid.to_string()]).status();
        assert!(status.is_ok_and(|it| it.success()), "{self:?} cannot be killed");
    }
}

impl Process {
    /// # Panics
    /// When it is not up, or does not tell.
    pub async fn holdings(&self) -> Holdings {
        let pid = self.pid();
        let metrics = self.apart().get("/metrics").await.text;
        let line = metrics.lines().find_map(|line| line.strip_prefix("process_open_fds "));
        Holdings {
            // A process that hides from its scripts hides its descriptors from us as well, and has to say so itself.
            descriptors: line
                .and_then(|number| number.parse().ok())
                .expect("a process counts its descriptors"),
            threads: number_in_status(pid, "Threads").expect("a living process has threads"),
            memory_bytes: number_in_status(pid, "RssAnon").expect("a living process has memory") * 1024,
            children: self.children(),
        }
    }

    /// Bytes of memory that it has in use.
    pub fn resident_bytes(&self) -> u64 {
        number_in_status(self.pid(), "VmRSS").expect("a living process has memory") * 1024
    }

    /// Those that it started and that are there, zombies too.
    pub fn children(&self) -> Vec<Child> {
        let pid = u64::from(self.pid());
        let children = processes().filter(|child| number_in_status(*child, "PPid") == Some(pid));
        children.map(|pid| Child { pid, command: command_of(pid) }).collect()
    }

    /// The one that ends its scripts should it die, once it has started one.
    pub fn keeper(&self) -> Option<Child> {
        self.children().into_iter().find(Child::is_keeper)
    }
}

/// Every process that was told to have its temporary files somewhere below this folder.
pub fn whoever_works_below(folder: &Path) -> Vec<Child> {
    let variable = format!("TMPDIR={}/", folder.display());
    // Those of other people are none of ours, and do not show their environment.
    let environment = |pid: u32| std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let works_there =
        |pid: &u32| environment(*pid).split(|byte| *byte == 0).any(|it| it.starts_with(variable.as_bytes()));
    processes().filter(works_there).map(|pid| Child { pid, command: command_of(pid) }).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("this machine lists its processes");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn command_of(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ").trim_end().to_owned()
}

/// None when there is no such process any more.
fn number_in_status(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}
