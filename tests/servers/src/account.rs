//! The account that PostgreSQL runs under: ours, unless we are root, whom it refuses.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Accounts that may run a server for root, the first that exists.
const STAND_INS: &[&str] = &["postgres", "nobody"];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    stand_in: Option<(u32, u32)>,
}

impl Account {
    pub(crate) fn for_servers() -> Self {
        let is_root =
            std::fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
        if !is_root {
            return Self { stand_in: None };
        }
        let accounts = std::fs::read_to_string("/etc/passwd").expect("this machine lists its accounts");
        let stand_in = STAND_INS.iter().find_map(|name| ids_of(&accounts, name));
        Self {
            stand_in: Some(stand_in.expect("PostgreSQL refuses to run as root, and there is no `nobody`")),
        }
    }

    /// A command that runs under this account.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((user, group)) = self.stand_in {
            command.uid(user).gid(group);
        }
        // The account may not be allowed to stand where we stand.
        command.current_dir("/");
        command
    }

    pub(crate) fn give(self, path: &Path) {
        if let Some((user, group)) = self.stand_in {
            chown(path, Some(user), Some(group)).expect("root may give files away");
        }
    }
}

fn ids_of(accounts: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.find(|fields| fields.len() > 3 && fields[0] == name)?;
    Some((found[2].parse().ok()?, found[3].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nbroken\nnobody:x:65534:65533::/:/bin/false\n";
        assert_eq!(ids_of(accounts, "nobody"), Some((65534, 65533)));
        assert_eq!(ids_of(accounts, "postgres"), None);
    }
}
