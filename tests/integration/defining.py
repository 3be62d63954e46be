# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real libvirt makes of definitions: given to it, read back, removed again."""

from __future__ import annotations

import json
import subprocess
from typing import Dict, Mapping, NamedTuple, Optional

from .fleet import LAB, Lab

# The calls of `virsh define`, `virsh dumpxml --inactive` and `virsh undefine --nvram`, without a process for each.
_ON_THE_HOST = """
import json, sys, libvirt
libvirt.registerErrorHandler(lambda ctx, error: None, None)
conn = libvirt.open("qemu:///system")
told = {"libvirt": conn.getLibVersion(), "domains": {}}
for key, xml in json.load(sys.stdin).items():
    try:
        domain = conn.defineXMLFlags(xml, 0)
    except libvirt.libvirtError as error:
        told["domains"][key] = {"refused": str(error)}
        continue
    told["domains"][key] = {"kept": domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)}
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
print(json.dumps(told))
"""


class Answer(NamedTuple):
    """kept: the inactive XML without secrets, as libvirt prints it. refused: libvirt's words instead."""

    kept: Optional[str] = None
    refused: Optional[str] = None


class Answers(NamedTuple):
    """version: of libvirt, as in 9.0."""

    version: str
    of: Dict[str, Answer]


def define_each(lab: Lab, host: str, definitions: Mapping[str, str], timeout_s: int = 500) -> Answers:
    """Each definition, by any key, one after the other; none is left."""
    done = subprocess.run(
        [str(LAB), "exec", "--name", lab.name, host, "--", "python3", "-c", _ON_THE_HOST],
        input=json.dumps(dict(definitions)),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError("definitions on %s: %s%s" % (host, done.stdout[-2000:], done.stderr[-2000:]))
    told = json.loads(done.stdout)
    number = told["libvirt"]
    version = "%d.%d" % (number // 1000000, number // 1000 % 1000)
    return Answers(version, {key: Answer(**said) for key, said in told["domains"].items()})
