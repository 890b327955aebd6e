//! Words of Slurm for the state of a job.

use super::cluster::{EndClass, State};

/// Returns the state that a word of `squeue` means. Words may have something after them: `CANCELLED by 1000`, `RUNNING+`.
pub(super) fn state_of(word: &str) -> State {
    let end = word.find(|c: char| !c.is_ascii_alphabetic() && c != '_').unwrap_or(word.len());
    match &word[..end] {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "RESV_DEL_HOLD" | "SPECIAL_EXIT"
        // What is stopped for a while gives no sign of life, and none is missed.
        | "SUSPENDED" | "STOPPED" => State::Queued,
        "RUNNING" | "CONFIGURING" | "COMPLETING" | "SIGNALING" | "STAGE_OUT" | "RESIZING"
        | "POWER_UP_NODE" | "UPDATE_DB" => State::Running,
        "COMPLETED" => State::Ended(EndClass::Completed),
        "FAILED" | "LAUNCH_FAILED" | "RECONFIG_FAIL" | "BOOT_FAIL" | "REVOKED" => State::Ended(EndClass::Failed),
        "TIMEOUT" | "DEADLINE" => State::Ended(EndClass::TimedOut),
        "OUT_OF_MEMORY" => State::Ended(EndClass::OutOfMemory),
        "NODE_FAIL" => State::Ended(EndClass::HostFailed),
        "PREEMPTED" => State::Ended(EndClass::Preempted),
        "CANCELLED" => State::Ended(EndClass::Cancelled),
        _ => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_slurm_has_a_meaning_and_others_are_unknown() {
        for (word, state) in [
            ("PENDING", State::Queued),
            ("REQUEUE_HOLD", State::Queued),
            ("SUSPENDED", State::Queued),
            ("RUNNING", State::Running),
            ("RUNNING+", State::Running),
            ("COMPLETING", State::Running),
            ("COMPLETED", State::Ended(EndClass::Completed)),
            ("FAILED", State::Ended(EndClass::Failed)),
            ("BOOT_FAIL", State::Ended(EndClass::Failed)),
            ("TIMEOUT", State::Ended(EndClass::TimedOut)),
            ("DEADLINE", State::Ended(EndClass::TimedOut)),
            ("OUT_OF_MEMORY", State::Ended(EndClass::OutOfMemory)),
            ("NODE_FAIL", State::Ended(EndClass::HostFailed)),
            ("PREEMPTED", State::Ended(EndClass::Preempted)),
            ("CANCELLED by 1000", State::Ended(EndClass::Cancelled)),
            ("", State::Unknown),
            ("SOMETHING_NEW", State::Unknown),
            ("completed", State::Unknown),
        ] {
            assert_eq!(state_of(word), state, "{word}");
        }
    }
}
