# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resume a post-copy move that broke off: the two halves become one guest again, on the destination."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domains, live_migration, progress_file
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Order
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import POSTCOPY_FAILED
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_settle import settle

# After a cut TCP asks again at intervals that double, up to two minutes; only then the destination's QEMU learns of it.
NOTICED_S = 150


def take(wish: Wish, ends: Ends) -> None:
    """Return when the guest lives on the destination. Raises HostError or CannotConverge, and then both halves are as before."""
    dom = live_migration.there(ends.source, wish.name)
    live_migration.interrupt_postcopy(dom)
    try:
        for hv in (ends.source, ends.dest):
            attempted = "see %s give up the post-copy of %s that broke off" % (hv.side, wish.name)
            live_migration.wait_until(lambda hv=hv: _has_given_up(hv, wish.name), NOTICED_S, attempted, hv.side)
    except HostError as error:
        remedy = "Stop neither half. See that the two hosts reach each other, then run again."
        raise HostError(error.attempted, error.side, error.said, remedy) from error
    order = Order(
        dest_uri=wish.dest_uri,
        migrate_uri=wish.migrate_uri,
        persistent=bool(dom.isPersistent()),
        postcopy=True,
        resume=True,
    )
    subject = "%s to %s" % (wish.name, wish.host)
    with progress_file.telling("kvm_migrate", wish.name) as tell:
        watched = live_migration.migrate(dom, order, lambda sample: tell(sample.progress(subject)), lambda *dummy: ())
    settle(wish, ends, watched)


def _has_given_up(hv: Hypervisor, name: str) -> bool:
    dom = domains.find(hv, name)
    return dom is not None and domains.reason(dom) == POSTCOPY_FAILED
