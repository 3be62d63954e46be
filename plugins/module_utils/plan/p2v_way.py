# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why an agent did not come, from the words that ssh had for it, and what the user can do about that."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import DIAL, START
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_concerns import concern


@dataclass(frozen=True)
class Absence:
    """source: inventory name. stage: START when it was not reached, DIAL when it did not get from there to here, or "".

    said: the system's words. address: the source's own towards this host, "" when unknown. port: of sshd here.
    """

    source: str
    stage: str
    said: str
    address: str = ""
    port: str = "22"


# Words of OpenSSH, sudo, Ansible and the agent's loader; the first that fits counts.
_CAUSES: Tuple[Tuple[str, str, str], ...] = (
    (START, r"IDENTIFICATION HAS CHANGED|[Hh]ost key verification failed", "p2v-source-host-key"),
    (START, r"no Python on this machine", "p2v-source-python"),
    (
        START,
        r"password is required|incorrect password|not in the sudoers|Missing sudo|Incorrect sudo",
        "p2v-source-root",
    ),
    (START, r"", "p2v-source-unreachable"),
    (DIAL, r"IDENTIFICATION HAS CHANGED|[Hh]ost key verification failed", "p2v-receiver-host-key"),
    (DIAL, r"timed out|No route to host|Network is unreachable|prohibited", "p2v-receiver-closed"),
    (DIAL, r"Connection refused", "p2v-receiver-no-sshd"),
    (DIAL, r"Could not resolve|Name or service not known", "p2v-receiver-name"),
    (DIAL, r"Permission denied|Too many authentication", "p2v-receiver-no-login"),
    (DIAL, r"starting ssh: ", "p2v-source-no-ssh"),
)


def why_absent(absence: Absence) -> Concern:
    """Always an error: without the agent nothing of the source is known."""
    # ssh frames its warning in at signs.
    said = re.sub(r"\s+", " ", re.sub(r"@{3,}", " ", absence.said)).strip()
    for stage, words, name in _CAUSES:
        if stage == absence.stage and re.search(words, said):
            return _filled(concern(name, "%s: %s" % (absence.source, said)), absence)
    return concern("p2v-agent-absent", "%s: %s" % (absence.source, said))


def _filled(found: Concern, absence: Absence) -> Concern:
    """The remedy with what is to be written where."""
    where = absence.address or "ADDRESS OF %s" % absence.source
    return replace(found, remedy=found.remedy.replace("{from}", where).replace("{port}", absence.port))
