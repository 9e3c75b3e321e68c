#!/busybox sh
# First process of the guest that is going to crash. /lab.conf says how (see src/initramfs.rs).
/busybox mkdir -p /bin /proc /sys /dev /tmp
/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
exec </dev/console >/dev/console 2>&1
. /lab.conf

# Whatever goes wrong, the machine ends instead of waiting for a hand that never comes.
fail() {
    echo "LAB: load failed: $1"
    poweroff -f
}

echo "LAB: init on $(uname -r)"

# Something for every class of page: sleeping processes with memory of their own, a file in tmpfs,
# zero pages, and pages that were used and freed.
populate() {
    for i in 1 2 3 4; do
        awk -v seed=$i 'BEGIN { s = "page of process " seed "\n"; while (length(s) < 2000000) s = s length(s) s
            while (1) system("sleep 1000") }' &
    done
    sleep 100000 &
    dd if=/dev/urandom of=/tmp/random bs=64k count=64 2>/dev/null
    dd if=/dev/zero of=/tmp/zero bs=64k count=32 2>/dev/null
    dd if=/dev/urandom of=/tmp/freed bs=64k count=64 2>/dev/null
    rm /tmp/freed
    cat /proc/*/maps >/tmp/maps 2>/dev/null
}
[ "$LAB_POPULATE" = 1 ] && populate

for module in $LAB_MODULES; do
    insmod "/modules/$module" || echo "LAB: insmod $module failed"
done

if [ -n "$LAB_LOAD" ]; then
    message=$(kexec $LAB_LOAD /capture.bin --command-line="$LAB_CMDLINE" 2>&1) || fail "$message"
    [ "$(cat /sys/kernel/kexec_crash_loaded)" = 1 ] || fail "kexec said nothing, and nothing is loaded"
    echo "LAB: loaded"
fi

sleep "$LAB_DELAY"
echo "LAB: crashing"
eval "$LAB_CRASH"
# A crash from outside (an NMI) is still to come.
while :; do sleep 1000; done
