//! The least that a broker does with messages: its socket operations, on the same ring, with next to nothing in between.
//!
//! It is no broker. It checks nothing, keeps nothing, and delivers a message as the bytes that came in. It knows the few shapes of
//! topics that the scenarios have. So what it costs per message is about what sockets cost, on this machine and today. It is an estimate and no bound:
//! who is faster finds less waiting each time, and batches less.

mod packets;
mod router;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use clap::Parser;
use moormq::client::ConnectionId;
use moormq::net::descriptors;
use moormq::net::listeners::listen;
use moormq::net::output::WireBuffer;
use moormq::net::ring::{Completion, Ring};
use moormq::net::sockets::SocketLimits;
use nix::sys::eventfd::EventFd;

use router::Router;

/// The socket operations of a broker, with next to nothing in between.
#[derive(Parser)]
#[command(name = "moormq-floor", version)]
struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moormq-floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    descriptors::make_room(descriptors::raise_limit()?);
    let listener = TcpListener::from(listen(args.listen, 4096, None)?);
    let bell = EventFd::new()?;
    let ring = Ring::new(SocketLimits::default().ring, bell.as_fd())
        .map_err(|(step, error)| io::Error::other(format!("{step:?}: {error}")))?;
    Floor { ring, listener, sockets: Vec::new(), free: Vec::new(), starved: VecDeque::new(), router: Router::default() }
        .run()
}

/// One connection's socket.
struct Socket {
    /// None once the client has ended it.
    fd: Option<OwnedFd>,
    /// The number of connections that had this index before.
    generation: u32,
    /// An output is on its way.
    sending: bool,
    /// The client has ended the connection, which is closed when the output is no longer on its way.
    ended: bool,
}

struct Floor {
    ring: Ring<Vec<u8>>,
    listener: TcpListener,
    sockets: Vec<Socket>,
    /// Indices without a connection.
    free: Vec<usize>,
    /// Connections that found no buffer to receive into.
    starved: VecDeque<ConnectionId>,
    router: Router,
}

impl Floor {
    /// Serves until the kernel refuses.
    fn run(mut self) -> io::Result<()> {
        self.ring.accept(0, self.listener.as_fd());
        loop {
            self.ring.submit()?;
            let mut idle = true;
            while let Some(completion) = self.ring.next_completion() {
                idle = false;
                self.on_completion(completion);
            }
            let fed = self.starved.len().min(self.ring.free_buffers());
            for conn in self.starved.drain(..fed) {
                let Some(Socket { fd: Some(fd), .. }) = self.sockets.get(conn.index()) else { continue };
                self.ring.receive_many(conn, fd.as_fd());
            }
            while let Some(index) = self.router.next_ready() {
                self.send(index);
            }
            if idle && self.starved.is_empty() {
                self.ring.wait(None)?;
            }
        }
    }

    fn on_completion(&mut self, completion: Completion<Vec<u8>>) {
        match completion {
            Completion::Accepted { result, more, .. } => {
                if let Ok(fd) = result {
                    self.open(fd);
                }
                if !more {
                    self.ring.accept(0, self.listener.as_fd());
                }
            }
            Completion::Received { conn, result, more } => match result {
                Ok(Some(buffer)) => {
                    self.router.receive(conn.index(), self.ring.bytes(&buffer));
                    self.ring.give_back(buffer);
                    if !more {
                        self.starved.push_back(conn);
                    }
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    self.ring.grow_buffers();
                    self.starved.push_back(conn);
                }
                Ok(None) | Err(_) => self.close(conn.index()),
            },
            Completion::Sent { conn, result, output } => {
                let socket = &mut self.sockets[conn.index()];
                socket.sending = false;
                if socket.ended || result.is_err() {
                    self.close(conn.index());
                } else {
                    self.router.sent(conn.index(), output.bytes);
                }
            }
            Completion::Woken | Completion::FileWritten { .. } | Completion::FileSynced(_) => {}
        }
    }

    fn open(&mut self, fd: OwnedFd) {
        let index = self.free.pop().unwrap_or(self.sockets.len());
        if index == self.sockets.len() {
            self.sockets.push(Socket { fd: None, generation: 0, sending: false, ended: false });
        }
        let socket = &mut self.sockets[index];
        socket.ended = false;
        self.ring.receive_many(ConnectionId::new(index as u32, socket.generation), fd.as_fd());
        socket.fd = Some(fd);
        self.router.open(index);
    }

    fn close(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        socket.ended = true;
        // The ring wants nothing outstanding on what it closes.
        if !socket.sending
            && let Some(fd) = socket.fd.take()
        {
            socket.generation += 1;
            self.ring.close(fd);
            self.router.close(index);
            self.free.push(index);
        }
    }

    fn send(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        let Some(fd) = &socket.fd else { return };
        if !socket.sending && !socket.ended {
            socket.sending = true;
            let conn = ConnectionId::new(index as u32, socket.generation);
            self.ring.send(conn, fd.as_fd(), WireBuffer::from(self.router.take_output(index)));
        }
    }
}
