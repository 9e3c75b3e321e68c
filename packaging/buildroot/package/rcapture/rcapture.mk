################################################################################
#
# rcapture
#
################################################################################

RCAPTURE_VERSION = 0.1.0

ifeq ($(BR2_x86_64),y)
RCAPTURE_ARCH = x86_64
else ifeq ($(BR2_aarch64),y)
RCAPTURE_ARCH = aarch64
else
RCAPTURE_ARCH = arm
endif

RCAPTURE_SOURCE = rcapture-$(RCAPTURE_VERSION)-$(RCAPTURE_ARCH).tar.gz
RCAPTURE_SITE = $(call qstrip,$(BR2_PACKAGE_RCAPTURE_DIST))
RCAPTURE_SITE_METHOD = file
RCAPTURE_LICENSE = Apache-2.0 or MIT
RCAPTURE_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT
# Nothing is compiled.
RCAPTURE_ADD_TOOLCHAIN_DEPENDENCY = NO

# The archive was made here, not released: it is compared with what it says of itself.
BR_NO_CHECK_HASH_FOR += $(RCAPTURE_SOURCE)

define RCAPTURE_CHECK_DIGESTS
	cd $(@D) && sha256sum --check --quiet SHA256SUMS
endef
RCAPTURE_POST_EXTRACT_HOOKS += RCAPTURE_CHECK_DIGESTS

define RCAPTURE_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_KEXEC)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CRASH_DUMP)
endef

define RCAPTURE_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0644 $(@D)/rcapture.bin $(TARGET_DIR)/usr/lib/rcapture/rcapture.bin
	$(INSTALL) -D -m 0755 $(@D)/rcapture-load $(TARGET_DIR)/usr/sbin/rcapture-load
	$(INSTALL) -D -m 0644 $(@D)/rcapture.conf $(TARGET_DIR)/etc/rcapture.conf
endef

define RCAPTURE_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/rcapture.service $(TARGET_DIR)/usr/lib/systemd/system/rcapture.service
endef

define RCAPTURE_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/S90rcapture $(TARGET_DIR)/etc/init.d/S90rcapture
endef

define RCAPTURE_INSTALL_INIT_OPENRC
	$(INSTALL) -D -m 0755 $(@D)/rcapture.openrc $(TARGET_DIR)/etc/init.d/rcapture
	mkdir -p $(TARGET_DIR)/etc/runlevels/default
	ln -sf /etc/init.d/rcapture $(TARGET_DIR)/etc/runlevels/default/rcapture
endef

$(eval $(generic-package))
