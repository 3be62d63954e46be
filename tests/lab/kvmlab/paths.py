"""Where the lab keeps things."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LAB_DIR = Path(__file__).resolve().parents[1]
REPOSITORY = LAB_DIR.parents[1]
CACHE = Path(os.environ.get("KVMLAB_CACHE", "/var/cache/kvmops-lab"))
STATE = Path(os.environ.get("KVMLAB_STATE", "/var/lib/kvmops-lab"))
LOCKS = Path("/run/kvmops-lab")

DEFAULT_NAME = "lab"


@dataclass(frozen=True)
class HostPaths:
    """Directories of one host of one lab."""

    base: Path

    @property
    def upper(self) -> Path:
        """What the host has written since it was created."""
        return self.base / "upper"

    @property
    def work(self) -> Path:
        """Work directory of the overlay."""
        return self.base / "work"

    @property
    def root(self) -> Path:
        """Mount point of the host's root filesystem."""
        return self.base / "root"

    @property
    def console(self) -> Path:
        """What the host printed while it booted and ran."""
        return self.base / "console.log"

    @property
    def volumes(self) -> Path:
        """Images of the volumes made by `lab volume`."""
        return self.base / "volumes"


@dataclass(frozen=True)
class MachinePaths:
    """Files of one machine of one lab."""

    base: Path

    @property
    def disk(self) -> Path:
        """What the machine has written, over the image it began with."""
        return self.base / "disk.qcow2"

    def more_disks(self, count: int) -> list[Path]:
        """The disks behind the first one, of a machine with so many."""
        return [self.base / f"disk{number}.qcow2" for number in range(1, count)]

    @property
    def variables(self) -> Path:
        """What its UEFI remembers."""
        return self.base / "vars.fd"

    @property
    def console(self) -> Path:
        """What it printed on its serial line since it was created."""
        return self.base / "console.log"

    @property
    def serial(self) -> Path:
        """Its serial line."""
        return self.base / "serial.sock"

    @property
    def monitor(self) -> Path:
        """Its QEMU's control socket."""
        return self.base / "qmp.sock"

    @property
    def output(self) -> Path:
        """What QEMU said itself."""
        return self.base / "qemu.log"


@dataclass(frozen=True)
class LabPaths:
    """Files of one lab."""

    name: str

    @property
    def state(self) -> Path:
        """Everything the lab `name` needs while it is up."""
        return STATE / self.name

    @property
    def record(self) -> Path:
        """What was started, for `status` and `down`."""
        return self.state / "lab.json"

    @property
    def key(self) -> Path:
        """Private ssh key that opens root on every host."""
        return self.state / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Pinned host keys."""
        return self.state / "ssh" / "known_hosts"

    @property
    def control(self) -> Path:
        """ssh's control sockets: a directory per lab, as labs share addresses."""
        return LOCKS / f"{self.name}.cp"

    @property
    def lock(self) -> Path:
        """Held while the lab changes."""
        return LOCKS / f"{self.name}.lock"

    def inventory(self, repository: Path | str = REPOSITORY) -> Path:
        """Inventory for ansible-playbook -i, in the checkout that started the lab."""
        base = Path(repository) / ".lab"
        return (base if self.name == DEFAULT_NAME else base / self.name) / "inventory.yml"

    def host(self, host: str) -> HostPaths:
        """Directories of the host of that name."""
        return HostPaths(self.state / "hosts" / host)

    def machine(self, machine: str) -> MachinePaths:
        """Files of the machine of that name."""
        return MachinePaths(self.state / "machines" / machine)
