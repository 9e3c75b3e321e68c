#!/busybox sh
# First process of Linux as the capture kernel, as small as it can be: what rcapture is compared with. /kdump.conf says what
# to do (see src/kdump.rs).
/busybox mkdir -p /bin /proc /sys /dev /tmp
/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
. /kdump.conf

for module in $KDUMP_MODULES; do
    insmod "/modules/$module"
done
ifconfig eth0 "$KDUMP_ADDRESS" up
eval "$KDUMP_COMMAND"
# It waits until what was written has been sent.
poweroff -f
