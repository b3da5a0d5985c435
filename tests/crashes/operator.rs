//! The operator of the broker, over its control socket: looks at how many pages the archive has, and moves slots between shards while clients run.
//!
//! Pages are counted by looking again and again: those that come and go between two looks, or come while others go, are not seen. So there were at least as
//! many as it says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use moormq::control::client::ask;
use moormq::control::protocol::{Answer, ClientName, Command};
use moormq::control::status::{Berth, StoreStatus};

use crate::campaign::Plan;
use crate::round::{Common, Phase};

/// Slots that there are.
const SLOTS: u16 = 4096;
/// How far apart looks at the archive are.
const LOOK: Duration = Duration::from_millis(5);
/// What was seen so short a time before a kill was under way then.
const RECENT: Duration = Duration::from_millis(50);
/// How long a kill waits for what it aims at: the first time, when the broker has just started, and otherwise.
const FIRST: Duration = Duration::from_secs(30);
const AT_START: Duration = Duration::from_millis(500);
const LATER: Duration = Duration::from_secs(4);
/// Seconds that a move may take.
const LONGEST_MOVE: f64 = 60.0;

/// What a kill is to come amid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aim {
    /// Pages come into the archive.
    Made,
    /// They are taken back, and deleted.
    Gone,
    /// Slots move.
    Move,
}

impl Aim {
    /// None for a kill that comes at random. What has not been seen yet comes first.
    pub fn choose(plan: &Plan, operated: &Operated, rng: &mut Rng) -> Option<Aim> {
        match rng.u8(..6) {
            _ if plan.is_paged && operated.made.times == 0 => Some(Aim::Made),
            _ if plan.has_moves && operated.slots == 0 => Some(Aim::Move),
            0 if plan.is_paged => Some(Aim::Made),
            1 if plan.is_paged && operated.last > 0 => Some(Aim::Gone),
            2 if plan.has_moves => Some(Aim::Move),
            _ => None,
        }
    }
}

/// Something that happens again and again.
#[derive(Clone, Copy, Default, Debug)]
pub struct Happened {
    pub times: u64,
    last: Option<Instant>,
}

impl Happened {
    fn again(&mut self, times: u64) {
        if times > 0 {
            *self = Happened { times: self.times + times, last: Some(Instant::now()) };
        }
    }

    fn is_recent(&self) -> bool {
        self.last.is_some_and(|last| last.elapsed() < RECENT)
    }
}

/// What happened in a campaign, as the operator knows it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Operated {
    /// Pages that came into the archive, and that went.
    pub made: Happened,
    pub gone: Happened,
    /// How many there were last, and at most.
    last: u64,
    most: u64,
    /// Starts of brokers whose archive had pages.
    starts: u32,
    /// Moves that have begun, and whether one has not ended.
    begun: Happened,
    is_moving: bool,
    /// What has moved: slots, and sessions in them.
    pub slots: u64,
    sessions: u64,
    /// Sessions of clients whose slots were moved by name: those for which messages waited, and with messages in flight.
    queues: u64,
    in_flight: u64,
    /// Kills while pages were made, while pages went, and while slots moved.
    amid: [u32; 3],
}

impl Operated {
    fn of(&self, aim: Aim) -> u64 {
        match aim {
            Aim::Made => self.made.times,
            Aim::Gone => self.gone.times,
            Aim::Move => self.begun.times,
        }
    }

    /// What such a campaign is for, and did not happen.
    pub fn missing(&self, plan: &Plan) -> Vec<String> {
        let Operated { made, gone, slots, sessions, .. } = self;
        let pages = [(made.times, "page was made"), (gone.times, "page was taken back")];
        let moves = [(*slots, "slot has moved"), (*sessions, "session has moved")];
        let needed = pages.iter().filter(|_| plan.is_paged).chain(moves.iter().filter(|_| plan.has_moves));
        needed.filter(|(times, _)| *times == 0).map(|(_, what)| format!("no {what}")).collect()
    }
}

impl fmt::Display for Operated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operated { made, gone, most, starts, begun, slots, sessions, queues, in_flight, .. } = self;
        let (Happened { times: made, .. }, Happened { times: gone, .. }) = (made, gone);
        let (Happened { times: moves, .. }, [while_made, while_gone, while_moved]) = (begun, self.amid);
        write!(
            f,
            "{made} pages made, {gone} gone, {most} at a time, {starts} starts with pages; {moves} moves, {slots} slots and {sessions} sessions moved, \
             {queues} with queues, {in_flight} with messages in flight; kills while pages were made {while_made}, while pages went {while_gone}, \
             amid moves {while_moved}"
        )
    }
}

/// It.
pub struct Operator {
    socket: PathBuf,
    plan: Plan,
    operated: Mutex<Operated>,
    rng: Mutex<Rng>,
}

impl Operator {
    pub fn new(socket: &Path, plan: &Plan, rng: Rng) -> Self {
        Operator { socket: socket.to_owned(), plan: *plan, operated: Mutex::default(), rng: Mutex::new(rng) }
    }

    pub fn operated(&self) -> Operated {
        *self.operated.lock().expect("nobody panics")
    }

    fn note(&self, note: impl FnOnce(&mut Operated)) {
        note(&mut self.operated.lock().expect("nobody panics"));
    }

    /// Waits until it happens once more, but not for ever.
    pub fn wait_for(&self, aim: Aim, common: &Common) {
        let (before, began) = (self.operated().of(aim), Instant::now());
        let patience = if before == 0 && aim != Aim::Gone { FIRST } else { LATER };
        while self.operated().of(aim) == before && began.elapsed() < patience && common.faults().is_empty() {
            sleep(Duration::from_millis(1));
        }
    }

