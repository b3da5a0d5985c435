//! The server of the control socket: one thread that accepts connections, and one thread for each command.
//!
//! A client that sends nothing, or does not read, delays no other client, and is dropped after ten seconds. An
//! [`Operator`] carries out the commands.

use std::io::{self, BufReader, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use socket2::SockRef;

use super::protocol::{Answer, Command, MAX_COMMAND, Reply, Request, VERSION, read_line, write_line};
use super::socket::ControlSocket;
use super::status::Progress;
use crate::threads;

/// The largest number of commands that are carried out at the same time.
pub const MAX_CONNECTIONS: usize = 16;
/// The time that a client has to send its command, and to take each line of the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failed accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The executor of commands. It may block, and several threads call it at the same time.
pub trait Operator: Send + Sync + 'static {
    /// Carries out a command and returns the final answer, which is never [`Answer::Progress`]. Progress goes to
    /// `report`, which returns whether the client still waits.
    fn carry_out(&self, command: Command, report: &mut dyn FnMut(Progress) -> bool) -> Answer;
}

/// A running server of a control socket. A drop ends it: the file of the socket is removed, and clients that wait get
/// no answer.
pub struct ControlServer {
    socket: Arc<ControlSocket>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    operator: Box<dyn Operator>,
    connections: AtomicUsize,
    stopping: AtomicBool,
}

impl ControlServer {
    /// Starts to serve `socket`.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn start(socket: ControlSocket, operator: impl Operator) -> io::Result<Self> {
        let shared =
            Shared { operator: Box::new(operator), connections: AtomicUsize::new(0), stopping: AtomicBool::new(false) };
        let (shared, socket) = (Arc::new(shared), Arc::new(socket));
        let run = {
            let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
            move || accept(&socket, &shared)
        };
        let thread = threads::start("moormq-control", run)?;
        Ok(ControlServer { socket, shared, thread: Some(thread) })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The shutdown wakes the thread, which waits in accept.
        let _ = SockRef::from(&self.socket.listener).shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(socket: &ControlSocket, shared: &Arc<Shared>) {
    while !shared.stopping.load(Ordering::SeqCst) {
        match socket.listener.accept() {
            Ok((stream, _)) => serve(stream, shared),
            Err(_) if shared.stopping.load(Ordering::SeqCst) => return,
            Err(error) => {
                tracing::warn!(%error, "control socket");
                thread::sleep(ACCEPT_RETRY);
            }
        }
    }
}

fn serve(stream: UnixStream, shared: &Arc<Shared>) {
    let connection = Connection { shared: Arc::clone(shared) };
    let before = shared.connections.fetch_add(1, Ordering::SeqCst);
    if before >= MAX_CONNECTIONS {
        let why = format!("{MAX_CONNECTIONS} commands are being carried out already: try again later");
        // A fresh socket has room for the answer. Otherwise the client has closed it.
        let _ = stream.set_nonblocking(true).and_then(|()| send(&stream, Answer::Error(why)));
        return;
    }
    let serve = move || connection.serve(&stream);
    if let Err(error) = threads::start("moormq-command", serve) {
        tracing::warn!(%error, "no thread for a command");
    }
}

/// One connection. It counts as long as this value exists.
struct Connection {
    shared: Arc<Shared>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connection {
    fn serve(&self, stream: &UnixStream) {
        let answer = match read_request(stream) {
            Ok(Some(Request { version: VERSION, command })) => {
                let mut report = |progress| {
                    !self.shared.stopping.load(Ordering::SeqCst) && send(stream, Answer::Progress(progress)).is_ok()
                };
                let (what, is_monitoring) = (command.summary(), command.is_monitoring());
                let answer = self.shared.operator.carry_out(command, &mut report);
                log(stream, &what, is_monitoring, &answer);
                answer
            }
            Ok(Some(Request { version, .. })) => {
                Answer::Error(format!("version {version} of the protocol is not spoken here, {VERSION} is"))
            }
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Answer::Error(format!("the command makes no sense: {error}"))
            }
            Err(error) => return tracing::debug!(%error, "a command did not come"),
        };
        if let Err(error) = send(stream, answer) {
            tracing::debug!(%error, "an answer was not taken");
        }
    }
}

/// Logs a command: what an operator did belongs into the log of what he did it to.
fn log(stream: &UnixStream, what: &str, is_monitoring: bool, answer: &Answer) {
    let by = socket_peercred(stream).ok();
    let (uid, pid) = (by.map(|by| by.uid.as_raw()), by.map(|by| by.pid.as_raw_nonzero().get()));
    let outcome = answer.summary();
    if is_monitoring {
        tracing::debug!(uid, pid, outcome, "ctl {what}");
    } else {
        tracing::info!(uid, pid, outcome, "ctl {what}");
    }
}

fn read_request(stream: &UnixStream) -> io::Result<Option<Request>> {
    stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let deadline = Instant::now() + CLIENT_TIMEOUT;
    read_line(&mut BufReader::new(DeadlineReader { stream, deadline }), MAX_COMMAND)
}

fn send(mut stream: &UnixStream, answer: Answer) -> io::Result<()> {
    write_line(&mut stream, &Reply { version: VERSION, answer })
}

/// A reader with a deadline for all of its reads together.
struct DeadlineReader<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
}

