//! Tests of scans: the changes that they must notice, and the files that they must not read.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::scan::scan_at;
use super::trust::{Devices, Trust};
use super::*;
use crate::Digest;

/// A tree, and beside it the index of its last scan.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    fn with(files: &[&str]) -> Self {
        let folder = Self::new();
        for path in files {
            folder.write(path, path);
        }
        folder
    }
    fn root(&self) -> PathBuf {
        self.dir.path().join("tree")
    }
    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }
    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }
    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }
    fn try_scan(&self, clock: &(dyn Fn() -> i64 + Sync)) -> Result<(Listing, ScanCost), ScanError> {
        scan_at(&self.root(), &|path| !path.ends_with("skip"), &self.cache(), &Devices::new(&self.root()), clock)
    }
    /// A scan at a time when no file is racy any more.
    fn scan(&self) -> (Listing, ScanCost) {
        self.try_scan(&|| stat::clock() + 3_600_000_000_000).unwrap()
    }
    /// A scan now.
    fn scan_at_once(&self) -> (Listing, ScanCost) {
        self.try_scan(&stat::clock).unwrap()
    }
    /// Outcome of a scan without an index.
    fn truth(&self) -> Listing {
        let cache = self.dir.path().join("no cache");
        let _ = fs::remove_file(&cache);
        scan_at(&self.root(), &|path| !path.ends_with("skip"), &cache, &Devices::new(&self.root()), &stat::clock).unwrap().0
    }
}

fn paths(listing: &Listing) -> Vec<String> {
    listing.tree().files.iter().map(|file| file.path.clone()).collect()
}

/// After one full scan, an edit must make the next one read `read` files and find what is there now.
#[track_caller]
fn check(files: &[&str], edit: impl Fn(&Folder), read: usize, different: bool) {
    let folder = Folder::with(files);
    let (before, _) = folder.scan();
    assert_eq!(folder.scan().1.read, 0);
    edit(&folder);
    let (after, cost) = folder.scan();
    assert_eq!(cost.read, read);
    assert_eq!(after.tree(), folder.truth().tree());
    assert_eq!(after.digest(), after.tree().digest());
    assert_eq!(before.digest() != after.digest(), different);
    assert_eq!(before.first_difference(&after).is_some(), different);
    let (again, cost) = folder.scan();
    assert_eq!((again.tree(), cost.read), (after.tree(), 0));
}

