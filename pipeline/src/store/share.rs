//! Artifacts in a folder that compute nodes share; all else of a store stays on the disk of its machine.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::access::opening;
use super::disk::{make_movable, remove_all};
use super::{Pending, Store, StoreError, io_error, object_path, publish};
use crate::Digest;
use crate::source::TreeFile;

/// File with the id of a store.
const ID: &str = "id";

/// Digits of the id of a store.
const DIGITS: usize = 16;

/// File beside shared artifacts that names the store they belong to: a line with its machine, and one with its folder.
const OWNER: &str = "store";

/// Returns the id of the store in a folder, giving it one if it has none. Two stores never have the same, but for copies.
///
/// # Errors
/// [`StoreError::Io`]
pub fn store_id(root: &Path) -> Result<String, StoreError> {
    super::access::check_file_system(root)?;
    let path = root.join(ID);
    let is_id = |text: &str| text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let read = || fs::read_to_string(&path).map(|text| text.trim().to_owned()).ok().filter(|text| is_id(text));
    if let Some(known) = read() {
        return Ok(known);
    }
    fs::create_dir_all(root).map_err(io_error("create", root))?;
    let random = tempfile::Builder::new().prefix("id.").rand_bytes(DIGITS).tempfile_in(root);
    let random = random.map_err(io_error("create", &path))?;
    let seed = format!("{} {} {:?}", random.path().display(), crate::host::machine(), fs::metadata(root));
    let id = Digest::of(seed.as_bytes()).to_string()[..DIGITS].to_owned();
    fs::write(random.path(), format!("{id}\n")).map_err(io_error("write", &path))?;
    match random.persist_noclobber(&path) {
        Ok(_) => Ok(id),
        Err(_) => read().ok_or_else(|| io_error("read", &path)(io::Error::other("it holds no id of a store"))),
    }
}

/// Moves the artifacts of a store into a shared folder, and leaves a link in their place. Does nothing when that was done before.
/// Whoever uses the store finds them through the link, so another process must not be at work.
///
/// # Errors
/// [`StoreError::InUse`], [`StoreError::Io`]; artifacts that were moved by then are found again by the next call.
pub fn share_objects(root: &Path, shared: &Path) -> Result<(), StoreError> {
    let objects = root.join("objects");
    fs::create_dir_all(shared).map_err(io_error("create", shared))?;
    let shared = shared.canonicalize().map_err(io_error("open", shared))?;
    own(root, &shared)?;
    if fs::canonicalize(&objects).is_ok_and(|now| now == shared) {
        return Ok(());
    }
    let locks = root.join("locks");
    fs::create_dir_all(&locks).map_err(io_error("create", &locks))?;
    let _opening = opening(root)?;
    for entry in fs::read_dir(root.join("scratch")).into_iter().flatten().flatten() {
        let lock = File::open(entry.path().join("lock"));
        if lock.is_ok_and(|lock| lock.try_lock().is_err()) {
            return Err(StoreError::InUse { root: root.to_owned(), shared });
        }
    }
    for prefix in fs::read_dir(&objects).into_iter().flatten().flatten() {
        let target = shared.join(prefix.file_name());
        fs::create_dir_all(&target).map_err(io_error("create", &target))?;
        for artifact in fs::read_dir(prefix.path()).map_err(io_error("list", &prefix.path()))?.flatten() {
            let (from, to) = (artifact.path(), target.join(artifact.file_name()));
            if to.exists() {
                remove_all(&from).map_err(io_error("remove", &from))?; // it was copied by a call that was killed
            } else {
                make_movable(&from);
                move_all(&from, &to, |from, to| fs::rename(from, to)).map_err(io_error("move", &from))?;
            }
        }
    }
    match fs::symlink_metadata(&objects) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(&objects).map_err(io_error("remove", &objects))?,
        Ok(_) => fs::remove_file(&objects).map_err(io_error("remove", &objects))?, // a link to another folder
        Err(_) => {}
    }
    symlink(&shared, &objects).map_err(io_error("link", &objects))
}

