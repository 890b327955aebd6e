//! Slurm, by its programs `sbatch`, `squeue`, `scancel` and `scontrol`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::cluster::{ArrayJob, Class, Cluster, ClusterError, ClusterLimits, Seen, SubmitError};
use super::command::{Answer, call};
use super::states::state_of;

/// A Slurm cluster, and the options that every job gets.
#[derive(Debug, Clone, Default)]
pub struct Slurm {
    /// `--partition`
    pub partition: Option<String>,
    /// `--account`
    pub account: Option<String>,
    /// `--qos`
    pub qos: Option<String>,
    /// `--constraint`
    pub constraint: Option<String>,
    /// `--gres` of an element with a GPU.
    pub gres: Option<String>,
    /// Time limit of an element.
    pub time: Option<Duration>,
    /// Further options of `sbatch`.
    pub extra: Vec<String>,
    /// Environment of the programs, and so of the jobs: names and values.
    pub environment: Vec<(OsString, OsString)>,
}

/// Time in which `sbatch` and `scancel` must answer.
const SUBMIT: Duration = Duration::from_secs(60);
/// Time in which a question must be answered.
const ASK: Duration = Duration::from_secs(30);

/// Fields of a line of `squeue`: array job, element, name, state, reason, host.
const FORMAT: &str = "%F|%K|%j|%T|%r|%N";

impl Slurm {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn ask(&self, program: &str, arguments: &[&str]) -> Result<String, ClusterError> {
        let mut command = self.command(program);
        command.args(arguments);
        call(command, ASK)?.success(program)
    }

    /// Returns the options of `sbatch` for an array.
    fn options(&self, job: &ArrayJob<'_>) -> Vec<String> {
        let class = job.class;
        let at_once = job.max_running.map(|most| format!("%{most}")).unwrap_or_default();
        let mut options = vec![
            "--parsable".to_owned(),
            "--no-requeue".to_owned(),
            format!("--job-name={}", job.name),
            format!("--array=0-{}{at_once}", job.elements.saturating_sub(1)),
            "--nodes=1".to_owned(),
            "--ntasks=1".to_owned(),
            format!("--cpus-per-task={}", class.threads),
            format!("--mem={}M", class.memory_mib),
            format!("--output={}/%a.log", job.logs.display()),
            "--open-mode=append".to_owned(),
            "--export=ALL".to_owned(), // of the small environment that `sbatch` itself gets
        ];
        let mut option = |name: &str, value: &Option<String>| {
            options.extend(value.iter().map(|value| format!("--{name}={value}")));
        };
        option("partition", &self.partition);
        option("account", &self.account);
        option("qos", &self.qos);
        option("constraint", &self.constraint);
        option("gres", &self.gres.clone().filter(|_| class.gpu));
        option("time", &self.time.map(|time| minutes(time).to_string()));
        // Slurm sends it up to a minute early.
        option("signal", &self.time.map(|time| format!("B:USR2@{}", notice(time).as_secs())));
        option("exclude", &Some(job.exclude.join(",")).filter(|hosts| !hosts.is_empty()));
        options.extend(self.extra.iter().cloned());
        options
    }
}

/// Whole minutes, at least one: Slurm counts no smaller times.
fn minutes(time: Duration) -> u64 {
    time.as_secs().div_ceil(60).max(1)
}

/// Time before the limit at which an element is told to save its state.
fn notice(time: Duration) -> Duration {
    Duration::from_secs((minutes(time) * 60 / 10).clamp(15, 120))
}

impl Cluster for Slurm {
    fn submit(&self, job: &ArrayJob<'_>) -> Result<String, SubmitError> {
        let mut command = self.command("sbatch");
        command.args(self.options(job)).arg(job.script);
        let answer = call(command, SUBMIT).map_err(|error| {
            let does_not_start = error.problem.starts_with("does not start");
            if does_not_start { SubmitError::Refused(error.to_string()) } else { SubmitError::Unclear(error.to_string()) }
        })?;
        match verdict(&answer) {
            Err(SubmitError::TooMany(said)) if job.elements == 1 && said.contains(ARRAY) => Err(SubmitError::Refused(said)),
            other => other,
        }
    }

