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
    eval "$LAB_POWER_OFF"
}

echo "LAB: init on $(uname -r)"

for module in $LAB_MODULES; do
    insmod "/modules/$module" || fail "$module cannot be inserted"
done

[ "$LAB_POPULATE" = 1 ] && . /populate.sh && populate

if [ -n "$LAB_LOAD" ]; then
    message=$(kexec $LAB_LOAD /capture.bin --command-line="$LAB_CMDLINE" 2>&1) || fail "$message"
    [ "$(cat /sys/kernel/kexec_crash_loaded)" = 1 ] || fail "kexec said nothing, and nothing is loaded"
    echo "LAB: loaded"
fi

sleep "$LAB_DELAY"
# As late as can be: what src/report.rs reads, on a port of virtio, which takes a megabyte at once. Who reads the flags must
# not end before the crash, or its own pages would be others by then: it goes on to read from a pipe that nobody writes to.
if [ "$LAB_REPORT" = 1 ]; then
    port=$(echo /dev/vport*p1)
    mkfifo /tmp/never
    { cat /proc/meminfo /proc/buddyinfo /proc/zoneinfo; printf '\0'; } >"$port"
    cat /proc/kpageflags /tmp/never >"$port" &
    # Opens when the flags have been written: nothing is started to wait for that.
    exec 3>/tmp/never
fi
echo "LAB: crashing"
# The terminal sends in its own time, and a crash would not wait for it: stty does.
stty -echo
eval "$LAB_CRASH"
# A crash from outside (an NMI) is still to come.
while :; do sleep 1000; done
