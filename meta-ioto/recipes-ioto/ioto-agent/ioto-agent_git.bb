require ioto-agent.inc

# The newest commit, for work on the agent itself: PREFERRED_VERSION_ioto-agent = "0.1.0+git%". Its crates are the ones of the
# clone that this layer is in, so that both belong to one commit; SRCREV = "${AUTOREV}" in local.conf follows a branch.
PV = "0.1.0+git"
SRCREV ?= "ffb6477743e100b0fa2f4abb419a7adb0d8ca040"

DEFAULT_PREFERENCE = "-1"
