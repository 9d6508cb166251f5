require ioto-agent.inc

# The newest commit, for work on the agent itself: PREFERRED_VERSION_ioto-agent = "0.1.0+git%". Its crates are the ones of the
# clone that this layer is in, so that both belong to one commit; SRCREV = "${AUTOREV}" in local.conf follows a branch.
PV = "0.1.0+git"
SRCREV ?= "2952da9df6dc2a8fd49706a034c411d7de1b443c"

DEFAULT_PREFERENCE = "-1"
