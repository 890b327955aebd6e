//! Texts that start rebuilds: systemd units, lines of a crontab, files for GitHub and GitLab. Writes nothing.
//!
//! A timer only has to fire often enough: `--if-due` decides by the record, in UTC. So a timer may be late, fire twice or skip.

use std::path::{Path, PathBuf};

use crate::time::Every;

/// Program that starts rebuilds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Units of systemd.
    Systemd,
    /// Line of a crontab.
    Cron,
    /// Line of a crontab of Slurm.
    Scrontab,
    /// Workflow of GitHub Actions.
    Github,
    /// Job of GitLab.
    Gitlab,
}

/// Command that a timer starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Executable, in full.
    pub program: PathBuf,
    /// Rebuild file, in full.
    pub file: PathBuf,
    /// `sure.toml`, in full; none where there is none.
    pub config: Option<PathBuf>,
    /// Name of the rebuild file.
    pub name: String,
    /// Schedule.
    pub every: Every,
    /// Time limit in seconds, for what wants one.
    pub time_limit: u64,
    /// True for units of the whole machine.
    pub system: bool,
    /// Repository with the rebuild file, for forges.
    pub repository: PathBuf,
    /// Folder of the history, in full.
    pub history: PathBuf,
    /// Variables with secrets that the rebuild file names.
    pub secrets: Vec<String>,
}

impl Timer {
    /// Name of the units, without an ending.
    pub fn unit(&self) -> String {
        format!("sure-{}", self.name)
    }

    /// Words of the command.
    fn words(&self, what: &[&str]) -> Vec<String> {
        let mut words = vec![self.program.display().to_string(), "rebuild".to_owned()];
        words.extend(what.iter().map(|word| (*word).to_owned()));
        words.push(self.file.display().to_string());
        if let Some(config) = &self.config {
            words.extend(["--config".to_owned(), config.display().to_string()]);
        }
        words
    }

    /// File names with their texts.
    pub fn files(&self, kind: Kind) -> Vec<(String, String)> {
        match kind {
            Kind::Systemd => self.systemd(),
            Kind::Cron => vec![("crontab".to_owned(), self.cron_block(false))],
            Kind::Scrontab => vec![("scrontab".to_owned(), self.cron_block(true))],
            Kind::Github => vec![(format!("{}.yml", self.unit()), self.github())],
            Kind::Gitlab => vec![(format!("{}.gitlab-ci.yml", self.unit()), self.gitlab())],
        }
    }

    fn systemd(&self) -> Vec<(String, String)> {
        let unit = self.unit();
        let line = |what: &[&str]| self.words(what).iter().map(|word| systemd_word(word)).collect::<Vec<_>>().join(" ");
        let folder = systemd_path(&self.file.parent().unwrap_or(Path::new("/")).display().to_string());
        let secrets = systemd_path(&self.file.with_extension("env").display().to_string());
        let timer = format!(
            "[Unit]\nDescription=Asks every hour whether the rebuild {0} is due\n\n[Timer]\nOnCalendar=hourly\nPersistent=true\nRandomizedDelaySec=5m\n\n\
             [Install]\nWantedBy=timers.target\n",
            self.name
        );
        let service = format!(
            "[Unit]\nDescription=Rebuild {0}\nOnFailure={unit}-failed.service\n\n[Service]\nType=oneshot\nExecStart={1}\nWorkingDirectory={folder}\n\
             EnvironmentFile=-{secrets}\nNice=10\nIOSchedulingClass=idle\nSuccessExitStatus=5\nTimeoutStartSec=infinity\n",
            self.name,
            line(&["--if-due", "--quiet"])
        );
        let failed = format!(
            "[Unit]\nDescription=Reports a rebuild {0} that was killed\n\n[Service]\nType=oneshot\nExecStart={1}\nWorkingDirectory={folder}\n\
             EnvironmentFile=-{secrets}\n",
            self.name,
            line(&["--report-failure"])
        );
        vec![(format!("{unit}.timer"), timer), (format!("{unit}.service"), service), (format!("{unit}-failed.service"), failed)]
    }

    /// Lines between the marks by which they are found again.
    fn cron_block(&self, slurm: bool) -> String {
        let command = self
            .words(&["--if-due", "--quiet"])
            .iter()
            .map(|word| shell_word(word).replace('%', "\\%"))
            .collect::<Vec<_>>()
            .join(" ");
        let hours = self.time_limit / 3_600 + 2;
        let limit = if slurm { format!("#SCRON --time={hours}:00:00 --job-name={}\n", self.unit()) } else { String::new() };
        let [begin, end] = self.marks();
        format!("{begin}\n{limit}17 * * * * {command}\n{end}\n")
    }

