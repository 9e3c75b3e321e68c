//! Dump levels on a stock kernel whose guest has pages of every class: what is kept, page by page, and what crash(8) makes
//! of what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use capture::Budget;
use memory::DumpLevel;
use rcapture::dump;
use rcapture_qemu::{Arch, Kernel, Lab, PageFlags, Report, Suite};

use crate::replay::Replay;
use crate::{
    CRASH, Crashed, DUMP, Disagreements, Frames, KeptPages, PageUse, SLOW_LINE, Spec, compare, is_full,
    rcapture, write_full,
};

/// From these levels together it can be told what a page is used for.
const SINGLE_CLASS_LEVELS: [u8; 5] = [0, 2, 4, 8, 16];

/// What a page may be while it is freed or allocated for a process.
const IN_MOTION: [PageUse; 3] = [PageUse::User, PageUse::Free, PageUse::Kernel];

/// Pages in motion in the tenth of a second after the report; of 130,000. (4 to 11 were seen, of each kind.) A class that is
/// mistaken has thousands.
const MOST_IN_MOTION: usize = 100;

/// What the payload leaves out.
const LEVEL: u8 = 31;

/// A crashed guest with pages of every class.
pub struct Guest {
    lab: Lab,
    kernel: Kernel,
    crashed: Crashed,
    /// What the guest said of its pages.
    report: Report,
    /// What came over the line.
    vmcore: PathBuf,
    /// All of the memory.
    full: PathBuf,
}

impl Guest {
    /// Crashes the machine that `spec` says, with pages of every class, and receives what level 31 keeps.
    #[must_use]
    pub fn crash(spec: Spec) -> Self {
        let spec = Spec { dump_level: LEVEL, has_every_class: true, ..spec };
        let mut crashed = spec.crash();
        let received = crashed.receive(&[], DUMP);
        let vmcore = received.vmcore();
        let full = crashed.path("full");
        write_full(&vmcore, &crashed.truth, &full);
        let lab = spec.lab();
        Self { lab, kernel: spec.kernel(), report: crashed.report(), crashed, vmcore, full }
    }

    /// Every level keeps what makedumpfile keeps at it; not all levels without `--full`.
    pub fn every_level_is_as_with_makedumpfile(&self) {
        let mut kept = BTreeMap::new();
        let some_levels = [&SINGLE_CLASS_LEVELS[..], &[1, LEVEL]].concat();
        for level in if is_full() { (0..32).collect() } else { some_levels } {
            let (ours, theirs) = (self.kept_by_us(level), self.kept_by_makedumpfile(level));
            assert_eq!(ours.ram, theirs.ram, "level {level}: RAM");
            assert_eq!(
                ours.kept.without(&theirs.kept),
                Frames::default(),
                "level {level}: only we keep these"
            );
            // docs/dump-levels.md, Where we differ from makedumpfile.
            let given_up = if level < 2 && !self.has_poison() { self.given_up() } else { Frames::default() };
            assert_eq!(
                theirs.kept.without(&ours.kept),
                given_up,
                "level {level}: only makedumpfile keeps these"
            );
            // At the others it stores each page of zeros for itself, and we all of them once.
            if level & 1 == 1 {
                assert_eq!(ours.zero, theirs.zero.without(&given_up), "level {level}: pages of zeros");
            }
            println!("level {level}: {} pages kept, {} of them zeros", ours.kept.count(), ours.zero.count());
            kept.insert(level, ours);
        }
        self.is_sent_and_read(&kept);
    }

