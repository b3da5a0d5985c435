//! Serves the control socket: one thread that takes connections in, and one for each command while it is carried out.
//!
//! Whoever says nothing, or does not listen, keeps nobody but himself waiting, and not for long. What a command comes to is
//! not decided here: see [`Operator`].

use std::io::{self, BufReader, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::protocol::{Answer, Command, MAX_COMMAND, Reply, Request, VERSION, read_line, write_line};
use super::socket::ControlSocket;
use super::status::MoveProgress;

/// Commands that are carried out at a time.
pub const MAX_CONNECTIONS: usize = 16;
/// How long a client may take to say what it wants, and to take each line of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when the system has no room for one more connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Carries out commands; may take as long as that takes, and be called by several threads.
pub trait Operator: Send + Sync + 'static {
    /// Carries one out. Its answer is not [`Answer::Progress`]: that goes to `told`, which says whether anybody still wants
    /// to know.
    fn carry_out(&self, command: Command, told: &mut dyn FnMut(MoveProgress) -> bool) -> Answer;
}

/// A control socket that is served. Dropping it ends that: the file goes, and who waits for an answer gets none.
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
    /// Serves `socket` from now on.
    ///
    /// # Errors
    ///
    /// When the system has no more threads.
    pub fn start(socket: ControlSocket, operator: impl Operator) -> io::Result<Self> {
        let shared =
            Shared { operator: Box::new(operator), connections: AtomicUsize::new(0), stopping: AtomicBool::new(false) };
        let (shared, socket) = (Arc::new(shared), Arc::new(socket));
        let run = {
            let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
            move || accept(&socket, &shared)
        };
        let thread = thread::Builder::new().name("moormq-control".to_owned()).spawn(run)?;
        Ok(ControlServer { socket, shared, thread: Some(thread) })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // It wakes the thread that waits for connections.
        let _ = SockRef::from(&self.socket.listener).shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(socket: &ControlSocket, shared: &Arc<Shared>) {
    while !shared.stopping.load(Ordering::SeqCst) {
        match socket.listener.accept() {
            Ok((stream, _)) => take_in(stream, shared),
            Err(_) if shared.stopping.load(Ordering::SeqCst) => return,
            Err(error) => {
                tracing::warn!(%error, "control socket");
                thread::sleep(NO_ROOM);
            }
        }
    }
}

fn take_in(stream: UnixStream, shared: &Arc<Shared>) {
    let guest = Guest { shared: Arc::clone(shared) };
    let before = shared.connections.fetch_add(1, Ordering::SeqCst);
    if before >= MAX_CONNECTIONS {
        let why = format!("{MAX_CONNECTIONS} commands are being carried out already: try again later");
        // There is room for it in a fresh socket, or the far end is gone.
        let _ = stream.set_nonblocking(true).and_then(|()| say(&stream, Answer::Error(why)));
        return;
    }
    let serve = move || guest.serve(&stream);
    if let Err(error) = thread::Builder::new().name("moormq-command".to_owned()).spawn(serve) {
        tracing::warn!(%error, "no thread for a command");
    }
}

/// One connection, counted as long as it is there.
struct Guest {
    shared: Arc<Shared>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Guest {
    fn serve(&self, stream: &UnixStream) {
        let answer = match listen(stream) {
            Ok(Some(Request { version: VERSION, command })) => {
                let mut told = |progress| {
                    !self.shared.stopping.load(Ordering::SeqCst) && say(stream, Answer::Progress(progress)).is_ok()
                };
                self.shared.operator.carry_out(command, &mut told)
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
        if let Err(error) = say(stream, answer) {
            tracing::debug!(%error, "an answer was not taken");
        }
    }
}

fn listen(stream: &UnixStream) -> io::Result<Option<Request>> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let until = Instant::now() + PATIENCE;
    read_line(&mut BufReader::new(Until { stream, until }), MAX_COMMAND)
}

fn say(mut stream: &UnixStream, answer: Answer) -> io::Result<()> {
    write_line(&mut stream, &Reply { version: VERSION, answer })
}

/// Reads until some time, however little comes at once.
struct Until<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::{ask, dial};
    use super::super::protocol::ClientName;
    use super::*;
    use std::io::Write;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use tempfile::TempDir;

    /// Ends moves when it is told to, or when nobody wants to know any more.
    struct Slow(Mutex<Receiver<()>>);

    impl Operator for Slow {
        fn carry_out(&self, command: Command, told: &mut dyn FnMut(MoveProgress) -> bool) -> Answer {
            if !matches!(command, Command::Rebalance { .. }) {
                return Answer::Done;
            }
            let end = self.0.lock().unwrap();
            while end.try_recv().is_err() {
                if !told(MoveProgress::default()) {
                    return Answer::Error("given up".to_owned());
                }
            }
            Answer::Done
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
        let mut silent = dial(server.socket.path()).unwrap();
        silent.write_all(b"{\"version\":").unwrap();
        let path = server.socket.path().to_owned();
        let slow = thread::spawn(move || {
            let mut progress = 0;
            (ask(&path, REBALANCE, &mut |_| progress += 1).unwrap(), progress)
        });
        assert_eq!(find(&server), Answer::Done);
        end.send(()).unwrap();
        assert!(matches!(slow.join().unwrap(), (Answer::Done, _)));
    }

    #[test]
    fn too_many_are_told_so_and_their_places_become_free() {
        let (_folder, server, _end) = served();
        let silent: Vec<_> = (0..MAX_CONNECTIONS).map(|_| dial(server.socket.path()).unwrap()).collect();
        let Answer::Error(why) = find(&server) else { panic!("there is no room") };
        assert_eq!(why, "16 commands are being carried out already: try again later");
        drop(silent);
        while find(&server) != Answer::Done {}
    }

    #[test]
    fn who_makes_no_sense_is_told_why() {
        let (_folder, server, _end) = served();
        let say = |line: &[u8]| {
            let mut stream = dial(server.socket.path()).unwrap();
            stream.write_all(line).unwrap();
            let reply: Reply = read_line(&mut BufReader::new(stream), 1000).unwrap().expect("an answer");
            format!("{:?}", reply.answer)
        };
        assert!(say(b"hello\n").contains("the command makes no sense: expected value"));
        assert!(say(b"{\"version\":9,\"command\":{\"find\":[]}}\n").contains("version 9"));
        // What a client sends beyond what is read is not waited for.
        let mut long = dial(server.socket.path()).unwrap();
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
