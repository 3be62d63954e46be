# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resume a post-copy move that broke off: the two halves become one guest again, on the destination."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.kvmops.fleet.plugins.module_utils.host import live_migration, progress_file
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Order, Watched
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.settlement import HALVES
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_settle import both_say, settle

# After a cut TCP asks again at intervals that double, up to two minutes; only then the destination's QEMU learns of it.
# Until its libvirt has learned of it too, it refuses to resume, and nothing is lost by asking.
NOTICED_S = 150
ASK_AGAIN_S = 2


def take(wish: Wish, ends: Ends) -> None:
    """Return when the guest lives on the destination. Raises HostError or CannotConverge, and then both halves are as before."""
    dom = live_migration.there(ends.source, wish.name)
    deadline = time.monotonic() + NOTICED_S
    watched = _ask(wish, dom)
    while watched.error and time.monotonic() < deadline and all(word in HALVES for word in both_say(wish, ends)):
        time.sleep(ASK_AGAIN_S)
        watched = _ask(wish, dom)
    settle(wish, ends, watched)


def _ask(wish: Wish, dom: Any) -> Watched:
    live_migration.interrupt_postcopy(dom)
    order = Order(
        dest_uri=wish.dest_uri,
        migrate_uri=wish.migrate_uri,
        persistent=bool(dom.isPersistent()),
        postcopy=True,
        resume=True,
    )
    subject = "%s to %s" % (wish.name, wish.host)
    with progress_file.telling("kvm_migrate", wish.name) as tell:
        return live_migration.migrate(dom, order, lambda sample: tell(sample.progress(subject)), lambda *dummy: ())