    fn marks(&self) -> [String; 2] {
        [
            format!("# >>> sure rebuild {} (by `sure schedule`; every {} UTC, asked hourly)", self.name, self.every),
            format!("# <<< sure rebuild {}", self.name),
        ]
    }

    /// The lines of a crontab without ours. None when they end without their mark.
    pub fn removed_from(&self, crontab: &str) -> Option<String> {
        let (begin, end) = (format!("# >>> sure rebuild {} ", self.name), self.marks()[1].clone());
        let (mut kept, mut inside) = (String::new(), false);
        for line in crontab.split_inclusive('\n') {
            match (inside, line.trim_end()) {
                (false, text) if text.starts_with(&begin) => inside = true,
                (true, text) if text == end => inside = false,
                (true, _) => {}
                (false, _) => kept += line,
            }
        }
        (!inside).then_some(kept)
    }

    /// A crontab with our lines, in place of earlier ones. None when earlier ones end without their mark.
    pub fn added_to(&self, crontab: &str, slurm: bool) -> Option<String> {
        let mut text = self.removed_from(crontab)?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Some(text + &self.cron_block(slurm))
    }

    /// A path as a word for the shell of a forge, which starts in the repository.
    fn in_repository(&self, path: &Path) -> String {
        shell_word(&path.strip_prefix(&self.repository).unwrap_or(path).display().to_string())
    }

    /// Branch with the history.
    fn branch(&self) -> String {
        format!("history-{}", self.name)
    }

    /// Commands that put the history of the branch into its folder. A branch that is not there yet is an empty history; one that cannot be
    /// asked for is an error, since a rebuild without its history would find every cell new.
    fn get_history(&self) -> String {
        let (folder, branch) = (self.in_repository(&self.history), self.branch());
        format!(
            "rm -rf {folder} && git worktree prune\n\
             if git ls-remote --exit-code origin refs/heads/{branch}; then\n\
             \x20 git fetch --depth 1 origin {branch}\n\
             \x20 git worktree add --detach {folder} FETCH_HEAD\n\
             elif [ $? -eq 2 ]; then\n\
             \x20 empty=$({GIT} commit-tree -m \"history of {name}\" \"$(git hash-object -t tree -w /dev/null)\")\n\
             \x20 git worktree add --detach {folder} \"$empty\"\n\
             else\n\
             \x20 exit 1\n\
             fi\n",
            name = self.name
        )
    }

    /// Commands that commit the history and push it to its branch.
    fn keep_history(&self, remote: &str) -> String {
        let (folder, branch) = (self.in_repository(&self.history), self.branch());
        format!(
            "git -C {folder} add -A -- . ':!lock'\n\
             git -C {folder} diff --cached --quiet || {GIT} -C {folder} commit -q -m \"history of {}\"\n\
             git -C {folder} push {remote} HEAD:refs/heads/{branch}\n",
            self.name
        )
    }

    fn github(&self) -> String {
        let (name, file, cron) = (&self.name, self.in_repository(&self.file), cron_of(self.every));
        let secrets: Vec<String> =
            self.secrets.iter().map(|secret| format!("          {secret}: ${{{{ secrets.{secret} }}}}\n")).collect();
        let secrets = if secrets.is_empty() { String::new() } else { format!("        env:\n{}", secrets.concat()) };
        format!(
            "# Written by `sure schedule --as github`. The runner needs `sure`, libtorch and the corpora: a runner of your own.\n\
             # GitHub stops the schedule of a repository without commits for 60 days, without a word; the pushes to the branch `{branch}` count.\n\
             # A start may be late or left out: `--if-due` makes up for it at the next one.\n\
             name: sure {name}\n\
             on:\n  schedule:\n    - cron: \"{cron}\"\n  workflow_dispatch:\n\
             permissions:\n  contents: write\n\
             concurrency:\n  group: sure-{name}\n  cancel-in-progress: false\n\
             jobs:\n  rebuild:\n    runs-on: self-hosted\n    timeout-minutes: {minutes}\n    steps:\n\
             \x20     - uses: actions/checkout@v4\n        with:\n          clean: false    # the store is in this folder, unless `sure.toml` says otherwise\n\
             \x20     - name: Get the history\n        run: |\n{get}\
             \x20     - name: Rebuild\n        run: |\n          sure rebuild --if-due {file}\n{secrets}\
             \x20     - name: Keep the history\n        if: always()\n        run: |\n{keep}",
            branch = self.branch(),
            minutes = (self.time_limit / 60 + 60).min(360 * 24),
            get = indented(&self.get_history(), 10),
            keep = indented(&self.keep_history("origin"), 10),
        )
    }

