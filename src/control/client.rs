//! The client side of the control socket, for `moormq ctl`.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::protocol::{Answer, Command, MAX_ANSWER, Reply, Request, VERSION, read_line, write_line};
use super::socket::SocketError;
use super::status::Progress;

/// How much longer than the command itself takes the broker may be silent.
const GRACE: Duration = Duration::from_secs(25);

/// Sends a command to the broker that listens at `path`, and waits for its answer. `report` is called with its
/// progress.
///
/// # Errors
///
/// No broker listens at `path`, this user may not connect to it, or the broker closes the connection, answers something
/// that is not of this protocol, or says nothing for longer than the command may take.
pub fn ask(path: &Path, command: Command, report: &mut dyn FnMut(Progress)) -> Result<Answer, SocketError> {
    let mut stream = connect(path)?;
    let patience = command.longest_silence() + GRACE;
    let broken = |error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let seconds = patience.as_secs();
                format!("the broker has said nothing for {seconds} s: it is suspended, or the machine is overloaded")
            }
            io::ErrorKind::InvalidData => format!("what answers there is not a broker that we know: {error}"),
            _ => format!("the broker does not answer: {error}"),
        };
        SocketError::new(path, what)
    };
    stream.set_read_timeout(Some(patience)).and_then(|()| stream.set_write_timeout(Some(patience))).map_err(broken)?;
    // A broker without room answers before it has read the command. A failed write is no reason not to read that
    // answer.
    let written = write_line(&mut stream, &Request { version: VERSION, command });
    let mut replies = BufReader::new(stream);
    loop {
        match read_line(&mut replies, MAX_ANSWER).map_err(broken)? {
            Some(Reply { version: VERSION, answer: Answer::Progress(progress) }) => report(progress),
            Some(Reply { version: VERSION, answer }) => return Ok(answer),
            Some(Reply { version, .. }) => {
                let what = format!("the broker speaks version {version}, this program {VERSION}: use the broker's own");
                return Err(SocketError::new(path, what));
            }
            None => {
                written.map_err(broken)?;
                return Err(SocketError::new(path, "the broker hung up: it may have stopped"));
            }
        }
    }
}

/// A connection to the broker that listens at `path`.
pub(super) fn connect(path: &Path) -> Result<UnixStream, SocketError> {
    UnixStream::connect(path).map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => {
                "there is none: is a broker running, and does its configuration set control.socket to this path?"
                    .to_owned()
            }
            io::ErrorKind::ConnectionRefused => "nobody listens there: the broker that made it has ended".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "it is not for this user: run the command as the user that the broker runs as, or as root".to_owned()
            }
            _ => format!("cannot be opened: {error}"),
        };
        SocketError::new(path, problem)
    })
}
