//! `sure schedule`: texts that start rebuilds on time, their installation, and a check of it. Changes nothing without being asked.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rebuild::file::RebuildFile;
use rebuild::history::{Due, History, HistoryError, due, write_aside};
use rebuild::timer::{Kind, Timer};

use crate::cli::MachineArgs;
use crate::commands::rebuild::{check_places, check_runs, enter, history_problem, now, plan_runs, read_file, resolved, variable};
use crate::console::say;
use crate::problem::problem;
use crate::settings::Settings;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct ScheduleArgs {
    /// The rebuild file
    file: PathBuf,
    /// What starts it
    #[arg(long = "as", value_name = "KIND")]
    kind: As,
    /// Write the files into this folder, instead of printing them
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["install", "remove", "check"])]
    write: Option<PathBuf>,
    /// Install it for this user
    #[arg(long, conflicts_with_all = ["remove", "check"])]
    install: bool,
    /// Remove it again
    #[arg(long, conflicts_with = "check")]
    remove: bool,
    /// Check whether it is installed as it would be written, and whether it can work
    #[arg(long)]
    check: bool,
    /// Units of the whole machine instead of the user's (systemd)
    #[arg(long)]
    system: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum As {
    /// Units of systemd
    Systemd,
    /// A line of the user's crontab
    Cron,
    /// A line of the user's crontab of Slurm
    Scrontab,
    /// A workflow of GitHub Actions
    Github,
    /// A job of GitLab
    Gitlab,
}

impl As {
    fn kind(self) -> Kind {
        match self {
            Self::Systemd => Kind::Systemd,
            Self::Cron => Kind::Cron,
            Self::Scrontab => Kind::Scrontab,
            Self::Github => Kind::Github,
            Self::Gitlab => Kind::Gitlab,
        }
    }

    /// Program that keeps the crontab.
    fn crontab(self) -> &'static str {
        if self == Self::Scrontab { "scrontab" } else { "crontab" }
    }
}

pub(crate) fn schedule(args: &ScheduleArgs) -> Result<ExitCode> {
    let (file, _) = read_file(&args.file)?;
    let here = std::env::current_dir().context("cannot find the current folder")?;
    let machine = enter(&file, &args.machine)?;
    let settings = Settings::load(&machine, &[])?;
    let mut missing = BTreeMap::new();
    if !args.remove {
        check_places(&file, &settings)?;
        missing = check_runs(&plan_runs(&file, &machine)?)?; // mistakes are better found now than on Sunday
    }
    let timer = Timer {
        program: std::env::current_exe().context("cannot find this program")?,
        file: file.path.clone(),
        config: settings.file.as_ref().and_then(|path| path.canonicalize().ok()),
        name: file.name.clone(),
        every: file.every,
        time_limit: file.time_limit.as_secs(),
        system: args.system,
        repository: repository(&file.path),
        history: resolved(&file.history),
        secrets: [&file.tell.webhook, &file.tell.alive].into_iter().flatten().cloned().collect(),
    };
    if matches!(args.kind, As::Github | As::Gitlab) && !timer.history.starts_with(&timer.repository) {
        return Err(problem(
            format!("the history `{}` is not in the repository `{}`", timer.history.display(), timer.repository.display()),
            "a forge keeps it on a branch: give it a folder in the repository, `history = \"history\"`",
        ));
    }
    let files = timer.files(args.kind.kind());
    if args.check {
        return check(args, &file, &timer, &files, &missing);
    }
    if !args.remove {
        History::read(&file.history).and_then(|history| history.check_owner(&file)).map_err(history_problem)?;
    }
    for text in missing.values() {
        say!("warning: rebuilds would not start: {text}");
    }
    if args.install || args.remove {
        return change(args, &timer, &files);
    }
    for (name, text) in &files {
        match &args.write {
            Some(folder) => {
                let folder = here.join(folder);
                fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
                write_aside(&folder.join(name), text.as_bytes()).map_err(history_problem)?;
                println!("{}", folder.join(name).display());
            }
            None if files.len() > 1 => println!("# {name}\n{text}"),
            None => print!("{text}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Folder of the repository with a file; that of the file where there is none.
fn repository(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new("/"));
    folder.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(folder).to_owned()
}

/// Folder of the units.
fn unit_folder(system: bool) -> Result<PathBuf> {
    if system {
        return Ok("/etc/systemd/system".into());
    }
    let config =
        variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")));
    config
        .map(|config| config.join("systemd/user"))
        .ok_or_else(|| problem("the variable `HOME` is not set", "set it, or write the units with --write"))
}

/// Runs a program; none when there is no such program.
fn call(program: &str, words: &[&str], input: Option<&str>) -> Result<Option<Output>> {
    let mut command = Command::new(program);
    command
        .args(words)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        child => child.with_context(|| format!("cannot start `{program}`"))?,
    };
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).with_context(|| format!("cannot write to `{program}`"))?;
    }
    Ok(Some(child.wait_with_output().with_context(|| format!("cannot wait for `{program}`"))?))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// The crontab of the user; empty when there is none. Any other failure is an error: an installation would replace what it did not see.
fn read_crontab(program: &str) -> Result<String> {
    let Some(output) = call(program, &["-l"], None)? else {
        return Err(problem(format!("there is no program `{program}`"), "install it, or choose another kind: `--as systemd`"));
    };
    let why = said(&output);
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).with_context(|| format!("`{program} -l` prints other text than UTF-8"))?),
        false if why.contains("no crontab") || why.contains("No such file") => Ok(String::new()),
        false => Err(problem(format!("`{program} -l` failed: {why}"), "nothing was changed; its message says what is wrong")),
    }
}

