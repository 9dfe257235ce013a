//! What a machine can check of the house rules: who leans on whom, what lies where, whether documents are true.

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};

/// The folder of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies inside the workspace")
}

/// A text file of the project.
struct TextFile {
    /// Relative to the workspace, with `/`.
    path: String,
    text: String,
}

const TEXT_EXTENSIONS: &[&str] =
    &["rs", "md", "toml", "yaml", "yml", "json", "jsonl", "sql", "sh", "html", "css", "js"];
/// Files that have no extension and are read all the same.
const TEXT_NAMES: &[&str] = &[".ci/run", ".gitignore"];
/// Folders that the project did not write.
const FOREIGN_FOLDERS: &[&str] = &["target", ".git", ".windlass", "node_modules"];

/// Every text file of the project, in order.
fn text_files() -> Vec<TextFile> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folders of the project can be read") {
            let path = entry.expect("entries can be read").path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && !path.is_symlink() {
                if !FOREIGN_FOLDERS.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if let Some(file) = text_file(&path) {
                files.push(file);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 50, "only {} files were found under {}", files.len(), root().display());
    files
}

fn text_file(path: &Path) -> Option<TextFile> {
    let relative = path.strip_prefix(root()).ok()?.to_string_lossy().replace('\\', "/");
    let extension = path.extension().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    let wanted = TEXT_EXTENSIONS.contains(&extension.as_str()) || TEXT_NAMES.contains(&relative.as_str());
    // Somebody else may be writing or removing it right now: what cannot be read is not there.
    wanted.then(|| std::fs::read_to_string(path).ok()).flatten().map(|text| TextFile { path: relative, text })
}

fn read(path: &str) -> String {
    let path: PathBuf = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails with all that was found, one line each.
fn nothing(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}\n  {}", found.join("\n  "));
}
