# All that lies between Bochs' reset and a static Linux program: a ROM of 64 KiB at the end of the
# first 4 GiB. It switches the processor to 64-bit mode with AVX-512 on, starts the program, and
# answers its system calls. The program is on a disk, behind what it is to find on its stack.
#
# There is one thread, and everything runs in ring 0: `syscall` comes from there, too, and a jump
# returns. Interrupts stay off. Memory is mapped to itself, all of it can be read, written and run.
# A fault finds no handler, and ends the emulator, whose log then says where it was.

        .intel_syntax noprefix

        .equ    ROM, 0xffff0000
        .equ    PAGES, 0x10000          # six tables of pages
        .equ    SAVED, 0x20000          # registers, while a system call is answered
        .equ    BREAK, 0x20100          # where the heap of brk ends
        .equ    NEXT, 0x20108           # what mmap gives next
        # mod.rs knows these. At START the disk's first sectors come to lie: what the kernel needs to know,
        # and then what a program finds on its stack, which grows down from there.
        .equ    START, 0x0f000000
        .equ    START_SECTORS, 128
        .equ    LOAD, START             # where the program goes
        .equ    SECTORS, START + 8      # how many it has
        .equ    BSS, START + 16         # where zeros begin
        .equ    BSS_END, START + 24
        .equ    ENTRY, START + 32
        .equ    STACK, START + 48
        .equ    BREAK_LIMIT, 0x0e000000
        .equ    MAPPED, 0x10000000      # from here on, mmap's
        .equ    MEMORY, 0x40000000

        .equ    PORT, 0xe9              # Bochs prints what is written to it
        .equ    BEGIN, 2                # before the program's output
        .equ    END, 4                  # after it, and then the exit status

        .equ    ENOENT, -2
        .equ    ENOMEM, -12
        .equ    EINVAL, -22
        .equ    ENOSYS, -38

        .text
        .code16
real:   cli
        lgdtd   cs:[gdt_register - ROM]
        mov     eax, 1                  # CR0.PE
        mov     cr0, eax
        .att_syntax
        ljmpl   $8, $protected
        .intel_syntax noprefix

        .code32
protected:
        mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        # One table, one of four entries, and four of 512 pages of 2 MiB.
        mov     dword ptr [PAGES], PAGES + 0x1003
        mov     dword ptr [PAGES + 0x1000], PAGES + 0x2003
        mov     dword ptr [PAGES + 0x1008], PAGES + 0x3003
        mov     dword ptr [PAGES + 0x1010], PAGES + 0x4003
        mov     dword ptr [PAGES + 0x1018], PAGES + 0x5003
        mov     eax, 0x83
        mov     edi, PAGES + 0x2000
page:   mov     [edi], eax
        add     edi, 8
        add     eax, 0x200000
        jnc     page
        mov     eax, PAGES
        mov     cr3, eax
        mov     eax, 0x50620            # CR4: PAE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE
        mov     cr4, eax
        mov     ecx, 0xc0000080         # EFER: syscall, long mode
        xor     edx, edx
        mov     eax, 0x101
        wrmsr
        mov     eax, 0x80000033         # CR0: paging, x87 and SSE as usual
        mov     cr0, eax
        .att_syntax
        ljmpl   $0x18, $long
        .intel_syntax noprefix

        .code64
long:   xor     ecx, ecx                # XCR0: x87, SSE, AVX, all three parts of AVX-512
        xor     edx, edx
        mov     eax, 0xe7
        xsetbv
        fninit
        mov     ecx, 0xc0000081         # STAR: the segments that syscall sets
        mov     edx, 0x18
        xor     eax, eax
        wrmsr
        mov     ecx, 0xc0000082         # LSTAR: where it goes
        xor     edx, edx
        lea     rax, [rip + system_call]
        wrmsr
        mov     qword ptr [NEXT], MAPPED
        mov     al, BEGIN
        out     PORT, al
        mov     esp, START
        xor     ebx, ebx
        mov     edi, START
        mov     ebp, START_SECTORS
        call    read
        mov     rdi, [LOAD]
        mov     rbp, [SECTORS]
        call    read
        mov     rdi, [BSS]
        mov     rcx, [BSS_END]
        mov     [BREAK], rcx
        sub     rcx, rdi
        xor     eax, eax
        rep     stosb
        mov     esp, STACK
        xor     edx, edx                # nothing to call at exit
        jmp     qword ptr [ENTRY]

# Reads ebp sectors of the first disk, from ebx on, to rdi, and leaves ebx and rdi behind them.
read:   mov     esi, 256                # at most so many at a time
        cmp     ebp, esi
        cmovb   esi, ebp
        mov     edx, 0x1f2              # how many; 256 is 0
        mov     eax, esi
        out     dx, al
        mov     eax, ebx                # from where, in 28 bits
        .rept   3
        inc     edx
        out     dx, al
        shr     eax, 8
        .endr
        inc     edx
        or      al, 0xe0
        out     dx, al
        inc     edx
        mov     al, 0x20                # read
        out     dx, al
        sub     ebp, esi
        add     ebx, esi
sector: mov     edx, 0x1f7
wait:   in      al, dx
        and     al, 0x88                # busy, ready
        cmp     al, 0x08
        jne     wait
        mov     edx, 0x1f0
        mov     ecx, 256
        rep     insw
        dec     esi
        jnz     sector
        test    ebp, ebp
        jnz     read
        ret

