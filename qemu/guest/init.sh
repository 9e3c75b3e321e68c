#!/busybox sh
# First process of the guest that is going to crash. lab.conf says how (see src/initramfs.rs). It lies beside, and so does all
# that is ours: in the root, or in a directory of a user's initramfs.
base=${0%/*}
$base/busybox mkdir -p $base/bin /proc /sys /dev /tmp
$base/busybox mount -t proc proc /proc
$base/busybox --install -s $base/bin
export PATH=$base/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
exec </dev/console >/dev/console 2>&1
. $base/lab.conf

# Ends the machine. The terminal sends in its own time, and the power would not wait for it: stty does.
end() {
    stty -echo
    eval "$LAB_POWER_OFF"
}

# Whatever goes wrong, the machine ends instead of waiting for a hand that never comes.
fail() {
    echo "LAB: load failed: $1"
    end
}

# This kernel cannot do what is asked for.
unsupported() {
    echo "LAB: not supported: $1"
    end
}

# Says why nothing can be loaded, where kexec would say less.
check() {
    size=/sys/kernel/kexec_crash_size
    [ -e $size ] || unsupported "the kernel has no kexec for crashes (CONFIG_KEXEC, CONFIG_CRASH_DUMP)"
    [ "$(cat $size)" != 0 ] || fail "no memory is reserved: $(grep -q crashkernel= /proc/cmdline &&
        echo "the kernel did not grant its crashkernel=: $(dmesg | grep -i crashkernel | grep -v 'ommand line' | tail -n 1)" ||
        echo "there is no crashkernel= on its command line")"
    [ "$(cat /proc/sys/kernel/kexec_load_disabled)" != 1 ] || fail "loading is disabled: kernel.kexec_load_disabled is 1"
}

# Crashes by LKDTM (Linux, Documentation/fault-injection/provoke-crashes.rst), in the first of these ways that it knows.
provoke() {
    mount -t debugfs debug /sys/kernel/debug
    ways=/sys/kernel/debug/provoke-crash/DIRECT
    for way in "$@"; do
        grep -qx "$way" $ways && echo "$way" >$ways
    done 2>/dev/null
    [ ! -e $ways ] || unsupported "the kernel's LKDTM does not crash it by $*; the lab's own module does (--headers)"
    unsupported "to crash it by $* takes CONFIG_LKDTM (its modules by --modules), or the lab's own module (--headers)"
}

# Panics when a task hangs.
expect_hang() {
    { echo 5 >/proc/sys/kernel/hung_task_timeout_secs && echo 1 >/proc/sys/kernel/hung_task_panic; } ||
        unsupported "no task is watched (CONFIG_DETECT_HUNG_TASK)"
}

echo "LAB: init on $(uname -r)"

for module in $LAB_MODULES; do
    insmod "$base/modules/$module" || fail "$module cannot be inserted"
done

[ "$LAB_POPULATE" = 1 ] && . $base/populate.sh && populate

eval "$LAB_BEFORE"

if [ -n "$LAB_LOADER" ]; then
    message=$(eval "$LAB_LOADER" 2>&1) || fail "$message"
    [ "$(cat /sys/kernel/kexec_crash_loaded)" = 1 ] || fail "nothing is loaded: $message"
    echo "LAB: loaded"
elif [ -n "$LAB_LOAD" ]; then
    check
    message=$(kexec $LAB_LOAD $base/capture.bin --command-line="$LAB_CMDLINE" 2>&1) || case $message in
        *"Function not implemented"* | *"kexec_file_load not available"*) unsupported "the kernel has no system call for this loader: $message" ;;
        *) fail "$message" ;;
    esac
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
status=$?
# Somebody's own command says by its status that it did not do what it was to. Our own ways may fail, and crash all the same.
if [ "$LAB_COMMAND" = 1 ] && [ $status != 0 ]; then
    echo "LAB: the crash command failed: $status"
    end
fi
# A crash from outside (an NMI) is still to come.
while :; do sleep 1000; done
