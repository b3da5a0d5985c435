use super::*;
use crate::journal::format::StoreId;
use crate::journal::recovered::GENERATION_STEP;
use crate::journal::settings::Settings;

const LATER: Duration = Duration::from_secs(9);

fn settings(segments: u32) -> CheckedSettings {
    let settings =
        Settings { segment_bytes: 16_384, frame_bytes: 4096, segments, ..Settings::new(StoreId([1; 16]), 0) };
    settings.check().expect("they hold")
}

fn fresh() -> Segments {
    Segments::new(settings(3), Recovered::nothing(), Recovered::nothing().first(), 0)
}

/// A journal of three segments that was opened on that, and goes on with the number 100.
fn opened(recovered: Recovered) -> Segments {
    let first = Floor { number: 100, ..recovered.first() };
    Segments::new(settings(3), recovered, first, 0)
}

fn idle(file: u32, bytes: u64, condition: Condition) -> Idle {
    Idle { file: FileId(file), bytes, condition }
}

/// A frame goes into the next segment.
fn advance(segments: &mut Segments, number: u64) {
    segments.advance();
    segments.begins(number);
    segments.took(4096);
}

fn oldest(segments: &Segments, written: u64) -> Option<(u32, u64)> {
    segments.oldest(written).map(|oldest| (oldest.file.0, oldest.generation))
}

/// What is prepared next: the file, its header, and whether it is filled.
fn prepares(segments: &mut Segments, now: Duration) -> Option<(u32, SegmentHeader, bool)> {
    match segments.next_effect(now)? {
        Effect::Prepare(Preparation { file, header, fill, generation, .. }) => {
            let header = SegmentHeader::read(&header).expect("it is sound");
            assert_eq!(header.generation, generation);
            Some((file.0, header, fill))
        }
        _ => None,
    }
}

fn make(segments: &mut Segments) -> SegmentHeader {
    let (file, header, _) = prepares(segments, LATER).expect("there is one to prepare");
    segments.prepared(FileId(file), Ok(()), LATER);
    header
}

/// All files that are removed or set aside at this time; the latter negative.
fn goes(segments: &mut Segments, now: Duration) -> Vec<i64> {
    let fate = |effect| match effect {
        Effect::Remove { file } => Some(i64::from(file.0)),
        Effect::SetAside { file } => Some(-i64::from(file.0)),
        _ => None,
    };
    let goes = |segments: &mut Segments| segments.excluded().map(|_| segments.next_effect(now))?.and_then(fate);
    std::iter::from_fn(|| goes(segments)).collect()
}

fn segment(file: u32) -> Segment {
    let number = u64::from(file) + 1;
    Segment { end: 8192, first: number, last: number, ..Segment::empty(FileId(file), number, 16_384, BLOCK) }
}

#[test]
fn there_are_as_many_as_what_is_needed_wants_within_the_settings() {
    let mut segments = fresh();
    segments.settings = Settings { most_segments: 9, ..*settings(3) }.check().expect("they hold");
    let limits = |segments: &mut Segments, live: u32| {
        segments.live = (0..live).map(segment).collect();
        segments.fit_to_need();
        segments.limit()
    };
    assert_eq!([0, 1, 2, 3, 7].map(|live| limits(&mut segments, live)), [3, 5, 8, 9, 9]);
    segments.wanted = 4;
    let beyond = |segments: &mut Segments, live: u32| {
        (segments.live, segments.ready) = ((0..live).map(segment).collect(), VecDeque::new());
        segments.extra = usize::from(live >= 4);
        let Some(Effect::Prepare(preparation)) = segments.next_effect(LATER) else { panic!("one is needed") };
        segments.making = None;
        preparation.is_beyond
    };
    let are_beyond = [1, 2, 3, 4].map(|live| beyond(&mut segments, live));
    assert_eq!(are_beyond, [false, false, true, false], "the last one is for relief");
    // What a start finds may all be needed, more than there may be now included.
    let found = |files| Recovered { live: (0..files).map(segment).collect(), ..Recovered::nothing() };
    let opened = |files| Segments::new(segments.settings, found(files), found(files).first(), 0).limit();
    assert_eq!([1, 4, 20].map(opened), [3, 9, 21]);
}