    fn gitlab(&self) -> String {
        let (name, file, cron) = (&self.name, self.in_repository(&self.file), cron_of(self.every));
        let secrets = match &self.secrets[..] {
            [] => String::new(),
            names => format!("# Set the variables {} there, masked.\n", names.join(", ")),
        };
        format!(
            "# Written by `sure schedule --as gitlab`. Include it in `.gitlab-ci.yml`, and add a pipeline schedule `{cron}` (UTC) in the project.\n\
             # The runner needs `sure`, libtorch, the corpora, and an address with a token that may push, in the variable SURE_PUSH_URL.\n{secrets}\
             sure-{name}:\n\
             \x20 rules:\n    - if: $CI_PIPELINE_SOURCE == \"schedule\"\n\
             \x20 resource_group: sure-{name}\n\
             \x20 interruptible: false\n\
             \x20 variables:\n    GIT_CLEAN_FLAGS: none    # the store is in this folder, unless `sure.toml` says otherwise\n\
             \x20 timeout: {hours} hours\n\
             \x20 script:\n    - |\n{get}    - sure rebuild --if-due {file}\n\
             \x20 after_script:\n    - |\n{keep}\
             \x20 allow_failure:\n    exit_codes: [5]\n",
            hours = self.time_limit / 3_600 + 1,
            get = indented(&self.get_history(), 6),
            keep = indented(&self.keep_history("\"$SURE_PUSH_URL\""), 6),
        )
    }
}

/// `git` as somebody, for commits on machines where nobody has set a name.
const GIT: &str = "git -c user.name=sure -c user.email=sure@localhost";

/// Lines moved to the right.
fn indented(text: &str, columns: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("{:columns$}{line}\n", "")).collect();
    lines.concat()
}

/// Word of a command line of systemd.
fn systemd_word(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let is_plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | ';'));
    if is_plain { escaped } else { format!("\"{escaped}\"") }
}

/// Path of a setting of systemd, which takes the rest of the line.
fn systemd_path(path: &str) -> String {
    path.replace('%', "%%")
}

