//! The body of the stage that runs in a worker.

use std::io::Write;

use pipeline::worker::Body;
use pipeline::{Job, StageError};

use crate::stages::{Act, Dry, Far, enter, read, small_steps, write};

/// What the worker can run.
pub(crate) fn bodies() -> Vec<Body> {
    vec![Body::of::<Far>(far)]
}

fn far(stage: &Far, job: &Job) -> Result<(), StageError> {
    enter(job, &format!("far {}", stage.text));
    job.progress.fact("pid", std::process::id().into());
    match stage.act {
        Act::Write => {}
        Act::Fail => {
            let source = std::io::Error::other("the pot is empty");
            return Err(StageError::failed(Dry { source }).with_hint("fill the pot"));
        }
        Act::Panic => panic!("no ink"),
        Act::Abort => std::process::abort(),
        Act::Exit => std::process::exit(0),
        Act::Garbage => {
            let mut out = std::io::stdout().lock();
            let _ =
                out.write_all(b"{\"event\": \"nonsense\"}\nplain words\n\xff\xfe not text\n[1, 2\n").and_then(|()| out.flush());
        }
        Act::Steps => return small_steps(20, 10, job),
        Act::Hang => {
            job.progress.note(&format!("pid {}", std::process::id()));
            while !job.stop.requested() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            return Err(StageError::Stopped);
        }
    }
    let texts: Result<String, StageError> = job.inputs.many("texts").iter().map(|input| read(&input.path)).collect();
    write(job, "text.txt", &(texts? + &stage.text))
}
