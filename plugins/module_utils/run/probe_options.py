# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option `probe`, of kvm_migrate and of kvm_p2v_image."""

from __future__ import annotations

from typing import Any, Dict

_SHARED: Dict[str, Any] = {
    "address": {"type": "str", "aliases": ["host"]},
    "port": {"type": "int"},
    "url": {"type": "str"},
    "send": {"type": "str"},
    "expect": {"type": "str"},
    "interval_ms": {"type": "int"},
    "timeout_ms": {"type": "int"},
    "before_s": {"type": "float", "default": 2.0},
    "after_s": {"type": "float", "default": 2.0},
}
PROBE_OPTIONS: Dict[str, Any] = {
    **_SHARED,
    "type": {"type": "str", "required": True, "choices": ["tcp", "icmp", "http", "agent"]},
    "from": {"type": "str", "choices": ["source", "destination"], "default": "source"},
}
# A physical machine has no guest agent, and its guest is asked as it was; the host that receives asks.
P2V_PROBE_OPTIONS: Dict[str, Any] = {
    **_SHARED,
    "type": {"type": "str", "required": True, "choices": ["tcp", "icmp", "http"]},
    "answer_timeout_s": {"type": "float"},
}
