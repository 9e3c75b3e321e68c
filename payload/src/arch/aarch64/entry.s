// Entry of the capture kernel, from unpack.s: MMU and data cache off, interrupts masked,
// x0 = device tree, EL1 or EL2. Without the MMU all memory is Device memory: no unaligned access, no exclusive one.

    .section .head, "ax"
    .globl image_entry
image_entry:
    msr daifset, #0xf
    mov x19, x0
    mrs x0, CurrentEL
    cmp x0, #(2 << 2)
    b.ne at_el1

    // EL2: on to EL1, where there is one set of registers whatever the crashed kernel made of EL2. Everything is EL1's own from
    // here on: no stage 2, no traps, nothing routed to EL2.
    mov x0, #(1 << 31)              // HCR_EL2.RW: EL1 is AArch64; E2H and TGE off
    msr hcr_el2, x0
    isb
    mrs x1, hcr_el2
    tbnz x1, #34, stays_vhe         // E2H cannot be cleared everywhere (FEAT_E2H0)
    mov x0, #0x33ff                 // CPTR_EL2: RES1 bits, no traps
    msr cptr_el2, x0
    mov x0, #3                      // CNTHCTL_EL2: EL1PCEN, EL1PCTEN
    msr cnthctl_el2, x0
    b no_traps
stays_vhe:
    mov x0, #(3 << 20)              // CPTR_EL2 with E2H: FPEN
    msr cptr_el2, x0
    mov x0, #(3 << 10)              // CNTHCTL_EL2 with E2H: EL1PTEN, EL1PCTEN
    msr cnthctl_el2, x0
no_traps:
    msr cntvoff_el2, xzr
    msr vttbr_el2, xzr
    msr hstr_el2, xzr
    mrs x0, mdcr_el2
    and x0, x0, #0x1f               // HPMN stays
    msr mdcr_el2, x0
    mrs x0, id_aa64mmfr1_el1
    ubfx x0, x0, #40, #4            // HCX
    cbz x0, no_hcrx
    msr s3_4_c1_c2_2, xzr           // HCRX_EL2: TCR2_EL1 and SCTLR2_EL1 count as 0
no_hcrx:
    ldr w0, =0x30d00800             // SCTLR_EL1: RES1 bits, MMU and caches off
    msr sctlr_el1, x0
    mov x0, #0x3c5                  // SPSR_EL2: EL1h, all masked
    msr spsr_el2, x0
    adr x0, own_state
    msr elr_el2, x0
    isb
    eret

at_el1:
    mrs x0, s3_0_c0_c7_3            // ID_AA64MMFR3_EL1
    tst x0, #0xf                    // TCRX
    b.eq no_tcr2
    msr s3_0_c2_c0_3, xzr           // TCR2_EL1: permissions are in the entries themselves
no_tcr2:
    ldr w0, =0x30d00800
    msr sctlr_el1, x0
    isb

own_state:
    // Rust runs on SP_EL0, exceptions on SP_EL1: the stack of a handler is good whatever happened to the other one.
    msr spsel, #1
    adrp x0, exception_stack_top
    add x0, x0, :lo12:exception_stack_top
    mov sp, x0
    msr spsel, #0
    adrp x0, stack_top
    add x0, x0, :lo12:stack_top
    mov sp, x0

    // Relocate: add where the image is to each word that .relr.dyn names (gABI, SHT_RELR). An even entry is the place of one, and
    // an odd one has, above bit 0, a bit for each of the 63 words behind the place that is known.
    adrp x0, image_start
    add x0, x0, :lo12:image_start
    adrp x1, relr_start
    add x1, x1, :lo12:relr_start
    adrp x2, relr_end
    add x2, x2, :lo12:relr_end
relocate:
    cmp x1, x2
    b.hs relocated
    ldr x3, [x1], #8
    tbnz x3, #0, bitmap
    add x4, x0, x3                  // the place
    ldr x5, [x4]
    add x5, x5, x0
    str x5, [x4], #8
    b relocate
bitmap:
    mov x6, x4
next_bit:
    lsr x3, x3, #1
    cbz x3, bitmap_end
    tbz x3, #0, next_word
    ldr x5, [x6]
    add x5, x5, x0
    str x5, [x6]
next_word:
    add x6, x6, #8
    b next_bit
bitmap_end:
    add x4, x4, #(63 * 8)
    b relocate

relocated:
    adrp x0, bss_start
    add x0, x0, :lo12:bss_start
    adrp x1, bss_end
    add x1, x1, :lo12:bss_end
clear:
    cmp x0, x1
    b.hs cleared
    stp xzr, xzr, [x0], #16         // both ends are aligned to 16
    b clear

cleared:
    adrp x0, exception_vectors
    add x0, x0, :lo12:exception_vectors
    msr vbar_el1, x0
    isb
    mov x0, x19
    mov x29, xzr
    mov x30, xzr
    bl rust_entry                   // (device tree) -> !
unserved:
    wfi
    b unserved
    .ltorg