#[test]
fn headers_say_what_is_before_them_and_what_counts() {
    let mut segments = fresh();
    let headers: Vec<SegmentHeader> = (0..3).map(|_| make(&mut segments)).collect();
    assert_eq!(headers.iter().map(|header| header.generation).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(headers.iter().map(|header| header.after).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(headers.iter().all(|header| header.oldest == 1 && header.bytes == 16_384 && header.given_up == [0, 1]));
    assert!(segments.next_effect(LATER).is_none() && segments.wake_up().is_none());
    for number in 1..=2 {
        advance(&mut segments, number);
    }
    assert!(!segments.release(1, 0), "its frame is not written");
    assert_eq!(oldest(&segments, 1), Some((0, 1)));
    assert!(segments.release(1, 1) && !segments.release(2, 2), "the other may get frames still");
    let recycled = make(&mut segments);
    assert_eq!((recycled.generation, recycled.after, recycled.oldest), (4, 3, 2));
}

#[test]
fn files_that_are_held_for_a_copy_stay_and_others_take_their_place() {
    let mut segments = fresh();
    for _ in 0..3 {
        make(&mut segments);
    }
    (1..=2).for_each(|number| advance(&mut segments, number));
    segments.hold();
    assert!(segments.release(1, 1));
    let pieces: Vec<_> = segments.pieces().iter().map(|piece| (piece.file.0, piece.bytes)).collect();
    assert_eq!(pieces, [(0, 8192), (1, 8192)], "the one that was released as well");
    let (file, header, is_new) = prepares(&mut segments, LATER).expect("there is one to prepare");
    assert_eq!((file, header.oldest, is_new), (3, 2, true), "the file that was released is not used");
    segments.prepared(FileId(3), Ok(()), LATER);
    assert_eq!(goes(&mut segments, LATER), [0; 0]);
    segments.let_go();
    assert_eq!(goes(&mut segments, LATER), [0], "there are as many as before");
    // What is released now is used again, as ever.
    (3..=4).for_each(|number| advance(&mut segments, number));
    assert!(segments.release(2, 2));
    assert_eq!(prepares(&mut segments, LATER).map(|(file, _, is_new)| (file, is_new)), Some((1, false)));
}

#[test]
fn there_may_be_as_many_more_as_there_are_to_be_until_others_are_released() {
    let mut segments = fresh();
    segments.grow();
    for _ in 0..3 {
        make(&mut segments);
    }
    assert!(prepares(&mut segments, LATER).is_none(), "as long as some are ready, nothing else is needed");
    (1..=3).for_each(|number| advance(&mut segments, number));
    for extra in 1..=4 {
        assert!(prepares(&mut segments, LATER).is_none());
        segments.grow();
        segments.grow();
        if extra < 4 {
            make(&mut segments);
            advance(&mut segments, 3 + extra);
        }
        assert!(prepares(&mut segments, LATER).is_none(), "one each time, and three in all");
    }
    (1..=5).for_each(|generation| assert!(segments.release(generation, 6)));
    assert_eq!(goes(&mut segments, LATER), [0; 0]);
    make(&mut segments);
    assert_eq!(goes(&mut segments, LATER).len(), 3);
    make(&mut segments);
    assert!(prepares(&mut segments, LATER).is_none(), "as many as there are to be");
}

#[test]
fn what_is_not_needed_is_wanted_archived_however_many_are_left() {
    let mut segments = Segments::new(settings(8), Recovered::nothing(), Recovered::nothing().first(), 0);
    for number in 1..=4 {
        make(&mut segments);
        advance(&mut segments, number);
    }
    assert_eq!(oldest(&segments, 4), None);
    segments.archive_below(3);
    assert_eq!(oldest(&segments, 4), Some((0, 1)));
    assert!(segments.release(1, 4) && segments.release(2, 4));
    assert_eq!(oldest(&segments, 4), None);
}

#[test]
fn an_opening_begins_with_a_segment_of_its_own() {
    let recovered = Recovered {
        live: vec![segment(0)],
        idle: vec![idle(1, 16_384, Condition::Sound), idle(2, 20_480, Condition::Sound)],
        next_file: 3,
        last_generation: 1,
        last_number: 1,
        ..Recovered::nothing()
    };
    let mut segments = opened(recovered);
    assert!(segments.place().is_none() && !segments.allows_next(Class::Relief), "none has its number yet");
    assert_eq!(goes(&mut segments, LATER), [2], "it has another length");
    let (file, header, fill) = prepares(&mut segments, LATER).expect("there is one to prepare");
    assert_eq!((file, fill, header.generation, header.after), (1, false, 1 + GENERATION_STEP, 1));
    assert_eq!(header.given_up, [1, 100]);
    segments.prepared(FileId(1), Ok(()), LATER);
    segments.advance();
    assert_eq!(segments.place().map(|place| (place.file, place.offset)), Some((FileId(1), 4096)));
    let (file, _, fill) = prepares(&mut segments, LATER).expect("there is another");
    assert_eq!((file, fill), (3, true));
}

#[test]
fn a_file_that_there_is_no_room_for_goes_and_is_tried_again_less_and_less_often() {
    let mut segments = fresh();
    make(&mut segments);
    make(&mut segments);
    let mut now = LATER;
    let mut generation = 2;
    for (attempt, pause) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
        let (file, header, _) = prepares(&mut segments, now).expect("there is one to prepare");
        assert!(header.generation > generation, "a generation is used once");
        generation = header.generation;
        assert!(segments.next_effect(now).is_none());
        segments.prepared(FileId(file), Err(io::ErrorKind::StorageFull.into()), now);
        assert_eq!(goes(&mut segments, now), [i64::from(file)], "it holds no room");
        assert_eq!(file, 2 + attempt as u32);
        assert!(segments.next_effect(now).is_none());
        now += Duration::from_secs(pause);
        assert_eq!(segments.wake_up(), Some(now));
    }
    advance(&mut segments, 1);
    segments.seal();
    assert!(segments.trouble().is_some());
    assert!(segments.release(1, 1));
    // What is there is used first, and at once.
    let (file, header, fill) = prepares(&mut segments, Duration::ZERO).expect("there is one to prepare");
    assert_eq!((file, header.after, fill), (0, 2, false));
    segments.prepared(FileId(0), Ok(()), LATER);
    assert!(segments.trouble().is_some(), "the other is still missing");
    make(&mut segments);
    assert!(segments.trouble().is_none() && segments.fullness().ready == 3);
}

#[test]
fn a_file_whose_header_cannot_be_written_lets_others_go_first() {
    let recovered = Recovered {
        idle: vec![idle(0, 16_384, Condition::Sound), idle(1, 16_384, Condition::Sound)],
        next_file: 2,
        last_generation: 5,
        ..Recovered::nothing()
    };
    let mut segments = opened(recovered);
    let (file, header, fill) = prepares(&mut segments, LATER).expect("there is one to prepare");
    assert_eq!((file, header.generation, fill), (1, 5 + GENERATION_STEP, false));
    segments.prepared(FileId(1), Err(io::Error::other("a bad block")), LATER);
    assert!(segments.next_effect(LATER).is_none(), "not at once");
    let (file, header, fill) = prepares(&mut segments, 2 * LATER).expect("there is one to prepare");
    assert_eq!(
        (file, header.generation, fill),
        (0, 6 + GENERATION_STEP, false),
        "the generation of the other is used up"
    );
    segments.prepared(FileId(0), Ok(()), LATER);
    assert_eq!(goes(&mut segments, 2 * LATER), [1], "a header excludes it");
    let (file, _, fill) = prepares(&mut segments, 2 * LATER).expect("there is one to prepare");
    assert_eq!((file, fill), (2, true));
}

#[test]
fn files_that_are_too_many_go_once_no_header_counts_them() {
    let recovered = Recovered {
        live: (0..5).map(segment).collect(),
        idle: vec![
            idle(5, 16_384, Condition::Sound),
            idle(6, 0, Condition::Worn),
            idle(7, 16_384, Condition::Evidence),
            idle(8, 16_384, Condition::Sound),
        ],
        next_file: 9,
        last_generation: 5,
        ..Recovered::nothing()
    };
    let mut segments = opened(recovered);
    assert_eq!(goes(&mut segments, LATER), [6, -7, 8], "nothing in them counts, and none is archived yet");
    assert_eq!(oldest(&segments, 5), Some((0, 1)), "at once");
    assert!(segments.release(1, 5) && segments.release(2, 5) && segments.release(3, 5));
    assert_eq!(goes(&mut segments, LATER), [0; 0], "the headers that there are count them");
    let header = make(&mut segments);
    assert_eq!((header.generation, header.after, header.oldest), (5 + GENERATION_STEP, 5, 4));
    assert_eq!(goes(&mut segments, LATER), [5, 0, 1]);
}

#[test]
fn an_opening_that_finds_nothing_archived_has_one_more_for_relief() {
    for found in 2..8 {
        let recovered = Recovered {
            live: (0..found).map(segment).collect(),
            next_file: found,
            last_generation: u64::from(found),
            ..Recovered::nothing()
        };
        let mut segments = opened(recovered);
        assert!(prepares(&mut segments, LATER).is_some(), "{found} of 3 are found");
        segments.prepared(FileId(found), Ok(()), LATER);
        assert!(segments.next_effect(LATER).is_none(), "none more");
        assert!(segments.allows_next(Class::Relief) && !segments.allows_next(Class::Ordinary));
        advance(&mut segments, 100);
        assert!(segments.next_effect(LATER).is_none() && !segments.allows_next(Class::Relief));
        // What is archived is not replaced before there are fewer than there are to be.
        for released in 1..=found {
            assert!(segments.release(u64::from(released), 100));
            while let Some(effect) = segments.next_effect(LATER) {
                if let Effect::Prepare(Preparation { file, .. }) = effect {
                    segments.prepared(file, Ok(()), LATER);
                }
            }
            let (there, left) = (segments.live.len() + segments.ready.len(), (found - released) as usize);
            assert!(there <= 3.max(left + 1), "{there} with {left} old ones");
        }
        assert_eq!(segments.live.len() + segments.ready.len() + segments.idle.len(), 3);
    }
}

#[test]
fn a_file_in_which_something_is_lost_is_set_aside_when_nothing_in_it_counts() {
    let in_condition = |condition, file| Segment { condition, ..segment(file) };
    let recovered = Recovered {
        live: vec![in_condition(Condition::Evidence, 1), in_condition(Condition::Worn, 2)],
        next_file: 3,
        last_generation: 3,
        ..Recovered::nothing()
    };
    let mut segments = opened(recovered);
    assert!(segments.release(2, 9) && segments.release(3, 9));
    assert_eq!(goes(&mut segments, LATER), [0; 0]);
    make(&mut segments);
    assert_eq!(goes(&mut segments, LATER), [-1, 2]);
}

#[test]
fn no_file_is_used_again_while_one_is_to_be_set_aside_unless_there_is_no_room() {
    for is_full in [false, true] {
        let recovered = Recovered {
            live: vec![Segment { condition: Condition::Evidence, ..segment(1) }, segment(2)],
            idle: vec![idle(4, 16_384, Condition::Sound)],
            next_file: 5,
            last_generation: 3,
            ..Recovered::nothing()
        };
        let mut segments = opened(recovered);
        assert!(segments.release(2, 9) && segments.release(3, 9));
        let (file, _, fill) = prepares(&mut segments, LATER).expect("there is one to prepare");
        assert_eq!((file, fill), (5, true), "its header excludes the one in which something is lost");
        let result = if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        segments.prepared(FileId(5), result, LATER);
        assert_eq!(goes(&mut segments, LATER), [if is_full { 5 } else { -1 }]);
        let (_, _, fill) = prepares(&mut segments, 2 * LATER).expect("there is another");
        assert!(!fill);
    }
}

#[test]
fn all_are_archived_if_they_are_wanted_and_the_generation_of_a_mark_is_known_until_then() {
    let mut segments = fresh();
    for _ in 0..3 {
        make(&mut segments);
    }
    advance(&mut segments, 5);
    segments.begins(6);
    segments.took(4096);
    assert_eq!([4, 5, 6, 7].map(|number| segments.generation_of(number)), [None, Some(1), Some(1), None]);
    assert_eq!(segments.oldest(6), None, "two are left");
    segments.seal_all();
    assert_eq!(segments.oldest(5), None, "it is not written");
    let sealed = segments.oldest(6).expect("it is wanted");
    assert_eq!((sealed.generation, sealed.first, sealed.last), (1, 5, 6));
    advance(&mut segments, 7);
    assert!(segments.release(1, 7));
    assert_eq!((segments.oldest(7), segments.generation_of(6)), (None, None));
    assert_eq!(segments.generation_of(7), Some(2));
}

#[test]
fn a_clock_that_is_wrong_does_not_make_a_header_unsound() {
    let mut segments = Segments::new(settings(3), Recovered::nothing(), Recovered::nothing().first(), u64::MAX);
    assert_eq!(make(&mut segments).opened, MOST_NUMBER);
}
