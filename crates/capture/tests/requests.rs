//! A host that reads the machine while it is being dumped: the pipeline and a receiver with a slow line between them, in
//! virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs
)]

#[path = "support/board.rs"]
mod board;
#[path = "support/desk.rs"]
mod desk;
#[path = "../../memory/tests/support/mod.rs"]
mod kernel;

use std::sync::LazyLock;
use std::time::Duration;

use board::Memory;
use capture::{Budget, NOBODY_FOR, Options, Serve};
use codec::{Effort, Method};
use desk::{Answer, Desk, Dump, Host, Noise, Slow};
use kernel::arm;
use memory::{DumpLevel, PageClass, ReadFaultKind};
use wire::{Course, SessionId, Urgency};

const SECOND: Duration = Duration::from_secs(1);
const BAUD: u32 = 115_200;

const FIRST: u64 = arm::AARCH64_RAM >> 12;
/// Frames of the kernel with something in them: most of the dump.
const FULL: std::ops::Range<u64> = FIRST + 2304..FIRST + 4096;
/// Frames, counted from the first one, whose struct pages say that they must not be read.
const POISONED: u64 = 3000;

/// A machine of 16 MiB, of which a dump takes more than a minute.
fn machine() -> Memory {
    let mut memory = Memory::aarch64();
    let ram = &mut memory.crashed.ram;
    let mut state = 1_u64;
    for pfn in FULL {
        for pa in (pfn << 12..(pfn + 1) << 12).step_by(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(pfn);
            // Much alike, as kernel objects are.
            ram.put_u64(pa, if pa % 64 == 0 { state >> 24 } else { pa % 512 });
        }
    }
    // User memory, too, and the struct page of one page says hwpoison.
    let classes = arm::expected(arm::AARCH64_FRAMES);
    for (pfn, _) in (FIRST..).zip(classes).filter(|(_, class)| *class == PageClass::User) {
        ram.put_u64(pfn << 12, pfn);
    }
    let flags = arm::AARCH64_RAM + 0x80_0000 + POISONED * 64;
    let before = ram.get_u64(flags);
    ram.put_u64(flags, before | kernel::Generation::Linux6_12.hwpoison());
    memory
}

fn options() -> Options {
    Options {
        session: SessionId(7),
        encoder: Method::Deflate.encoder(),
        level: DumpLevel::SMALLEST,
        budget: Budget::default(),
        needs_answers: false,
        serve: None,
    }
}

fn desk(host: Host) -> Desk {
    Desk::new(BAUD, host)
}

/// Frames all over the machine.
fn scattered(count: u64) -> Vec<u64> {
    (0..count).map(|index| FULL.start + index * 1_103 % (FULL.end - FULL.start)).collect()
}

/// A dump during which pages are wanted, from a time on, so many at once.
fn dump_with(pfns: &[u64], from: Duration, at_once: usize) -> Desk {
    let machine = machine();
    let mut desk = desk(Host { wants_from: from, at_once, ..Host::default() });
    desk.host.wants.extend(pfns.iter().map(|&pfn| (pfn, 1, Urgency::Now)));
    desk.run(&machine, options());
    desk
}

/// A dump that nobody wants anything of: when it is over, and what it is.
fn undisturbed() -> &'static (Duration, Dump) {
    static UNDISTURBED: LazyLock<(Duration, Dump)> = LazyLock::new(|| {
        let desk = dump_with(&[], SECOND, 1);
        desk.host.assert_complete();
        (desk.now(), desk.host.dump())
    });
    &UNDISTURBED
}

fn assert_answers_are_right(desk: &Desk, machine: &Memory) {
    assert_eq!(desk.host.wants.len() + desk.host.waiting.len(), 0, "not everything is answered");
    for (pfn, answer) in &desk.host.answers {
        assert_eq!(*answer, Answer::of(machine, *pfn), "page {pfn:#x}");
    }
}

#[test]
fn pages_that_are_wanted_come_ahead_of_the_passes_and_the_dump_is_the_same() {
    let pfns = scattered(435);
    let without = dump_with(&[], SECOND, 1);
    let with = dump_with(&pfns, 20 * SECOND, 8);
    assert_answers_are_right(&with, &machine());
    assert_eq!(with.host.answers.len(), 435);
    for desk in [&without, &with] {
        desk.host.assert_complete();
    }
    assert!(with.host.dump() == without.host.dump());
    // Before the end, by far.
    let took = with.host.answered_at.unwrap() - 20 * SECOND;
    println!("435 pages, 8 at once: {took:?}; bytes on the line {} and {}", without.written, with.written);
    assert!(took < without.now() / 2, "{took:?} of {:?}", without.now());
}