# Number in rax, arguments in rdi, rsi, rdx, r10, r8, r9; rcx and r11 are the caller's rip and flags.
# Only rax may change besides these. The stack stays alone: below it is the caller's red zone.
system_call:
        mov     [SAVED], rcx
        mov     [SAVED + 8], rdx
        mov     [SAVED + 16], rsi
        lea     rcx, [rip + calls]
search: movzx   edx, word ptr [rcx]
        cmp     edx, 0xffff
        je      found
        cmp     rax, rdx
        je      found
        add     rcx, 8
        jmp     search
found:  movsxd  rax, dword ptr [rcx + 4]
        movzx   ecx, word ptr [rcx + 2]
        test    ecx, ecx                # the answer itself
        jz      return
        mov     rdx, ROM
        add     rcx, rdx
        mov     rdx, [SAVED + 8]
        jmp     rcx

return: mov     rcx, [SAVED]
        mov     rdx, [SAVED + 8]
        mov     rsi, [SAVED + 16]
        jmp     rcx

# write(file, address, length): all files are the one output.
write:  mov     rcx, rdx
        mov     edx, PORT
        rep     outsb
        mov     rax, [SAVED + 8]
        jmp     return

# writev(file, parts, count)
writev: mov     [SAVED + 24], rdi
        mov     rdi, rsi
        mov     rax, rdx
        shl     rax, 4
        add     rax, rsi
        mov     [SAVED + 32], rax       # the end of the parts
        xor     eax, eax
        mov     edx, PORT
part:   cmp     rdi, [SAVED + 32]
        jae     parts_end
        mov     rsi, [rdi]
        mov     rcx, [rdi + 8]
        add     rax, rcx
        rep     outsb
        add     rdi, 16
        jmp     part
parts_end:
        mov     rdi, [SAVED + 24]
        jmp     return

# brk(end): new memory is zero. None is taken back.
brk:    mov     rax, [BREAK]
        cmp     rdi, BREAK_LIMIT
        ja      return
        mov     rcx, rdi
        sub     rcx, rax
        jbe     return
        mov     [BREAK], rdi
        mov     rdi, rax
        xor     eax, eax
        rep     stosb
        mov     rax, rdi
        jmp     return

# mmap(address, length, _, flags, file, _): zeros. What is unmapped is not used again. A fixed address
# is memory already.
mmap:   cmp     r8d, -1                 # a file
        mov     rax, ENOSYS
        jne     return
        mov     rax, rdi
        test    r10d, 0x10              # MAP_FIXED
        jnz     return
        lea     rdx, [rsi + 0xfff]
        and     rdx, -0x1000
        add     rdx, [NEXT]
        cmp     rdx, MEMORY
        mov     rax, ENOMEM
        ja      return
        xchg    rdx, [NEXT]
        mov     [SAVED + 24], rdi
        mov     rdi, rdx
        lea     rcx, [rsi + 7]
        shr     rcx, 3
        xor     eax, eax
        rep     stosq
        mov     rdi, [SAVED + 24]
        mov     rax, rdx
        jmp     return

# getrandom(address, length, _): the same every time, and good enough for hash maps.
getrandom:
        mov     rax, rsi
        jmp     return

# clock_gettime(_, address): no time passes.
clock_gettime:
        mov     qword ptr [rsi], 0
        mov     qword ptr [rsi + 8], 0
        xor     eax, eax
        jmp     return

# arch_prctl(what, address): sets the base of FS.
arch_prctl:
        mov     rax, EINVAL
        cmp     edi, 0x1002             # ARCH_SET_FS
        jne     return
        mov     rax, rsi
        mov     rdx, rsi
        shr     rdx, 32
        mov     ecx, 0xc0000100         # the base of FS
        wrmsr
        xor     eax, eax
        jmp     return

# exit(status)
exit:   mov     al, END
        out     PORT, al
        mov     eax, edi
        out     PORT, al
        lea     rsi, [rip + shutdown]   # on this port, it ends Bochs
        mov     ecx, 8
        mov     edx, 0x8900
        rep     outsb
halt:   hlt
        jmp     halt

        .macro  answer number, value
        .short  \number, 0
        .long   \value
        .endm
        .macro  call number, label
        .short  \number, \label - ROM
        .long   0
        .endm

        .balign 8
calls:  call    1, write
        call    9, mmap
        call    12, brk
        call    20, writev
        call    60, exit
        call    158, arch_prctl
        call    228, clock_gettime
        call    231, exit               # exit_group
        call    318, getrandom
        answer  7, 0                    # poll
        answer  10, 0                   # mprotect
        answer  11, 0                   # munmap
        answer  13, 0                   # rt_sigaction
        answer  14, 0                   # rt_sigprocmask
        answer  24, 0                   # sched_yield
        answer  28, 0                   # madvise
        answer  131, 0                  # sigaltstack
        answer  202, 0                  # futex
        answer  39, 1                   # getpid
        answer  186, 1                  # gettid
        answer  218, 1                  # set_tid_address
        answer  257, ENOENT             # openat
        # All others, clone among them: Rust calls that unsupported, and rayon does without threads.
        answer  0xffff, ENOSYS

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      # 8: 32-bit code
        .quad   0x00cf93000000ffff      # 0x10: data
        .quad   0x00af9b000000ffff      # 0x18: 64-bit code
        .quad   0x00cf93000000ffff      # 0x20: data, as syscall sets it
gdt_register:
        .short  gdt_register - gdt - 1
        .long   gdt
shutdown:
        .ascii  "Shutdown"

        # Where the processor begins.
        .org    0xfff0
        .code16
        jmp     real
        .org    0x10000
