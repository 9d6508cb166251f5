require ioto-agent.inc

# The commit tagged v${PV}: README.md, "A new version", says when it is moved.
SRCREV ?= "ffb6477743e100b0fa2f4abb419a7adb0d8ca040"