/// True if a text sets a variable, as a crontab or a file of systemd does.
fn sets(text: &str, name: &str) -> bool {
    let value = |line: &str| Some(line.trim().strip_prefix(name)?.trim_start().strip_prefix('=')?.trim().to_owned());
    text.lines().filter_map(value).any(|value| !value.is_empty() && value != "\"\"")
}

fn change(args: &ScheduleArgs, timer: &Timer, files: &[(String, String)]) -> Result<ExitCode> {
    match args.kind {
        As::Cron | As::Scrontab => {
            let program = args.kind.crontab();
            let before = read_crontab(program)?;
            let after =
                if args.install { timer.added_to(&before, args.kind == As::Scrontab) } else { timer.removed_from(&before) };
            let Some(after) = after else {
                return Err(problem(
                    format!("the lines of `{}` in the crontab have no end mark", timer.name),
                    format!("correct them by hand: `{program} -e`"),
                ));
            };
            if args.kind == As::Cron && args.install {
                // The dry run of newer versions finds a bad line before anything is replaced.
                let tried = call(program, &["-n", "-"], Some(&after))?;
                let refused =
                    tried.as_ref().filter(|output| !output.status.success() && !said(output).contains("invalid option"));
                if let Some(output) = refused {
                    return Err(problem(format!("`{program}` refuses the new crontab: {}", said(output)), "the old one stays"));
                }
            }
            let installed = call(program, &["-"], Some(&after))?;
            if let Some(output) = installed.filter(|output| !output.status.success()) {
                return Err(problem(format!("`{program}` refuses the new crontab: {}", said(&output)), "the old one stays"));
            }
            println!("{} in the crontab of this user", if args.install { "installed" } else { "removed" });
        }
        As::Systemd => {
            let folder = unit_folder(args.system)?;
            let scope: &[&str] = if args.system { &[] } else { &["--user"] };
            let timer_unit = format!("{}.timer", timer.unit());
            let systemctl = |words: &[&str]| call("systemctl", &[scope, words].concat(), None);
            if args.remove {
                let _ = systemctl(&["disable", "--now", &timer_unit])?; // it may not run
            }
            for (name, text) in files {
                let path = folder.join(name);
                if args.install {
                    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
                    write_aside(&path, text.as_bytes()).map_err(history_problem)?;
                } else if path.exists() {
                    fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
                }
                println!("{} {}", if args.install { "wrote" } else { "removed" }, path.display());
            }
            let _ = systemctl(&["daemon-reload"])?;
            if args.install {
                match systemctl(&["enable", "--now", &timer_unit])? {
                    Some(output) if output.status.success() => println!("started {timer_unit}"),
                    Some(output) => {
                        let scope = if args.system { "--system" } else { "--user" };
                        let hint = format!(
                            "the units are written; `systemctl {scope} enable --now {timer_unit}` starts the timer where systemd runs"
                        );
                        return Err(problem(format!("systemd did not start {timer_unit}: {}", said(&output)), hint));
                    }
                    None => {
                        return Err(problem("there is no program `systemctl`", "the units are written; or choose `--as cron`"));
                    }
                }
            }
        }
        As::Github | As::Gitlab => {
            return Err(problem(
                "files for a forge are installed by a commit",
                "write them with `--write FOLDER` and commit them",
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A fault that keeps a rebuild from starting or from being told.
struct Fault {
    what: String,
    hint: String,
}

fn check(
    args: &ScheduleArgs,
    file: &RebuildFile,
    timer: &Timer,
    files: &[(String, String)],
    missing: &BTreeMap<String, String>,
) -> Result<ExitCode> {
    let mut faults = vec![];
    let mut fault = |what: String, hint: &str| faults.push(Fault { what, hint: hint.to_owned() });
    let kind = args.kind.to_possible_value().map_or_else(String::new, |kind| kind.get_name().to_owned());
    let system = if args.system { " --system" } else { "" };
    let install = &*format!("install it: `sure schedule {} --as {kind}{system} --install`", args.file.display());
    for text in missing.values() {
        fault(text.clone(), "`sure doctor` lists the places of this machine");
    }
    match args.kind {
        As::Cron | As::Scrontab => {
            let text = read_crontab(args.kind.crontab())?;
            if timer.added_to(&text, args.kind == As::Scrontab).as_deref() != Some(&text) {
                let is_there = text.contains(&format!("# >>> sure rebuild {} ", timer.name));
                let what =
                    if is_there { "the crontab has other lines than would be written" } else { "it is not in the crontab" };
                fault(what.to_owned(), install);
            }
        }
        As::Systemd => {
            let folder = unit_folder(args.system)?;
            for (name, text) in files {
                match fs::read_to_string(folder.join(name)) {
                    Ok(found) if found == *text => {}
                    Ok(_) => fault(format!("`{name}` is not as it would be written"), install),
                    Err(_) => fault(format!("`{name}` is not installed"), install),
                }
            }
            let scope = if args.system { "--system" } else { "--user" };
            let unit = format!("{}.timer", timer.unit());
            match call("systemctl", &[scope, "is-active", &unit], None)? {
                Some(output) if output.status.success() => {}
                _ => fault(format!("{unit} is not active"), &format!("start it: `systemctl {scope} enable --now {unit}`")),
            }
            let user = ["USER", "LOGNAME"].into_iter().find_map(variable).filter(|user| !user.is_empty());
            let lingers = user.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user).exists());
            if !args.system && !lingers {
                fault("the units of this user end at logout".to_owned(), "`loginctl enable-linger` keeps them running");
            }
        }
        As::Github | As::Gitlab => {
            fault("files for a forge cannot be checked from here".to_owned(), "see the page of its schedules");
        }
    }
    let secrets = timer.file.with_extension("env");
    let (text, place) = match args.kind {
        As::Cron | As::Scrontab => (read_crontab(args.kind.crontab())?, format!("a line of `{} -e`", args.kind.crontab())),
        _ => (fs::read_to_string(&secrets).unwrap_or_default(), format!("`{}`", secrets.display())),
    };
    for (name, what) in [(&file.tell.webhook, "web hook"), (&file.tell.alive, "sign of life")] {
        if let Some(name) = name.as_ref().filter(|name| !sets(&text, name)) {
            fault(format!("the variable `{name}` of the {what} is not set where rebuilds start"), &format!("set it in {place}"));
        }
    }
    if !file.tell.mail.is_empty() && !["/usr/sbin/sendmail", "/usr/lib/sendmail"].iter().any(|path| Path::new(path).exists()) {
        fault(
            "there is no `sendmail`, so no mail can be sent".to_owned(),
            "install a mail program, or tell a web hook or a command",
        );
    }
    if let Some(program) = file.tell.command.first().filter(|program| !Path::new(program).is_file()) {
        fault(format!("there is no program `{program}`"), "correct `tell.command`");
    }
    if let Some(site) = file.site.as_ref().filter(|site| !site.folder.exists() && !site.folder.parent().is_some_and(Path::exists))
    {
        fault(format!("the folder of the site cannot be made: `{}`", site.folder.display()), "make the folder above it");
    }
    if let Some(kind) = pipeline::store::network_file_system(&file.history) {
        let error = HistoryError::Network { folder: file.history.clone(), kind };
        fault(error.to_string(), &error.hint().unwrap_or_default());
    }
    let history = History::read(&file.history).map_err(history_problem)?;
    match history.log.ended().next_back() {
        Some(last) => println!("last rebuild: {}, {}", last.begun, last.outcome.title()),
        None => println!("no rebuild has ended yet"),
    }
    match due(file, now()?) {
        Ok(Due::Yes(instant)) => println!("due since {instant}"),
        Ok(Due::No(next)) => println!("next due {next}"),
        Err(error) => fault(error.to_string(), &error.hint().unwrap_or_default()),
    }
    for Fault { what, hint } in &faults {
        println!("fault: {what}\n  hint: {hint}");
    }
    if faults.is_empty() {
        println!("installed, as it would be written now");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::sets;

    #[test]
    fn variables_are_set_by_lines_with_a_value() {
        let text = "# HOOK=x\nOTHER_HOOK=x\nALIVE = https://e.org\nEMPTY=\nQUOTED=\"\"\n";
        assert!(sets(text, "ALIVE") && sets(text, "OTHER_HOOK"));
        assert!(!sets(text, "HOOK") && !sets(text, "EMPTY") && !sets(text, "QUOTED") && !sets(text, "OTHER"));
    }
}