#[test]
fn one_frame_at_most_comes_between_a_request_and_its_answer() {
    let desk = dump_with(&scattered(60), 20 * SECOND, 1);
    assert_eq!(desk.frames_before_answers.len(), 60);
    let most = desk.frames_before_answers.iter().max();
    assert!(most <= Some(&1), "{:?}", desk.frames_before_answers);
}

#[test]
fn a_uart_that_makes_whoever_writes_wait_does_not_keep_requests_from_being_heard() {
    let machine = machine();
    // Plugged in late, it is sent again what nobody has acknowledged: seconds of it.
    let mut desk = desk(Host { comes_at: 9 * SECOND, at_once: 1, ..Host::default() });
    desk.makes_wait = true;
    desk.host.wants.extend(scattered(60).into_iter().map(|pfn| (pfn, 1, Urgency::Now)));
    desk.run(&machine, options());
    assert_answers_are_right(&desk, &machine);
    desk.host.assert_complete();
    println!("answered after {:?}", desk.host.answered_at);
    assert!(desk.host.answered_at.unwrap() < 17 * SECOND);
}

#[test]
fn any_page_of_ram_can_be_had_whatever_the_level_but_for_those_that_must_not_be_read() {
    let machine = machine();
    let classes = arm::expected(arm::AARCH64_FRAMES);
    let user = (FIRST..).zip(classes).find(|(_, class)| *class == PageClass::User).unwrap().0;
    let mut desk = desk(Host { wants_from: 5 * SECOND, at_once: 8, ..Host::default() });
    let hole = |kind: ReadFaultKind| Answer::Hole(kind as u8);
    desk.host.wants.extend([
        (user, 2, Urgency::Now),
        (FIRST + POISONED - 1, 3, Urgency::Soon),
        (FIRST - 2, 4, Urgency::Soon),
        ((1 << 40) - 16, 16, Urgency::Soon),
    ]);
    desk.run(&machine, options());
    let answers = &desk.host.answers;
    assert_eq!(answers.len(), 2 + 3 + 4 + 16);
    assert_eq!(answers[&user], Answer::of(&machine, user));
    assert!(matches!(answers[&user], Answer::Page(_)));
    assert!(!desk.host.dump().0.contains_key(&user), "the level leaves it out");
    assert_eq!(answers[&(FIRST + POISONED)], hole(ReadFaultKind::HwPoison));
    assert_eq!(answers[&(FIRST + POISONED + 1)], Answer::of(&machine, FIRST + POISONED + 1));
    for pfn in [FIRST - 2, FIRST - 1, (1 << 40) - 16, (1 << 40) - 1] {
        assert_eq!(answers[&pfn], hole(ReadFaultKind::NotRam), "{pfn:#x}");
    }
    assert_eq!(answers[&FIRST], Answer::of(&machine, FIRST));
    desk.host.assert_complete();
}

#[test]
fn a_damaged_page_inside_of_a_free_block_is_not_read() {
    let classes = arm::expected(arm::AARCH64_FRAMES);
    let is_free = |index: &usize| classes[*index..index + 8].iter().all(|class| *class == PageClass::Free);
    let block = (0..classes.len() - 8).step_by(8).find(is_free).unwrap() as u64;
    let mut machine = Memory::aarch64();
    let flags = arm::AARCH64_RAM + 0x80_0000 + (block + 5) * 64;
    let before = machine.crashed.ram.get_u64(flags);
    machine.crashed.ram.put_u64(flags, before | kernel::Generation::Linux6_12.hwpoison());
    let mut desk = desk(Host { wants_from: SECOND, at_once: 8, ..Host::default() });
    desk.host.wants.push_back((FIRST + block, 8, Urgency::Now));
    desk.run(&machine, options());
    for pfn in FIRST + block..FIRST + block + 8 {
        let is_damaged = pfn == FIRST + block + 5;
        let damaged = Answer::Hole(ReadFaultKind::HwPoison as u8);
        let expected = if is_damaged { damaged } else { Answer::of(&machine, pfn) };
        assert_eq!(desk.host.answers[&pfn], expected, "page {pfn:#x}");
    }
}

