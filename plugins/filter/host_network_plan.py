# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Mapping, Sequence

import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import Yaml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network_look import read_look
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.host_network import Outcome, network_outcome

DOCUMENTATION = r"""
name: host_network_plan
short_description: Plan how the network of a host gets its bridges
version_added: 0.1.0
description:
  - Takes what the role P(kvmops.fleet.host_network#role) saw on a host and the bridges that it shall have.
  - Nothing is read and nothing is changed.
positional: _input, bridges
options:
  _input:
    description: The output of the role's look.
    type: str
    required: true
  bridges:
    description: As C(host_network_bridges).
    type: list
    elements: dict
    required: true
  backend:
    description: As C(host_network_backend).
    type: str
    default: auto
author:
  - kvmops.fleet contributors (@kvmops)
"""

EXAMPLES = r"""
- name: Show what would happen
  ansible.builtin.debug:
    msg: "{{ (look.stdout | kvmops.fleet.host_network_plan([{'name': 'br0', 'interface': 'eno1'}])).steps }}"
"""

RETURN = r"""
_value:
  description:
    - C(problems), what stands against it, in words; when there are any, the rest is empty.
    - C(backend), C(steps) in words, C(files) with C(path), C(content), C(mode) and C(private).
    - C(job), what the role's helper on the host is given.
  type: dict
"""

# Networks of others may stand in the same file.
SECRETS = ("password", "psk", "secret", "private-key", "PrivateKey", "PresharedKey")


class _Dumper(yaml.SafeDumper):
    """Lists are indented, as in netplan's own examples."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _load(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise AnsibleFilterError("host_network_plan: a file of netplan cannot be read: %s" % error)


def _dump(value: Any) -> str:
    return str(yaml.dump(value, Dumper=_Dumper, default_flow_style=False, sort_keys=False))


def host_network_plan(look: str, bridges: Sequence[Mapping[str, Any]], backend: str = "auto") -> Dict[str, Any]:
    # Plain copies: what Ansible hands over carries tags.
    wanted = json.loads(json.dumps(list(bridges)))
    outcome = network_outcome(wanted, read_look(str(look)), str(backend), Yaml(_load, _dump))
    files = [
        {
            "path": path,
            "content": content,
            "mode": "0600" if path.startswith("/etc/netplan/") else "0644",
            "private": any(word in content for word in SECRETS),
        }
        for path, content in outcome.files
    ]
    return {
        "problems": list(outcome.problems),
        "backend": outcome.backend,
        "steps": list(outcome.steps),
        "files": files,
        "job": _job(outcome),
    }


def _job(outcome: Outcome) -> Dict[str, Any]:
    commands = outcome.commands
    live = [["ip", "link", "set", "dev", one.device, *one.wanted] for one in outcome.live]
    undo_live = [["ip", "link", "set", "dev", one.device, *one.found] for one in reversed(outcome.live)]
    return {
        "backend": outcome.backend,
        "files": [
            {"path": path, "content": content, "mode": 0o600 if path.startswith("/etc/netplan/") else 0o644}
            for path, content in outcome.files
        ],
        "before": commands.before,
        "after": [*commands.after, *live],
        "undo_before": commands.undo_before,
        "undo_after": [*commands.undo_after, *undo_live],
        "created": outcome.created,
        "joined": outcome.joined,
    }


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"host_network_plan": host_network_plan}