fn set_times(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn second_scan_reads_nothing_and_hidden_or_unwanted_files_never_count() {
    let folder = Folder::with(&["b/c.txt", "a.txt", ".hidden", "b/.d", "x.skip", ".git/e"]);
    let (found, cost) = folder.scan();
    assert_eq!(paths(&found), ["a.txt", "b/c.txt"]);
    assert_eq!(cost, ScanCost { files: 2, read: 2, bytes: 12, ..ScanCost::default() });
    let (again, cost) = folder.scan();
    assert_eq!((again.tree(), cost), (found.tree(), ScanCost { files: 2, ..ScanCost::default() }));
}

#[test]
fn files_come_in_order_of_their_whole_paths() {
    let folder = Folder::with(&["a/b", "a.txt", "a-b/c", "a0", "a/b.x/d", "a/b-c", "Z", "a/é", "b/c/d/e"]);
    fs::create_dir(folder.path("empty")).unwrap();
    let (found, _) = folder.scan();
    let mut sorted = paths(&found);
    sorted.sort();
    assert_eq!(paths(&found), sorted);
    assert_eq!((sorted.len(), found.num_files()), (9, 9));
    assert_eq!(found.digest(), found.tree().digest());
}

#[test]
fn an_unchanged_tree_leaves_the_cache_file_alone() {
    let folder = Folder::with(&["a", "b/c"]);
    folder.scan();
    let stat = |folder: &Folder| stat::Stat::of(&fs::metadata(folder.cache()).unwrap());
    let before = stat(&folder);
    folder.scan();
    assert_eq!(stat(&folder), before);
    folder.write("a", "other");
    folder.scan();
    assert_ne!(stat(&folder).inode, before.inode);
}

#[test]
fn an_edit_is_seen() {
    check(&["a", "b/c", "b/d"], |folder| folder.write("b/c", "longer than before"), 1, true);
}

#[test]
fn same_size_edit_with_restored_time_is_seen() {
    let edit = |folder: &Folder| {
        let time = fs::metadata(folder.path("a")).unwrap().modified().unwrap();
        folder.write("a", "b");
        set_times(&folder.path("a"), time);
    };
    check(&["a"], edit, 1, true);
}

#[test]
fn a_touched_file_is_read_and_is_no_change() {
    check(&["a", "b"], |folder| set_times(&folder.path("a"), SystemTime::UNIX_EPOCH), 1, false);
}

#[test]
fn same_size_replacement_with_the_same_time_is_seen() {
    let replace = |folder: &Folder| {
        folder.write("new", "b");
        set_times(&folder.path("new"), fs::metadata(folder.path("a")).unwrap().modified().unwrap());
        fs::rename(folder.path("new"), folder.path("a")).unwrap();
    };
    check(&["a"], replace, 1, true);
}

#[test]
fn renamed_added_and_removed_files_are_seen() {
    check(&["a", "b/c"], |folder| fs::rename(folder.path("a"), folder.path("z")).unwrap(), 1, true);
    check(&["a", "b/c"], |folder| folder.write("b/d/e", "new"), 1, true);
    check(&["a", "b/c"], |folder| fs::remove_file(folder.path("a")).unwrap(), 0, true);
    check(&["a", "b/c"], |folder| fs::remove_dir_all(folder.path("b")).unwrap(), 0, true);
    check(&["a", "b/c"], |folder| fs::rename(folder.path("b"), folder.path("d")).unwrap(), 1, true);
}

#[test]
fn subfolders_keep_what_is_known_of_them_when_others_come_and_go() {
    let files = ["b/1", "d/1", "d/x/1", "f/1", "f/y/1"];
    check(&files, |folder| folder.write("a/1", "new"), 1, true);
    check(&files, |folder| folder.write("e", "new"), 1, true);
    check(&files, |folder| fs::remove_dir_all(folder.path("b")).unwrap(), 0, true);
    check(&files, |folder| fs::remove_dir_all(folder.path("d/x")).unwrap(), 0, true);
}

#[test]
fn a_file_that_becomes_a_folder_is_seen_and_the_other_way_round() {
    let to_folder = |folder: &Folder| {
        fs::remove_file(folder.path("a")).unwrap();
        folder.write("a/b", "new");
    };
    check(&["a", "c"], to_folder, 1, true);
    let to_file = |folder: &Folder| {
        fs::remove_dir_all(folder.path("a")).unwrap();
        folder.write("a", "new");
    };
    check(&["a/b", "c/d"], to_file, 1, true);
}

#[test]
fn swapped_files_are_seen() {
    let swap = |folder: &Folder| {
        for (from, to) in [("a", "t"), ("b", "a"), ("t", "b")] {
            fs::rename(folder.path(from), folder.path(to)).unwrap();
        }
    };
    check(&["a", "b"], swap, 2, true);
}

#[test]
fn a_retargeted_link_is_seen() {
    let folder = Folder::with(&["a/1", "a/2"]);
    symlink("a/1", folder.path("link")).unwrap();
    let (before, _) = folder.scan();
    assert_eq!(paths(&before), ["a/1", "a/2", "link"]);
    fs::remove_file(folder.path("link")).unwrap();
    symlink("a/2", folder.path("link")).unwrap();
    let (after, cost) = folder.scan();
    assert_eq!(cost.read, 1);
    assert_eq!(before.first_difference(&after), Some(folder.path("link")));
}

#[test]
fn an_edit_behind_a_link_is_seen() {
    let folder = Folder::with(&["a"]);
    let outside = folder.dir.path().join("outside");
    fs::write(&outside, "one").unwrap();
    symlink(&outside, folder.path("link")).unwrap();
    let (before, _) = folder.scan();
    fs::write(&outside, "two").unwrap();
    let (after, _) = folder.scan();
    assert_eq!(before.first_difference(&after), Some(folder.path("link")));
}

#[test]
fn a_file_replaced_by_a_hard_link_is_seen() {
    let link = |folder: &Folder| {
        fs::remove_file(folder.path("a")).unwrap();
        fs::hard_link(folder.path("b"), folder.path("a")).unwrap();
    };
    check(&["a", "b"], link, 2, true); // the other gets a new change time
}

#[test]
fn a_folder_replaced_by_a_link_to_another_is_seen() {
    let folder = Folder::with(&["a/1", "a/2", "b/1"]);
    let (before, _) = folder.scan();
    let outside = folder.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("1"), "0/1").unwrap();
    fs::write(outside.join("2"), "0/2").unwrap();
    fs::remove_dir_all(folder.path("a")).unwrap();
    symlink(&outside, folder.path("a")).unwrap();
    let (after, cost) = folder.scan();
    assert_eq!((paths(&after), cost.read), (vec!["a/1".to_owned(), "a/2".to_owned(), "b/1".to_owned()], 2));
    assert_eq!(before.first_difference(&after), Some(folder.path("a/1")));
}

