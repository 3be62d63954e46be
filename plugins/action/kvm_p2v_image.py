# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs kvm_p2v_image on the receiving host and, when that waits for it, its agent on the source; shows the progress."""

from __future__ import annotations

import copy
import json
from typing import Any, Dict, Mapping, Optional

from ansible.errors import AnsibleActionFail

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import failed_in, folder_of, run_id
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import path_of
from ansible_collections.kvmops.fleet.plugins.plugin_utils import p2v_bundle, p2v_start
from ansible_collections.kvmops.fleet.plugins.plugin_utils.other_host import OtherHost
from ansible_collections.kvmops.fleet.plugins.plugin_utils.watched import LOOK, WatchedAction


class ActionModule(WatchedAction):
    # The agent belongs to the task: a task in the background would have nobody to start it.
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        task_vars = task_vars or {}
        args = self._task.args
        source = str(args.get("source") or "")
        if args.get("import_from") is not None:
            # There is no agent: the module reads the images itself, and refuses a source beside them.
            return super().run(tmp, task_vars)
        if source not in task_vars["hostvars"]:
            raise AnsibleActionFail(
                "source is %r; give the inventory name of the physical machine, or import_from." % source
            )
        key = p2v_start.new_key()
        self._task.args = dict(args, key=key["public"])
        variables = task_vars["hostvars"][source]
        becomes = bool(self._play_context.become)

        other = OtherHost(source, variables, self._play_context, becomes)

        def start(bundle: bytes) -> Any:
            try:
                return other.run(p2v_bundle.command(), bundle)
            finally:
                other.close()

        def prepare() -> Dict[str, Any]:
            return p2v_start.settings(key, self._receiver(task_vars), int(args.get("connections") or 2), self._disks())

        path = self._connection._shell.quote(path_of("kvm_p2v_image", str(args.get("name"))))
        look = p2v_start.SOON % path + LOOK % path
        with p2v_start.Starter(lambda: self._here(look), start, self._tell, prepare, other.reach) as starter:
            result = super().run(tmp, task_vars)
        if starter.said and result.get("failed") and starter.said not in str(result.get("msg")):
            result["msg"] = "%s The agent on %s said: %s" % (result.get("msg", ""), source, starter.said)
        result.get("invocation", {}).get("module_args", {}).pop("key", None)
        return result

    def _disks(self) -> Any:
        disks = self._task.args.get("disks") or []
        return disks.split(",") if isinstance(disks, str) else disks

    def _here(self, command: str) -> str:
        """The output of a command on the receiving host, on a channel beside the module's."""
        told = copy.copy(self._connection).exec_command(command, sudoable=False)[1]
        return told if isinstance(told, str) else told.decode("utf-8", "replace")

    def _receiver(self, task_vars: Mapping[str, Any]) -> p2v_start.Receiver:
        where = self._task.delegate_to or task_vars["inventory_hostname"]
        variables = task_vars["hostvars"].get(where, {})
        address = self._task.args.get("receiver") or variables.get("ansible_host") or where
        keys = self._here(p2v_start.HOST_KEYS).splitlines()
        return p2v_start.Receiver(str(address), int(variables.get("ansible_port") or 22), keys)

    def _tell(self, told: Mapping[str, str]) -> None:
        """Let the module, which waits for the agent, know that it will not come."""
        other = copy.copy(self)
        other._connection = copy.copy(self._connection)
        quote = self._connection._shell.quote
        name, key = str(self._task.args.get("name")), str(self._task.args.get("key"))
        failed = failed_in(folder_of(name), run_id(key))
        other._low_level_execute_command("printf %%s %s > %s" % (quote(json.dumps(told)), quote(failed)))
