# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of kvm_p2v_image that say what becomes of the copy. Those of a domain have the names of kvm_domain."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import AUTO, SIGNS
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain import OPTIONS as DOMAIN_OPTIONS

_TAKEN = (
    "uuid",
    "domain_type",
    "memory_mib",
    "vcpus",
    "cpu",
    "machine",
    "firmware",
    "graphics",
    "tpm",
    "serial_log",
    "metadata",
    "autostart",
)
_NETWORK: Dict[str, Any] = {
    "interface": {"type": "str"},
    **{name: DOMAIN_OPTIONS["networks"]["options"][name] for name in ("bridge", "network", "mac", "model")},
}

VM_OPTIONS: Dict[str, Any] = {
    "fixup": {"type": "bool", "default": False},
    "fixup_options": {
        "type": "dict",
        "options": {
            "serial_console": {"type": "bool", "default": False},
            "services_off": {"type": "list", "elements": "str"},
            "keep_services": {"type": "list", "elements": "str"},
            "guest_agent": {"type": "bool", "default": False},
            "guest_agent_packages": {"type": "list", "elements": "path"},
            "timeout_s": {"type": "float", "default": 900.0},
        },
    },
    "domain": {
        "type": "dict",
        "options": {
            "name": {"type": "str"},
            "state": {"type": "str", "default": "present", "choices": ["present", "running"]},
            "networks": {"type": "list", "elements": "dict", "options": _NETWORK},
            **{name: DOMAIN_OPTIONS[name] for name in _TAKEN},
        },
    },
    "boot_test": {
        "type": "dict",
        "options": {
            "timeout_s": {"type": "float", "default": 300.0},
            "wait_for": {"type": "str", "default": AUTO, "choices": list(SIGNS)},
            "port": {"type": "int"},
        },
    },
}
