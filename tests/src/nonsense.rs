//! Trials of a capture kernel that is handed nonsense on a bare board: what it says, and that it comes to an end.

use std::time::Duration;

use rcapture::dump::{self, PageState};
use rcapture_qemu::Arch;

use crate::bare::{self, ELFCOREHDR_PA, Ended, RAM_BYTES, RAM_PA, elfcorehdr};
use crate::tree::Tree;

const SOON: Duration = Duration::from_secs(60);

/// One MiB that holds nothing of ours.
const SOME_RAM: (u64, u64) = (0x4300_0000, 1 << 20);

/// The capture kernel of an architecture.
pub struct Victim(pub Arch);

impl Victim {
    fn run(&self, tree: &[u8], loads: &[(u64, u64)]) -> Ended {
        bare::run(self.0, tree, &elfcorehdr(self.0, loads), SOON)
    }

    /// Neither an elfcorehdr nor a command line.
    pub fn without_chosen_properties_it_says_so_and_resets(&self) {
        let ended = self.run(&Tree::virt().memory(RAM_PA, RAM_BYTES).end().blob(), &[SOME_RAM]);
        assert_said(
            &ended,
            &["link serial:ttyAMA0", "no elfcorehdr in the device tree's chosen node", "rebooting"],
        );
    }

    /// The tree has no end.
    pub fn of_a_cut_tree_what_is_there_is_used(&self) {
        let tree = Tree::virt().memory(RAM_PA, RAM_BYTES).chosen(ELFCOREHDR_PA, "rcapture.final=poweroff");
        let ended = self.run(&tree.cut(), &[SOME_RAM]);
        assert_said(&ended, &["device tree: it is damaged", "rcapture: done in", "turning the machine off"]);
    }

    /// It is where a device is, which is not to be read.
    pub fn an_elfcorehdr_outside_ram_is_named(&self) {
        let tree = Tree::virt().memory(RAM_PA, RAM_BYTES).chosen(0x900_0000, "");
        assert_said(
            &self.run(&tree.end().blob(), &[SOME_RAM]),
            &["rcapture: elfcorehdr: ", "0x9000000", "rebooting"],
        );
    }

    /// The links are on ports that the board has not.
    pub fn an_unknown_uart_is_named_on_the_one_there_is(&self) {
        let bootargs = "rcapture.link=serial:ttyAMA3,115200n8 rcapture.link=serial:ttyS0";
        let tree = Tree::virt().memory(RAM_PA, RAM_BYTES).chosen(ELFCOREHDR_PA, bootargs).end().blob();
        // Nobody is asked to wait for a link to come up.
        let ended = bare::run_for(self.0, &tree, &elfcorehdr(self.0, &[SOME_RAM]), Duration::from_secs(3));
        assert_said(
            &ended,
            &["serial:ttyAMA3,115200n8: no such UART", "serial:ttyS0: no such UART", "no link works"],
        );
    }

    /// Reading what is not there is an external abort.
    pub fn memory_that_is_not_there_is_a_hole_and_memory_told_twice_is_read_once(&self) {
        const PAGE: u64 = 4096;
        let behind = RAM_PA + RAM_BYTES;
        let tree = Tree::virt().memory(RAM_PA, 2 * RAM_BYTES).memory(RAM_PA + PAGE, RAM_BYTES);
        let tree = tree.chosen(ELFCOREHDR_PA, "rcapture.final=poweroff rcapture.dump_level=0");
        // The last 16 pages of RAM, 8 pages of nothing; then what not even the tree calls memory.
        let loads = [SOME_RAM, SOME_RAM, (behind - 16 * PAGE, 24 * PAGE), (0xc000_0000, 1 << 28)];
        let ended = self.run(&tree.end().blob(), &loads);
        assert_said(
            &ended,
            &["where the firmware knows of no RAM", "rcapture: done in", "turning the machine off"],
        );
        let dump = dump::open(&ended.line).unwrap();
        let pages = |is: fn(&PageState) -> bool| -> u64 {
            let runs = dump::runs(&*dump).unwrap();
            runs.iter().filter(|run| is(&run.state)).map(|run| run.pages).sum()
        };
        assert_eq!(pages(|state| matches!(state, PageState::Hole(_))), 8);
        assert_eq!(pages(|state| matches!(state, PageState::Data | PageState::Filled(_))), 256 + 16);
    }
}

fn assert_said(ended: &Ended, texts: &[&str]) {
    for text in texts {
        assert!(ended.said.contains(text), "{text:?} was not said: {}", ended.said);
    }
}

/// The trials as tests, of an architecture's capture kernel.
#[macro_export]
macro_rules! nonsense_trials {
    ($arch:expr) => {
        $crate::nonsense_trials!(
            $arch;
            without_chosen_properties_it_says_so_and_resets
            of_a_cut_tree_what_is_there_is_used
            an_elfcorehdr_outside_ram_is_named
            an_unknown_uart_is_named_on_the_one_there_is
            memory_that_is_not_there_is_a_hole_and_memory_told_twice_is_read_once
        );
    };
    ($arch:expr; $($trial:ident)*) => {
        $(
            #[test]
            #[ignore = "needs QEMU: cargo xtask test"]
            fn $trial() {
                $crate::nonsense::Victim($arch).$trial();
            }
        )*
    };
}
