# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What differs between a domain as wanted and as it is, field by field, in words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Cpu, Domain, Nic
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Change, Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted, WantedNic
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.cloud_init import seed_changes
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import disk_changes

_VERSION = re.compile(r"-\d.*$")
DEFAULT_NIC_MODEL = "virtio"


def changes(wanted: Wanted, config: Domain, found: DomainFound) -> Tuple[Change, ...]:
    """Every difference, in the order a person would list them. A task with `xml` brings its own list."""
    found_changes: List[Change] = []
    for compare in (_memory, _vcpus, _type, _cpu, _machine, _firmware, _boot):
        found_changes.extend(compare(wanted, config, found))
    if wanted.disks is not None:
        found_changes.extend(disk_changes(wanted.disks, config, found, wanted.machine or config.machine))
    if wanted.nics is not None:
        found_changes.extend(nic_changes(wanted.nics, config.nics))
    for compare in (_graphics, _tpm, _serial_log, _metadata, seed_changes):
        found_changes.extend(compare(wanted, config, found))
    return tuple(found_changes)


def _memory(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    before, after, most = config.memory_now_mib, wanted.memory_mib, config.memory_mib
    if after is not None and after != before:
        args = {"mib": after, "ceiling_mib": ceiling(after, wanted.max_memory_mib, before, most)}
        yield Change("memory_mib", before, after, "set memory %d → %d MiB" % (before, after), Edit("memory", args))
    if wanted.max_memory_mib is not None and wanted.max_memory_mib != most:
        words = "set maximum memory %d → %d MiB" % (most, wanted.max_memory_mib)
        edit = Edit("max_memory", {"mib": wanted.max_memory_mib})
        yield Change("max_memory_mib", most, wanted.max_memory_mib, words, edit)


def _vcpus(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    before, after, most = config.vcpus_now, wanted.vcpus, config.vcpus
    if after is not None and after != before:
        args = {"count": after, "ceiling": ceiling(after, wanted.max_vcpus, before, most)}
        yield Change("vcpus", before, after, "set vCPUs %d → %d" % (before, after), Edit("vcpus", args))
    if wanted.max_vcpus is not None and wanted.max_vcpus != most:
        words = "set maximum vCPUs %d → %d" % (most, wanted.max_vcpus)
        yield Change("max_vcpus", most, wanted.max_vcpus, words, Edit("max_vcpus", {"count": wanted.max_vcpus}))


def ceiling(wanted: int, most_wanted: Optional[int], now: int, most_now: int) -> int:
    """The most that it can have afterwards: as said; else a ceiling of its own stays, as far as it can."""
    if most_wanted is not None:
        return most_wanted
    return wanted if most_now == now else max(most_now, wanted)


def _type(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    before, after = config.type, wanted.domain_type
    if after is not None and after != before:
        words = "set domain type %s → %s" % (before, after)
        yield Change("domain_type", before, after, words, Edit("domain_type", {"kind": after}))


def _cpu(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    if wanted.cpu is None or _same_cpu(wanted.cpu, config.cpu):
        return
    before, after = cpu_text(config.cpu), cpu_text(wanted.cpu)
    yield Change("cpu", before, after, "set CPU %s → %s" % (before, after), Edit("cpu", {"cpu": wanted.cpu}))


def _same_cpu(wanted: Cpu, config: Cpu) -> bool:
    same = wanted.mode == config.mode and (wanted.mode != "custom" or wanted.model == config.model)
    return same and (not wanted.features or sorted(wanted.features) == sorted(config.features))


def cpu_text(cpu: Cpu) -> str:
    name = (cpu.model if cpu.mode == "custom" else cpu.mode) or "default"
    return " ".join([name] + sorted(cpu.features))


def _machine(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    before, after = config.machine, wanted.machine
    if after is None or machine_satisfied(after, before, found.host.facts.machines):
        return
    words = "set machine type %s → %s" % (before or "default", after)
    yield Change("machine", before, after, words, Edit("machine", {"machine": after}))


def machine_satisfied(wanted: str, config: Optional[str], machines: Mapping[str, str]) -> bool:
    """An alias means its family: a domain keeps the version it was made with, so that its guest sees no new board."""
    if config is None or wanted == config:
        return wanted == config
    canonical = machines.get(wanted, wanted)
    if canonical == wanted:
        return False
    return _VERSION.sub("", canonical) == _VERSION.sub("", machines.get(config, config))


def _firmware(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    before, after = config.firmware.kind, wanted.firmware
    if after is not None and after != before:
        words = "set firmware %s → %s" % (before, after)
        yield Change("firmware", before, after, words, Edit("firmware", {"kind": after}))


def _boot(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    if wanted.boot is None:
        return
    for part in ("kernel", "initrd", "cmdline"):
        before, after = getattr(config.boot, part), getattr(wanted.boot, part)
        if after is not None and after != (before or ""):
            words = "set boot %s %s → %s" % (part, before or "none", after or "none")
            edit = Edit("boot", {"boot": type(wanted.boot)(**{part: after})})
            yield Change("boot." + part, before, after or None, words, edit)


def pair_nics(
    wanted: Sequence[WantedNic], present: Sequence[Nic]
) -> Tuple[List[Tuple[WantedNic, Optional[Nic]]], List[Nic]]:
    """(pairs, those that nobody wants): by MAC address where given, the others in order."""
    free = list(present)
    by_mac: Dict[int, Nic] = {}
    for index, nic in enumerate(wanted):
        same = [other for other in free if nic.mac is not None and other.mac == nic.mac]
        if same:
            by_mac[index] = same[0]
            free.remove(same[0])
    pairs: List[Tuple[WantedNic, Optional[Nic]]] = []
    for index, nic in enumerate(wanted):
        other = by_mac.get(index)
        if other is None and nic.mac is None and free:
            other = free.pop(0)
        pairs.append((nic, other))
    return pairs, free


def nic_changes(wanted: Sequence[WantedNic], present: Sequence[Nic]) -> Iterator[Change]:
    pairs, unwanted = pair_nics(wanted, present)
    for index, (nic, other) in enumerate(pairs):
        if other is None:
            yield _nic_added(nic, index)
        else:
            yield from _nic_differences(nic, other)
    for other in unwanted:
        words = "detach network card %s (%s %s)" % (other.mac, other.kind, other.source)
        yield Change("networks.%s" % other.mac, _nic_text(other), None, words, Edit("nic_drop", {"mac": other.mac}))


def _nic_added(wanted: WantedNic, index: int) -> Change:
    model = wanted.model or DEFAULT_NIC_MODEL
    nic = Nic(mac=wanted.mac, kind=wanted.kind, source=wanted.source, model=model, link=wanted.link)
    words = "attach network card%s to %s %s" % (" " + nic.mac if nic.mac else "", nic.kind, nic.source)
    key = "networks.%s" % (nic.mac or "new-%d" % index)
    return Change(key, None, _nic_text(nic), words, Edit("nic_add", {"nic": nic}))


def _nic_text(nic: Nic) -> str:
    return "%s %s (%s)" % (nic.kind, nic.source, nic.model)


def _nic_differences(wanted: WantedNic, other: Nic) -> Iterator[Change]:
    key = "networks.%s" % other.mac
    if (wanted.kind, wanted.source) != (other.kind, other.source):
        before, after = "%s %s" % (other.kind, other.source), "%s %s" % (wanted.kind, wanted.source)
        words = "move network card %s from %s to %s" % (other.mac, before, after)
        args = {"mac": other.mac, "kind": wanted.kind, "source": wanted.source}
        yield Change(key + ".source", before, after, words, Edit("nic_set", args))
    if wanted.model is not None and wanted.model != other.model:
        words = "network card %s model: %s → %s" % (other.mac, other.model or "default", wanted.model)
        edit = Edit("nic_set", {"mac": other.mac, "model": wanted.model})
        yield Change(key + ".model", other.model, wanted.model, words, edit)
    before = other.link or "up"
    if wanted.link is not None and wanted.link != before:
        words = "network card %s link: %s → %s" % (other.mac, before, wanted.link)
        yield Change(
            key + ".link", before, wanted.link, words, Edit("nic_set", {"mac": other.mac, "link": wanted.link})
        )


def _graphics(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    before = ", ".join(config.graphics) or "none"
    if wanted.graphics is not None and wanted.graphics != before:
        words = "set graphics %s → %s" % (before, wanted.graphics)
        yield Change("graphics", before, wanted.graphics, words, Edit("graphics", {"kind": wanted.graphics}))


def _tpm(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    before = config.tpm or "none"
    if wanted.tpm is not None and wanted.tpm != before:
        words = "set TPM %s → %s" % (before, wanted.tpm)
        yield Change("tpm", before, wanted.tpm, words, Edit("tpm", {"kind": wanted.tpm}))


def _serial_log(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    before, after = config.serial_log, wanted.serial_log
    if after is not None and after != (before or ""):
        words = "set serial log %s → %s" % (before or "none", after or "none")
        yield Change("serial_log", before, after or None, words, Edit("serial_log", {"path": after}))


def _metadata(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    values = merged_metadata(wanted, config)
    before: Dict[str, Any] = dict(config.metadata)
    for name in sorted(set(before) | set(values)):
        old, new = before.get(name), values.get(name)
        if old != new:
            words = "set metadata %s %s → %s" % (name, old or "none", new or "none")
            yield Change("metadata." + name, old, new, words, Edit("metadata", {"values": values}))


def merged_metadata(wanted: Wanted, config: Domain) -> Dict[str, str]:
    """Keys that the task does not name stay; an empty value removes."""
    values = dict(config.metadata)
    values.update(wanted.metadata or {})
    return {name: value for name, value in values.items() if value != ""}


def boots_differently(config: Domain, live: Domain) -> bool:
    """Whether the next boot will be another machine than the one that runs, as far as model Domain tells."""

    def essence(domain: Domain) -> Domain:
        return replace(
            domain,
            # What libvirt fills in when a guest starts, or what can be changed while it runs.
            current_memory_mib=None,
            current_vcpus=None,
            emulator=None,
            firmware=type(domain.firmware)(kind=domain.firmware.kind),
            cpu=domain.cpu if domain.cpu.mode == config.cpu.mode else config.cpu,
            disks=tuple(replace(disk, backing=()) for disk in domain.disks),
            nics=tuple(replace(nic, target=None, link=nic.link or "up") for nic in domain.nics),
            metadata={},
        )

    return essence(config) != essence(live)
