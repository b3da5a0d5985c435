//! A TCP proxy that breaks: it passes bytes between clients and the broker, and cuts connections at random places.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// A port that leads to the broker.
///
/// While it cuts, each connection ends when a random number of bytes has passed, both ways together: wherever that is in
/// a packet, and half of the time in a way that loses what is under way.
pub struct Cutter {
    port: u16,
    state: Arc<State>,
}

struct State {
    cutting: AtomicBool,
    cuts: AtomicUsize,
    random: Mutex<fastrand::Rng>,
    /// Bytes after which a connection is cut.
    length: Range<i64>,
}

/// One connection.
struct Line {
    ends: [TcpStream; 2],
    /// Bytes that may pass until it is cut.
    left: AtomicI64,
}

impl Cutter {
    /// A port that leads to `port`, and does not cut yet.
    pub fn new(port: u16, length: Range<i64>, seed: u64) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let state = Arc::new(State { cutting: AtomicBool::new(false), cuts: AtomicUsize::new(0), random, length });
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A broker that is gone accepts nobody; the client notices by the closed connection.
                let Ok(broker) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))) else { continue };
                let left = AtomicI64::new(accepting.draw(accepting.length.clone()));
                let line = Arc::new(Line { ends: [client, broker], left });
                for from in [0, 1] {
                    let (line, state) = (Arc::clone(&line), Arc::clone(&accepting));
                    thread::spawn(move || line.pass(from, &state));
                }
            }
        });
        Cutter { port: own, state }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether connections are cut.
    pub fn cut(&self, cutting: bool) {
        self.state.cutting.store(cutting, Ordering::Relaxed);
    }

    /// Waits until so many connections were cut.
    pub fn cut_at_least(&self, count: usize) {
        let begin = Instant::now();
        while self.state.cuts.load(Ordering::Relaxed) < count {
            assert!(begin.elapsed() < crate::DEADLINE, "connections are not cut any more");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl State {
    fn draw(&self, range: Range<i64>) -> i64 {
        self.random.lock().expect("no panic while it is held").i64(range)
    }
}

impl Line {
    /// Passes what comes from one end to the other, until either closes or the line is cut.
    fn pass(&self, from: usize, state: &State) {
        let [mut from, mut to] = [&self.ends[from], &self.ends[1 - from]];
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let left = self.left.fetch_sub(count as i64, Ordering::Relaxed);
            let cut = left < count as i64 && state.cutting.load(Ordering::Relaxed);
            let passed = if cut { left.max(0) as usize } else { count };
            if to.write_all(&buffer[..passed]).is_err() {
                break;
            }
            if cut {
                state.cuts.fetch_add(1, Ordering::Relaxed);
                if state.draw(0..2) == 0 {
                    return self.reset();
                }
                break;
            }
        }
        // The other end, and the other thread, learn of it.
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Lets both ends be closed with a reset as soon as both threads have left.
    fn reset(&self) {
        for end in &self.ends {
            // It may be closed already.
            let _ = SockRef::from(end).set_linger(Some(Duration::ZERO));
            let _ = end.shutdown(Shutdown::Read);
        }
    }
}
