# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of kvm_domain into a Wanted, or every reason why they cannot be meant."""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Boot, Cpu, Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted, WantedNic
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.names import name_problems
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.cloud_init_request import (
    drops_seed,
    metadata_problems,
    seed_problems,
    wanted_seed,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_request import disk_problems, wanted_disk
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_clone import origin_problems
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.shutdown import shutdown_problems

DESCRIBING = (
    "memory_mib",
    "max_memory_mib",
    "vcpus",
    "max_vcpus",
    "cpu",
    "machine",
    "firmware",
    "boot",
    "disks",
    "networks",
    "graphics",
    "tpm",
    "serial_log",
    "metadata",
    "cloud_init",
    "uuid",
)
CPU_MODES = ("host-passthrough", "host-model", "maximum")
_UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
_MAC = re.compile(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
_XML_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]*$")
_FEATURE = re.compile(r"^[A-Za-z0-9_.-]+(=(require|disable|force|optional|forbid))?$")


def wanted_domain(params: Mapping[str, Any], given: Optional[Domain] = None) -> Wanted:
    """params: the module's parameters. given: what `xml` describes. Raises RequestError with all problems."""
    problems = list(_problems(params, given))
    if problems:
        raise RequestError(problems)
    boot = params["boot"]
    return Wanted(
        name=params["name"],
        state=params["state"],
        uuid=(params["uuid"] or "").lower() or (given.uuid if given is not None else None) or None,
        domain_type=None if params["domain_type"] == "auto" else params["domain_type"],
        memory_mib=params["memory_mib"],
        max_memory_mib=params.get("max_memory_mib"),
        vcpus=params["vcpus"],
        max_vcpus=params.get("max_vcpus"),
        cpu=_cpu(params["cpu"]),
        machine=params["machine"],
        firmware=params["firmware"],
        boot=Boot(boot["kernel"], boot["initrd"], boot["cmdline"]) if boot is not None else None,
        disks=None if params["disks"] is None else tuple(wanted_disk(disk) for disk in params["disks"]),
        nics=None if params["networks"] is None else tuple(_nic(nic) for nic in params["networks"]),
        graphics=params["graphics"],
        tpm=params["tpm"],
        serial_log=params["serial_log"],
        metadata=None if params["metadata"] is None else {key: str(value) for key, value in params["metadata"].items()},
        seed=wanted_seed(params.get("cloud_init"), params["name"]),
        drops_seed=drops_seed(params.get("cloud_init")),
        rename_from=params.get("rename_from"),
        clone_from=(params.get("clone_from") or {}).get("name"),
        clone_pool=(params.get("clone_from") or {}).get("pool"),
        xml=params["xml"],
        autostart=params["autostart"],
        apply_live=params.get("apply") == "live",
        force=params["force"],
        wait_timeout_s=params["wait_timeout"],
        agent_timeout_s=(params.get("shutdown") or {}).get("agent_timeout_s"),
        acpi_timeout_s=(params.get("shutdown") or {}).get("acpi_timeout_s"),
        remove_storage=params["remove_storage"],
    )


def _problems(params: Mapping[str, Any], given: Optional[Domain]) -> Iterator[str]:
    yield from name_problems("name", params["name"])
    if params["xml"] is not None:
        yield from _xml_problems(params, given)
    yield from _control_characters(
        "", {key: value for key, value in params.items() if key not in ("xml", "name", "cloud_init")}
    )
    yield from _number_problems(params)
    if params["uuid"] is not None and not _UUID.match(params["uuid"].lower()):
        yield "uuid is %r; give 8-4-4-4-12 hexadecimal digits" % params["uuid"]
    if params["serial_log"] and not params["serial_log"].startswith("/"):
        yield "serial_log is %r; give an absolute path of the host" % params["serial_log"]
    yield from _boot_problems(params["boot"])
    yield from _cpu_problems(params["cpu"])
    yield from disk_problems(params["disks"] or [])
    yield from _nic_problems(params["networks"] or [])
    yield from origin_problems(params)
    yield from shutdown_problems(params.get("shutdown"))
    yield from seed_problems(params.get("cloud_init"))
    yield from metadata_problems(params["metadata"] or {})
    for key in params["metadata"] or {}:
        if not _XML_NAME.match(str(key)):
            yield "metadata has the key %r; a key is letters, digits, '_', '-' and '.', starting with a letter" % key


def _xml_problems(params: Mapping[str, Any], given: Optional[Domain]) -> Iterator[str]:
    both = [option for option in DESCRIBING if params.get(option) is not None]
    if params["domain_type"] != "auto":
        both.append("domain_type")
    if both:
        yield "xml and %s are both given; describe the domain one way" % ", ".join(both)
    if given is not None and given.name != params["name"]:
        yield "xml names the domain %r and name is %r; make them equal" % (given.name, params["name"])
    if given is not None and (given.memory_mib < 1 or not given.type):
        yield "xml is no complete <domain> (type and memory are needed); complete it"


def _control_characters(option: str, value: Any) -> Iterator[str]:
    """XML cannot carry them, and no option needs them."""
    if isinstance(value, str):
        if any((ord(letter) < 32 and letter not in "\t\n\r") or 0xD800 <= ord(letter) <= 0xDFFF for letter in value):
            yield "%s holds control characters (%r); remove them" % (option, value[:40])
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _control_characters("%s.%s" % (option, key) if option else str(key), inner)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _control_characters("%s[%d]" % (option, index), inner)


def _number_problems(params: Mapping[str, Any]) -> Iterator[str]:
    least_of = (("memory_mib", 1), ("max_memory_mib", 1), ("vcpus", 1), ("max_vcpus", 1), ("wait_timeout", 0))
    for option, least in least_of:
        value = params.get(option)
        if value is not None and value < least:
            yield "%s is %d; give at least %d" % (option, value, least)
    for option in ("memory_mib", "vcpus"):
        value, most = params[option], params.get("max_" + option)
        if value is not None and most is not None and value > most:
            yield "%s %d is more than max_%s %d; give at least as much" % (option, value, option, most)


def _boot_problems(boot: Optional[Mapping[str, Any]]) -> Iterator[str]:
    for part in ("kernel", "initrd"):
        path = (boot or {}).get(part)
        if path and not path.startswith("/"):
            yield "boot.%s is %r; give an absolute path of the host" % (part, path)


def _cpu_problems(cpu: Any) -> Iterator[str]:
    if cpu is None:
        return
    given = {"model": cpu} if isinstance(cpu, str) else cpu
    if not isinstance(given, Mapping) or set(given) - {"mode", "model", "features"}:
        yield "cpu is %r; give a mode, a model name, or a dictionary of mode, model and features" % (cpu,)
        return
    if given.get("mode") not in (None, "custom") + CPU_MODES:
        yield "cpu.mode is %r; choose among custom, %s" % (given["mode"], ", ".join(CPU_MODES))
    if given.get("mode") == "custom" and not given.get("model"):
        yield "cpu.mode is custom without cpu.model; name the model"
    if not given.get("mode") and not given.get("model"):
        yield "cpu has neither mode nor model; give one"
    for feature in given.get("features") or []:
        if not _FEATURE.match(str(feature)):
            yield "cpu.features has %r; write NAME or NAME=require|disable|force|optional|forbid" % (feature,)


def _cpu(cpu: Any) -> Optional[Cpu]:
    if cpu is None:
        return None
    given = {"model": cpu} if isinstance(cpu, str) else cpu
    mode, model = given.get("mode"), given.get("model")
    if mode is None:
        mode, model = (model, None) if model in CPU_MODES else ("custom", model)
    features: List[str] = [str(one) if "=" in str(one) else "%s=require" % one for one in given.get("features") or []]
    return Cpu(mode=mode, model=model if mode == "custom" else None, features=tuple(features))


def _nic_problems(nics: List[Mapping[str, Any]]) -> Iterator[str]:
    seen: List[str] = []
    for index, nic in enumerate(nics):
        option = "networks[%d]" % index
        if bool(nic["bridge"]) == bool(nic["network"]):
            yield "%s needs exactly one of bridge and network" % option
        mac = (nic["mac"] or "").lower()
        if mac and (not _MAC.match(mac) or int(mac[:2], 16) & 1):
            yield "%s.mac is %r; give a unicast address such as 52:54:00:12:34:56" % (option, nic["mac"])
        if mac and mac in seen:
            yield "%s.mac %s is given twice; give each card its own" % (option, mac)
        seen.append(mac)


def _nic(nic: Mapping[str, Any]) -> WantedNic:
    kind, source = _nic_source(nic)
    mac = (nic["mac"] or "").lower() or None
    return WantedNic(kind=kind, source=source, mac=mac, model=nic["model"], link=nic.get("link"))


def _nic_source(nic: Mapping[str, Any]) -> Tuple[str, str]:
    return ("bridge", nic["bridge"]) if nic["bridge"] else ("network", nic["network"])
