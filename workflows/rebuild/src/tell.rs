//! Sends messages: by mail through `sendmail -t`, to a web hook, to a program, and asks for an address as a sign of life.
//!
//! A message is written to `unsent/` before the rebuild's end is recorded, one file for each channel, and removed when its channel has
//! taken it. A file whose sending was cut off by a kill is not sent again, since it may have arrived; the next rebuild says so.
//!
//! Addresses are secrets. They come from the environment, reach `curl` on its standard input, and are in no file and no error.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::file::Tell;
use crate::history::{HistoryError, write_aside};

/// Way to tell people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Mail.
    Mail,
    /// Web hook.
    Webhook,
    /// Program.
    Command,
}

const ALL: [Channel; 3] = [Channel::Mail, Channel::Webhook, Channel::Command];

impl Channel {
    /// Name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
            Self::Command => "command",
        }
    }

    fn is_used(self, tell: &Tell) -> bool {
        match self {
            Self::Mail => !tell.mail.is_empty(),
            Self::Webhook => tell.webhook.is_some(),
            Self::Command => !tell.command.is_empty(),
        }
    }
}

/// Channels that a file names.
pub fn channels(tell: &Tell) -> Vec<Channel> {
    ALL.into_iter().filter(|channel| channel.is_used(tell)).collect()
}

