################################################################################
#
# ioto-agent
#
################################################################################

ifeq ($(BR2_PACKAGE_IOTO_AGENT_SOURCE_TARBALL),y)
IOTO_AGENT_SOURCE = $(notdir $(call qstrip,$(BR2_PACKAGE_IOTO_AGENT_TARBALL_URL)))
IOTO_AGENT_VERSION = $(patsubst %.tar.gz,%,$(IOTO_AGENT_SOURCE))
IOTO_AGENT_SITE = $(patsubst %/,%,$(dir $(call qstrip,$(BR2_PACKAGE_IOTO_AGENT_TARBALL_URL))))
else ifeq ($(BR2_PACKAGE_IOTO_AGENT_SOURCE_GIT),y)
IOTO_AGENT_VERSION = $(call qstrip,$(BR2_PACKAGE_IOTO_AGENT_GIT_VERSION))
IOTO_AGENT_SITE = $(call qstrip,$(BR2_PACKAGE_IOTO_AGENT_GIT_URL))
IOTO_AGENT_SITE_METHOD = git
else
# Not method "local", which would skip the download of the crates.
IOTO_AGENT_SITE = $(realpath $(BR2_EXTERNAL_IOTO_PATH)/..)
IOTO_AGENT_VERSION := $(shell git -C $(BR2_EXTERNAL_IOTO_PATH) rev-parse HEAD 2>/dev/null || echo unknown)
IOTO_AGENT_SITE_METHOD = git
endif

# A commit names its content; a tarball needs its line in ioto-agent.hash.
ifneq ($(IOTO_AGENT_SITE_METHOD),)
BR_NO_CHECK_HASH_FOR += $(IOTO_AGENT_SOURCE)
endif

IOTO_AGENT_LICENSE = MIT or Apache-2.0
IOTO_AGENT_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE

IOTO_AGENT_FEATURES = \
	$(if $(BR2_PACKAGE_IOTO_AGENT_WEB),web) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_USERS),users) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_FETCH),fetch) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_MQTT),mqtt) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_DB),db) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_AWS),aws) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_SYNC),sync) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_LOGS),logs) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_SANDBOX),sandbox)

# The image's own library, where it has one: with its fixes.
ifeq ($(BR2_PACKAGE_SQLITE),y)
IOTO_AGENT_DEPENDENCIES += host-pkgconf sqlite
IOTO_AGENT_CARGO_ENV += LIBSQLITE3_SYS_USE_PKG_CONFIG=1
else
IOTO_AGENT_FEATURES += bundled-sqlite
endif

IOTO_AGENT_PROGRAMS = \
	ioto \
	$(if $(BR2_PACKAGE_IOTO_AGENT_HELPER),ioto-helper) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_RESCUE),ioto-rescue)

IOTO_AGENT_CARGO_BUILD_OPTS = \
	$(addprefix -p ,$(IOTO_AGENT_PROGRAMS)) --bins \
	--no-default-features --features "$(addprefix ioto/,$(IOTO_AGENT_FEATURES))"

ifeq ($(BR2_PACKAGE_IOTO_AGENT_SMALL),y)
IOTO_AGENT_CARGO_ENV += \
	CARGO_PROFILE_RELEASE_OPT_LEVEL="z" \
	CARGO_PROFILE_RELEASE_LTO="fat" \
	CARGO_PROFILE_RELEASE_CODEGEN_UNITS="1"
endif

IOTO_AGENT_BUILT = $(@D)/target/$(RUSTC_TARGET_NAME)/$(if $(BR2_ENABLE_DEBUG),debug,release)
IOTO_AGENT_OVERLAY = $(@D)/rootfs-overlay

# $(1): modes, $(2): files below rootfs-overlay, which keep their place
IOTO_AGENT_INSTALL_FILES = $(foreach file,$(2), \
	$(INSTALL) -D -m $(1) $(IOTO_AGENT_OVERLAY)/$(file) $(TARGET_DIR)/$(file)$(sep))

