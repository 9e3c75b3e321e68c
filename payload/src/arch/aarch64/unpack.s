// What the loader enters (Linux Documentation/arch/arm64/booting.rst): MMU and data cache off, interrupts masked, x0 = device tree.
// Unpacks the image into the memory in front of the file, and enters it there. Before that kexec's purgatory hashes the file, which
// takes most of the time between the crashed kernel's last word and our first.
//
// It is no part of the image: code that runs anywhere, and behind it one block of LZ4 (lz4_Block_format.md). The heap will be where
// they are. All memory is Device memory here, and so bytes are copied one by one.

    .section .unpack, "", %progbits
file:
    .fill 64, 1, 0                  // the header of the Image, which begins with a branch behind itself

    ldr x1, file + 8                // text_offset: the memory in front
    ldr x2, file + 16               // image_size: all of the file
    adr x3, file
    add x2, x2, x3                  // the end of what is packed
    sub x1, x3, x1                  // the image
    adr x3, packed
    mov x4, x1
sequence:
    ldrb w5, [x3], #1               // a token: 4 bits of literals, 4 of the match
    lsr w6, w5, #4
    cmp w6, #15
    b.ne literals
more_literals:
    ldrb w7, [x3], #1
    add w6, w6, w7
    cmp w7, #255
    b.eq more_literals
literals:
    cbz w6, match
    ldrb w7, [x3], #1
    strb w7, [x4], #1
    sub w6, w6, #1
    b literals
match:
    cmp x3, x2
    b.hs unpacked                   // the last sequence has no match
    ldrb w6, [x3], #1
    ldrb w7, [x3], #1
    orr w7, w6, w7, lsl #8
    sub x7, x4, x7
    and w6, w5, #15
    cmp w6, #15
    b.ne copy
more_match:
    ldrb w5, [x3], #1
    add w6, w6, w5
    cmp w5, #255
    b.eq more_match
copy:
    add w6, w6, #4
copy_byte:
    ldrb w5, [x7], #1
    strb w5, [x4], #1
    subs w6, w6, #1
    b.ne copy_byte
    b sequence

unpacked:
    // What was there before may be in a cache, and instructions are fetched through caches. A line has 16 bytes at least
    // (CCSIDR_EL1.LineSize).
    dsb sy
    mov x3, x1
forget:
    dc ivac, x3
    add x3, x3, #16
    cmp x3, x4
    b.lo forget
    ic iallu
    dsb sy
    isb
    br x1

    .ascii "rcapture: "             // what rcapture-load knows the file by: packed, no word of the image can be relied on
packed:
