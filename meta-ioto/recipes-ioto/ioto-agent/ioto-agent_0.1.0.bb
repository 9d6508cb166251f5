require ioto-agent.inc

# The commit tagged v${PV}: README.md, "A new version", says when it is moved.
SRCREV ?= "2952da9df6dc2a8fd49706a034c411d7de1b443c"