/// Refuses a store that is a copy of another, with the link to its artifacts: a collection in one would remove what the other needs, and
/// no lock reaches from one to the other.
pub(super) fn check_owner(root: &Path) -> Result<(), StoreError> {
    match fs::read_link(root.join("objects")) {
        Ok(shared) => find_owner(root, &shared).map(|_| ()),
        Err(_) => Ok(()), // a folder of its own, or none yet
    }
}

/// Makes a store the owner of shared artifacts, unless another one is.
fn own(root: &Path, shared: &Path) -> Result<(), StoreError> {
    let (owner, here, is_known) = find_owner(root, shared)?;
    if is_known {
        return Ok(());
    }
    let aside = owner.with_extension(format!("{}.new", std::process::id()));
    fs::write(&aside, here).and_then(|()| fs::rename(&aside, &owner)).map_err(io_error("write", &owner))
}

/// Returns the file that names the owner of shared artifacts, what it should say, and whether it does. A store that was moved is the
/// owner still.
fn find_owner(root: &Path, shared: &Path) -> Result<(PathBuf, String, bool), StoreError> {
    let owner = shared.with_file_name(OWNER);
    let folder = fs::canonicalize(root).or_else(|_| std::path::absolute(root)).map_err(io_error("open", root))?;
    let machine = crate::host::machine();
    let here = format!("{machine}\n{}\n", folder.display());
    let there = match fs::read_to_string(&owner) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((owner, here, false)),
        Err(error) => return Err(io_error("read", &owner)(error)),
    };
    let (its_machine, its_folder) = there.trim_end().split_once('\n').unwrap_or_default();
    let was_moved = its_machine == machine && !Path::new(its_folder).join(ID).exists();
    if there == here || was_moved {
        let is_known = there == here;
        return Ok((owner, here, is_known));
    }
    let (other, machine) = (PathBuf::from(its_folder), its_machine.to_owned());
    Err(StoreError::Copied { root: root.to_owned(), other, machine, owner })
}

/// Moves a folder, also to another file system: it is copied beside its place, then renamed.
fn move_all(from: &Path, to: &Path, rename: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    match rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let mut aside = to.as_os_str().to_owned();
            aside.push(format!(".{}.new", std::process::id()));
            let aside = PathBuf::from(aside);
            let _ = remove_all(&aside); // of a process that was killed
            copy_all(from, &aside)?;
            fs::rename(&aside, to)?;
            remove_all(from)
        }
        done => done,
    }
}

/// Copies a folder with the permissions of its files and inner folders.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
            fs::set_permissions(&target, entry.metadata()?.permissions())?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

impl Store {
    /// Moves a folder of the store, also between the disk of this machine and the shared folder of the artifacts.
    pub(super) fn move_folder(&self, from: &Path, to: &Path) -> io::Result<()> {
        move_all(from, to, |from, to| self.disk.rename(from, to))
    }

    /// Takes over a folder that a compute node has sealed, as [`Self::publish`] does with one of this machine. One that was taken
    /// over by a process that was killed right after is found among the artifacts.
    ///
    /// # Errors
    /// [`StoreError::BadResult`] when the files are not those of the listing; [`StoreError::Io`].
    pub(crate) fn adopt(&self, folder: &Path, listing: &[TreeFile], verify_all: bool) -> Result<Digest, StoreError> {
        let artifact = publish::digest_of(listing);
        if !folder.is_dir() && self.has(artifact) && self.is_whole(artifact)? {
            return Ok(artifact);
        }
        let sealed = publish::check_sealed(folder, listing, verify_all)?;
        self.place(folder, sealed)
    }

