"""The device under test: a machine that is switched on when it is needed, and what stays while it is off."""

import pathlib

from machine import Machine


class Device:
    def __init__(self, image, directory, seed):
        self.image, self.seed = image, seed
        self.directory = pathlib.Path(directory)
        self.disk, self.log = self.directory / "data.img", self.directory / "serial.log"
        self.boots = 0
        self.machine = None
        image.data_disk(self.disk)

    def on(self, clock=None):
        """The machine, with the agent's page served."""
        if self.machine is None:
            self.start(clock).wait_for_page()
        return self.machine

    def start(self, clock=None):
        """Power on, without waiting."""
        self.boots += 1
        self.machine = Machine(self.image, self.disk, self.log, clock)
        return self.machine

    def off(self):
        """Shut down in order."""
        machine, self.machine = self.machine, None
        return machine.power_off()

    def cut(self):
        """Power is lost, if there is any."""
        machine, self.machine = self.machine, None
        if machine:
            machine.cut()
