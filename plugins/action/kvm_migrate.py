# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows how far kvm_migrate is while it runs; see plugin_utils/watched.py."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.plugin_utils.watched import WatchedAction


class ActionModule(WatchedAction):
    pass
