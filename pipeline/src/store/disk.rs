//! Every change that the store makes to the disk, one function each, so that a test can watch them, refuse one or stop at it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A change that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A folder is made.
    MakeFolder(PathBuf),
    /// A file or folder of an artifact becomes read-only.
    Protect(PathBuf),
    /// A folder moves.
    Rename {
        /// From here.
        from: PathBuf,
        /// To there.
        to: PathBuf,
    },
    /// A folder and all in it is removed.
    Remove(PathBuf),
    /// The content of a file or folder is brought to the disk.
    Sync(PathBuf),
    /// Everything that was ever written to the file system of this folder is brought to the disk.
    SyncAll(PathBuf),
    /// A result with this artifact is recorded; its bytes are trusted only as long as this machine runs.
    Record(PathBuf),
    /// The bytes of these artifacts are trusted for ever.
    MarkDurable(Vec<PathBuf>),
}

/// Receives every [`Act`] before it happens, and may refuse it. For tests.
pub trait Watch: Send + Sync {
    /// Takes note of an act; an error becomes the error of the act.
    ///
    /// # Errors
    /// Any error of the watch.
    fn before(&self, act: &Act) -> io::Result<()>;
}

/// Access to the disk.
#[derive(Clone, Default)]
pub(super) struct Disk {
    watch: Option<Arc<dyn Watch>>,
}

impl Disk {
    pub(super) fn watched(watch: Arc<dyn Watch>) -> Self {
        Self { watch: Some(watch) }
    }

    /// Passes an act that is done elsewhere to the watch.
    pub(super) fn ask(&self, act: impl FnOnce() -> Act) -> io::Result<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.before(&act()))
    }

    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.ask(|| Act::MakeFolder(path.to_owned()))?;
        fs::create_dir(path)
    }

    pub(super) fn make_folders(&self, path: &Path) -> io::Result<()> {
        self.ask(|| Act::MakeFolder(path.to_owned()))?;
        fs::create_dir_all(path)
    }

    pub(super) fn protect(&self, path: &Path, file: &File) -> io::Result<()> {
        self.ask(|| Act::Protect(path.to_owned()))?;
        file.set_permissions(Permissions::from_mode(0o444))
    }

    pub(super) fn protect_folder(&self, path: &Path) -> io::Result<()> {
        self.ask(|| Act::Protect(path.to_owned()))?;
        fs::set_permissions(path, Permissions::from_mode(0o555))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(|| Act::Rename { from: from.to_owned(), to: to.to_owned() })?;
        fs::rename(from, to)
    }

    pub(super) fn remove(&self, folder: &Path) -> io::Result<()> {
        self.ask(|| Act::Remove(folder.to_owned()))?;
        remove_all(folder)
    }

    pub(super) fn sync(&self, path: &Path) -> io::Result<()> {
        self.ask(|| Act::Sync(path.to_owned()))?;
        File::open(path)?.sync_all()
    }

    /// Brings a whole file system to the disk: for many files far cheaper than one call for each.
    pub(super) fn sync_all(&self, folder: &Path) -> io::Result<()> {
        self.ask(|| Act::SyncAll(folder.to_owned()))?;
        Ok(rustix::fs::syncfs(File::open(folder)?)?)
    }
}

/// Lets a read-only artifact be moved: the kernel writes into a folder that gets another parent. Fails silently where another user
/// owns it; moving then says so.
pub(super) fn make_movable(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o755));
}

/// Lets the files in a folder and its folders be removed.
pub(super) fn make_writable(folder: &Path) {
    make_movable(folder);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

/// Removes a folder and everything in it, read-only folders too.
///
/// # Errors
/// What the system says; what could be removed is.
pub fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(folder);
            fs::remove_dir_all(folder)
        }
        done => done,
    }
}
