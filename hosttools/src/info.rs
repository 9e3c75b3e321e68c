//! What a dump says of its machine and of itself, for a person to read.

use std::fmt;

use jiff::Timestamp;
use memory::{DumpLevel, PageClass};

use crate::Error;
use crate::dump::{self, Assembly, Came, Census, Dump, Facts, Filtered, PageState};

/// What is known of a dump; printed line by line.
pub struct Info<'a> {
    facts: &'a Facts,
    session: Option<&'a Assembly>,
    pages: Pages,
    /// `None`: nobody can tell what the machine used its pages for.
    census: Option<Census>,
}

/// How many pages became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// With their bytes.
    pub data: u64,
    /// Filled with one word.
    pub filled: u64,
    /// That could not be read.
    pub unreadable: u64,
    /// That were not to be read: the kernel had given them up as damaged, or given them away.
    pub given_up: u64,
    /// That should be there.
    pub missing: u64,
    /// Left out on purpose.
    pub excluded: u64,
}

impl Pages {
    /// Counts those of `dump`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(dump: &dyn Dump) -> Result<Self, Error> {
        let mut pages = Self::default();
        for run in dump::each_run(dump) {
            let run = run?;
            let count = match run.state {
                PageState::Data => &mut pages.data,
                PageState::Filled(_) => &mut pages.filled,
                state @ PageState::Hole(_) if state.is_wanted() => &mut pages.unreadable,
                PageState::Hole(_) => &mut pages.given_up,
                PageState::Missing => &mut pages.missing,
                PageState::Excluded => &mut pages.excluded,
            };
            *count += run.pages;
        }
        Ok(pages)
    }
}

impl<'a> Info<'a> {
    /// Looks at `dump`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(dump: &'a dyn Dump) -> Result<Self, Error> {
        let session = dump.session();
        let pages = match Filtered::incomplete(dump) {
            Some(explained) => Pages::of(&explained)?,
            None => Pages::of(dump)?,
        };
        let counted = session.and_then(Assembly::counts).map(|counts| Census { counts, in_doubt: 0 });
        let census = counted.or_else(|| dump::classify(dump, DumpLevel::ALL, drop).ok());
        let census = census.filter(|census| census.in_doubt < census.counts.total());
        Ok(Self { facts: dump.facts(), session, pages, census })
    }

    /// How many pages became what.
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.pages
    }

    fn write_machine(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts;
        let info = facts.vmcoreinfo();
        let release = info.os_release().unwrap_or_else(|| facts.uts(2));
        writeln!(f, "node          {}", or_unknown(facts.uts(1)))?;
        writeln!(f, "architecture  {}", facts.machine.name())?;
        writeln!(f, "kernel        {}", or_unknown(release))?;
        writeln!(f, "version       {}", or_unknown(facts.uts(3)))?;
        writeln!(f, "build id      {}", or_unknown(info.build_id().unwrap_or_default()))?;
        writeln!(f, "crashed       {}", date(facts.crash_time))
    }

    fn write_dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts;
        writeln!(f, "dump level    {}{}", facts.dump_level, left_out(facts.dump_level))?;
        writeln!(f, "page size     {}", facts.page_bytes())?;
        let why =
            if self.session.is_some_and(Assembly::is_cut) { ": the sender's budget was spent" } else { "" };
        writeln!(f, "complete      {}{why}", if facts.is_complete { "yes" } else { "no" })?;
        let Pages { data, filled, unreadable, given_up, missing, excluded } = self.pages;
        writeln!(
            f,
            "pages         {data} with data, {filled} filled, {unreadable} unreadable, {given_up} damaged or offline, \
             {missing} missing, {excluded} excluded"
        )?;
        match facts.pulled {
            0 => Ok(()),
            pages => writeln!(f, "pulled        {pages} pages came only because they were asked for"),
        }
    }

    fn write_session(&self, f: &mut fmt::Formatter<'_>, session: &Assembly) -> fmt::Result {
        if let Some(kept) = session.kept_pages() {
            writeln!(f, "came          {} of {kept} pages", session.pages())?;
        }
        let passes = session.passes();
        for (what, label) in [
            (Came::Whole, "came whole    "),
            (Came::Part, "came in part  "),
            (Came::Nothing, "did not come  "),
        ] {
            let names: Vec<&str> =
                passes.iter().filter(|(_, came)| *came == what).map(|(pass, _)| pass.name()).collect();
            if !names.is_empty() {
                writeln!(f, "{label}{}", names.join(", "))?;
            }
        }
        Ok(())
    }

    fn write_census(&self, f: &mut fmt::Formatter<'_>, census: &Census) -> fmt::Result {
        let level = DumpLevel::new(self.facts.dump_level).unwrap_or_default();
        let page_bytes = self.facts.page_bytes() as u64;
        for class in PageClass::ALL {
            let mut pages = census.counts.of(class);
            if class == PageClass::Kernel {
                pages = pages.saturating_sub(census.in_doubt);
            }
            let left_out = if level.keeps(class) { "" } else { ", left out" };
            let size = size(pages.saturating_mul(page_bytes));
            writeln!(f, "{:<14}{pages} pages, {size}{left_out}", class_label(class))?;
        }
        if census.in_doubt != 0 {
            let size = size(census.in_doubt.saturating_mul(page_bytes));
            writeln!(f, "unknown       {} pages, {size}", census.in_doubt)?;
        }
        Ok(())
    }
}

