"""What makes a root filesystem one particular host: name, keys, addresses."""

from __future__ import annotations

import uuid
from pathlib import Path

from kvmlab.paths import LabPaths
from kvmlab.run import run
from kvmlab.shape import PREFIX, Host

NETDEV = """\
[NetDev]
Name=br0
Kind=bridge
MACAddress={mac}

[Bridge]
STP=no
ForwardDelaySec=0
MulticastSnooping=no
"""
PORT = """\
[Match]
Name=host0

[Network]
Bridge=br0
LinkLocalAddressing=no
"""
BRIDGE = """\
[Match]
Name=br0

[Network]
Address={address}/{prefix}
LinkLocalAddressing=no
IPv6AcceptRA=no
ConfigureWithoutCarrier=yes
"""
# A file of its own: /root/.ssh/authorized_keys belongs to the roles under test.
SSHD = """\
AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/lab_authorized_keys
PermitRootLogin prohibit-password
MaxStartups 100
UseDNS no
"""


def create_key(paths: LabPaths) -> None:
    """The key pair that opens every host of this lab."""
    paths.key.parent.mkdir(parents=True, mode=0o700)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"kvmlab {paths.name}", "-f", paths.key])


def write_identity(root: Path, host: Host, paths: LabPaths, network: dict[str, str] | None = None) -> None:
    """Turn the mounted root filesystem into `host`; what a former life of it has already is kept.

    `network`: the files that configure its network, if it is not to be a host's bridge.
    """
    bridge = {
        "etc/systemd/network/10-br0.netdev": NETDEV.format(mac=host.mac),
        "etc/systemd/network/10-host0.network": PORT,
        "etc/systemd/network/20-br0.network": BRIDGE.format(address=host.address, prefix=PREFIX),
    }
    files = {
        **(bridge if network is None else network),
        "etc/ssh/sshd_config.d/00-lab.conf": SSHD,
        "etc/ssh/lab_authorized_keys": paths.key.with_suffix(".pub").read_text(),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    first = {
        "etc/machine-id": uuid.uuid4().hex + "\n",
        "etc/hostname": host.name + "\n",
    }
    for name, content in first.items():
        if not (root / name).exists():
            (root / name).write_text(content)
    host_key = root / "etc/ssh/ssh_host_ed25519_key"
    if not host_key.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", host_key])


def known_hosts_line(root: Path, host: Host) -> str:
    """The host's key, as known_hosts pins it under its address and its name."""
    kind, key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    return f"{host.address},{host.name} {kind} {key}\n"