    /// What is free, a cache or a process's is what the kernel itself said; for kernels that makedumpfile does not know.
    pub fn levels_are_what_the_kernel_said(&self) {
        let kept: BTreeMap<u8, KeptPages> = SINGLE_CLASS_LEVELS
            .into_iter()
            .chain([LEVEL])
            .map(|level| (level, self.kept_by_us(level)))
            .collect();
        let by_single_bits = kept[&0]
            .kept
            .0
            .iter()
            .copied()
            .filter(|pfn| SINGLE_CLASS_LEVELS.iter().all(|level| kept[level].kept.0.contains(pfn)));
        assert_eq!(
            kept[&LEVEL].kept,
            by_single_bits.collect(),
            "level {LEVEL} leaves out what its bits leave out"
        );
        let disagreements = Disagreements::between(&self.report, &kept);
        println!("{disagreements:?}");
        for ((said, dumped), frames) in &disagreements.0 {
            // A page that is freed or allocated between the report and the crash. On a CPU's own list of free pages it looks
            // like the kernel's, to both.
            let is_in_motion = [said, dumped].iter().all(|it| IN_MOTION.contains(it));
            assert!(is_in_motion && frames.count() <= MOST_IN_MOTION, "{said:?}, {dumped:?}: {frames:?}");
        }
        self.is_sent_and_read(&kept);
    }

    fn is_sent_and_read(&self, kept: &BTreeMap<u8, KeptPages>) {
        self.has_pages_of_every_class(kept);
        self.sent_over_the_line(&kept[&LEVEL]);
        // makedumpfile 1.7.8 reads no dump of an arm64 kernel that is built for 52 bits of virtual addresses with 4 KiB pages.
        if self.kernel.arch != Arch::Aarch64 || self.kernel.suite < Suite::Trixie {
            self.a_slow_line_carries_less_than_makedumpfile_writes();
        }
        self.crash_says_the_same();
    }

    /// What `rcapture convert -d LEVEL` keeps of all of the memory.
    fn kept_by_us(&self, level: u8) -> KeptPages {
        let output = self.crashed.path("ours");
        let mut convert = rcapture();
        convert
            .args(["convert", "--compress", "none", "-d", &level.to_string()])
            .arg(&self.full)
            .arg(&output);
        let result = convert.output().unwrap();
        assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
        read_and_remove(&output)
    }

    /// What `makedumpfile -d LEVEL` keeps of it.
    fn kept_by_makedumpfile(&self, level: u8) -> KeptPages {
        let output = self.crashed.path("theirs");
        self.lab.makedumpfile().unwrap().filter(&self.full, &output, level, &[], DUMP).unwrap();
        read_and_remove(&output)
    }

    /// Whether the kernel knows pages whose memory is broken.
    fn has_poison(&self) -> bool {
        dump::open(&self.full).unwrap().facts().vmcoreinfo().number_u64("PG_hwpoison").is_some()
    }

    /// Pages that nobody is to read.
    fn given_up(&self) -> Frames {
        let is_given_up = |&pfn: &u64| PageUse::by_flags(self.report.flags(pfn)) == PageUse::GivenUp;
        (0..self.report.frames()).filter(is_given_up).collect()
    }

    /// What was compared was there.
    fn has_pages_of_every_class(&self, kept: &BTreeMap<u8, KeptPages>) {
        let mut counts: BTreeMap<PageUse, usize> = BTreeMap::new();
        for &pfn in &kept[&0].ram.0 {
            *counts.entry(PageUse::by_levels(kept, pfn)).or_default() += 1;
        }
        println!("{counts:?}");
        assert_eq!(counts.keys().copied().collect::<BTreeSet<_>>(), PageUse::ALL.into(), "{counts:?}");
        let said = |flags: PageFlags| (0..self.report.frames()).any(|pfn| self.report.flags(pfn).has(flags));
        assert_eq!(said(PageFlags::HWPOISON), self.has_poison());
        for flags in
            [PageFlags::THP, PageFlags::HUGE, PageFlags::OFFLINE, PageFlags::SLAB, PageFlags::PGTABLE]
        {
            assert!(said(flags), "no page is {flags:?}");
        }
        for amount in ["Dirty", "AnonHugePages", "ShmemHugePages", "HugePages_Free"] {
            assert_ne!(self.report.meminfo(amount), Some(0), "{amount}");
        }
        assert_ne!(self.report.free_pages_of_cpus(), 0);
        let free = self.report.free_blocks();
        // Which orders there are is the allocator's chance: one may have been used up when the guest crashes.
        let absent = free.iter().filter(|&&blocks| blocks == 0).count();
        assert!(free.len() > 10 && absent <= 1, "free blocks by their order: {free:?}");
        let log = rcapture().arg("log").arg(&self.full).output().unwrap();
        assert!(String::from_utf8_lossy(&log.stdout).contains("Freeing unused kernel"));
    }

