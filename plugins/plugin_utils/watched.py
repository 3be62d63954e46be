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
from typing import Any, Dict, Iterator, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash

from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import path_of, progress_of

DISPLAY = Display()

# A line per guest at most this often.
SHOW_EVERY_S = 3.0


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
        look = "cat %s 2>/dev/null" % self._connection._shell.quote(path)
        where = self._task.delegate_to or self._play_context.remote_addr
        while not ended.wait(SHOW_EVERY_S):
            with contextlib.suppress(Exception):
                told = connection.exec_command(look, sudoable=False)[1]
                line = progress_of(json.loads(told)).line
                if not ended.is_set():
                    DISPLAY.display("%s: %s" % (where, line))
