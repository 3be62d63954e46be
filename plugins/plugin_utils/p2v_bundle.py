# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent of a hot P2V as one stream of bytes, and the command that reads it: nothing is stored on the source.

    <length of the loader>\\n<loader><length of the load>\\n<load>

The load is JSON: modules, in the order in which they need each other, and the settings of the run.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

PACKAGE = "ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent"
SOURCES = Path(__file__).resolve().parent.parent / "module_utils" / "p2v_agent"

# Each needs those before it only.
MODULES = (
    "ranges",
    "processes",
    "frames",
    "reading",
    "blocks",
    "mounts",
    "space",
    "btrfs",
    "rest",
    "signatures",
    "maps",
    "tracing",
    "network",
    "discovery",
    "services",
    "watchdog",
    "freezer",
    "servant",
    "agent",
)

# Python 2.7 and 3.4 to 3.14. Packages of memory need no finder: an import looks at sys.modules first.
LOADER = """
import json, sys, types
given = getattr(sys.stdin, "buffer", sys.stdin)
load = json.loads(given.read(int(given.readline())).decode("utf-8"))
def package(name):
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    return sys.modules[name]
for name, source in load["modules"]:
    parts = str(name).split(".")
    for count in range(1, len(parts)):
        above = package(".".join(parts[:count]))
    made = types.ModuleType(str(name))
    sys.modules[str(name)] = made
    setattr(above, parts[-1], made)
    exec(compile(source, str(name), "exec"), made.__dict__)
made.main(load["settings"])
"""

START = 'import sys;i=getattr(sys.stdin,"buffer",sys.stdin);exec(compile(i.read(int(i.readline())),"loader","exec"))'

# Of any age, and where RHEL 8 and later have one that is not in the path.
PYTHONS = ("python3", "python", "python2", "python2.7", "/usr/libexec/platform-python")


def bundle(settings: dict[str, Any]) -> bytes:
    """What the command reads. settings: see `main` of the agent."""
    modules = [["%s.%s" % (PACKAGE, name), (SOURCES / (name + ".py")).read_text(encoding="utf-8")] for name in MODULES]
    load = json.dumps({"modules": modules, "settings": settings}).encode("utf-8")
    loader = LOADER.encode("utf-8")
    return b"%d\n%s%d\n%s" % (len(loader), loader, len(load), load)


def command() -> str:
    """A command for the source's shell that runs what `bundle` made, by the first Python it finds."""
    tries = "; ".join(
        "command -v %s >/dev/null 2>&1 && exec %s -c %s" % (name, name, shlex.quote(START)) for name in PYTHONS
    )
    return "%s; echo 'no Python on this machine: looked for %s' >&2; exit 127" % (tries, ", ".join(PYTHONS))