    /// What came over the line is what is kept at that level, and it is what was there.
    fn sent_over_the_line(&self, expected: &KeptPages) {
        let came = KeptPages::read(&self.vmcore);
        assert_eq!(came.ram, expected.ram);
        assert_eq!(came.kept.without(&expected.kept), Frames::default(), "more than convert keeps");
        assert_eq!(expected.kept.without(&came.kept), Frames::default(), "less than convert keeps");
        let comparison = compare(&self.vmcore, &self.crashed.truth, &[]);
        assert!(comparison.different.is_empty(), "{comparison}");
        assert_eq!(comparison.equal, expected.kept.count() as u64);
    }

    /// Everything that goes over a line of 115200, frames and all, against the file of `makedumpfile -c`.
    fn a_slow_line_carries_less_than_makedumpfile_writes(&self) {
        let output = self.crashed.path("theirs");
        let makedumpfile = self.lab.makedumpfile().unwrap();
        makedumpfile.filter(&self.full, &output, LEVEL, &["-c"], DUMP).unwrap();
        let theirs = fs::metadata(&output).unwrap().len();
        fs::remove_file(&output).unwrap();
        let full = dump::open(&self.full).unwrap();
        let level = DumpLevel::new(LEVEL).unwrap();
        let replay = Replay::of(&*full).unwrap();
        let ours =
            replay.send(SLOW_LINE.encoder(), level, Budget::default(), 115_200).unwrap().line.len() as u64;
        println!("{ours} bytes on the line, makedumpfile -c writes {theirs}");
        assert!(ours * 4 <= theirs * 3, "{ours} bytes on the line are more than 3/4 of {theirs}");
    }

    /// crash(8) says of what came over the line what it says of all of the memory. Only with `--full` on every kernel of x86_64,
    /// because each needs its debug information, and on Linux 6.1 of others, because crash needs minutes where it is emulated.
    fn crash_says_the_same(&self) {
        let is_asked = match (self.kernel.arch, self.kernel.suite) {
            (Arch::X86_64, Suite::Bookworm) => true,
            (Arch::X86_64, _) | (_, Suite::Bookworm) => is_full(),
            _ => false,
        };
        if !is_asked {
            return;
        }
        let (mut crash, vmlinux) = (self.lab.crash().unwrap(), self.lab.vmlinux(&self.kernel).unwrap());
        if self.kernel.suite == Suite::Sid {
            // crash 9.0.2 looks for module.num_gpl_syms, which Linux 7.2 does not have, and gives up.
            crash = crash.without_modules();
        }
        let commands = ["sys", "log", "bt", "ps", "kmem -i"];
        // One is a kdump-compressed file, the other an ELF core.
        let [sent, full] =
            [&self.vmcore, &self.full].map(|dump| crash.say(&vmlinux, dump, &commands, CRASH).unwrap());
        let differences = sent.differences(&full);
        assert!(differences.is_empty(), "{differences:#?}");
        let [sys, log, bt, ps, _] = &sent.sections[..] else { panic!("{:?}", sent.sections) };
        assert!(sys.contains(&self.kernel.release), "{sys}");
        assert!(log.contains("sysrq: Trigger a crash"), "{log}");
        assert!(bt.contains("sysrq_handle_crash"), "{bt}");
        assert!(ps.contains("kthreadd") && ps.lines().count() > 30, "{ps}");
    }
}

fn read_and_remove(path: &Path) -> KeptPages {
    let kept = KeptPages::read(path);
    fs::remove_file(path).unwrap();
    kept
}
