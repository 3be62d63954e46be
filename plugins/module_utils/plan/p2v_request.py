# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the options of kvm_p2v_image to a P2vWish, or all that is wrong with them."""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Optional, Pattern

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.names import name_problems
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import (
    FREEZE,
    GONE,
    NONE,
    STOP,
    P2vWish,
    Takeover,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_import import import_problems, imports_of
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_probe_request import read_p2v_probe

GATHER, HOT, COLD = "gather", "hot", "cold"
MODES = (HOT, COLD, GATHER)
_ABOVE_ZERO = ("max_downtime_s", "max_passes", "connections", "bandwidth_mib_s", "connect_timeout_s")
_MOST_CONNECTIONS = 16
# A file name is made of it: ".NAME-nvme0n1.qcow2.part.manifest.new"
_LONGEST = 200
_DISK = re.compile(r"^[a-z][a-z0-9]*$")
_SERVICE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9@._:\\-]*$")
_KEY = re.compile(r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa) [A-Za-z0-9+/]+={0,2}$")


def read_p2v_wish(params: Mapping[str, Any]) -> P2vWish:
    """Raises RequestError with every problem at once."""
    problems = name_problems("name", params["name"])
    if not problems and len(params["name"].encode("utf-8")) > _LONGEST:
        problems.append("name has more than %d bytes; file names are made of it. Shorten it" % _LONGEST)
    problems += [
        "%s is %s; give a number above 0" % (option, params[option])
        for option in _ABOVE_ZERO
        if params.get(option) is not None and params[option] <= 0
    ]
    if params["connections"] > _MOST_CONNECTIONS:
        problems.append("connections is %d; %d are the most" % (params["connections"], _MOST_CONNECTIONS))
    problems += _words("disks", params.get("disks"), _DISK, "a kernel name such as sda or nvme0n1")
    problems += _words("services", params.get("services"), _SERVICE, "the name of a service, such as nginx.service")
    problems += _words("serials", list(params.get("serials") or {}), _DISK, "kernel names of disks as keys")
    problems += _key_problems(params.get("key"))
    problems += _takeover_problems(params["cutover"], params.get("takeover"))
    if params["cutover"] == STOP and not params.get("services"):
        problems.append("cutover is stop and services is empty; name the services to stop, or choose freeze")
    if params["mode"] == GATHER and params["cutover"] != NONE:
        problems.append(
            "cutover is %s and mode is gather; a look changes nothing: leave cutover out" % params["cutover"]
        )
    if params["mode"] == COLD:
        problems += _cold_problems(params)
    problems += import_problems(params)
    problems += read_p2v_probe(params)[2]
    if problems:
        raise RequestError(problems)
    return _wish(params)


def _wish(params: Mapping[str, Any]) -> P2vWish:
    """Of options that were checked."""
    takeover = params.get("takeover")
    imports = imports_of(params)
    starts = (params.get("domain") or {}).get("state") == "running"
    probe, answer_timeout_s, dummy = read_p2v_probe(params)
    return P2vWish(
        name=params["name"],
        pool=params["pool"],
        format=params["format"],
        disks=tuple(each.disk for each in imports) or tuple(params.get("disks") or ()),
        serials=dict(params.get("serials") or {}),
        cutover=GONE if imports and starts else params["cutover"],
        max_downtime_s=params["max_downtime_s"],
        max_passes=params["max_passes"],
        services=tuple(params.get("services") or ()),
        takeover=Takeover(tuple(takeover["command"]), takeover["timeout_s"]) if takeover else None,
        connections=params["connections"],
        bandwidth_mib_s=params.get("bandwidth_mib_s"),
        connect_timeout_s=params["connect_timeout_s"],
        key=params.get("key"),
        gather_only=params["mode"] == GATHER,
        source=params.get("source") or "",
        cold=params["mode"] == COLD or bool(imports),
        imports=imports,
        probe=probe,
        answer_timeout_s=answer_timeout_s,
    )


def _cold_problems(params: Mapping[str, Any]) -> List[str]:
    found = []
    if params["cutover"] in (FREEZE, STOP):
        found.append(
            "cutover is %s and mode is cold; nothing of the installed system runs there: choose none or poweroff"
            % params["cutover"]
        )
    if params.get("services"):
        found.append("services are given and mode is cold; none of the installed system runs: leave services out")
    return found


def _words(option: str, words: Any, form: Pattern[str], remedy: str) -> List[str]:
    found = ["%s has %r; give %s" % (option, word, remedy) for word in words or () if not form.match(str(word))]
    if len(set(words or ())) != len(words or ()):
        found.append("%s names something twice" % option)
    return found


def _key_problems(key: Optional[str]) -> List[str]:
    if key is not None and not _KEY.match(key):
        return ["key is no public key of OpenSSH on one line without options; the action plugin makes one by itself"]
    return []


def _takeover_problems(cutover: str, takeover: Optional[Mapping[str, Any]]) -> List[str]:
    if cutover in (FREEZE, STOP) and not takeover:
        return [
            "cutover is %s and takeover is missing; give the command that starts the VM and fails unless it serves, "
            "or choose poweroff or none" % cutover
        ]
    if takeover and cutover not in (FREEZE, STOP):
        return ["takeover is given and cutover is %s; it belongs to freeze and stop" % cutover]
    if not takeover:
        return []
    found = []
    if not takeover["command"] or not str(takeover["command"][0]).startswith("/"):
        found.append("takeover.command begins with %r; give the whole path of a program" % takeover["command"][:1])
    if takeover["timeout_s"] <= 0:
        found.append("takeover.timeout_s is %s; give a number above 0" % takeover["timeout_s"])
    return found