    fn look(&self, names: &[String]) -> Result<Vec<Seen>, ClusterError> {
        let names = format!("--name={}", names.join(","));
        let text = self.ask("squeue", &["--me", "--noheader", "--array", "--states=all", &names, "--format", FORMAT])?;
        read_queue(&text)
    }

    fn cancel(&self, job: &str, elements: &[u32]) -> Result<(), ClusterError> {
        let list: Vec<String> = elements.iter().map(ToString::to_string).collect();
        let mut command = self.command("scancel");
        command.arg(format!("{job}_[{}]", list.join(",")));
        call(command, SUBMIT)?.success("scancel").map(|_| ())
    }

    fn limits(&self) -> Result<ClusterLimits, ClusterError> {
        let text = self.ask("scontrol", &["show", "config"])?;
        let number = |key: &str| -> Option<u64> {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(key))?;
            line.split_once('=')?.1.split_whitespace().next()?.parse().ok()
        };
        let problem = |key: &str| ClusterError { command: "scontrol".to_owned(), problem: format!("names no {key}") };
        let max = number("MaxArraySize").ok_or_else(|| problem("MaxArraySize"))?;
        // The largest index is one less than this number, so an array that begins at 0 has as many elements.
        Ok(ClusterLimits { max_array: max.min(1 << 22) as u32, min_job_age_secs: number("MinJobAge").unwrap_or(0) })
    }

    fn check(&self, class: Class) -> Result<(), ClusterError> {
        let logs = Path::new("/dev");
        let job = ArrayJob { name: "sure-doctor", elements: 1, class, exclude: &[], max_running: None, script: logs, logs };
        let options = self.options(&job);
        let mut arguments: Vec<&str> = options.iter().map(String::as_str).collect();
        arguments.extend(["--test-only", "--wrap", "true"]);
        self.ask("sbatch", &arguments).map(|_| ())
    }

    fn version(&self) -> Result<String, ClusterError> {
        Ok(self.ask("sbatch", &["--version"])?.trim().to_owned())
    }
}

/// Words for an array that is larger than the cluster allows, or that it does not allow at all.
const ARRAY: &str = "Invalid job array specification";

/// Words for an answer that was lost on its way: whatever else `sbatch` says, the array may have been submitted.
const LOST: [&str; 13] = [
    "Unable to contact",
    "timed out",
    "Zero Bytes",
    "Communication",
    "Connection",
    "Message send failure",
    "Message receive failure",
    "Unexpected message received",
    "Insane message length",
    "Header lengths",
    "Transport endpoint",
    "Broken pipe",
    "Unspecified error",
];

/// Reads the answer of `sbatch`: a job id, perhaps with the name of the cluster.
fn verdict(answer: &Answer) -> Result<String, SubmitError> {
    let said = answer.err.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let id = answer.out.lines().last().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    if answer.status.success() && is_id {
        return Ok(id.to_owned());
    }
    if answer.status.success() {
        return Err(SubmitError::Unclear(format!("sbatch printed no job id: {}", answer.out.trim())));
    }
    let has = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    if said.is_empty() || has(&LOST) {
        return Err(SubmitError::Unclear(if said.is_empty() { "sbatch failed without a message".to_owned() } else { said }));
    }
    if has(&["Limit", "Job violates accounting/QOS policy", ARRAY, "temporarily unable to accept"]) {
        return Err(SubmitError::TooMany(said));
    }
    if has(&["Batch job submission failed", "unrecognized option", "invalid option", "Invalid ", "Unable to open"]) {
        return Err(SubmitError::Refused(said));
    }
    Err(SubmitError::Unclear(said))
}

