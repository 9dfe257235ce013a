//! The lock that makes one process the only owner of a database.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::OpenError;

/// How long a lock may outlive its owner. A process that is killed while it starts a script leaves the lock
/// in the hands of the half-made child, until that has become another program or has died as well.
const LAST_BREATH: Duration = Duration::from_secs(2);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Held as long as the store is open. The system lets it go when the process dies, however it dies.
pub(crate) struct OwnerLock {
    _file: File,
}

impl OwnerLock {
    /// Takes the lock `<database>.lock` and writes this process' id into it.
    pub(crate) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = lock_path(database);
        let unusable = |error| OpenError::Lock { path: path.clone(), error };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(unusable)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < LAST_BREATH => {
                    std::thread::sleep(TRY_AGAIN_AFTER);
                }
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    // Whether the id can be read or not, the answer stays the same.
                    let _ = file.read_to_string(&mut text);
                    return Err(OpenError::Owned {
                        path: database.to_owned(),
                        pid: text.trim().parse().ok(),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(unusable(source)),
            }
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

/// Beside the file itself, so that a symbolic link does not lead to a second lock.
fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.canonicalize().unwrap_or_else(|_| database.to_owned()).into_os_string();
    path.push(".lock");
    path.into()
}