impl fmt::Display for Info<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_machine(f)?;
        self.write_dump(f)?;
        if let Some(session) = self.session.filter(|_| !self.facts.is_complete) {
            self.write_session(f, session)?;
        }
        if let Some(census) = &self.census {
            self.write_census(f, census)?;
        }
        for (cpu, registers) in self.facts.registers().enumerate() {
            writeln!(
                f,
                "cpu {cpu:<9} pc {:#018x}  sp {:#018x}  pid {}",
                registers.pc, registers.sp, registers.pid
            )?;
        }
        for range in self.facts.map.ranges() {
            let kib = range.bytes() / 1024;
            writeln!(f, "memory        {:#014x}-{:#014x}  {kib} KiB", range.start.0, range.end.0 - 1)?;
        }
        Ok(())
    }
}

/// What machine it was, in two lines.
pub(crate) fn machine(facts: &Facts) -> String {
    let info = facts.vmcoreinfo();
    let release = or_unknown(info.os_release().unwrap_or_else(|| facts.uts(2)));
    let (node, machine) = (or_unknown(facts.uts(1)), facts.machine.name());
    format!(
        "machine          {node}, Linux {release}, {machine}\ncrashed          {}\n",
        date(facts.crash_time)
    )
}

/// What a line about a class begins with. `kernel` alone is its release.
fn class_label(class: PageClass) -> &'static str {
    match class {
        PageClass::Kernel => "kernel pages",
        other => other.name(),
    }
}

/// What a dump level leaves out, in words.
fn left_out(level: u8) -> String {
    let bits = [
        (DumpLevel::ZERO, "zero"),
        (DumpLevel::CACHE, "cache"),
        (DumpLevel::CACHE_PRIVATE, "private cache"),
        (DumpLevel::USER, "user"),
        (DumpLevel::FREE, "free"),
    ];
    let names: Vec<&str> =
        bits.into_iter().filter(|(bit, _)| level & bit != 0).map(|(_, name)| name).collect();
    if names.is_empty() { String::new() } else { format!(": without {} pages", names.join(", ")) }
}

/// Bytes, for a person.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

fn date(crash_time: u64) -> String {
    let time = i64::try_from(crash_time).ok().filter(|&time| time > 0);
    match time.and_then(|time| Timestamp::from_second(time).ok()) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => "unknown".to_owned(),
    }
}

fn or_unknown(text: &str) -> String {
    if text.is_empty() { "unknown".to_owned() } else { printable(text) }
}

/// Text of the crashed machine, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_sizes_are_told_in_words() {
        assert_eq!(left_out(0), "");
        assert_eq!(left_out(17), ": without zero, free pages");
        assert_eq!(left_out(31), ": without zero, cache, private cache, user, free pages");
        assert_eq!([0, 4096, 5 << 19, 3 << 29].map(size), ["0 KiB", "4 KiB", "2.5 MiB", "1.5 GiB"]);
    }
}
