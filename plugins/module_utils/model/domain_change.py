# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One difference between a domain as wanted and as found. It is said, shown and applied from the same value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping


@dataclass(frozen=True)
class Edit:
    """One edit of a definition. name: a key of EDITS in model/domain_patch_xml.py. args: what that edit takes."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """key: where it stands in the diff ("memory_mib", "disks.vda.cache"). before, after: plain data; None = absent.

    words: the same for a person, without the moment it takes effect.
    """

    key: str
    before: Any
    after: Any
    words: str
    edit: Edit
