//! Temporary folders for servers, short enough for a socket's path.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static MADE: AtomicU32 = AtomicU32::new(0);

/// A fresh folder, of this process alone.
pub(crate) fn fresh(kind: &str) -> PathBuf {
    fresh_in(&std::env::temp_dir(), kind)
}

pub(crate) fn fresh_in(parent: &Path, kind: &str) -> PathBuf {
    loop {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("windlass-{kind}-{}-{number}", std::process::id()));
        match std::fs::create_dir(&folder) {
            Ok(()) => return folder,
            // An earlier process of the same number was killed together with its watcher.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{}: {error}", folder.display()),
        }
    }
}
