//! The architectures whose kernels crash, and what differs in the lab from one to the next.

/// An architecture, by Rust's name for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// A PC.
    #[default]
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[value(name = "aarch64")]
    Aarch64,
    /// 32-bit Arm, from ARMv7-A on.
    #[value(name = "arm")]
    Arm,
}

impl Arch {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Aarch64, Self::Arm];

    /// Its name in `dist/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
        }
    }

    /// Its name in Debian's archive.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Arm => "armhf",
        }
    }

    /// Its name in the kernel's build, `ARCH=`.
    pub(crate) const fn kbuild(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// What runs it.
    pub const fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
            Self::Arm => "qemu-system-arm",
        }
    }

    /// What runs its programs on a PC; none if that does.
    pub(crate) const fn emulator(self) -> Option<&'static str> {
        match self {
            Self::X86_64 => None,
            Self::Aarch64 => Some("qemu-aarch64-static"),
            Self::Arm => Some("qemu-arm-static"),
        }
    }

    /// What the names of the programs begin with that compile for it on a PC.
    pub(crate) const fn compiler_prefix(self) -> &'static str {
        match self {
            Self::X86_64 => "",
            Self::Aarch64 => "aarch64-linux-gnu-",
            Self::Arm => "arm-linux-gnueabihf-",
        }
    }

    /// QEMU's machine, unless another one is named.
    pub(crate) const fn board(self) -> &'static str {
        match self {
            Self::X86_64 => "q35",
            Self::Aarch64 | Self::Arm => "virt",
        }
    }

    /// QEMU's CPU model, unless another one is named.
    pub(crate) const fn cpu(self) -> &'static str {
        match self {
            Self::X86_64 => "max",
            Self::Aarch64 => "cortex-a57",
            Self::Arm => "cortex-a15",
        }
    }

    /// What is left out of a CPU model.
    ///
    /// QEMU 7.2's TCG leaves garbage in the flags behind a cmpxchg16b now and then, and Linux 6.12, whose slab allocator uses it,
    /// dies of that at boot. A kernel does without where the CPU has none.
    pub(crate) const fn cpu_without(self) -> &'static str {
        match self {
            Self::X86_64 => ",-cx16",
            Self::Aarch64 | Self::Arm => "",
        }
    }

    /// Where programs look for their dynamic loader.
    pub(crate) const fn loader(self) -> &'static str {
        match self {
            Self::X86_64 => "lib64/ld-linux-x86-64.so.2",
            Self::Aarch64 => "lib/ld-linux-aarch64.so.1",
            Self::Arm => "lib/ld-linux-armhf.so.3",
        }
    }

    /// Debian's directory of libraries, below `lib` and `usr/lib`.
    pub(crate) const fn libraries(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Aarch64 => "aarch64-linux-gnu",
            Self::Arm => "arm-linux-gnueabihf",
        }
    }
}