#[test]
fn every_method_makes_answers() {
    let machine = machine();
    for method in Method::ALL {
        let host = Host { wants_from: 3 * SECOND, at_once: 8, ..Host::default() };
        let mut desk = Desk::new(921_600, host);
        desk.host.wants.extend(scattered(30).into_iter().map(|pfn| (pfn, 1, Urgency::Now)));
        desk.host.wants.push_back((FULL.start, 16, Urgency::Now));
        desk.run(&machine, Options { encoder: method.encoder(), ..options() });
        assert_answers_are_right(&desk, &machine);
        desk.host.assert_complete();
    }
}

#[test]
fn on_a_line_that_loses_bytes_everything_is_answered_in_the_end() {
    let machine = machine();
    for seed in 0..4 {
        let host = Host { wants_from: 3 * SECOND, at_once: 8, ..Host::default() };
        let mut desk = Desk::new(921_600, host);
        desk.noise = Noise { seed, every: 3000 };
        desk.host.wants.extend(scattered(200).into_iter().map(|pfn| (pfn, 1, Urgency::Now)));
        desk.run(&machine, options());
        assert_answers_are_right(&desk, &machine);
        desk.host.assert_complete();
    }
}

#[test]
fn a_receiver_that_is_killed_meanwhile_costs_no_answer() {
    let machine = machine();
    let mut desk = desk(Host { wants_from: 10 * SECOND, at_once: 8, ..Host::default() });
    desk.host.kills.extend([11 * SECOND, 14 * SECOND, 20 * SECOND]);
    desk.host.wants.extend(scattered(300).into_iter().map(|pfn| (pfn, 1, Urgency::Now)));
    desk.run(&machine, options());
    assert_answers_are_right(&desk, &machine);
    assert_eq!(desk.host.answers.len(), 300);
    desk.host.assert_complete();
}

#[test]
fn a_request_that_nobody_may_make_is_ignored() {
    let machine = machine();
    let mut desk = desk(Host { is_deaf: true, ..Host::default() });
    // One-way, requests of whoever they are, and no Resume.
    desk.host.raw = (0..1000).flat_map(|number| desk::raw_request(SessionId(7), number)).collect();
    desk.run(&machine, options());
    assert_eq!(desk.host.answers.len(), 0);
    let silent = {
        let mut desk = self::desk(Host { is_deaf: true, ..Host::default() });
        desk.run(&machine, options());
        desk
    };
    // But for lines that tell how far it is.
    assert!(desk.written.abs_diff(silent.written) < 500, "{} and {}", desk.written, silent.written);
}

#[test]
fn passes_that_are_held_let_requests_through_and_go_on_afterwards() {
    let machine = machine();
    let mut desk = desk(Host { wants_from: 20 * SECOND, at_once: 8, ..Host::default() });
    desk.host.courses.extend([(10 * SECOND, Course::Hold), (60 * SECOND, Course::GoOn)]);
    desk.host.wants.extend(scattered(100).into_iter().map(|pfn| (pfn, 1, Urgency::Now)));
    desk.run(&machine, options());
    assert_answers_are_right(&desk, &machine);
    assert!(desk.host.answered_at.unwrap() < 30 * SECOND);
    desk.host.assert_complete();
    let held = desk.host.arrivals.iter().filter(|at| (12 * SECOND..60 * SECOND).contains(at)).count();
    assert_eq!(held, 0, "blocks of the passes");
    assert!(!desk.host.end.unwrap().is_cut);
    assert!(desk.host.dump() == undisturbed().1);
}

#[test]
fn a_machine_that_is_released_while_it_is_held_ends_at_once() {
    let machine = machine();
    let mut desk = desk(Host::default());
    desk.host.courses.extend([(10 * SECOND, Course::Hold), (40 * SECOND, Course::Release)]);
    desk.run(&machine, options());
    let end = desk.host.end.unwrap();
    assert!(end.is_cut);
    assert!(desk.now() < 75 * SECOND, "{:?}", desk.now());
    desk.host.assert_adds_up();
}

#[test]
fn a_receiver_that_holds_the_passes_and_goes_away_does_not_hold_the_machine() {
    let machine = machine();
    let mut desk = desk(Host { goes_at: Some(20 * SECOND), ..Host::default() });
    desk.host.courses.extend([(10 * SECOND, Course::Hold)]);
    desk.run(&machine, options());
    assert!(desk.now() < 400 * SECOND);
}

