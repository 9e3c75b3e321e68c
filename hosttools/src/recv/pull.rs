//! Asks the machine for the pages that readers of a mounted session wait for, and for a few that they are about to want.
//!
//! What readers wait for is looked up whenever the line is: nothing has to be taken back when one of them goes. What is
//! asked is little at a time, because on a slow line each answer waits for those before it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::{Course, MAX_REQUEST_BYTES, Receiver, Urgency};

use crate::mount::Live;

/// Requests of pages that somebody waits for: enough for a line with a round trip in it.
const MAX_NOW: usize = 8;

/// Requests of pages that somebody may want, each of one page: so long at most waits one that somebody waits for.
const MAX_SOON: usize = 2;

/// A request that no reader waits for any more, for so long, is given up. (For a moment nobody does while its reader is
/// being answered.)
const GIVE_UP: Duration = Duration::from_secs(1);

/// One that nobody has waited for yet is given up after so long.
const GIVE_UP_SOON: Duration = Duration::from_secs(5);

/// Requests that were given up whose answers are taken, should they come.
const MAX_LATE: usize = 256;

/// What has been asked for a session.
pub(super) struct Pull {
    live: Arc<Live>,
    started: Instant,
    /// By number.
    asked: BTreeMap<u32, Asked>,
    late: BTreeMap<u32, Range<u64>>,
    /// Whether passes are to be held, once the machine has described itself.
    on_demand: bool,
}

struct Asked {
    pages: Range<u64>,
    urgency: Urgency,
    /// When a reader waited for it last, or it was asked for.
    wanted_at: Instant,
}

impl Pull {
    pub(super) fn new(live: Arc<Live>, on_demand: bool) -> Self {
        Self { live, started: Instant::now(), asked: BTreeMap::new(), late: BTreeMap::new(), on_demand }
    }

    /// The mounted session.
    pub(super) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Whether there are to be no passes.
    pub(super) fn is_on_demand(&self) -> bool {
        self.on_demand
    }

    /// How a machine that was `told` this last is to go on.
    fn course(&self, told: Option<Course>) -> Course {
        if self.live.is_released() {
            // One that has forgotten, on another connection, say, that it is held would send all of the rest.
            let is_held = matches!(told, Some(Course::Hold | Course::Release));
            if self.on_demand && !is_held { Course::Hold } else { Course::Release }
        } else if !self.live.is_mounted() {
            Course::GoOn
        } else if self.on_demand && self.live.is_described() {
            Course::Hold
        } else {
            Course::Stay
        }
    }

    /// Says to `receiver` what to ask for.
    pub(super) fn ask(&mut self, receiver: &mut Receiver, page_shift: u32) {
        let told = receiver.service_of_sender().map(|service| service.course);
        receiver.set_course(self.course(told));
        // Of a machine that is let go nothing is asked: what still comes comes in its turn.
        if receiver.service_of_sender().is_some() && !self.live.is_released() {
            self.ask_now(receiver, page_shift);
            self.ask_soon(receiver);
        }
        self.give_up(receiver);
        receiver.service(self.started.elapsed());
    }

    /// What readers wait for: of each in turn a run of its pages.
    fn ask_now(&mut self, receiver: &mut Receiver, page_shift: u32) {
        let most = u64::from(MAX_REQUEST_BYTES).checked_shr(page_shift).unwrap_or(0).max(1);
        let mut readers = Vec::new();
        for missing in self.live.wanted() {
            let not_asked: Vec<u64> =
                missing.into_iter().filter(|&page| !self.hurry(page, receiver)).collect();
            readers.push(runs(&not_asked, most).into_iter());
        }
        let mut has_more = true;
        while std::mem::take(&mut has_more) {
            for reader in &mut readers {
                // Another reader may want the same pages.
                let run = reader.find(|run| run.clone().any(|page| !self.is_asked(page)));
                let Some(run) = run else { continue };
                if self.count(Urgency::Now) >= MAX_NOW {
                    return;
                }
                self.request(receiver, run, Urgency::Now);
                has_more = true;
            }
        }
    }

    /// What readers are about to want.
    fn ask_soon(&mut self, receiver: &mut Receiver) {
        while self.count(Urgency::Soon) < MAX_SOON
            && let Some(page) = self.live.expected()
        {
            if !self.is_asked(page) {
                self.request(receiver, page..page.saturating_add(1), Urgency::Soon);
            }
        }
    }

    /// Whether `page` has been asked for: then it is wanted now.
    fn hurry(&mut self, page: u64, receiver: &mut Receiver) -> bool {
        let Some((number, asked)) = self.asked.iter_mut().find(|(_, asked)| asked.pages.contains(&page))
        else {
            return false;
        };
        asked.wanted_at = Instant::now();
        if asked.urgency == Urgency::Soon {
            asked.urgency = Urgency::Now;
            receiver.hurry(*number);
        }
        true
    }

    fn request(&mut self, receiver: &mut Receiver, pages: Range<u64>, urgency: Urgency) {
        let count = u8::try_from(pages.end - pages.start).unwrap_or(u8::MAX);
        // Of pages behind the last that there can be nothing is asked, and no reader waits for them.
        if let Some(number) = receiver.request(pages.start, count, urgency) {
            self.asked.insert(number, Asked { pages, urgency, wanted_at: Instant::now() });
        }
    }

    /// Forgets what nobody waits for any more.
    fn give_up(&mut self, receiver: &mut Receiver) {
        let (late, is_released) = (&mut self.late, self.live.is_released());
        self.asked.retain(|&number, asked| {
            let patience = if asked.urgency == Urgency::Soon { GIVE_UP_SOON } else { GIVE_UP };
            let is_wanted = asked.wanted_at.elapsed() < patience && !is_released;
            if !is_wanted {
                receiver.forget_request(number);
                late.insert(number, asked.pages.clone());
                if late.len() > MAX_LATE {
                    late.pop_first();
                }
            }
            is_wanted
        });
    }

    fn is_asked(&self, page: u64) -> bool {
        self.asked.values().any(|asked| asked.pages.contains(&page))
    }

    fn count(&self, urgency: Urgency) -> usize {
        self.asked.values().filter(|asked| asked.urgency == urgency).count()
    }

    /// An answer numbered so has come, about these pages: whether it was asked for.
    pub(super) fn take_answer(&mut self, number: u32, pages: &Range<u64>) -> bool {
        if self.asked.get(&number).is_some_and(|asked| asked.pages == *pages) {
            self.asked.remove(&number);
            return true;
        }
        // Once only: a hostile sender may have more to say under this number.
        let is_late = self.late.get(&number) == Some(pages);
        if is_late {
            self.late.remove(&number);
        }
        is_late
    }
}

/// The runs in `pages`, which ascend, of at most so many each.
fn runs(pages: &[u64], most: u64) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some(last) if last.end == page && page - last.start < most => last.end = page + 1,
            _ => runs.push(page..page.saturating_add(1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_is_taken_once() {
        let mut pull = Pull::new(Arc::new(Live::new(Duration::ZERO)), false);
        pull.late.insert(7, 1..3);
        let taken = [1..2, 1..3, 1..3].map(|pages| pull.take_answer(7, &pages));
        assert_eq!(taken, [false, true, false]);
    }

    #[test]
    fn pages_that_follow_one_another_are_one_request_of_bounded_length() {
        assert_eq!(runs(&[], 16), []);
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10], 16), [1..4, 7..8, 9..11]);
        assert_eq!(runs(&[1, 2, 3, 4, 5], 2), [1..3, 3..5, 5..6]);
        assert_eq!(runs(&[u64::MAX], 2).len(), 1);
    }
}
