// The vectors (Arm ARM DDI 0406, B1.8.1): each saves all registers of System mode as `Frame` in exceptions.rs has them, on the
// stack of its own mode, and goes on in handle_exception; what that changes is taken back.

    .set FRAME_BYTES, 88

    // `back`: from where the link register points to the instruction to go back to (table B1-7).
    .macro exception kind, back
exception_\kind:
    sub sp, sp, #FRAME_BYTES
    stmia sp, {r0-r14}^
    mov r0, #\kind
    sub r1, lr, #\back
    b exception_common
    .endm

    .section .text.exceptions, "ax"
    .arm
    .balign 32
    .globl exception_vectors
exception_vectors:
    b exception_0                   // reset: never taken here
    b exception_1                   // undefined instruction
    b exception_2                   // supervisor call
    b exception_3                   // prefetch abort
    b exception_4                   // data abort
    b exception_5                   // HYP trap: never taken here
    b exception_6                   // IRQ
    b exception_7                   // FIQ

    exception 0, 0
    exception 1, 4
    exception 2, 4
    exception 3, 4
    exception 4, 8
    exception 5, 0
    exception 6, 4
    exception 7, 4

exception_common:
    mrs r2, spsr
    mrc p15, 0, r3, c5, c0, 0       // DFSR
    mrc p15, 0, r4, c6, c0, 0       // DFAR
    mrc p15, 0, r5, c5, c0, 1       // IFSR
    mrc p15, 0, r6, c6, c0, 2       // IFAR
    add r7, sp, #60
    stmia r7, {r1-r6}
    str r0, [sp, #84]
    mov r0, sp
    bl handle_exception
    ldr lr, [sp, #60]
    ldr r1, [sp, #64]
    msr spsr_cxsf, r1
    ldmia sp, {r0-r14}^
    nop                             // no banked register right behind
    add sp, sp, #FRAME_BYTES
    movs pc, lr

// guarded_copy(to: r0, from: r1, bytes: r2) -> (syndrome: r0, bytes not copied: r1)
// The only instructions that touch crashed memory lie between guarded_copy_access and guarded_copy_resume; an abort there
// comes back at guarded_copy_resume with its fault status in r3. All the while r2 bytes are not copied.
    .globl guarded_copy
    .globl guarded_copy_access
    .globl guarded_copy_resume
    .type guarded_copy, %function
    .balign 16
guarded_copy:
    push {r4-r11, lr}
    mov r3, #0                      // no syndrome: a data abort always has a status
    orr r12, r0, r1
guarded_copy_access:
    tst r12, #3
    bne by_words                    // several at once have to be aligned
by_lines:
    cmp r2, #32
    blo by_words
    ldmia r1, {r4-r11}
    stmia r0!, {r4-r11}
    add r1, r1, #32
    sub r2, r2, #32
    b by_lines
by_words:
    cmp r2, #4
    blo by_bytes
    ldr r12, [r1], #4
    str r12, [r0], #4
    sub r2, r2, #4
    b by_words
by_bytes:
    cmp r2, #0
    beq guarded_copy_resume
    ldrb r12, [r1], #1
    strb r12, [r0], #1
    sub r2, r2, #1
    b by_bytes
guarded_copy_resume:
    dsb                             // an error of these reads is taken now
    mov r0, r3
    mov r1, r2
    pop {r4-r11, pc}
