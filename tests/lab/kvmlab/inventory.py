"""The inventory that ansible-playbook takes as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from kvmlab.machine_shape import Machine
from kvmlab.nas import EXPORT
from kvmlab.network import lab_netns
from kvmlab.paths import CACHE, LabPaths
from kvmlab.shape import Shape
from kvmlab.state import LabRecord

HEADER = "# Written by tests/lab/lab up; gone after tests/lab/lab down.\n"


def ssh_options(paths: LabPaths) -> str:
    """ssh's way into the lab: through its namespace, host keys pinned."""
    options = [
        f"-o ProxyCommand='ip netns exec {lab_netns(paths.name)} nc %h %p'",
        f"-o UserKnownHostsFile={paths.known_hosts}",
        "-o GlobalKnownHostsFile=/dev/null",
        "-o StrictHostKeyChecking=yes",
        "-o IdentitiesOnly=yes",
    ]
    return " ".join(options)


def write(lab: LabRecord) -> None:
    """Write the inventory of a lab as it is now, where the checkout that started it has it."""
    machines = [record.machine for record in lab.machines.values() if record.listed]
    path = lab.paths.inventory(lab.owner)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(render(lab.shape, lab.paths, machines))
    unfinished.rename(path)


def render(shape: Shape, paths: LabPaths, machines: Sequence[Machine] = ()) -> str:
    """The inventory of a lab, as YAML."""
    ssh = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(paths.key),
        "ansible_ssh_common_args": ssh_options(paths),
        # Labs side by side have the same addresses: ssh must not share connections between them.
        "ansible_control_path_dir": str(paths.control),
    }
    hypervisors = {
        # A lab host's control groups belong to the outer machine, and its kernel has no security module.
        "hypervisor_qemu_conf": {"cgroup_controllers": [], "security_driver": "none"},
        # Ready hosts are kept from lab to lab, and so must be the CA of their certificates.
        "hypervisor_tls_ca_dir": str(CACHE / "tls-ca"),
        "kvmlab_guest_dir": "/srv/lab/guest",
    }
    lines = [HEADER + "all:", "  vars:", *_mapping(ssh, 4), "  children:", "    hypervisors:", "      vars:"]
    lines += [*_mapping(hypervisors, 8), "      hosts:"]
    for host in shape.hosts:
        lines += [
            f"        {host.name}:",
            *_mapping({"ansible_host": host.address, "kvmlab_release": host.release}, 10),
        ]
    if shape.nas:
        lines += ["    storage:", "      hosts:", f"        {shape.nas.name}:"]
        lines += _mapping({"ansible_host": shape.nas.address, "kvmlab_export": EXPORT}, 10)
    if machines:
        lines += ["    machines:", "      vars:", *_mapping({"kvmlab_guest_dir": "/srv/lab/guest"}, 8), "      hosts:"]
    for machine in machines:
        lines += [f"        {machine.name}:"]
        lines += _mapping({"ansible_host": machine.address, "kvmlab_release": machine.release}, 10)
    return "\n".join(lines) + "\n"


def _mapping(values: Mapping[str, object], indent: int) -> list[str]:
    # JSON is YAML, and quotes what needs quoting.
    return [f"{' ' * indent}{name}: {json.dumps(value)}" for name, value in values.items()]