    /// The broker is killed now.
    pub fn kills(&self) {
        self.note(|operated| {
            let amid = [operated.made.is_recent(), operated.gone.is_recent(), operated.is_moving];
            operated.amid.iter_mut().zip(amid).for_each(|(kills, amid)| *kills += u32::from(amid));
            operated.is_moving = false;
        });
    }

    /// Counts pages of a broker without clients until there are more.
    pub fn watch_start(&self, common: &Common) {
        let (before, began) = (self.operated().made.times, Instant::now());
        let mut is_first = true;
        while self.operated().made.times == before && began.elapsed() < AT_START && self.look(is_first, common) {
            is_first = false;
            sleep(Duration::from_millis(1));
        }
    }

    /// Counts pages until the broker is killed, or all is told to leave.
    pub fn watch(&self, common: &Common) {
        let (mut is_first, mut is_last) = (true, false);
        while self.look(is_first, common) && !is_last {
            is_first = false;
            // What was taken last is deleted a little later.
            is_last = common.phase() == Phase::Leave;
            sleep(if is_last { RECENT } else { LOOK });
        }
    }

    /// False if the broker is being killed, or something is wrong.
    fn look(&self, is_first: bool, common: &Common) -> bool {
        match self.ask(Command::Store, common) {
            Some(Answer::Store(StoreStatus { archive: Some(archive), .. })) => self.saw(archive.pages, is_first),
            None => return false,
            _ if common.phase() == Phase::Killed => return false,
            Some(other) => common.fault(format!("ctl store: {other:?}")),
        }
        common.faults().is_empty()
    }

    fn saw(&self, pages: u64, is_first: bool) {
        self.note(|operated| {
            let (made, gone) = (pages.saturating_sub(operated.last), operated.last.saturating_sub(pages));
            if is_first {
                // Those came before the kill, or when the broker started. What went may have been lost with the power, and came again.
                operated.made.times += made;
                operated.starts += u32::from(pages > 0);
            } else {
                operated.made.again(made);
                operated.gone.again(gone);
            }
            operated.last = pages;
            operated.most = operated.most.max(pages);
        });
    }

    /// Moves slots now and then, if there are to be moves.
    pub fn move_slots(&self, common: &Common) {
        if !self.plan.has_moves {
            return;
        }
        while !matches!(common.phase(), Phase::Killed | Phase::Leave) {
            sleep(Duration::from_millis(self.rng.lock().expect("nobody panics").u64(0..150)));
            if self.move_some(common).is_none() {
                return;
            }
        }
    }

    /// Moves the slots of some clients, or a range of slots. None if the broker is being killed, or refuses.
    fn move_some(&self, common: &Common) -> Option<()> {
        let mut rng = self.rng.lock().expect("nobody panics");
        let to = rng.usize(..self.plan.shards);
        let (mut slots, mut clients) = (Vec::new(), Vec::new());
        if rng.u8(..4) == 0 {
            let (first, length) = (rng.u16(..SLOTS), rng.choice([1, 50, SLOTS / 4, SLOTS]).unwrap_or(1));
            slots.extend(first..(first + length).min(SLOTS));
        } else {
            clients.extend((0..rng.u8(1..4)).map(|_| some_client(&mut rng)));
        }
        drop(rng);
        let named: Vec<_> = match clients.is_empty() {
            true => Vec::new(),
            false => match self.ask(Command::Find(clients.clone()), common)? {
                Answer::Berths(berths) => berths,
                other => return refused(&other, common),
            },
        };
        self.note(|operated| (operated.is_moving = true, operated.begun.again(1)).0);
        let answer = self.ask(Command::Move { slots, clients, to, timeout: LONGEST_MOVE }, common)?;
        let Answer::Moved(moved) = answer else { return refused(&answer, common) };
        let is_moved = |berth: &&Berth| moved.slots.contains(&berth.slot);
        let sessions: Vec<_> = named.iter().filter(is_moved).filter_map(|berth| berth.session.as_ref()).collect();
        self.note(|operated| {
            operated.is_moving = false;
            operated.slots += moved.slots.len() as u64;
            operated.sessions += moved.sessions;
            operated.queues += sessions.iter().filter(|session| session.queued > 0).count() as u64;
            operated.in_flight += sessions.iter().filter(|session| session.in_flight > 0).count() as u64;
        });
        Some(())
    }

    /// None if the broker is being killed, or does not answer: that is a fault.
    fn ask(&self, command: Command, common: &Common) -> Option<Answer> {
        let answer = ask(&self.socket, command, &mut |_| {});
        match answer {
            Ok(answer) => Some(answer),
            Err(_) if common.phase() == Phase::Killed => None,
            Err(error) => {
                common.fault(format!("the operator: {error}"));
                None
            }
        }
    }
}

fn refused(answer: &Answer, common: &Common) -> Option<()> {
    if common.phase() != Phase::Killed {
        common.fault(format!("a move: {answer:?}"));
    }
    None
}

/// Those of the campaign's clients that have most to be moved; more often those that are hardly ever there, for whom most waits.
fn some_client(rng: &mut Rng) -> ClientName {
    let client_id = match rng.u8(..12) {
        0..6 => format!("subscriber-{}", rng.u8(..19)),
        6..9 => format!("subscriber-{}", rng.choice([8, 9, 19, 20]).unwrap_or(8)),
        9 => format!("publisher-{}", rng.u8(..5)),
        10 => format!("testator-{}", rng.u8(5..8)),
        _ => format!("sleeper-{}", rng.u8(..3)),
    };
    ClientName { mountpoint: String::new(), client_id }
}
