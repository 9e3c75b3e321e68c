# Something of every class of page that a dump level knows. Sourced by init.sh; what a kernel cannot do is said and
# left out, and what there is then is in the report (src/report.rs).

without() {
    echo "LAB: populated without $1"
}

# Anonymous memory: processes that sleep, and as huge pages where the kernel makes them.
processes() {
    for i in 1 2 3 4; do
        awk -v seed=$i 'BEGIN { s = "page of process " seed "\n"; while (length(s) < 2000000) s = s length(s) s
            while (1) system("sleep 1000") }' &
    done
    sleep 100000 &
    echo always >/sys/kernel/mm/transparent_hugepage/enabled || { without "transparent huge pages"; return; }
    awk 'BEGIN { s = "a page of a huge one\n"; while (length(s) < 20000000) s = s s; while (1) system("sleep 1000") }' &
}

# hugetlbfs: pages of a file, and pages that wait in the pool.
hugetlb() {
    echo 6 >/proc/sys/vm/nr_hugepages
    mkdir /huge
    mount -t hugetlbfs huge /huge && fallocate -l 8388608 /huge/file || without "hugetlbfs"
}

# tmpfs, also with huge pages; and a file that went.
shared_memory() {
    dd if=/dev/urandom of=/tmp/random bs=64k count=64 2>/dev/null
    dd if=/dev/zero of=/tmp/zero bs=64k count=32 2>/dev/null
    mkdir /shm
    mount -t tmpfs -o huge=always shm /shm && dd if=/dev/urandom of=/shm/random bs=1M count=5 2>/dev/null ||
        without "huge pages in tmpfs"
    dd if=/dev/urandom of=/tmp/freed bs=64k count=64 2>/dev/null
    rm /tmp/freed
}

# Page cache of a file system on a block device: read again after it was written, and written just now. What is
# written keeps buffer heads (PG_private), and nothing writes it back any more.
page_cache() {
    truncate -s 64M /tmp/disk
    mke2fs -F /tmp/disk >/dev/null 2>&1
    mkdir /disk
    losetup /dev/loop0 /tmp/disk && mount -t ext4 /dev/loop0 /disk || { without "a file system on a disk"; return; }
    dd if=/tmp/random of=/disk/read bs=64k 2>/dev/null
    sync
    echo 1 >/proc/sys/vm/drop_caches
    cat /disk/read >/dev/null
    for knob in dirty_writeback_centisecs dirty_background_ratio; do
        echo $((knob == dirty_background_ratio ? 90 : 0)) >/proc/sys/vm/$knob
    done
    dd if=/tmp/random of=/disk/dirty bs=64k 2>/dev/null
    dd if=/dev/loop0 of=/dev/null bs=64k count=32 2>/dev/null
}

# Pages that must not be read: given to the host, and poisoned.
untouchable() {
    poisoned=0
    ram=0x$(awk -F - '/System RAM/ { print $1; exit }' /proc/iomem)
    for mib in 128 160 192 224; do
        echo $((ram + mib * 1048576)) 2>/dev/null >/sys/devices/system/memory/soft_offline_page && poisoned=$((poisoned + 1))
    done
    [ $poisoned != 0 ] || without "poisoned pages"
    [ "$LAB_BALLOON_KIB" != 0 ] || return
    # A worker of the kernel fills it.
    tries=0
    while [ $(awk '/^balloon_inflate/ { print $2 * 4 }' /proc/vmstat) -lt $LAB_BALLOON_KIB ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { without "a balloon"; return; }
        sleep 0.2
    done
}

# Free blocks of the small orders: holes between many small files. Last, so that nothing fills them, and more than a CPU
# keeps on its own list, which grows with need if it may (percpu_pagelist_fraction before 5.14).
fragments() {
    for knob in /proc/sys/vm/percpu_pagelist*_fraction; do
        echo 1000 >$knob
    done
    mkdir /tmp/pieces
    awk 'BEGIN { for (i = 0; i < 4000; i++) { f = "/tmp/pieces/" i; printf "%4000d", i > f; close(f) } }'
    cd /tmp/pieces && rm -f *[13579]?? *[13579]? *[1357] && cd /
}

populate() {
    processes
    hugetlb
    shared_memory
    page_cache
    untouchable
    cat /proc/*/maps >/tmp/maps 2>/dev/null
    fragments
}
