# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look on while libvirt moves a guest that somebody else sent on its way."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Dict, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domains
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, flag, libvirt
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import POLL_S, Watched, sample_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample

# Between two phases libvirt may have no numbers for a moment.
GONE_AFTER = 3


class Follower:
    """The migration job of one domain on its source. began: time.monotonic() that samples count from. Changes nothing but in abort()."""

    def __init__(self, source: Hypervisor, name: str, began: float) -> None:
        self.watched = Watched()
        self._source, self._name, self._began = source, name, began
        self._job_began: Optional[float] = None

    def job(self) -> Optional[str]:
        """Name of the running libvirt job; None when there is none, or no such domain. Raises HostError."""
        dom = domains.find(self._source, self._name)
        return domains.job(dom) if dom is not None else None

    def until_gone(self, on_sample: Callable[[Sample], None], give_up: Callable[[], bool]) -> None:
        """Sample the job until it is gone, or until give_up() says so."""
        missing = 0
        with self._completed():
            while missing < GONE_AFTER and not give_up():
                sample = self._sample()
                missing = 0 if sample is not None else missing + 1
                if sample is not None:
                    self.watched.samples.append(sample)
                    on_sample(sample)
                time.sleep(POLL_S)
        self.watched.wall_ms = self._elapsed_ms()

    def job_age_s(self) -> float:
        """How long the job runs by now, by what libvirt said of it when it was first seen; 0 before that."""
        return 0.0 if self._job_began is None else time.monotonic() - self._job_began

    def abort(self) -> Optional[str]:
        """End the job. None, or libvirt's words when it could not."""
        return self._act(lambda dom: dom.abortJob())

    def pause(self) -> Optional[str]:
        """Pause the guest, so that the job can end. None, or libvirt's words when it could not."""
        return self._act(lambda dom: dom.suspend())

    def postcopy(self) -> Optional[str]:
        """Let the guest run there before its memory has come. None, or libvirt's words when the job was not begun for that."""
        return self._act(lambda dom: dom.migrateStartPostCopy(0))

    def _act(self, act: Callable[[Any], Any]) -> Optional[str]:
        try:
            act(self._source.conn.lookupByName(self._name))
        except libvirt.libvirtError as error:
            return str(error.get_error_message() or error)
        return None

    def why_failed(self) -> Optional[str]:
        """What the source's libvirt kept of a job that failed (libvirt 6.3 and newer), if it did."""
        try:
            flags = flag("VIR_DOMAIN_JOB_STATS_COMPLETED", "VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED")
            told = self._source.conn.lookupByName(self._name).jobStats(flags)
        except libvirt.libvirtError:
            return None
        return str(told["errmsg"]) if told.get("errmsg") else None

    def _elapsed_ms(self) -> int:
        return int((time.monotonic() - self._began) * 1000)

    def _sample(self) -> Optional[Sample]:
        try:
            dom = domains.find(self._source, self._name)
        except HostError:
            return None
        if dom is not None and self._job_began is None:
            self._see_begin(dom)
        return sample_of(dom, self._elapsed_ms()) if dom is not None else None

    def _see_begin(self, dom: Any) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            told = dom.jobStats(0)
            if told.get("type", 0) != 0:
                self._job_began = time.monotonic() - told.get("time_elapsed", 0) / 1000.0

    @contextlib.contextmanager
    def _completed(self) -> Any:
        """Keep the statistics that the source sends of the finished job: only they count the disks."""

        def on_completed(conn: Any, domain: Any, stats: Dict[str, Any], opaque: Any) -> None:
            self.watched.completed.update(stats)

        listener = None
        with contextlib.suppress(libvirt.libvirtError):
            dom = self._source.conn.lookupByName(self._name)
            event = libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED
            listener = self._source.conn.domainEventRegisterAny(dom, event, on_completed, None)
        try:
            yield
        finally:
            if listener is not None:
                with contextlib.suppress(libvirt.libvirtError):
                    self._source.conn.domainEventDeregisterAny(listener)