#[test]
fn a_machine_that_serves_answers_after_the_end_until_it_is_released() {
    let machine = machine();
    let end_at = undisturbed().0;
    let (wants_from, release_at) = (end_at + 100 * SECOND, end_at + 200 * SECOND);
    let mut desk = desk(Host { wants_from, at_once: 8, ..Host::default() });
    desk.host.wants.extend(scattered(100).into_iter().map(|pfn| (pfn, 1, Urgency::Now)));
    desk.host.courses.push_back((release_at, Course::Release));
    desk.run(&machine, Options { serve: Some(Serve { limit: None }), ..options() });
    assert_answers_are_right(&desk, &machine);
    assert_eq!(desk.host.answers.len(), 100);
    desk.host.assert_complete();
    assert!(!desk.host.end.unwrap().is_cut);
    assert!((release_at..release_at + 3 * SECOND).contains(&desk.now()), "{:?}", desk.now());
    let text = String::from_utf8_lossy(&desk.host.text).into_owned();
    assert_eq!(text.matches("the dump is over; staying").count(), 1, "{text}");
}

#[test]
fn a_receiver_can_have_the_machine_stay_though_it_was_not_set_up_to() {
    let machine = machine();
    let end_at = undisturbed().0;
    let mut desk = desk(Host { wants_from: end_at + 100 * SECOND, at_once: 1, ..Host::default() });
    desk.host.wants.push_back((FULL.start, 16, Urgency::Now));
    desk.host.courses.extend([(SECOND, Course::Stay), (end_at + 200 * SECOND, Course::Release)]);
    desk.run(&machine, options());
    assert_answers_are_right(&desk, &machine);
    assert_eq!(desk.host.answers.len(), 16);
    desk.host.assert_complete();
}

#[test]
fn a_machine_serves_no_longer_than_it_was_told_to() {
    let machine = machine();
    let end_at = undisturbed().0;
    for course in [Course::GoOn, Course::Stay] {
        let mut desk = desk(Host::default());
        desk.host.courses.push_back((SECOND, course));
        desk.run(&machine, Options { serve: Some(Serve { limit: Some(300 * SECOND) }), ..options() });
        let over = desk.now() - end_at;
        assert!((295 * SECOND..305 * SECOND).contains(&over), "{course:?}: {over:?}");
        desk.host.assert_complete();
    }
}

/// Somebody who reads one page after the other, for longer than any dump takes.
fn endless_reader() -> Host {
    let mut host = Host { wants_from: SECOND, at_once: 1, ..Host::default() };
    host.wants.extend(scattered(100_000).into_iter().map(|pfn| (pfn, 1, Urgency::Now)));
    host
}

#[test]
fn whoever_reads_without_a_pause_does_not_keep_the_dump_from_its_end() {
    let machine = machine();
    let limit = 100 * SECOND;
    let mut desk = Desk::new(8 * BAUD, endless_reader());
    desk.host.courses.push_back((SECOND, Course::Stay));
    desk.run(&machine, Options { serve: Some(Serve { limit: Some(limit) }), ..options() });
    desk.host.assert_complete();
    println!(
        "{} pages read; the end after {:?}, {} blocks",
        100_000 - desk.host.wants.len(),
        desk.host.ended_at.unwrap(),
        desk.host.blocks.len()
    );
    // One frame in 16 is a small one.
    let end_at = desk.host.ended_at.unwrap();
    assert!(end_at < 64 * undisturbed().0 / 8, "{end_at:?}");
    assert!((limit - 5 * SECOND..limit + 5 * SECOND).contains(&(desk.now() - end_at)), "{:?}", desk.now());
    assert!(!desk.host.wants.is_empty() && desk.host.dump() == undisturbed().1);
}

#[test]
fn a_budget_ends_a_dump_whatever_its_receiver_wants() {
    let machine = machine();
    let budget = Budget { time: Some(30 * SECOND), ..Budget::default() };
    let undisturbed = {
        let mut desk = desk(Host::default());
        desk.run(&machine, Options { budget, ..options() });
        desk.now()
    };
    let hold = Host { courses: [(10 * SECOND, Course::Hold)].into(), ..Host::default() };
    for host in [endless_reader(), hold] {
        let mut desk = desk(host);
        // It stays then, while the receiver wants that.
        desk.host.courses.push_back((100 * SECOND, Course::Release));
        desk.run(&machine, Options { budget, ..options() });
        let end_at = desk.host.ended_at.unwrap();
        assert!(desk.host.end.unwrap().is_cut);
        desk.host.assert_adds_up();
        assert!(end_at < undisturbed + 10 * SECOND, "{end_at:?}, undisturbed {undisturbed:?}");
        assert!(desk.now() < 110 * SECOND);
    }
}

