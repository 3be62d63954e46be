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
        with self._watching(not in_background and not self._task.check_mode):
            done = self._execute_module(task_vars=task_vars, wrap_async=in_background)
        return dict(merge_hash(result, done))

    @contextlib.contextmanager
    def _watching(self, wanted: bool) -> Iterator[None]:
        """Show progress while the block runs."""
        if not wanted:
            yield
            return
        ended = threading.Event()
        watcher = threading.Thread(target=self._show_until, args=(ended,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join(SHOW_EVERY_S)

    def _show_until(self, ended: threading.Event) -> None:
        # The copy has its own state, and ssh gives it a channel of its own in the connection that is open already.
        connection = copy.copy(self._connection)
        name = self._task.args.get("name") or self._task.args.get("guest")
        path = path_of(self._task.action.split(".")[-1], str(name))
        look = LOOK % self._connection._shell.quote(path)
        where = self._task.delegate_to or self._play_context.remote_addr
        while not ended.wait(SHOW_EVERY_S):
            with contextlib.suppress(Exception):
                told = connection.exec_command(look, sudoable=False)[1]
                line = line_of(told if isinstance(told, str) else told.decode("utf-8"), datetime.now())
                if line and not ended.is_set():
                    DISPLAY.display("%s: %s" % (where, line))


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