impl Read for DeadlineReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::{ask, connect};
    use super::super::protocol::ClientName;
    use super::super::status::MoveProgress;
    use super::*;
    use std::io::Write;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use tempfile::TempDir;

    /// An operator whose rebalancing ends when the test says so, or when the client does not wait any more.
    struct Slow(Mutex<Receiver<()>>);

    impl Operator for Slow {
        fn carry_out(&self, command: Command, report: &mut dyn FnMut(Progress) -> bool) -> Answer {
            if !matches!(command, Command::Rebalance { .. }) {
                return Answer::Disconnected(None);
            }
            let end = self.0.lock().unwrap();
            while end.try_recv().is_err() {
                if !report(Progress::Move(MoveProgress::default())) {
                    return Answer::Error("given up".to_owned());
                }
            }
            Answer::Disconnected(None)
        }
    }

    fn served() -> (TempDir, ControlServer, Sender<()>) {
        let folder = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(&folder.path().join("control")).unwrap();
        let (end, ends) = channel();
        (folder, ControlServer::start(socket, Slow(Mutex::new(ends))).unwrap(), end)
    }

    fn find(server: &ControlServer) -> Answer {
        ask(server.socket.path(), Command::Find(vec![ClientName::default()]), &mut |_| ()).unwrap()
    }

    const REBALANCE: Command = Command::Rebalance { seconds: 0.0, dry_run: false, timeout: 0.0 };

    #[test]
    fn nobody_waits_for_a_silent_or_slow_client() {
        let (_folder, server, end) = served();
        let mut silent = connect(server.socket.path()).unwrap();
        silent.write_all(b"{\"version\":").unwrap();
        let path = server.socket.path().to_owned();
        let slow = thread::spawn(move || {
            let mut progress = 0;
            (ask(&path, REBALANCE, &mut |_| progress += 1).unwrap(), progress)
        });
        assert_eq!(find(&server), Answer::Disconnected(None));
        end.send(()).unwrap();
        assert!(matches!(slow.join().unwrap(), (Answer::Disconnected(None), _)));
    }

    #[test]
    fn too_many_clients_get_an_error_until_others_have_left() {
        let (_folder, server, _end) = served();
        let silent: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect(server.socket.path()).unwrap()).collect();
        let Answer::Error(why) = find(&server) else { panic!("there is no room") };
        assert_eq!(why, "16 commands are being carried out already: try again later");
        drop(silent);
        while find(&server) != Answer::Disconnected(None) {}
    }

    #[test]
    fn a_malformed_command_is_answered_with_the_reason() {
        let (_folder, server, _end) = served();
        let send = |line: &[u8]| {
            let mut stream = connect(server.socket.path()).unwrap();
            stream.write_all(line).unwrap();
            let reply: Reply = read_line(&mut BufReader::new(stream), 1000).unwrap().expect("an answer");
            format!("{:?}", reply.answer)
        };
        assert!(send(b"hello\n").contains("the command makes no sense: expected value"));
        assert!(send(b"{\"version\":9,\"command\":{\"find\":[]}}\n").contains("version 9"));
        // What a client sends beyond what is read is not waited for.
        let mut long = connect(server.socket.path()).unwrap();
        let _ = long.write_all(&[b' '; MAX_COMMAND + 1]);
        let reply: Reply = read_line(&mut BufReader::new(long), 1000).unwrap().expect("an answer");
        assert!(format!("{reply:?}").contains("more than 262144 bytes"), "{reply:?}");
    }

    #[test]
    fn it_ends_with_the_broker_and_moves_are_given_up() {
        let (folder, server, _end) = served();
        let path = server.socket.path().to_owned();
        let (begun, begins) = channel();
        let slow = thread::spawn(move || ask(&path, REBALANCE, &mut |_| begun.send(()).unwrap_or(())));
        begins.recv().unwrap();
        drop(server);
        assert!(matches!(slow.join().unwrap(), Ok(Answer::Error(_)) | Err(_)));
        drop(folder);
    }
}