#[test]
fn a_circle_of_links_ends_and_links_to_the_outside_are_followed() {
    let folder = Folder::with(&["a/b/c"]);
    let outside = folder.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("x"), "x").unwrap();
    symlink(folder.root(), outside.join("back")).unwrap();
    symlink("..", folder.path("a/up")).unwrap();
    symlink(".", folder.path("a/b/here")).unwrap();
    symlink(&outside, folder.path("a/out")).unwrap();
    let (found, _) = folder.scan();
    assert_eq!(paths(&found), ["a/b/c", "a/out/x"]);
    assert_eq!(folder.scan().1.read, 0);
}

#[test]
fn a_link_to_nothing_is_a_file_that_cannot_be_read() {
    let folder = Folder::with(&["a"]);
    symlink("nowhere", folder.path("b")).unwrap();
    symlink("circle", folder.path("circle")).unwrap();
    symlink("nowhere", folder.path("x.skip")).unwrap();
    let (before, _) = folder.scan();
    assert_eq!(paths(&before), ["a", "b", "circle"]);
    let tree = before.tree();
    assert!(["b", "circle"].iter().all(|name| tree.find(name).unwrap().digest == UNREADABLE));
    fs::write(folder.path("nowhere"), "here").unwrap();
    let (after, _) = folder.scan();
    assert_eq!(after.tree().find("b").unwrap().digest, Digest::of(b"here"));
    assert_eq!(before.first_difference(&after), Some(folder.path("b")));
}

#[test]
fn what_has_no_content_does_not_count() {
    let folder = Folder::with(&["a"]);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("socket")).unwrap();
    symlink("/dev/zero", folder.path("zero")).unwrap();
    assert_eq!(paths(&folder.scan().0), ["a"]);
}

#[test]
fn names_that_are_no_text_count_and_stop_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::with(&["a"]);
    let (without, _) = folder.scan();
    for name in [&b"caf\xe9"[..], b"caf\xe8", b"folder\xff/b"] {
        let path = folder.root().join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
    }
    let (with, _) = folder.scan();
    assert_eq!(paths(&with), ["a", "caf\u{fffd}"]);
    assert_eq!(with.tree().find("caf\u{fffd}").unwrap().digest, UNREADABLE);
    assert_ne!(with.digest(), without.digest());
    assert_eq!(folder.scan().0.digest(), with.digest());
}

#[test]
fn a_missing_root_is_named() {
    let folder = Folder::new();
    let error = folder.try_scan(&stat::clock).unwrap_err();
    assert!(matches!(error, ScanError::Missing { root } if root == folder.root()));
}

#[test]
fn a_racy_file_is_read_again_until_it_is_old_enough() {
    let folder = Folder::with(&["a", "b"]);
    assert_eq!(folder.scan_at_once().1.read, 2);
    assert_eq!(folder.scan().1.read, 2, "they were written just before the first scan");
    assert_eq!(folder.scan().1.read, 0);
}

/// Rewrites of the same size follow each other as fast as they can, so many fall into one tick of a coarse clock.
#[test]
fn every_quick_rewrite_is_seen() {
    let folder = Folder::with(&["a", "b/c"]);
    for round in 0..1_000 {
        let (before, _) = folder.scan_at_once();
        folder.write("b/c", &format!("{round:04}"));
        let (after, _) = folder.scan_at_once();
        assert_eq!(before.first_difference(&after), Some(folder.path("b/c")), "rewrite {round}");
    }
}

