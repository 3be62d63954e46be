# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A connection to another host of the inventory than the task's own, as Ansible would make it for a task there."""

from __future__ import annotations

import copy
from typing import Any, Mapping, Tuple

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.loader import become_loader, connection_loader


class OtherHost:
    """variables: of that host, templated (an entry of hostvars). play_context: the task's; it is not changed."""

    def __init__(self, name: str, variables: Mapping[str, Any], play_context: Any, task_becomes: bool) -> None:
        self.name = name
        self._variables = variables
        context = copy.copy(play_context)
        context.remote_addr = self._said("ansible_host", name)
        kind = self._said("ansible_connection", "ssh")
        self._connection = connection_loader.get("ssh" if kind == "smart" else kind, context, None)
        if self._connection is None:
            raise AnsibleError("There is no connection plugin %s for %s." % (kind, name))
        self._connection.set_options(var_options=self._told("connection", self._connection._load_name))
        shell = self._connection._shell
        shell.set_options(var_options=self._told("shell", shell._load_name))
        self._become(task_becomes)

    def run(self, command: str, given: bytes) -> Tuple[int, str, str]:
        """Run it as root, with that standard input. (rc, out, err)."""
        become = self._connection.become
        if become is not None:
            command = become.build_become_command(command, self._connection._shell)
        rc, out, err = self._connection.exec_command(command, in_data=given, sudoable=become is not None)
        return rc, _text(out), _text(err)

    def reach(self) -> None:
        """Open a connection that the next command need not wait for, where connections are kept. Raises AnsibleError."""
        self._connection.exec_command("true", sudoable=False)

    def close(self) -> None:
        self._connection.close()

    def _become(self, task_becomes: bool) -> None:
        said = self._said("ansible_become", None)
        root = self._said("ansible_user", None) == "root"
        if not (boolean(said) if said is not None else task_becomes and not root):
            return
        method = self._said("ansible_become_method", "sudo")
        become = become_loader.get(method)
        if become is None:
            raise AnsibleError("There is no become plugin %s for %s." % (method, self.name))
        become.set_options(var_options=self._told("become", become._load_name))
        self._connection.set_become_plugin(become)

    def _said(self, name: str, default: Any) -> Any:
        return self._variables.get(name, default)

    def _told(self, kind: str, name: str) -> Mapping[str, Any]:
        """What of the host's variables are options of that plugin."""
        wanted = constants.config.get_plugin_vars(kind, name)
        return {each: self._variables[each] for each in wanted if each in self._variables}


def _text(said: Any) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