/// Word for a shell.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '=' | ',' | ':' | '+' | '@');
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Schedule in five columns, for what has no other form.
fn cron_of(every: Every) -> String {
    let clock = |secs: u32| format!("{} {}", secs / 60 % 60, secs / 3_600);
    match every {
        Every::Hours(1) => "17 * * * *".to_owned(),
        Every::Hours(count) if count < 24 => format!("17 */{count} * * *"),
        Every::Hours(_) => "17 0 * * *".to_owned(),
        Every::Day(secs) => format!("{} * * *", clock(secs)),
        Every::Week(day, secs) => format!("{} * * {}", clock(secs), (day.number() + 1) % 7),
        Every::Month(day, secs) => format!("{} {day} * *", clock(secs)),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn timer() -> Timer {
        Timer {
            program: "/opt/my tools/sure".into(),
            file: "/lab/50% off/weekly.toml".into(),
            config: Some("/lab/sure.toml".into()),
            name: "weekly".to_owned(),
            every: "sunday 02:30".parse().unwrap(),
            time_limit: 36 * 3_600,
            system: false,
            repository: "/lab".into(),
            history: "/lab/50% off/history".into(),
            secrets: vec!["HOOK".to_owned()],
        }
    }

    #[test]
    fn a_crontab_keeps_the_lines_of_others() {
        let block = timer().cron_block(false);
        let line =
            "17 * * * * '/opt/my tools/sure' rebuild --if-due --quiet '/lab/50\\% off/weekly.toml' --config /lab/sure.toml";
        assert_eq!(block.lines().nth(1), Some(line));
        let others = "MAILTO=me\n# mine\n5 4 * * * true";
        let once = timer().added_to(others, false).unwrap();
        assert_eq!(once, format!("{others}\n{block}"));
        assert_eq!(timer().added_to(&once, false).as_deref(), Some(&*once), "twice is once");
        let other = Timer { name: "weekly-2".to_owned(), ..timer() };
        let both = other.added_to(&once, false).unwrap();
        assert_eq!(timer().removed_from(&both).unwrap(), format!("{others}\n{}", other.cron_block(false)));
        assert_eq!(timer().removed_from("# >>> sure rebuild weekly (x\n1 2 3 4 5 x\n"), None, "the end mark is gone");
        assert!(timer().cron_block(true).contains("\n#SCRON --time=38:00:00 --job-name=sure-weekly\n17 "));
    }

    #[test]
    fn units_name_whole_paths_and_escape_them() {
        let files = timer().files(Kind::Systemd);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sure-weekly.timer", "sure-weekly.service", "sure-weekly-failed.service"]);
        let service = &files[1].1;
        let line =
            "ExecStart=\"/opt/my tools/sure\" rebuild --if-due --quiet \"/lab/50%% off/weekly.toml\" --config /lab/sure.toml";
        assert!(service.lines().any(|found| found == line), "{service}");
        assert!(service.contains("\nOnFailure=sure-weekly-failed.service\n") && service.contains("\nSuccessExitStatus=5\n"));
        assert!(files[0].1.contains("\nPersistent=true\n"));
    }

    #[test]
    fn files_for_forges_name_paths_in_the_repository_and_the_variables_of_the_file() {
        let github = &timer().files(Kind::Github)[0].1;
        assert!(github.contains("\n          sure rebuild --if-due '50% off/weekly.toml'\n"), "{github}");
        assert!(github.contains("\n          HOOK: ${{ secrets.HOOK }}\n") && !github.contains("SURE_ALIVE_URL"), "{github}");
        let gitlab = &timer().files(Kind::Gitlab)[0].1;
        for text in [github, gitlab] {
            assert!(text.contains(" git worktree add --detach '50% off/history' FETCH_HEAD\n"), "{text}");
        }
        let none = Timer { secrets: vec![], ..timer() };
        assert!(!none.files(Kind::Github)[0].1.contains("env:"));
    }

    /// Runs the commands of a forge in a clone, with `change` in the place of a rebuild.
    #[track_caller]
    fn forge(timer: &Timer, change: &str) -> bool {
        let text = format!("set -e\n{}{change}\n{}", timer.get_history(), timer.keep_history("origin"));
        let output = Command::new("bash").arg("-c").arg(text).current_dir(&timer.repository).output().unwrap();
        output.status.success()
    }

    #[test]
    fn a_forge_keeps_the_history_on_a_branch_from_one_start_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let clone = folder.path().join("clone");
        let init = "git init -q --bare remote && git init -q clone && cd clone && git remote add origin \"$PWD/../remote\" && echo x > weekly.toml \
                    && git add . && git -c user.name=a -c user.email=a commit -qm x";
        assert!(Command::new("sh").arg("-c").arg(init).current_dir(folder.path()).status().unwrap().success());
        let timer =
            Timer { repository: clone.clone(), history: clone.join("history"), file: clone.join("weekly.toml"), ..timer() };
        assert!(forge(&timer, "test ! -e history/rebuilds.jsonl; echo 1 >> history/rebuilds.jsonl; touch history/lock"));
        assert!(forge(&timer, "test ! -e history/lock; echo 2 >> history/rebuilds.jsonl"));
        assert!(forge(&timer, "true"), "nothing is new");
        let show = Command::new("git")
            .args(["-C", "remote", "show", "history-weekly:rebuilds.jsonl"])
            .current_dir(folder.path())
            .output();
        assert_eq!(String::from_utf8(show.unwrap().stdout).unwrap(), "1\n2\n");
        std::fs::rename(folder.path().join("remote"), folder.path().join("away")).unwrap();
        assert!(!forge(&timer, "true"), "a history that cannot be asked for is not an empty one");
    }

    #[test]
    fn schedules_have_five_columns() {
        for (every, columns) in [
            ("sunday 02:30", "30 2 * * 0"),
            ("monday 00:05", "5 0 * * 1"),
            ("day 03:00", "0 3 * * *"),
            ("month 1 05:00", "0 5 1 * *"),
            ("hours 6", "17 */6 * * *"),
        ] {
            assert_eq!(cron_of(every.parse().unwrap()), columns);
        }
    }
}
