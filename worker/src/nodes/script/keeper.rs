//! Ends the scripts of a worker that was killed, and removes their folders.
//!
//! A shell holds the reading end of a pipe and a list of process groups. The writing end lies with the
//! worker and nobody else, so that its death, however sudden, ends the shell's reading; then the groups
//! are killed, and the folder goes that all folders of this worker's scripts are in. A death signal
//! (`PR_SET_PDEATHSIG`) would reach a script's first process only, and comes when the thread that started
//! it ends, not the worker.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::home::Home;

/// Lines are `+ GROUP` and `- GROUP`; the first argument is the folder. Signals to the worker's terminal
/// are not the keeper's. What was killed may still be writing: hence the second try, which also
/// opens folders that a script made read-only.
const KEEP: &str = r#"
trap '' HUP INT TERM
PATH=/usr/bin:/bin
groups=' '
while read -r sign group; do
    case $sign in
    +) groups="$groups$group " ;;
    -) case $groups in *" $group "*) groups="${groups%% $group *} ${groups#* $group }" ;; esac ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
rm -rf -- "$1" || { sleep 1; chmod -R u+rwX -- "$1"; rm -rf -- "$1"; }
"#;

static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);

struct Keeper {
    shell: Child,
    wire: ChildStdin,
    home: Home,
}

/// A writing end for a process that is about to become a script.
pub(super) fn wire() -> Option<OwnedFd> {
    let wire = |keeper: &Keeper| keeper.wire.as_fd().try_clone_to_owned();
    keeper().as_ref().map(wire)?.ok()
}

/// Where scripts' folders are to be made. Without a keeper they lie among other people's.
pub(super) fn folder() -> PathBuf {
    let mut keeper = keeper();
    let Some(Keeper { home, .. }) = keeper.as_mut() else { return std::env::temp_dir() };
    home.make_sure();
    home.path().to_owned()
}

/// The keeper, which is started when there is none or it has gone.
fn keeper() -> MutexGuard<'static, Option<Keeper>> {
    let mut keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    if keeper.as_mut().is_none_or(|keeper| !matches!(keeper.shell.try_wait(), Ok(None))) {
        *keeper = start()
            .inspect_err(|error| {
                tracing::warn!(%error, "Scripts will outlive a worker that is killed: their keeper did not start");
            })
            .ok();
    }
    keeper
}

/// The group has ended, and its number may soon be another's.
pub(super) fn forget(group: libc::pid_t) {
    if let Some(keeper) = KEEPER.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        // A keeper that has gone is noticed when the next script starts.
        let _ = keeper.wire.write_all(format!("- {group}\n").as_bytes());
    }
}

/// The line that a new group's leader writes before it becomes the script: between its birth and this
/// line nobody else could. Allocates nothing, since other threads were left behind in the middle of things.
pub(super) fn announcement(group: libc::pid_t, line: &mut [u8; 16]) -> io::Result<&[u8]> {
    let mut rest: &mut [u8] = &mut line[..];
    writeln!(rest, "+ {group}")?;
    let unwritten = rest.len();
    Ok(&line[..line.len() - unwritten])
}

fn start() -> io::Result<Keeper> {
    let home = Home::new()?;
    let mut shell = Command::new("/bin/sh")
        .args(["-c", KEEP, "windlass-keeper"])
        .arg(home.path())
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let wire = shell.stdin.take().ok_or_else(|| io::Error::other("the keeper has no pipe"))?;
    let path = home.path().to_owned();
    // It may be a lot, and nobody waits for it.
    std::thread::spawn(move || Home::remove_abandoned(&path));
    Ok(Keeper { shell, wire, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_forgotten_is_spared_and_the_others_end_with_the_wire() {
        let sleeper = || Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let mut sleepers = [sleeper(), sleeper(), sleeper()];
        let mut keeper = start().unwrap();
        let mut line = [0; 16];
        for sleeper in &sleepers {
            let group = sleeper.id().try_into().unwrap();
            keeper.wire.write_all(announcement(group, &mut line).unwrap()).unwrap();
        }
        writeln!(keeper.wire, "- {}", sleepers[1].id()).unwrap();
        writeln!(keeper.wire, "- 999999").unwrap();
        std::fs::create_dir_all(keeper.home.path().join("room/work")).unwrap();
        drop(keeper.wire);
        keeper.shell.wait().unwrap();
        assert!(!keeper.home.path().exists());
        for index in [0, 2] {
            assert!(!sleepers[index].wait().unwrap().success());
        }
        assert!(sleepers[1].try_wait().unwrap().is_none());
        sleepers[1].kill().unwrap();
        sleepers[1].wait().unwrap();
    }
}
