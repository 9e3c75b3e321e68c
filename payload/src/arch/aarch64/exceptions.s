// The vectors (Arm ARM D1.3.1.5): each saves all registers as `Frame` in exceptions.rs has them, on SP_EL1, and goes on in
// handle_exception; what that changes is taken back.

    .set FRAME_BYTES, 304

    .macro vector kind
    .balign 128
    sub sp, sp, #FRAME_BYTES
    stp x0, x1, [sp]
    mov x0, #\kind
    b exception_common
    .endm

    .section .text.exceptions, "ax"
    .balign 2048
    .globl exception_vectors
exception_vectors:
    vector 0                        // this level on SP_EL0, where everything runs: synchronous, IRQ, FIQ, SError
    vector 1
    vector 2
    vector 3
    vector 4                        // this level on SP_ELx: a handler
    vector 5
    vector 6
    vector 7
    vector 8                        // a lower level: nobody is there
    vector 9
    vector 10
    vector 11
    vector 12
    vector 13
    vector 14
    vector 15

exception_common:
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x19, [sp, #144]
    stp x20, x21, [sp, #160]
    stp x22, x23, [sp, #176]
    stp x24, x25, [sp, #192]
    stp x26, x27, [sp, #208]
    stp x28, x29, [sp, #224]
    mrs x1, sp_el0
    stp x30, x1, [sp, #240]
    mrs x1, elr_el1
    mrs x2, spsr_el1
    stp x1, x2, [sp, #256]
    mrs x1, esr_el1
    mrs x2, far_el1
    stp x1, x2, [sp, #272]
    str x0, [sp, #288]
    mov x0, sp
    bl handle_exception
    ldp x1, x2, [sp, #256]
    msr elr_el1, x1
    msr spsr_el1, x2
    ldr x30, [sp, #240]
    ldp x28, x29, [sp, #224]
    ldp x26, x27, [sp, #208]
    ldp x24, x25, [sp, #192]
    ldp x22, x23, [sp, #176]
    ldp x20, x21, [sp, #160]
    ldp x18, x19, [sp, #144]
    ldp x16, x17, [sp, #128]
    ldp x14, x15, [sp, #112]
    ldp x12, x13, [sp, #96]
    ldp x10, x11, [sp, #80]
    ldp x8, x9, [sp, #64]
    ldp x6, x7, [sp, #48]
    ldp x4, x5, [sp, #32]
    ldp x2, x3, [sp, #16]
    ldp x0, x1, [sp]
    add sp, sp, #FRAME_BYTES
    eret

// guarded_copy(to: x0, from: x1, bytes: x2) -> (syndrome: x0, bytes not copied: x1)
// The only instructions that touch crashed memory lie between guarded_copy_access and guarded_copy_resume; an exception
// there comes back at guarded_copy_resume with its syndrome in x3. All the while x2 bytes are not copied.
    .globl guarded_copy
    .globl guarded_copy_access
    .globl guarded_copy_resume
    .balign 16
guarded_copy:
    mov x3, xzr                     // no syndrome: class 0 (unknown reason) cannot come from a copy
guarded_copy_access:
by_lines:
    cmp x2, #64
    b.lo by_words
    ldp x4, x5, [x1]
    ldp x6, x7, [x1, #16]
    ldp x8, x9, [x1, #32]
    ldp x10, x11, [x1, #48]
    stp x4, x5, [x0]
    stp x6, x7, [x0, #16]
    stp x8, x9, [x0, #32]
    stp x10, x11, [x0, #48]
    add x0, x0, #64
    add x1, x1, #64
    sub x2, x2, #64
    b by_lines
by_words:
    cmp x2, #8
    b.lo by_bytes
    ldr x4, [x1], #8
    str x4, [x0], #8
    sub x2, x2, #8
    b by_words
by_bytes:
    cbz x2, guarded_copy_resume
    ldrb w4, [x1], #1
    strb w4, [x0], #1
    sub x2, x2, #1
    b by_bytes
guarded_copy_resume:
    hint #16                        // ESB: an error of these reads is taken now, or never (FEAT_RAS; else nothing)
    mov x0, x3
    mov x1, x2
    ret