    /// True if an artifact, which the index may not know, is sound.
    fn is_whole(&self, artifact: Digest) -> Result<bool, StoreError> {
        let path = object_path(&self.root, artifact);
        let known = match self.known(artifact) {
            Err(StoreError::Gone { .. }) => return Ok(false),
            known => known?,
        };
        if !publish::is_sound(&path, &known.files) {
            return Ok(false);
        }
        self.flusher.add(Pending { result: None, artifact, paths: vec![path] });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_move_to_a_shared_folder_and_stay_sound() {
        let folder = tempfile::tempdir().unwrap();
        let (root, shared) = (folder.path().join("store"), folder.path().join("shared/objects"));
        let write = |store: &Store, text: &str| {
            let attempt = store.attempt().unwrap();
            fs::create_dir(attempt.join("inner")).unwrap();
            fs::write(attempt.join("inner/text.txt"), text).unwrap();
            store.publish(&attempt).unwrap()
        };
        let store = Store::open(&root).unwrap();
        let first = write(&store, "one");
        assert!(matches!(share_objects(&root, &shared), Err(StoreError::InUse { .. })));
        drop(store);
        share_objects(&root, &shared).unwrap();
        share_objects(&root, &shared).unwrap();
        let store = Store::open(&root).unwrap();
        let second = write(&store, "two");
        for artifact in [first, second] {
            assert!(artifact.folder_in(&shared).is_dir() && store.usable(artifact, None).unwrap());
        }
        drop(store);
        // A copy has the same id and the same link: it may not use what belongs to the other.
        let copy = folder.path().join("copy");
        fs::create_dir(&copy).unwrap();
        fs::write(copy.join(ID), store_id(&root).unwrap()).unwrap();
        symlink(shared.canonicalize().unwrap(), copy.join("objects")).unwrap();
        let refused = |opened: Result<(), StoreError>| match opened {
            Err(error @ StoreError::Copied { .. }) => format!("{error}; {}", error.hint().unwrap()),
            other => panic!("{other:?}"),
        };
        let told = refused(Store::open(&copy).map(|_| ()));
        assert_eq!(told, refused(share_objects(&copy, &shared)));
        assert!(told.contains(&format!("belong to `{}` on ", root.canonicalize().unwrap().display())), "{told}");
        fs::remove_file(copy.join(ID)).unwrap();
        fs::remove_file(copy.join("objects")).unwrap();
        drop(Store::open(&copy).unwrap());
        // One that was moved may.
        let moved = folder.path().join("moved");
        fs::rename(&root, &moved).unwrap();
        share_objects(&moved, &shared).unwrap();
        assert!(Store::open(&moved).unwrap().usable(first, None).unwrap());
        fs::rename(&moved, &root).unwrap();
        assert_eq!(store_id(&root).unwrap(), store_id(&root).unwrap());
        assert_ne!(store_id(&root).unwrap(), store_id(&folder.path().join("other")).unwrap());
    }

    #[test]
    fn a_result_of_a_compute_node_counts_only_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let made = |name: &str| {
            let out = folder.path().join(name);
            fs::create_dir(&out).unwrap();
            fs::write(out.join("a.txt"), "one").unwrap();
            fs::write(out.join("b.txt"), "two").unwrap();
            let listing = publish::seal_folder(&out).unwrap();
            (out, listing)
        };
        let refused = |out: &Path, listing: &[TreeFile]| match store.adopt(out, listing, false) {
            Err(StoreError::BadResult { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        let (out, listing) = made("edited");
        fs::remove_file(out.join("a.txt")).unwrap();
        assert_eq!(refused(&out, &listing), "`a.txt` is missing");
        fs::write(out.join("a.txt"), "One").unwrap();
        assert_eq!(refused(&out, &listing), "`a.txt` has other content");
        fs::write(out.join("a.txt"), "on").unwrap();
        assert_eq!(refused(&out, &listing), "`a.txt` has 2 bytes, not 3");
        fs::write(out.join("a.txt"), "one").unwrap();
        fs::write(out.join("c.txt"), "").unwrap();
        assert_eq!(refused(&out, &listing), "`c.txt` was added");
        let (out, listing) = made("good");
        let artifact = store.adopt(&out, &listing, true).unwrap();
        assert!(!out.exists() && store.usable(artifact, None).unwrap());
        assert_eq!(store.adopt(&out, &listing, true).unwrap(), artifact, "after a kill");
    }
}