# What is in /etc is the integrator's: a file of an overlay comes later and wins.
define IOTO_AGENT_INSTALL_TARGET_CMDS
	$(foreach program,$(IOTO_AGENT_PROGRAMS), \
		$(INSTALL) -D -m 0755 $(IOTO_AGENT_BUILT)/$(program) $(TARGET_DIR)/usr/bin/$(program)$(sep))
	$(call IOTO_AGENT_INSTALL_FILES,0644, \
		usr/share/ioto/ioto.json5 usr/share/ioto/schema.json5 etc/ioto/ioto.json5)
	if [ -d $(@D)/agent/www ]; then \
		mkdir -p $(TARGET_DIR)/usr/share/ioto/www && \
		cp -R $(@D)/agent/www/. $(TARGET_DIR)/usr/share/ioto/www/; \
	fi
	$(IOTO_AGENT_INSTALL_LOGROTATE)
	$(IOTO_AGENT_INSTALL_UDEV)
endef

ifeq ($(BR2_PACKAGE_LOGROTATE),y)
define IOTO_AGENT_INSTALL_LOGROTATE
	$(call IOTO_AGENT_INSTALL_FILES,0644,etc/logrotate.d/ioto)
endef
endif

ifeq ($(BR2_PACKAGE_HAS_UDEV),y)
define IOTO_AGENT_INSTALL_UDEV
	$(call IOTO_AGENT_INSTALL_FILES,0644,usr/lib/udev/rules.d/59-ioto.rules)
endef
endif

IOTO_AGENT_UNITS = \
	ioto.service \
	$(if $(BR2_PACKAGE_IOTO_AGENT_PORTS),ioto.service.d/ports.conf) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_HELPER),ioto-helper.socket ioto-helper.service ioto-helper-apply.service) \
	$(if $(BR2_PACKAGE_IOTO_AGENT_RESCUE),ioto-rescue.socket ioto-rescue.service)

define IOTO_AGENT_INSTALL_INIT_SYSTEMD
	$(call IOTO_AGENT_INSTALL_FILES,0644, \
		$(addprefix usr/lib/systemd/system/,$(IOTO_AGENT_UNITS)) \
		usr/lib/systemd/system-preset/90-ioto.preset \
		usr/lib/systemd/journald.conf.d/50-ioto.conf \
		usr/lib/sysusers.d/ioto.conf \
		usr/lib/tmpfiles.d/ioto.conf)
	$(INSTALL) -D -m 0644 $(IOTO_AGENT_OVERLAY)/usr/share/ioto/systemd/backoff.conf \
		$(TARGET_DIR)/usr/lib/systemd/system/ioto.service.d/backoff.conf
endef

define IOTO_AGENT_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(IOTO_AGENT_OVERLAY)/etc/init.d/ioto $(TARGET_DIR)/etc/init.d/S90ioto
	$(if $(BR2_PACKAGE_IOTO_AGENT_HELPER), \
		$(INSTALL) -D -m 0755 $(IOTO_AGENT_OVERLAY)/etc/init.d/ioto-helper $(TARGET_DIR)/etc/init.d/S39ioto-helper)
	$(call IOTO_AGENT_INSTALL_FILES,0755,usr/lib/ioto/supervise)
	$(call IOTO_AGENT_INSTALL_FILES,0644,etc/default/ioto)
endef

# The journal is read by its group.
IOTO_AGENT_GROUPS = $(if $(BR2_INIT_SYSTEMD),systemd-journal,-)

define IOTO_AGENT_USERS
	ioto -1 ioto -1 * /var/lib/ioto - $(IOTO_AGENT_GROUPS) Device agent
	ioto-rescue -1 ioto -1 * - - $(IOTO_AGENT_GROUPS) Rescue server of the device agent
endef

define IOTO_AGENT_PERMISSIONS
	/var/lib/ioto d 750 ioto ioto - - - - -
	/var/lib/ioto-helper d 750 root ioto - - - - -
endef

# The agent's own sandbox, and its unit's.
define IOTO_AGENT_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECCOMP)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECCOMP_FILTER)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECURITY)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECURITY_LANDLOCK)
	$(call KCONFIG_SET_OPT,CONFIG_LSM,"landlock$(comma)lockdown$(comma)yama$(comma)integrity$(comma)apparmor$(comma)selinux")
	$(call KCONFIG_ENABLE_OPT,CONFIG_NAMESPACES)
	$(call KCONFIG_ENABLE_OPT,CONFIG_USER_NS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_NET_NS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_IPC_NS)
endef

$(eval $(cargo-package))
