//! A fresh folder for one attempt of a script, and what it leaves in there.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use windlass_engine::File;
use windlass_model::StepError;

use super::{home, keeper};
use crate::nodes::artifact;

/// Removed, with all that is in it, when dropped.
pub(super) struct Room {
    path: PathBuf,
}

impl Room {
    pub(super) fn new() -> Result<Self, StepError> {
        let made = || -> io::Result<Self> {
            let folder = tempfile::Builder::new().prefix("script-").tempdir_in(keeper::folder())?;
            let room = Self { path: folder.keep() };
            for part in [room.work(), room.temporary(), room.kept()] {
                fs::create_dir(part)?;
            }
            Ok(room)
        };
        made().map_err(|error| StepError::new("internal", format!("no folder for the script: {error}")))
    }

    /// Where the program starts, and its home.
    pub(super) fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// Files in here become artifacts.
    pub(super) fn kept(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// Reads what the program left to keep, by name. It must have ended: nobody else is looking.
    pub(super) fn artifacts(&self) -> Result<Vec<File>, StepError> {
        let kept = self.kept();
        if !fs::symlink_metadata(&kept).is_ok_and(|found| found.is_dir()) {
            return Err(refused("WINDLASS_ARTIFACTS is no folder any more"));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&kept).map_err(|error| refused(error.to_string()))? {
            let name = entry.map_err(|error| refused(error.to_string()))?.file_name();
            let name = name.into_string().map_err(|_| refused("a file name is not UTF-8"))?;
            artifact::check_name(&name).map_err(refused)?;
            names.push(name);
            if names.len() > artifact::COUNT_MAX {
                break;
            }
        }
        names.sort();
        let mut room = artifact::Room::default();
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            let content = read_plain(&kept.join(&name), room.bytes_left() as u64 + 1)
                .map_err(|error| refused(format!("the file `{name}` cannot be kept: {error}")))?;
            room.take(content.len())?;
            files.push(File { media_type: artifact::media_type(&name).to_owned(), name, content });
        }
        Ok(files)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = home::remove(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "A script's folder could not be removed");
        }
    }
}

/// At most `bytes_max` bytes of a plain file, and of nothing that only looks like one: the worker may
/// have rights that the script has not.
fn read_plain(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut content = Vec::new();
    file.take(bytes_max).read_to_end(&mut content)?;
    Ok(content)
}

fn refused(sentence: impl Into<String>) -> StepError {
    StepError::new("script.artifact", sentence)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_plain_files_with_plain_names_are_kept() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        type Leave<'a> = &'a dyn Fn(&Path);
        let cases: [(&str, Leave); 6] = [
            ("a symlink", &|kept| std::os::unix::fs::symlink(outside.path(), kept.join("a")).unwrap()),
            ("a folder", &|kept| fs::create_dir(kept.join("a")).unwrap()),
            ("a socket", &|kept| drop(std::os::unix::net::UnixListener::bind(kept.join("a")).unwrap())),
            ("a line break", &|kept| fs::write(kept.join("a\nb"), "").unwrap()),
            ("the log's name", &|kept| fs::write(kept.join("log"), "").unwrap()),
            ("no folder", &|kept| fs::remove_dir(kept).unwrap()),
        ];
        for (what, leave) in cases {
            let room = Room::new().unwrap();
            leave(&room.kept());
            assert_eq!(room.artifacts().unwrap_err().kind, "script.artifact", "{what}");
        }
    }

    #[test]
    fn a_folder_that_became_a_link_is_not_followed() {
        let room = Room::new().unwrap();
        fs::remove_dir(room.kept()).unwrap();
        std::os::unix::fs::symlink("/etc", room.kept()).unwrap();
        assert_eq!(room.artifacts().unwrap_err().kind, "script.artifact");
    }

    #[test]
    fn too_many_or_too_heavy_files_are_refused() {
        let room = Room::new().unwrap();
        for n in 0..=artifact::COUNT_MAX {
            fs::write(room.kept().join(format!("{n}.txt")), "").unwrap();
        }
        assert_eq!(room.artifacts().unwrap_err().kind, "limit.artifacts");
        let room = Room::new().unwrap();
        let heavy = fs::File::create(room.kept().join("heavy")).unwrap();
        heavy.set_len(1 << 40).unwrap();
        assert_eq!(room.artifacts().unwrap_err().kind, "limit.artifacts");
    }

    #[test]
    fn a_room_is_removed_even_with_read_only_folders_in_it() {
        let room = Room::new().unwrap();
        let path = room.path.clone();
        let deep = room.work().join("cache/module");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "").unwrap();
        for folder in [deep.clone(), deep.parent().unwrap().to_owned()] {
            fs::set_permissions(folder, Permissions::from_mode(0o500)).unwrap();
        }
        drop(room);
        assert!(!path.exists());
    }
}