/// The worst a file system may do: a rewrite that moves no time at all.
#[test]
fn a_rewrite_within_the_same_tick_is_seen() {
    let folder = Folder::with(&["a"]);
    let (before, _) = folder.scan_at_once();
    folder.write("a", "b");
    // As if the rewrite had left the stat as it was: the index of the first scan, with the stat of now.
    let mut bytes = fs::read(folder.cache()).unwrap();
    let body = bytes.len() - 32;
    let stat = stat::Stat::of(&fs::metadata(folder.path("a")).unwrap()).to_bytes();
    bytes[body - 32 - stat.len()..body - 32].copy_from_slice(&stat);
    let sum = crate::Digest::of(&bytes[..body]);
    bytes[body..].copy_from_slice(&sum.0);
    fs::write(folder.cache(), bytes).unwrap();
    let (after, cost) = folder.scan_at_once();
    assert_eq!(cost.read, 1);
    assert_eq!(before.first_difference(&after), Some(folder.path("a")));
}

#[test]
fn damaged_cache_costs_time_and_nothing_else() {
    let folder = Folder::with(&["a", "b/c"]);
    let (found, _) = folder.scan();
    let bytes = fs::read(folder.cache()).unwrap();
    let check = |damaged: &[u8], what: &str| {
        fs::write(folder.cache(), damaged).unwrap();
        let (again, cost) = folder.scan();
        assert_eq!((again.tree(), cost.read), (found.tree(), 2), "{what}");
    };
    for at in 0..bytes.len() {
        check(&bytes[..at], &format!("cut at {at}"));
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        check(&flipped, &format!("flipped at {at}"));
    }
    check(b"something else altogether, as long as a header and more than its checksum", "foreign");
}

#[test]
fn the_index_of_another_root_is_not_used() {
    let (one, two) = (Folder::with(&["a"]), Folder::with(&["a"]));
    one.scan();
    fs::copy(one.cache(), two.cache()).unwrap();
    assert_eq!(two.scan().1.read, 1);
}

#[test]
fn many_files_in_one_folder_and_many_folders_are_found() {
    let folder = Folder::new();
    for number in 0..600 {
        folder.write(&format!("flat/{number}"), "x");
        folder.write(&format!("deep/{}/{number}/f", number % 7), "y");
    }
    let (found, cost) = folder.scan();
    assert_eq!((cost.files, found.tree().files.len(), cost.read), (1_200, 1_200, 1_200));
    assert_eq!(found.digest(), found.tree().digest());
    assert_eq!(folder.scan().1.read, 0);
}

#[test]
fn files_are_read_again_where_the_file_system_is_not_trusted() {
    let folder = Folder::with(&["a", "sub/b"]);
    let late = || stat::clock() + 3_600_000_000_000;
    let scan = |trust: fn(&Path) -> Trust| {
        let devices = Devices::judged_by(&folder.root(), trust);
        scan_at(&folder.root(), &|_| true, &folder.cache(), &devices, &late).unwrap().1.read
    };
    assert_eq!((scan(|_| Trust::Full), scan(|_| Trust::Full)), (2, 0));
    assert_eq!((scan(|_| Trust::Mount(1)), scan(|_| Trust::Mount(1))), (2, 0), "as long as it stays mounted");
    assert_eq!(scan(|_| Trust::Mount(2)), 2, "another image in its place, with the same device, inodes and times");
    assert_eq!((scan(|_| Trust::None), scan(|_| Trust::None)), (2, 2), "no change times");
}

#[test]
fn a_distrusted_file_is_read_again_and_no_other() {
    let folder = Folder::with(&["a", "sub/b", "sub/c", "sub/sub/b", "z"]);
    folder.scan();
    assert_eq!(folder.scan().1.read, 0);
    for file in ["sub/b", "z", "sub/sub/b"] {
        distrust(&folder.root(), &folder.cache(), &folder.path(file));
        assert_eq!((folder.scan().1.read, folder.scan().1.read), (1, 0), "{file}");
    }
    distrust(&folder.root(), &folder.cache(), &folder.path("no such file"));
    assert_eq!(folder.scan().1.read, 0);
}

#[test]
fn a_cache_of_another_format_is_read_as_none_and_reported() {
    let folder = Folder::with(&["a"]);
    folder.scan();
    let mut bytes = fs::read(folder.cache()).unwrap();
    bytes[7] = b'1';
    fs::write(folder.cache(), bytes).unwrap();
    let (_, cost) = folder.scan();
    assert_eq!((cost.read, cost.other_format), (1, true));
    assert_eq!(folder.scan().1, ScanCost { files: 1, ..ScanCost::default() });
}
