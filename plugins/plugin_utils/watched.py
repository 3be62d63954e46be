# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module as always, and show on the controller how far it is.

The module tells its progress in a file on its host (host/progress_file.py). A thread reads it now and then over a
second channel; whatever goes wrong with that is no matter of the module's.
"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
from datetime import datetime, timedelta
from typing import Any, Dict, Iterator, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash

from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import (
    is_of_a_living_run,
    path_of,
    progress_of,
)

DISPLAY = Display()

# A line per guest at most this often.
SHOW_EVERY_S = 3.0
# An end that is further away than this is no forecast.
LONGEST_FORECAST_S = 20 * 3600
# The progress, and in the next line what the kernel says of the process that wrote it.
LOOK = (
    'f=%s; cat "$f" 2>/dev/null && '
    'cat "/proc/$(sed -n \'s/.*"pid": *\\([0-9][0-9]*\\).*/\\1/p\' "$f")/stat" 2>/dev/null'
)


class WatchedAction(ActionBase):
    """For modules that tell their progress under their own name and their option `name`."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result: Dict[str, Any] = super().run(tmp, task_vars)
        in_background = bool(self._task.async_val)
        where = str(self._task.delegate_to or (task_vars or {}).get("inventory_hostname"))
        with self._watching(where, not in_background and not self._task.check_mode):
            done = self._execute_module(task_vars=task_vars, wrap_async=in_background)
        return dict(merge_hash(result, with_cause(done, self._subject(), where)))

    def _subject(self) -> str:
        return str(self._task.args.get("name") or self._task.args.get("guest"))

    @contextlib.contextmanager
    def _watching(self, where: str, wanted: bool) -> Iterator[None]:
        """Show progress while the block runs."""
        if not wanted:
            yield
            return
        ended = threading.Event()
        watcher = threading.Thread(target=self._show_until, args=(where, ended), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join(SHOW_EVERY_S)

    def _show_until(self, where: str, ended: threading.Event) -> None:
        # The copy has its own state, and ssh gives it a channel of its own in the connection that is open already.
        connection = copy.copy(self._connection)
        path = path_of(self._task.action.split(".")[-1], self._subject())
        look = LOOK % self._connection._shell.quote(path)
        while not ended.wait(SHOW_EVERY_S):
            with contextlib.suppress(Exception):
                told = connection.exec_command(look, sudoable=False)[1]
                line = line_of(told if isinstance(told, str) else told.decode("utf-8"), datetime.now())
                if line and not ended.is_set():
                    DISPLAY.display("%s: %s" % (where, line))


def with_cause(done: Dict[str, Any], subject: str, where: str) -> Dict[str, Any]:
    """The module's result; when it gave none, Ansible's words for that after what it means for the guest."""
    said = str(done.get("msg", ""))
    if done.get("_ansible_parsed") is not False or "interpreter" in said:
        return done
    status = " (exit status %s)" % done["rc"] if "rc" in done else ""
    cause = str(done.get("module_stderr", "")).strip() or said
    words = (
        "The run for %s on %s ended without a result%s: it was killed there, or the host ran out of memory. What it had "
        "begun may go on. Start %s nowhere by hand. Run the same task again: it asks both hosts, then watches the move, "
        "finishes it or takes it back. What Ansible knows: %s"
    )
    return dict(done, msg=words % (subject, where, status, subject, cause[-500:]))


def line_of(told: str, now: datetime) -> Optional[str]:
    """What to show of the answer to LOOK. None for the file of a run that is dead. Raises ValueError, KeyError or TypeError
    when it is no such answer."""
    content, dummy, stat = told.partition("\n")
    written = json.loads(content)
    if not is_of_a_living_run(written, stat):
        return None
    progress = progress_of(written)
    near = progress.left_s is not None and progress.left_s < LONGEST_FORECAST_S
    ends_at = (now + timedelta(seconds=progress.left_s)).strftime("%H:%M:%S") if near else None
    return progress.line_until(ends_at)
