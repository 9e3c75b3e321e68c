// Entry of the capture kernel (Linux Documentation/arch/arm/booting.rst): SVC or HYP mode, MMU and data cache off, interrupts
// masked, r2 = device tree. Without the MMU all memory is Strongly-ordered: no unaligned access, no exclusive one.

    .arch_extension virt
    .set HYP, 0x1a
    .set ALL_MASKED, 0x1c0          // A, I and F of CPSR
    .set SYSTEM, 0x1f
    .set OWN_SCTLR, 0x00c50078      // bits that are one; MMU and caches off, no remapping, low vectors, exceptions in ARM state

    // The address of a symbol wherever the image is.
    .macro address register, symbol
    movw \register, #:lower16:(\symbol - (98f + 8))
    movt \register, #:upper16:(\symbol - (98f + 8))
98: add \register, \register, pc
    .endm

    // Where exceptions of a mode put what they save.
    .macro exception_stack mode
    cps #\mode
    mov sp, r0
    .endm

    .section .head, "ax"
    .arm
    .globl image_head
image_head:
    .fill 0x58, 1, 0                // the header of the zImage, which begins with a branch behind itself

    .globl image_entry
image_entry:
    cpsid aif
    mov r10, r2
    ldr r9, =OWN_SCTLR
    mrs r0, cpsr
    and r0, r0, #0x1f
    cmp r0, #HYP
    bne at_pl1

    // HYP: on to PL1, where there is one set of registers whatever the crashed kernel made of HYP. Everything is PL1's own from
    // here on: no stage 2, no traps.
    mov r0, #0
    mcr p15, 4, r0, c1, c1, 0       // HCR
    mcr p15, 4, r0, c1, c1, 3       // HSTR
    mcrr p15, 6, r0, r0, c2         // VTTBR
    mcrr p15, 4, r0, r0, c14        // CNTVOFF
    ldr r1, =0x33ff
    mcr p15, 4, r1, c1, c1, 2       // HCPTR: the bits that are one
    mrc p15, 4, r1, c1, c1, 1       // HDCR: HPMN stays
    and r1, r1, #0x1f
    mcr p15, 4, r1, c1, c1, 1
    mov r1, #3                      // CNTHCTL: PL1PCTEN, PL1PCEN
    mcr p15, 4, r1, c14, c1, 0
    mcr p15, 0, r9, c1, c0, 0       // SCTLR is PL1's here, too
    ldr r1, =(ALL_MASKED | SYSTEM)
    msr spsr_cxsf, r1
    address r1, own_state
    msr elr_hyp, r1
    isb
    eret

at_pl1:
    mcr p15, 0, r9, c1, c0, 0       // SCTLR
    isb

own_state:
    // Rust runs in System mode, exceptions in their own: the stack of a handler is good whatever happened to the other one,
    // and System mode's registers are the ones that it can save.
    address r0, exception_stack_top
    exception_stack 0x11            // FIQ
    exception_stack 0x12            // IRQ
    exception_stack 0x13            // SVC
    exception_stack 0x17            // abort
    exception_stack 0x1b            // undefined
    cps #SYSTEM
    address sp, stack_top

    // Relocate: add where the image is to each word that .relr.dyn names (gABI, SHT_RELR). An even entry is the place of one, and
    // an odd one has, above bit 0, a bit for each of the 31 words behind the place that is known.
    // The image is linked at 0.
    address r0, image_start
    address r1, relr_start
    address r2, relr_end
relocate:
    cmp r1, r2
    bhs relocated
    ldr r3, [r1], #4
    tst r3, #1
    bne bitmap
    add r4, r0, r3                  // the place
    ldr r5, [r4]
    add r5, r5, r0
    str r5, [r4], #4
    b relocate
bitmap:
    mov r6, r4
next_bit:
    lsrs r3, r3, #1
    beq bitmap_end
    tst r3, #1
    ldrne r5, [r6]
    addne r5, r5, r0
    strne r5, [r6]
    add r6, r6, #4
    b next_bit
bitmap_end:
    add r4, r4, #(31 * 4)
    b relocate

relocated:
    address r0, bss_start
    address r1, bss_end
    mov r2, #0
    mov r3, #0
    mov r4, #0
    mov r5, #0
clear:
    cmp r0, r1
    bhs cleared
    stmia r0!, {r2-r5}              // both ends are aligned to 16
    b clear

cleared:
    address r0, exception_vectors
    mcr p15, 0, r0, c12, c0, 0      // VBAR
    isb
    mov r0, r10
    mov r11, #0
    mov lr, #0
    bl rust_entry                   // (device tree) -> !
unserved:
    wfi
    b unserved
    .ltorg
