# One stub of 16 bytes for each exception vector: pushes a zero where the processor pushes no error code, then the
# vector's number, and goes on in exception_common. The layout is that of `Frame` in exceptions.rs.

    .section .text.exceptions, "ax"
    .balign 16
    .globl exception_stubs
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    # SDM volume 3, table 6-1; 29 and 30: AMD APM volume 2, section 8.2.
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    .else
    push 0
    .endif
    push vector
    jmp exception_common
    .set vector, vector + 1
    .endr

exception_common:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp                    # 22 words were pushed on a 16-byte boundary: aligned for the call
    call handle_exception
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16                     # vector and error code
    iretq

# guarded_copy(to: rdi, from: rsi, bytes: rdx) -> (vector: rax, bytes not copied: rdx)
# The only instructions that touch crashed memory lie between guarded_copy_access and guarded_copy_resume; an exception
# there comes back at guarded_copy_resume with its vector in rax. All the while rcx * r8 + rdx bytes are not copied.
    .globl guarded_copy
    .globl guarded_copy_access
    .globl guarded_copy_resume
    .balign 16
guarded_copy:
    xor eax, eax                    # no vector: 0 (#DE) cannot come from a copy
    mov r8d, 8
    mov rcx, rdx
    shr rcx, 3
    and edx, 7
guarded_copy_access:
    rep movsq                       # by words: an emulated processor takes as long for a byte
    mov r8d, 1
    xchg rcx, rdx                   # none are left
    rep movsb
guarded_copy_resume:
    imul rcx, r8
    add rdx, rcx
    ret