/// Reads the lines of `squeue`. One that cannot be read makes the answer useless: it may have been cut.
fn read_queue(text: &str) -> Result<Vec<Seen>, ClusterError> {
    let read = |line: &str| -> Option<Seen> {
        let fields: Vec<&str> = line.trim().split('|').collect();
        let [job, element, name, word, reason, host] = fields.as_slice() else { return None };
        let element = element.parse().ok()?;
        let plain = |text: &str| if matches!(text, "None" | "(null)" | "N/A") { String::new() } else { text.to_owned() };
        let (job, name, word) = ((*job).to_owned(), (*name).to_owned(), (*word).to_owned());
        Some(Seen { name, job, element, state: state_of(&word), word, reason: plain(reason), host: plain(host) })
    };
    let unreadable = |line: &str| {
        let line: String = line.chars().take(80).collect();
        ClusterError { command: "squeue".to_owned(), problem: format!("printed a line that cannot be read: `{line}`") }
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| read(line).ok_or_else(|| unreadable(line))).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::super::cluster::{EndClass, State};
    use super::*;

    fn answer(code: i32, out: &str, err: &str) -> Answer {
        Answer { status: ExitStatus::from_raw(code << 8), out: out.to_owned(), err: err.to_owned() }
    }

    #[track_caller]
    fn check(answer: Answer, expected: &str) {
        let found = match verdict(&answer) {
            Ok(id) => format!("job {id}"),
            Err(SubmitError::TooMany(_)) => "too many".to_owned(),
            Err(SubmitError::Refused(_)) => "refused".to_owned(),
            Err(SubmitError::Unclear(_)) => "unclear".to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn answers_of_sbatch_are_a_job_a_limit_a_refusal_or_unclear() {
        check(answer(0, "1234\n", ""), "job 1234");
        check(answer(0, "1234;cluster\n", "sbatch: warning: something"), "job 1234");
        check(answer(0, "", ""), "unclear");
        check(answer(0, "hello", ""), "unclear");
        let failed = |text: &str| answer(1, "", &format!("sbatch: error: {text}\n"));
        check(
            failed(
                "AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            ),
            "too many",
        );
        check(failed("QOSMaxSubmitJobPerUserLimit"), "too many");
        check(failed("Batch job submission failed: Invalid job array specification"), "too many");
        check(failed("Slurm temporarily unable to accept job, sleeping and retrying"), "too many");
        check(failed("Batch job submission failed: Invalid partition name specified"), "refused");
        check(failed("Batch job submission failed: Requested node configuration is not available"), "refused");
        check(failed("Batch job submission failed: Unable to contact slurm controller (connect failure)"), "unclear");
        check(failed("Batch job submission failed: Socket timed out on send/recv operation"), "unclear");
        check(failed("Batch job submission failed: Message receive failure"), "unclear");
        check(failed("Batch job submission failed: Unspecified error"), "unclear");
        check(
            failed(
                "Slurm temporarily unable to accept job, sleeping and retrying\nsbatch: error: Socket timed out on send/recv operation",
            ),
            "unclear",
        );
        check(answer(137, "", ""), "unclear");
    }

    #[test]
    fn an_answer_of_squeue_counts_whole_or_not_at_all() {
        let line = "77|3|sure-a|RUNNING|None|n1\n77|4|sure-a|PENDING|Resources|\n";
        let seen = read_queue(line).unwrap();
        assert_eq!((seen[0].element, seen[0].state, &*seen[0].reason, &*seen[0].host), (3, State::Running, "", "n1"));
        assert_eq!((seen[1].element, seen[1].state, &*seen[1].reason, &*seen[1].host), (4, State::Queued, "Resources", ""));
        let ended = read_queue("77|3|sure-a|NODE_FAIL|NodeDown|n2\n").unwrap();
        assert_eq!(ended[0].state, State::Ended(EndClass::HostFailed));
        assert!(read_queue("").unwrap().is_empty());
        assert!(read_queue("77|3|sure-a|RUNNING|None|n1\n77|4|su").is_err());
        assert!(read_queue("slurm_load_jobs error\n").is_err());
    }

    #[test]
    fn every_job_names_memory_and_refuses_to_be_queued_again() {
        let slurm = Slurm { gres: Some("gpu:1".to_owned()), time: Some(Duration::from_secs(3600)), ..Slurm::default() };
        let job = |gpu| ArrayJob {
            name: "sure-a",
            elements: 4,
            class: Class { threads: 2, gpu, memory_mib: 300 },
            exclude: &[],
            max_running: Some(2),
            script: Path::new("script"),
            logs: Path::new("/w/log"),
        };
        let options = slurm.options(&job(true)).join(" ");
        assert_eq!(
            options,
            "--parsable --no-requeue --job-name=sure-a --array=0-3%2 --nodes=1 --ntasks=1 --cpus-per-task=2 --mem=300M \
             --output=/w/log/%a.log --open-mode=append --export=ALL --gres=gpu:1 --time=60 --signal=B:USR2@120"
        );
        assert!(!slurm.options(&job(false)).join(" ").contains("--gres"));
    }
}
