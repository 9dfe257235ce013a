//! The folder that all folders of a worker's scripts are in.
//!
//! Whoever has one holds its lock, which the kernel takes back from a process that ends, in whatever way. What was left by a
//! worker that was killed together with its keeper is therefore known by a lock that can be had, and the next one
//! removes it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const PREFIX: &str = "windlass-scripts.";

pub(super) struct Home {
    path: PathBuf,
    /// Where folders cannot be locked, nobody else gets a lock either, and nothing is removed.
    _lock: Option<File>,
}

impl Home {
    /// Makes one below the folder for temporary files.
    pub(super) fn new() -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    fn new_in(parent: &Path) -> io::Result<Self> {
        loop {
            let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?.keep();
            let lock = match hold(&path) {
                Ok(lock) => Some(lock),
                Err(TryLockError::Error(_)) => None,
                Err(TryLockError::WouldBlock) => continue,
            };
            // Before it was locked, another worker may have taken it for left behind.
            if path.is_dir() {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Machines that run for long have somebody who tidies up: then it is made again.
    pub(super) fn make_sure(&mut self) {
        if !self.path.is_dir() {
            let _ = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
            self._lock = hold(&self.path).ok();
        }
    }

    /// Removes those of workers that are gone, beside this one.
    pub(super) fn remove_abandoned(ours: &Path) {
        let (Some(parent), Ok(we)) = (ours.parent(), fs::metadata(ours)) else { return };
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let is_one = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
            // Anybody may have put something of this name there, or a link to something else.
            let is_our_users = entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() == we.uid());
            let path = entry.path();
            let Some(Ok(_lock)) = (is_one && is_our_users).then(|| hold(&path)) else { continue };
            match remove(&path) {
                Ok(()) => {
                    tracing::info!(folder = %path.display(), "Removed what a killed worker's scripts left")
                }
                Err(error) => {
                    tracing::warn!(folder = %path.display(), %error, "What scripts left cannot be removed");
                }
            }
        }
    }
}

fn hold(path: &Path) -> Result<File, TryLockError> {
    let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY;
    let folder = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(TryLockError::Error)?;
    folder.try_lock()?;
    Ok(folder)
}

/// Removes a folder with all that is in it.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let removed = fs::remove_dir_all(folder).or_else(|_| {
        // Programs leave folders that they made read-only, such as caches of modules.
        open_up(folder);
        fs::remove_dir_all(folder)
    });
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|found| found.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let home = || Home::new_in(place.path()).unwrap();
        let (ours, living) = (home(), home());
        let dead = home().path().to_owned();
        fs::create_dir_all(dead.join("script-x/work")).unwrap();
        let other = place.path().join("windlass-other");
        fs::create_dir(&other).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let link = place.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();

        Home::remove_abandoned(ours.path());

        assert!(!dead.exists());
        for spared in [ours.path(), living.path(), &other, elsewhere.path(), &link] {
            assert!(spared.exists(), "{}", spared.display());
        }
    }

    #[test]
    fn a_home_that_somebody_tidied_away_is_made_again_and_held() {
        let place = tempfile::tempdir().unwrap();
        let [ours, mut tidied] = [(); 2].map(|()| Home::new_in(place.path()).unwrap());
        fs::remove_dir(tidied.path()).unwrap();
        tidied.make_sure();
        Home::remove_abandoned(ours.path());
        assert!(tidied.path().is_dir());
    }
}