#[test]
fn a_machine_that_was_released_answers_nobody() {
    let machine = machine();
    let mut desk = desk(endless_reader());
    desk.host.courses.push_back((20 * SECOND, Course::Release));
    desk.run(&machine, options());
    desk.host.assert_complete();
    assert!(desk.host.answered_at.unwrap() < 22 * SECOND);
    assert!(desk.now() < undisturbed().0 + 22 * SECOND, "{:?}", desk.now());
}

#[test]
fn a_machine_that_serves_and_is_not_listened_to_waits_for_ten_minutes() {
    let machine = machine();
    let end_at = undisturbed().0;
    let mut desk = desk(Host { goes_at: Some(end_at + 10 * SECOND), ..Host::default() });
    desk.run(&machine, Options { serve: Some(Serve { limit: None }), ..options() });
    // It takes a minute until it knows.
    let waited = desk.now() - end_at - 70 * SECOND;
    assert!((NOBODY_FOR - 5 * SECOND..NOBODY_FOR + 5 * SECOND).contains(&waited), "{waited:?}");
}

#[test]
fn a_receiver_may_come_back_to_a_machine_that_serves() {
    let machine = machine();
    let end_at = undisturbed().0;
    let from = end_at + 50 * SECOND;
    let mut desk = desk(Host { wants_from: from, at_once: 4, ..Host::default() });
    desk.host.kills.extend([end_at + 20 * SECOND]);
    desk.host.wants.extend(scattered(20).into_iter().map(|pfn| (pfn, 1, Urgency::Now)));
    desk.host.courses.push_back((from + 30 * SECOND, Course::Release));
    desk.run(&machine, Options { serve: Some(Serve { limit: None }), ..options() });
    assert_answers_are_right(&desk, &machine);
    assert_eq!(desk.host.answers.len(), 20);
    desk.host.assert_complete();
}

#[test]
fn a_connection_that_dies_after_the_dump_does_not_have_it_sent_again() {
    let machine = machine();
    let end_at = undisturbed().0;
    for (serve, waits) in
        [(None, Duration::ZERO), (Some(200), 200 * SECOND), (Some(0), Duration::ZERO), (None, NOBODY_FOR)]
    {
        let serve = match serve {
            Some(seconds) => Some(Serve { limit: Some(SECOND * seconds) }),
            None if waits.is_zero() => None,
            None => Some(Serve { limit: None }),
        };
        let mut desk = desk(Host::default());
        if serve.is_none() {
            // Somebody looks at it, and is cut off.
            desk.host.courses.push_back((SECOND, Course::Stay));
        }
        desk.dies_at = Some(end_at + 20 * SECOND);
        let end = desk.run(&machine, Options { needs_answers: true, serve, ..options() });
        desk.host.assert_complete();
        assert_eq!(Some(end), desk.host.end);
        let waited = desk.now() - end_at;
        assert!(waited <= waits + 150 * SECOND && waited + 20 * SECOND >= waits, "{serve:?}: {waited:?}");
    }
}

/// What a page costs who waits for one after the other, and who wants eight at once: with a processor that is fast, and with
/// one that just keeps such a line full.
#[test]
fn what_crash_reads_is_there_within_a_minute() {
    let machine = machine();
    for (at_once, bytes_per_second, most) in
        [(1, 1_000_000, 30), (8, 1_000_000, 27), (1, 140_000, 45), (8, 140_000, 40)]
    {
        let mut desk = desk(Host { wants_from: 20 * SECOND, at_once, ..Host::default() });
        desk.host.wants.extend(scattered(435).into_iter().map(|pfn| (pfn, 1, Urgency::Now)));
        let dense = Method::Lzma(Effort::Dense).encoder();
        let encoder = Box::new(Slow::new(dense, desk.time.clone(), bytes_per_second));
        let budget = Budget { time: Some(65 * SECOND), bytes: None };
        desk.run(&machine, Options { encoder, budget, ..options() });
        let took = desk.host.answered_at.unwrap() - 20 * SECOND;
        println!(
            "{at_once} at once, {bytes_per_second} B/s of LZMA: {took:?} for {} bytes of answers, {} overruns",
            desk.host.answer_bytes, desk.overruns
        );
        assert_answers_are_right(&desk, &machine);
        assert!(took < most * SECOND, "{took:?}");
        desk.host.assert_adds_up();
    }
}
