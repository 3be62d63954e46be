# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services of this machine stopped and started, by systemd or by what came before it."""

from __future__ import absolute_import, division, print_function

import os

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import processes

__metaclass__ = type

SYSTEMD = "/run/systemd/system"
PATIENCE_S = 300


def stop(names):
    """Stop them in this order. With a Failed, those that were stopped are started again."""
    stopped = []
    for name in names:
        try:
            command("stop", name)
        except processes.Failed:
            start(stopped)
            raise
        stopped.insert(0, name)
    return {"stopped": names}


def start(names):
    """Start all of them that start; a Failed names the first that did not."""
    wrong = None
    for name in names:
        try:
            command("start", name)
        except processes.Failed as error:
            wrong = wrong or error
    if wrong:
        raise wrong
    return {"started": names}


def command(word, name):
    argv = ["systemctl", word, "--", name] if os.path.isdir(SYSTEMD) else ["service", name, word]
    processes.run(argv, PATIENCE_S)


def power_off():
    """In order. A frozen machine cannot do that: see the watchdog."""
    processes.run(["systemctl", "poweroff"] if os.path.isdir(SYSTEMD) else ["shutdown", "-h", "now"], PATIENCE_S)
