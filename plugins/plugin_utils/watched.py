# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module in the background of its host, and show its progress on the controller until it ends.

In the background it also survives the loss of the controller: what it has begun, it ends.
"""

from __future__ import annotations

import json
import time
from typing import Any, Dict, Mapping, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash

from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import path_of, progress_of

DISPLAY = Display()

# How long the background job may take at most: a week. The module's own timeouts are what users set.
LIMIT_S = 7 * 24 * 3600
FIRST_LOOK_S = 0.2
LOOK_EVERY_S = 1.0
# A line per guest at most this often.
SHOW_EVERY_S = 3.0
ENDED = "kvmops-ended"


class WatchedAction(ActionBase):
    """For modules that tell their progress (host/progress_file.py) under their own name and their option `name`."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result: Dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode or self._task.async_val:
            wrapped = bool(self._task.async_val)
            return dict(merge_hash(result, self._execute_module(task_vars=task_vars, wrap_async=wrapped)))
        return dict(merge_hash(result, self._watch(task_vars)))

    def _watch(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        started = self._start(task_vars)
        job = started.get("ansible_job_id")
        if not job:
            return started
        folder = self._remote_expand_user(self.get_shell_option("async_dir", default="~/.ansible_async"))
        self._show_until_end(self._connection._shell.join_path(folder, job))
        ended = self._ask_job(job, folder, "status", task_vars)
        self._ask_job(job, folder, "cleanup", task_vars)
        return {key: value for key, value in ended.items() if key not in _OF_THE_JOB}

    def _start(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        self._task.async_val = LIMIT_S
        try:
            return dict(self._execute_module(task_vars=task_vars, wrap_async=True))
        finally:
            self._task.async_val = 0

    def _show_until_end(self, job_file: str) -> None:
        """Look at the job until its result is written. An answer that never comes is Ansible's connection error."""
        module = self._task.action.split(".")[-1]
        name = self._task.args.get("name") or self._task.args.get("guest")
        quote = self._connection._shell.quote
        job_file = quote(job_file)
        look = "cat %s 2>/dev/null; test -s %s && ! grep -q '\"finished\": false' %s && echo %s" % (
            quote(path_of(module, str(name))),
            job_file,
            job_file,
            ENDED,
        )
        wait, shown = FIRST_LOOK_S, time.monotonic()
        while True:
            time.sleep(wait)
            seen = self._low_level_execute_command(look)["stdout"]
            if ENDED in seen:
                return
            if time.monotonic() - shown >= SHOW_EVERY_S and self._show(seen):
                shown = time.monotonic()
            wait = min(wait * 1.5, LOOK_EVERY_S)

    def _show(self, seen: str) -> bool:
        try:
            line = progress_of(json.loads(seen.strip().splitlines()[0])).line
        except (IndexError, KeyError, TypeError, ValueError):
            return False
        DISPLAY.display("%s: %s" % (self._task.delegate_to or self._play_context.remote_addr, line))
        return True

    def _ask_job(self, job: str, folder: str, mode: str, task_vars: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
        arguments = {"jid": job, "mode": mode, "_async_dir": folder}
        return dict(
            self._execute_module(module_name="ansible.legacy.async_status", module_args=arguments, task_vars=task_vars)
        )


_OF_THE_JOB = frozenset(["ansible_job_id", "started", "finished", "results_file", "stdout", "stderr", "stdout_lines"])
