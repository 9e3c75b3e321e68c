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

    # Relocate: add where the image is to each word that .relr.dyn names (gABI, SHT_RELR). An even entry is the place of one, and
    # an odd one has, above bit 0, a bit for each of the 63 words behind the place that is known.
    # The image is linked at 0.
    lea rdi, [rip + image_start]
    lea rbx, [rip + relr_start]
    lea rcx, [rip + relr_end]
relocate:
    cmp rbx, rcx
    jae relocated
    mov rax, [rbx]
    add rbx, 8
    test al, 1
    jnz bitmap
    lea rdx, [rdi + rax]            # the place
    add [rdx], rdi
    add rdx, 8
    jmp relocate
bitmap:
    mov r8, rdx
next_bit:
    shr rax, 1
    jz bitmap_end
    test al, 1
    jz next_word
    add [r8], rdi
next_word:
    add r8, 8
    jmp next_bit
bitmap_end:
    add rdx, 63 * 8
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
