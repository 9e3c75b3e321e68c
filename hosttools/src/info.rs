//! What a dump says of its machine and of itself, for a person to read.

use std::fmt;

use jiff::Timestamp;

use crate::Error;
use crate::dump::{self, Dump, Facts, PageState};

/// What is known of a dump; printed line by line.
pub struct Info<'a> {
    facts: &'a Facts,
    pages: Pages,
}

/// How many pages became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// With their bytes.
    pub data: u64,
    /// Filled with one word.
    pub filled: u64,
    /// That could not be read.
    pub holes: u64,
    /// That should be there.
    pub missing: u64,
    /// Left out on purpose.
    pub excluded: u64,
}

impl<'a> Info<'a> {
    /// Looks at `dump`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(dump: &'a dyn Dump) -> Result<Self, Error> {
        let mut pages = Pages::default();
        for run in dump::runs(dump)? {
            let count = match run.state {
                PageState::Data => &mut pages.data,
                PageState::Filled(_) => &mut pages.filled,
                PageState::Hole(_) => &mut pages.holes,
                PageState::Missing => &mut pages.missing,
                PageState::Excluded => &mut pages.excluded,
            };
            *count += run.pages;
        }
        Ok(Self { facts: dump.facts(), pages })
    }

    /// How many pages became what.
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.pages
    }
}

impl fmt::Display for Info<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { facts, pages } = self;
        let info = facts.vmcoreinfo();
        let or_unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { printable(text) };
        let release = info.os_release().unwrap_or_else(|| facts.uts(2));
        writeln!(f, "node          {}", or_unknown(facts.uts(1)))?;
        writeln!(f, "architecture  {}", facts.machine.name())?;
        writeln!(f, "kernel        {}", or_unknown(release))?;
        writeln!(f, "version       {}", or_unknown(facts.uts(3)))?;
        writeln!(f, "build id      {}", or_unknown(info.build_id().unwrap_or_default()))?;
        writeln!(f, "crashed       {}", date(facts.crash_time))?;
        writeln!(f, "dump level    {}", facts.dump_level)?;
        writeln!(f, "page size     {}", facts.page_bytes())?;
        writeln!(f, "complete      {}", if facts.is_complete { "yes" } else { "no" })?;
        let Pages { data, filled, holes, missing, excluded } = pages;
        writeln!(
            f,
            "pages         {data} with data, {filled} filled, {holes} unreadable, {missing} missing, {excluded} excluded"
        )?;
        for (cpu, registers) in facts.registers().enumerate() {
            writeln!(
                f,
                "cpu {cpu:<9} pc {:#018x}  sp {:#018x}  pid {}",
                registers.pc, registers.sp, registers.pid
            )?;
        }
        for range in facts.map.ranges() {
            let kib = range.bytes() / 1024;
            writeln!(f, "memory        {:#014x}-{:#014x}  {kib} KiB", range.start.0, range.end.0 - 1)?;
        }
        Ok(())
    }
}

fn date(crash_time: u64) -> String {
    let time = i64::try_from(crash_time).ok().filter(|&time| time > 0);
    match time.and_then(|time| Timestamp::from_second(time).ok()) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => "unknown".to_owned(),
    }
}

/// Text of the crashed machine, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}