/// Result of sending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Messages that arrived: id of the rebuild and channel.
    pub sent: Vec<(String, &'static str)>,
    /// Messages that wait, with the reason.
    pub kept: Vec<(String, &'static str, String)>,
}

/// Reason why a message was not sent.
enum Unsent {
    /// A message whose file cannot be used; others of the channel are tried.
    Message(String),
    /// A channel that does not work; all its messages wait.
    Channel(String),
}

/// Folder of messages that wait, with the ways to send them.
pub struct Outbox<'a> {
    folder: PathBuf,
    tell: &'a Tell,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Tries to send a message.
const TRIES: u32 = 3;

impl<'a> Outbox<'a> {
    /// The messages of a history. `variable` returns the value of an environment variable.
    pub fn new(history: &Path, tell: &'a Tell, variable: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { folder: history.join("unsent"), tell, variable }
    }

    /// Keeps a message for every channel.
    ///
    /// Errors: [`HistoryError::Io`].
    pub fn post(&self, event: &Event) -> Result<(), HistoryError> {
        let text = serde_json::to_vec_pretty(event).unwrap_or_default(); // plain data
        for channel in channels(self.tell) {
            write_aside(&self.folder.join(format!("{}.{}.json", event.rebuild, channel.name())), &text)?;
        }
        Ok(())
    }

    /// Sorts out what an earlier process left: messages of rebuilds whose end is not recorded are dropped, and those that were being
    /// sent when it was killed. Returns a sentence for each of the latter.
    pub fn sort_out(&self, has_ended: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut notices = vec![];
        for name in self.names() {
            let path = self.folder.join(&name);
            let mut parts = name.rsplitn(3, '.');
            let (ending, channel, id) = (parts.next(), parts.next(), parts.next());
            match (ending, channel, id) {
                (Some("sending"), Some(channel), Some(id)) => {
                    let _ = fs::remove_file(&path);
                    notices.push(format!(
                        "the message of rebuild {id} was cut off on its way to `{channel}`, and may not have arrived"
                    ));
                }
                (Some("json"), Some(_), Some(id)) if has_ended(id) => {}
                _ => _ = fs::remove_file(&path),
            }
        }
        notices
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Sends all messages that wait, the oldest first.
    pub fn send_all(&self) -> Delivery {
        let mut delivery = Delivery::default();
        for channel in ALL {
            let ending = format!(".{}.json", channel.name());
            let mut trouble: Option<String> = None;
            for name in self.names().iter().filter(|name| name.ends_with(&ending)) {
                let id = name.trim_end_matches(&ending).to_owned();
                if let Some(why) = &trouble {
                    delivery.kept.push((id, channel.name(), why.clone()));
                    continue;
                }
                let path = self.folder.join(name);
                match self.send_file(channel, &path) {
                    Ok(()) => delivery.sent.push((id, channel.name())),
                    Err(Unsent::Message(why)) => delivery.kept.push((id, channel.name(), why)),
                    Err(Unsent::Channel(why)) => {
                        delivery.kept.push((id, channel.name(), why.clone()));
                        trouble = Some(why);
                    }
                }
            }
        }
        delivery
    }

    fn send_file(&self, channel: Channel, path: &Path) -> Result<(), Unsent> {
        if !channel.is_used(self.tell) {
            let _ = fs::remove_file(path); // the channel was taken out of the rebuild file
            return Ok(());
        }
        let message = |why: String| Unsent::Message(format!("{why}: `{}`", path.display()));
        let read = fs::read(path).map_err(|error| message(error.to_string()))?;
        let event: Event = serde_json::from_slice(&read).map_err(|_| message("its file is damaged".to_owned()))?;
        let sending = path.with_extension("sending");
        fs::rename(path, &sending).map_err(|error| message(error.to_string()))?;
        let sent = self.send(channel, &event);
        let _ = if sent.is_ok() { fs::remove_file(&sending) } else { fs::rename(&sending, path) };
        sent.map_err(Unsent::Channel)
    }

    fn send(&self, channel: Channel, event: &Event) -> Result<(), String> {
        let json = serde_json::to_vec(event).unwrap_or_default(); // plain data
        match channel {
            Channel::Mail => {
                let sendmail = ["/usr/sbin/sendmail", "/usr/lib/sendmail"].into_iter().find(|path| Path::new(path).exists());
                let program = (self.variable)("SURE_SENDMAIL").unwrap_or_else(|| sendmail.unwrap_or("sendmail").to_owned());
                let text = mail(event, &self.tell.mail);
                self.repeat(|limit| execute(&[program.as_str(), "-t", "-oi"], text.as_bytes(), limit))
            }
            Channel::Webhook => {
                let url = self.secret(self.tell.webhook.as_deref())?;
                let body = String::from_utf8_lossy(&json).into_owned();
                self.repeat(|limit| curl(&url, Some(&body), limit))
            }
            Channel::Command => {
                let words: Vec<&str> = self.tell.command.iter().map(String::as_str).collect();
                self.repeat(|limit| execute(&words, &json, limit))
            }
        }
    }

    /// Asks for the address that notices when rebuilds stop.
    ///
    /// Errors: why that failed.
    pub fn ping(&self) -> Result<(), String> {
        if self.tell.alive.is_none() {
            return Ok(());
        }
        let url = self.secret(self.tell.alive.as_deref())?;
        self.repeat(|limit| curl(&url, None, limit))
    }

    fn secret(&self, name: Option<&str>) -> Result<String, String> {
        let name = name.unwrap_or_default();
        (self.variable)(name).filter(|value| !value.is_empty()).ok_or_else(|| format!("the variable `{name}` is not set"))
    }

    /// Tries up to three times within the patience of the file.
    fn repeat(&self, attempt: impl Fn(Duration) -> Result<(), String>) -> Result<(), String> {
        let each = self.tell.patience / TRIES;
        let mut last = Err(String::new());
        for number in 0..TRIES {
            let begun = Instant::now();
            last = attempt(each);
            if last.is_ok() {
                break;
            }
            let pause = each.min(Duration::from_secs(1)).saturating_sub(begun.elapsed());
            if number + 1 < TRIES {
                std::thread::sleep(pause);
            }
        }
        last
    }
}

/// Text of a mail with its heads.
fn mail(event: &Event, addresses: &[String]) -> String {
    let subject = format!("[sure {}] {}: {}", event.name, event.level.title(), event.title);
    format!(
        "To: {}\nSubject: {}\nDate: {}\nMessage-ID: <{}.{}@sure.invalid>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\nAuto-Submitted: auto-generated\n\n{}\n",
        addresses.join(", "),
        header(&subject),
        event.at.mail(),
        event.rebuild.replace(':', "-"),
        event.name,
        event.text
    )
}

/// A header of one line; text that is not ASCII in the form of RFC 2047, section 4.2.
fn header(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.is_ascii() && text.len() < 200 {
        return text;
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        let mut bytes = [0; 4];
        let coded: String = match c {
            c if c.is_ascii_alphanumeric() => c.to_string(),
            ' ' => "_".to_owned(),
            c => c.encode_utf8(&mut bytes).bytes().map(|byte| format!("={byte:02X}")).collect::<Vec<_>>().concat(),
        };
        if words.last().is_some_and(|word| word.len() + coded.len() > 60) {
            words.push(String::new());
        }
        words.last_mut().expect("there is one").push_str(&coded);
    }
    words.iter().map(|word| format!("=?utf-8?Q?{word}?=")).collect::<Vec<_>>().join("\n ")
}

/// Sends a request. The address is given on standard input, so that no list of processes shows it.
fn curl(url: &str, body: Option<&str>, limit: Duration) -> Result<(), String> {
    let quoted = |text: &str| {
        text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
    };
    let mut config = format!(
        "url = \"{}\"\nfail\nsilent\nlocation\noutput = \"/dev/null\"\nproto = \"=http,https\"\nmax-time = {:.3}\n",
        quoted(url),
        limit.as_secs_f64()
    );
    if let Some(body) = body {
        // A POST stays one where its address has moved; as a GET, the message would be lost and the answer a success.
        config += "header = \"content-type: application/json\"\npost301\npost302\n";
        config = format!("{config}data-binary = \"{}\"\n", quoted(body));
    }
    execute(&["curl", "-q", "--config", "-"], config.as_bytes(), limit + Duration::from_secs(2)).map_err(|why| {
        let code = why.strip_prefix("it ended with exit code ").and_then(|code| code.parse::<u32>().ok());
        match code {
            Some(3 | 1) => "its address is no web address".to_owned(),
            Some(6) => "its host is not known".to_owned(),
            Some(7) => "it does not accept connections".to_owned(),
            Some(22) => "it answered with an error".to_owned(),
            Some(28) => format!("it did not answer within {} s", limit.as_secs().max(1)),
            Some(35 | 51 | 58 | 60) => "its certificate was not accepted".to_owned(),
            Some(code) => format!("`curl` ended with exit code {code}"),
            None => why,
        }
    })
}

/// Runs a program with an input, without a shell. What it prints is dropped, since it may repeat a secret.
fn execute(words: &[&str], input: &[u8], limit: Duration) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let name = Path::new(program).file_name().map_or_else(|| (*program).to_owned(), |name| name.to_string_lossy().into_owned());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no program `{name}`"),
        _ => format!("`{name}` does not start: {error}"),
    })?;
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_vec();
        std::thread::spawn(move || {
            let _ = pipe.write_all(&input); // a program that does not read says so by its exit code
        });
    }
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                return Err(status
                    .code()
                    .map_or_else(|| "it was killed".to_owned(), |code| format!("it ended with exit code {code}")));
            }
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it did not end within {} s", limit.as_secs().max(1)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::event::Level;
    use crate::time::Utc;

    fn event(id: &str) -> Event {
        Event {
            format: 1,
            name: "weekly".to_owned(),
            rebuild: id.to_owned(),
            at: Utc(0),
            level: Level::Alarm,
            title: "WER 7.3 ± 0.1 -> 8.1, worse\nX-Evil: 1".to_owned(),
            text: "WER 7.3 ± 0.1 -> 8.1".to_owned(),
            cells: vec![],
            link: None,
            exit_code: 3,
        }
    }

    /// Answers requests one after the other; sends their texts back.
    fn server(answers: Vec<&'static str>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = move || {
            let answer = |answer: &str| {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut text, mut buffer) = (String::new(), [0; 4096]);
                loop {
                    let count = stream.read(&mut buffer).unwrap();
                    text += &String::from_utf8_lossy(&buffer[..count]);
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length =
                        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                    if body.len() >= length.map_or(0, |length| length.parse::<usize>().unwrap()) {
                        break;
                    }
                }
                stream
                    .write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
                    .unwrap();
                text
            };
            answers.iter().map(|text| answer(text)).collect()
        };
        (port, std::thread::spawn(serve))
    }

    #[test]
    fn a_message_reaches_every_channel_and_waits_for_those_that_fail() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("unsent")).unwrap();
        let script = folder.path().join("tell");
        fs::write(&script, format!("#!/bin/sh\ncat >> {}/got.$(basename $0).$#\n", folder.path().display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let sendmail = folder.path().join("sendmail");
        fs::copy(&script, &sendmail).unwrap();
        let (port, served) = server(vec!["500 no", "500 no", "500 no", "200 ok"]);
        let tell = Tell {
            mail: vec!["lab@example.org".to_owned()],
            webhook: Some("HOOK".to_owned()),
            command: vec![script.display().to_string()],
            alive: None,
            patience: Duration::from_secs(3),
        };
        let url = format!("http://127.0.0.1:{port}/secret-canary");
        let mail_program = sendmail.display().to_string();
        let variable = move |name: &str| match name {
            "HOOK" => Some(url.clone()),
            "SURE_SENDMAIL" => Some(mail_program.clone()),
            _ => None,
        };
        let outbox = Outbox::new(folder.path(), &tell, &variable);
        outbox.post(&event("a")).unwrap();
        let first = outbox.send_all();
        assert_eq!(first.sent, [("a".to_owned(), "mail"), ("a".to_owned(), "command")]);
        assert_eq!(first.kept, [("a".to_owned(), "webhook", "it answered with an error".to_owned())]);
        let second = outbox.send_all();
        assert_eq!((second.sent, second.kept), (vec![("a".to_owned(), "webhook")], vec![]));
        let requests = served.join().unwrap();
        assert!(requests[3].starts_with("POST /secret-canary ") && requests[3].contains("\"rebuild\":\"a\""), "{}", requests[3]);
        let mail = fs::read_to_string(folder.path().join("got.sendmail.2")).unwrap();
        assert!(mail.starts_with("To: lab@example.org\nSubject: =?utf-8?Q?") && !mail.contains("\nX-Evil"), "{mail}");
        assert!(mail.contains("\n\nWER 7.3 ± 0.1 -> 8.1\n"), "{mail}");
        assert!(fs::read_to_string(folder.path().join("got.tell.0")).unwrap().contains("\"level\":\"alarm\""));
        assert!(outbox.names().is_empty());
    }

    #[test]
    fn a_message_follows_a_web_hook_that_moved_and_a_damaged_one_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("unsent")).unwrap();
        let (port, served) = server(vec!["301 moved\r\nlocation: /new", "302 moved\r\nlocation: /newer", "200 ok"]);
        let tell = Tell { webhook: Some("HOOK".to_owned()), patience: Duration::from_secs(9), ..Tell::default() };
        let variable = move |_: &str| Some(format!("http://127.0.0.1:{port}/secret-canary"));
        let outbox = Outbox::new(folder.path(), &tell, &variable);
        fs::write(folder.path().join("unsent/a.webhook.json"), "{\"format\":1").unwrap();
        outbox.post(&event("b")).unwrap();
        let delivery = outbox.send_all();
        assert_eq!(delivery.sent, [("b".to_owned(), "webhook")]);
        assert!(delivery.kept[0].2.starts_with("its file is damaged: `"), "{delivery:?}");
        let requests = served.join().unwrap();
        assert!(requests[2].starts_with("POST /newer ") && requests[2].contains("\"rebuild\":\"b\""), "{}", requests[2]);
    }

    #[test]
    fn a_web_hook_that_never_answers_costs_its_patience_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("unsent")).unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap(); // the system accepts, and nobody answers
        let url = format!("http://{}/secret-canary", silent.local_addr().unwrap());
        let tell = Tell { webhook: Some("HOOK".to_owned()), patience: Duration::from_millis(900), ..Tell::default() };
        let variable = move |_: &str| Some(url.clone());
        let outbox = Outbox::new(folder.path(), &tell, &variable);
        outbox.post(&event("a")).unwrap();
        let begun = Instant::now();
        let delivery = outbox.send_all();
        assert_eq!(delivery.kept, [("a".to_owned(), "webhook", "it did not answer within 1 s".to_owned())]);
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!(outbox.names(), ["a.webhook.json"], "it waits for the next rebuild");
    }

    #[test]
    fn what_cannot_be_sent_is_named_without_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("unsent")).unwrap();
        let tell = Tell {
            mail: vec!["lab@example.org".to_owned()],
            webhook: Some("HOOK".to_owned()),
            command: vec!["/bin/sleep".to_owned(), "30".to_owned()],
            alive: Some("NONE".to_owned()),
            patience: Duration::from_millis(300),
        };
        let variable = |name: &str| match name {
            "HOOK" => Some("http://127.0.0.1:1/secret-canary".to_owned()),
            "SURE_SENDMAIL" => Some("/nowhere/sendmail".to_owned()),
            _ => None,
        };
        let outbox = Outbox::new(folder.path(), &tell, &variable);
        outbox.post(&event("a")).unwrap();
        outbox.post(&event("b")).unwrap();
        let delivery = outbox.send_all();
        assert!(delivery.sent.is_empty() && outbox.names().len() == 6);
        let why: Vec<&str> = delivery.kept.iter().map(|(_, _, why)| why.as_str()).collect();
        assert_eq!(why[0], "there is no program `sendmail`");
        assert_eq!((why[2], why[4]), ("it does not accept connections", "it did not end within 1 s"));
        assert_eq!(outbox.ping().unwrap_err(), "the variable `NONE` is not set");
        assert!(!format!("{delivery:?}").contains("canary"));
        fs::rename(folder.path().join("unsent/b.mail.json"), folder.path().join("unsent/b.mail.sending")).unwrap();
        let notices = outbox.sort_out(&|id| id == "b");
        assert_eq!(notices, ["the message of rebuild b was cut off on its way to `mail`, and may not have arrived"]);
        assert_eq!(outbox.names(), ["b.command.json", "b.webhook.json"], "the end of `a` is not recorded");
    }
}
