SUMMARY = "Capture kernel for crash dumps"
DESCRIPTION = "After a crash, sends the machine's memory over a serial line or a network, where rcapture recv makes a vmcore of it."
SECTION = "kernel"
# blacksail wants to read OR, which scarthgap does not know.
LICENSE = "Apache-2.0 | MIT"
LIC_FILES_CHKSUM = "file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
                    file://LICENSE-MIT;md5=cfabc31440a044b24c23e4143547bfde"

# Where `cargo xtask dist` has put its archives: there is no release to download yet.
RCAPTURE_DIST ?= "${@os.path.realpath('${THISDIR}/../../../../dist')}"

RCAPTURE_ARCH = ""
RCAPTURE_ARCH:x86-64 = "x86_64"
RCAPTURE_ARCH:aarch64 = "aarch64"
RCAPTURE_ARCH:armv7a = "arm"
RCAPTURE_ARCH:armv7ve = "arm"

SRC_URI = "file://${RCAPTURE_DIST}/rcapture-${PV}-${RCAPTURE_ARCH}.tar.gz"
# scarthgap has no UNPACKDIR.
S = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}/rcapture-${PV}-${RCAPTURE_ARCH}"

inherit systemd update-rc.d

COMPATIBLE_HOST = "null"
COMPATIBLE_HOST:x86-64 = "x86_64.*-linux.*"
COMPATIBLE_HOST:aarch64 = "aarch64.*-linux.*"
COMPATIBLE_HOST:armv7a = "arm.*-linux.*"
COMPATIBLE_HOST:armv7ve = "arm.*-linux.*"

# Nothing is compiled.
INHIBIT_DEFAULT_DEPS = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"

# The archive was made here, not released: it is compared with what it says of itself.
do_unpack[postfuncs] += "check_digests"
check_digests() {
    cd ${S}
    sha256sum --check --quiet SHA256SUMS
}

# rcapture-load finds these places by their names.
do_install() {
    install -D -m 0644 ${S}/rcapture.bin ${D}${nonarch_libdir}/rcapture/rcapture.bin
    install -D -m 0755 ${S}/rcapture-load ${D}${sbindir}/rcapture-load
    install -D -m 0644 ${S}/rcapture.conf ${D}${sysconfdir}/rcapture.conf
    install -D -m 0644 ${S}/rcapture.service ${D}${systemd_system_unitdir}/rcapture.service
    install -D -m 0755 ${S}/S90rcapture ${D}${sysconfdir}/init.d/rcapture
}

SYSTEMD_SERVICE:${PN} = "rcapture.service"
INITSCRIPT_NAME = "rcapture"
INITSCRIPT_PARAMS = "defaults 90 10"

FILES:${PN} += "${nonarch_libdir}/rcapture"
CONFFILES:${PN} = "${sysconfdir}/rcapture.conf"
RDEPENDS:${PN} = "kexec"
