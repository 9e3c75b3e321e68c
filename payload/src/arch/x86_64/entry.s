# Entry of the capture kernel (64-bit boot protocol): long mode, interrupts off, RSI = boot_params,
# CR3 maps RAM and this image one to one. Nothing else is known.

    .section .head, "ax"
    .globl image_head
image_head:                         # the 32-bit entry: not served, kexec never takes it
unserved:
    hlt
    jmp unserved

    .org 0x200
    .globl startup_64
startup_64:
    cli
    cld
    lea rsp, [rip + stack_top]

    # Relocate: *(load + r_offset) = load + r_addend for each Elf64_Rela. The image is linked at 0.
    lea rdi, [rip + image_start]
    lea rbx, [rip + rela_start]
    lea rcx, [rip + rela_end]
relocate:
    cmp rbx, rcx
    jae relocated
    cmp dword ptr [rbx + 8], 8      # R_X86_64_RELATIVE; the image builder lets no other pass
    jne unserved
    mov rdx, [rbx]                  # r_offset
    mov rax, [rbx + 16]             # r_addend
    add rax, rdi
    mov [rdi + rdx], rax
    add rbx, 24
    jmp relocate

relocated:
    lea rdi, [rip + bss_start]
    lea rcx, [rip + bss_end]
    sub rcx, rdi
    xor eax, eax
    rep stosb

    mov rdi, rsi
    xor ebp, ebp
    call rust_entry                 # (boot_params) -> !
    ud2
