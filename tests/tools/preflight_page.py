#!/usr/bin/env python3
# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/preflight.md from the catalogue in the code. A unit test fails while the page says something else."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "preflight.md"

HEAD = """\
# What kvm_migrate asks before it moves anything

<!-- Made by `make preflight-page` from plugins/module_utils/plan/concerns.py. Change it there. -->

Before any byte moves, both hosts are read, and every question is asked; the answers come all at once. Nothing is changed
on either side while that happens, in check mode and out of it. Each answer that is not "yes" is a concern: an id that
stays the same, a level, what was found, and what to do about it.

| level | what follows |
|---|---|
| `error` | The move is refused. The concerns are in the result as `concerns`, and in the message. |
| `warning` | The move goes on, and Ansible shows the warning. |
| `note` | The move goes on; it is in the result's `concerns` only. |

What is not listed is libvirt's and QEMU's to judge: they refuse at the start, and the guest goes on running where it was.
"""


def page() -> str:
    """The whole page."""
    sys.path.insert(0, str(ROOT / ".venv" / "collections"))
    from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import FAMILIES

    parts = [HEAD]
    for heading, entries in FAMILIES:
        rows = ["| `%s` | %s | %s | %s |" % (one.id, one.level, one.when, one.remedy) for one in entries]
        parts.append(
            "\n## %s\n\n| id | level | when | what to do |\n|---|---|---|---|\n%s\n" % (heading, "\n".join(rows))
        )
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
