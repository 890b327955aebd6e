//! The body of the stage that runs in a worker.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;

use pipeline::registry::Registry;
use pipeline::{Job, StageError};

use crate::stages::{self, Act, Dry, Far, enter, read, small_steps, write};

/// How much noise a worker makes.
const NOISE_KIB: usize = 40 << 10;

/// All kinds, with their bodies in this process.
pub(crate) fn registry() -> Registry {
    stages::in_process(Registry::default()).here::<Far>(far)
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
        Act::Ignore => {
            job.progress.note("deaf");
            loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        }
        Act::Mute => {
            let error = Command::new("sh").args(["-c", "exec >&-; exec sleep 600"]).exec();
            return Err(StageError::failed(error));
        }
        Act::Noise => {
            let line = [vec![b'x'; 1023], vec![b'\n']].concat();
            let mut err = std::io::stderr().lock();
            for _ in 0..NOISE_KIB {
                let _ = err.write_all(&line);
            }
            let _ = err.write_all(b"the end\n");
            let mut out = std::io::stdout().lock();
            for _ in 0..NOISE_KIB {
                let _ = out.write_all(&line[..1023]);
            }
            let _ = out.write_all(b"\n");
            return Err(StageError::failed(Dry { source: std::io::Error::other("so much noise") }));
        }
        Act::Orphan => {
            let _ = Command::new("sleep").arg("600").spawn();
            std::process::exit(7);
        }
        Act::Mortal => {
            let tries = job.resume()?.join("tries");
            let count = std::fs::read(&tries).map_or(0, |bytes| bytes.len());
            std::fs::write(&tries, vec![b'x'; count + 1]).map_err(StageError::io("write", &tries))?;
            if count < 2 {
                std::process::abort();
            }
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
