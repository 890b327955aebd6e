//! `kill -9` of the driver or of a worker at any moment: the next run finishes, and the results are the same bytes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Instant;

use tests::{Project, contents, slow_tests};

/// The workers below a process, by `/proc`.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task");
    let tasks = fs::read_dir(Path::new(&path)).into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

pub(crate) fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
}

#[test]
fn a_run_killed_at_random_moments_ends_with_the_same_bytes() {
    let undisturbed = Project::new();
    let begun = Instant::now();
    assert!(undisturbed.sure(&["run", "./tiny.toml"]).ok);
    let whole = begun.elapsed();
    let expected = contents(&undisturbed.path("results/tiny/table"));

    let project = Project::new();
    let rounds = if slow_tests() { 40 } else { 10 };
    let mut random: u64 = 0x9E37_79B9;
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (random >> 33) as f64 / f64::from(1u32 << 31);
        let mut run = project.start(&["run", "./tiny.toml"]);
        sleep(whole.mul_f64(share * 0.6));
        let workers = children(run.id());
        if round % 2 == 0 || workers.is_empty() {
            kill(run.id());
        } else {
            workers.into_iter().for_each(kill);
        }
        let _ = run.wait().unwrap();
    }
    let last = project.sure(&["run", "./tiny.toml"]);
    assert!(last.ok, "{}", last.err);
    let found = contents(&project.path("results/tiny/table"));
    let names = |files: &[(std::path::PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for ((path, found), (_, expected)) in found.iter().zip(&expected) {
        assert!(found == expected, "`{}` differs from that of an undisturbed run", path.display());
    }
}
