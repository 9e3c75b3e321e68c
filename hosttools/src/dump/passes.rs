//! Which passes of a session came, by the cursors of its blocks.

use wire::{Cursor, Pass, SessionEnd};

/// How much of a pass came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// All of it, as far as anybody can tell.
    Whole,
    /// Some of it.
    Part,
    /// None of it.
    Nothing,
}

/// How much came of each pass but the last, which repeats others. `blocks` are those of stream 0, ascending: number,
/// and where the block begins and ends; `None`: it cannot be read.
pub(super) fn came(
    blocks: impl Iterator<Item = (u32, Option<(Cursor, Cursor)>)>,
    end: Option<SessionEnd>,
) -> Vec<(Pass, Came)> {
    let last = Pass::Again.number();
    let is_uncut = end.is_some_and(|end| !end.is_cut);
    // Sets of passes, one bit each: of which there is something, and of which something is not there.
    let (mut some, mut lacking) = (0, 0);
    let (mut at, mut next, mut follows) = (Cursor::START.pass, 0, true);
    for (number, said) in blocks {
        follows &= number == next;
        next = number.saturating_add(1);
        let Some((start, end)) = said else {
            follows = false;
            continue;
        };
        // A sender whose budget is spent goes on with what it repeats.
        let is_cut = start.pass == last && !is_uncut;
        if !follows || is_cut {
            lacking |= passes(at, start.pass);
        }
        some |= passes(start.pass, end.pass);
        (at, follows) = (end.pass, true);
    }
    let is_end = follows && end.is_some_and(|end| end.blocks == next && !end.is_cut);
    if !is_end {
        lacking |= passes(at, last);
    }
    let came = |pass: Pass| match (some & passes(pass.number(), pass.number()), lacking) {
        (_, lacking) if lacking & passes(pass.number(), pass.number()) == 0 => Came::Whole,
        (0, _) => Came::Nothing,
        _ => Came::Part,
    };
    Pass::ALL.into_iter().filter(|&pass| pass != Pass::Again).map(|pass| (pass, came(pass))).collect()
}

/// The set of passes from one to another.
fn passes(from: u8, to: u8) -> u64 {
    (from..=to).filter_map(|pass| 1_u64.checked_shl(pass.into())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: SessionEnd = SessionEnd {
        blocks: 5,
        first_block: 0,
        pages: 0,
        filled_pages: 0,
        hole_pages: 0,
        fragments: 0,
        digest: 0,
        is_cut: false,
    };

    /// What came, if of a session these blocks did: number, pass it begins in, pass it ends in.
    fn of(blocks: &[(u32, Pass, Pass)], end: Option<SessionEnd>) -> Vec<Came> {
        let cursor = |pass: Pass| Cursor { pass: pass.number(), position: 0 };
        let blocks = blocks.iter().map(|&(number, from, to)| (number, Some((cursor(from), cursor(to)))));
        came(blocks, end).into_iter().map(|(_, came)| came).collect()
    }

    fn parts(all: &[Came], whole: usize) -> (bool, Option<Came>) {
        (all.iter().take(whole).all(|came| *came == Came::Whole), all.get(whole).copied())
    }

    #[test]
    fn the_pass_that_a_dump_was_cut_in_came_in_part_and_those_behind_it_not() {
        let blocks = [(0, Pass::Meta, Pass::Meta), (1, Pass::Log, Pass::Log), (2, Pass::Data, Pass::Data)];
        let all = of(&blocks, None);
        assert_eq!(parts(&all, 4), (true, Some(Came::Part)));
        assert!(all.iter().skip(5).all(|came| *came == Came::Nothing));
        // A pass may be empty; the end says that there was no more.
        let all = of(&blocks, Some(SessionEnd { blocks: 3, ..END }));
        assert!(all.iter().all(|came| *came == Came::Whole));
        let all = of(&blocks, Some(SessionEnd { blocks: 3, is_cut: true, ..END }));
        assert_eq!(parts(&all, 4), (true, Some(Came::Part)));
    }

    #[test]
    fn a_block_that_is_missing_costs_the_passes_around_it() {
        let blocks = [
            (0, Pass::Meta, Pass::Meta),
            (1, Pass::Log, Pass::Log),
            (3, Pass::CpuStacks, Pass::CpuStacks),
            (4, Pass::Rest, Pass::Rest),
        ];
        let all = of(&blocks, Some(END));
        let expected = [Came::Whole, Came::Part, Came::Part, Came::Whole];
        assert_eq!(all.get(..4), Some(&expected[..]));
        assert!(all.iter().skip(4).all(|came| *came == Came::Whole));
        // The last one, which nothing follows.
        let all = of(&blocks[..3], Some(END));
        assert_eq!(parts(&all[2..], 0).1, Some(Came::Part));
        assert_eq!(all.last(), Some(&Came::Nothing));
    }

    #[test]
    fn a_block_that_cannot_be_read_is_as_one_that_is_missing() {
        let cursor = |pass: Pass| Cursor { pass: pass.number(), position: 0 };
        let blocks = [
            (0, Some((cursor(Pass::Meta), cursor(Pass::Meta)))),
            (1, None),
            (2, Some((cursor(Pass::Data), cursor(Pass::Data)))),
        ];
        let all = came(blocks.into_iter(), Some(SessionEnd { blocks: 3, ..END }));
        assert_eq!(all.first(), Some(&(Pass::Meta, Came::Part)));
        assert_eq!(all.get(1), Some(&(Pass::Log, Came::Nothing)));
        assert_eq!(all.last(), Some(&(Pass::Rest, Came::Whole)));
    }

    #[test]
    fn what_is_repeated_after_the_budget_was_spent_is_no_sign_of_what_was_before_it() {
        let blocks = [(0, Pass::Meta, Pass::Meta), (1, Pass::Log, Pass::Slab), (2, Pass::Again, Pass::Again)];
        for end in [None, Some(SessionEnd { blocks: 3, is_cut: true, ..END })] {
            let all: Vec<Came> = of(&blocks, end);
            let slab = Pass::ALL.iter().position(|pass| *pass == Pass::Slab).unwrap();
            assert_eq!(parts(&all, slab), (true, Some(Came::Part)));
            assert_eq!(all.last(), Some(&Came::Nothing));
        }
    }
}
