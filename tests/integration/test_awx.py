# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a user of AWX sees: the playbook under ansible-runner, which is what AWX runs jobs with."""

from __future__ import annotations

import itertools
import os
import re
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import ansible_runner
import pytest

from .conftest import NEWER
from .fleet import ROOT, Lab, answers, guest, until

RELEASES = NEWER
HOSTS = ("kvm1", "kvm2", "kvm3")
# subject, phase, per cent, rate, what is left: a line as docs/awx.md shows it.
LINE = re.compile(r"kvm1: web1 to kvm2  memory +\d+ %  [\d.]+ MiB/s  \d+ MiB left  ")
SURVEY = {
    "migrate_name": "web1",
    "migrate_from": "kvm1",
    "migrate_to": "kvm2",
    # A survey hands numbers on as numbers, and what was left empty as an empty text.
    "migrate_bandwidth_mib_s": 4,
    "migrate_timeout_s": 300,
    "migrate_transport": "ssh",
    "migrate_policy": "",
    "migrate_keep_source": "",
    "migrate_probe_type": "",
}


class Job:
    """A job template's run. events: (seconds since the start, event), as they came in while it ran."""

    def __init__(self, lab: Lab, folder: Path, cancel: bool = False, inventory: str = "", **more: Any) -> None:
        """cancel: as soon as it shows how far it is."""
        book = folder / "project" / "move.yml"
        book.parent.mkdir(parents=True, exist_ok=True)
        book.write_text("- import_playbook: kvmops.fleet.migrate\n", encoding="utf-8")
        began = time.monotonic()
        self.events: List[Tuple[float, Dict[str, Any]]] = []
        self.runner = ansible_runner.run(
            private_data_dir=str(folder),
            playbook=book.name,
            inventory=inventory or str(lab.inventory),
            extravars={**SURVEY, **more},
            envvars={
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "PATH": "%s:%s" % (ROOT / ".venv" / "bin", os.environ["PATH"]),
            },
            event_handler=lambda event: self.events.append((time.monotonic() - began, event)),
            cancel_callback=lambda: cancel and bool(self.lines),
            quiet=True,
            timeout=300,
        )

    @property
    def printed(self) -> str:
        return Path(self.runner.stdout.name).read_text(encoding="utf-8")

    def of(self, kind: str, task: str = "") -> List[Tuple[float, Dict[str, Any]]]:
        return [
            (at, event)
            for at, event in self.events
            if event["event"] == kind and event["event_data"].get("task", "").startswith(task)
        ]

    @property
    def lines(self) -> List[Tuple[float, Dict[str, Any]]]:
        """Those that tell how far it is."""
        return [(at, event) for at, event in self.of("verbose") if LINE.search(event["stdout"])]


def test_a_job_shows_how_far_it_is_and_what_it_cost(clean: Lab, tmp_path: Path) -> None:
    clean.one("kvm1", "kvm_domain", **guest("web1", 101))
    until(lambda: answers(clean, 101), 60, "web1 answers")
    job = Job(clean, tmp_path)
    assert job.runner.rc == 0 and clean.owners("web1", HOSTS) == ["kvm2"], job.printed

    ((began, begun),) = job.of("runner_on_start", "Move web1")
    ((ended, moved),) = job.of("runner_on_ok", "Move web1")
    lines = job.lines
    # The move takes ten seconds and more at this rate: they came while it ran, each some seconds after the one before.
    assert len(lines) >= 2 and all(began < at < ended for at, dummy in lines), (began, ended, lines)
    assert lines[0][0] < ended - 3
    assert all(later - earlier > 2 for (earlier, dummy), (later, other) in itertools.pairwise(lines)), lines
    assert all(event["parent_uuid"] == begun["parent_uuid"] for dummy, event in lines), (
        "it does not stand below its task"
    )
    assert all(event["stdout"].strip() in job.printed.replace("\r\n", "\n") for dummy, event in lines)

    summary = moved["event_data"]["res"]["summary"]
    assert re.match(r"web1 moved from kvm1 to kvm2 in [\d.]+ s; it stood still for \d+ ms", summary[0])
    ((dummy, said),) = job.of("runner_on_ok", "Say what it cost")
    assert all(line in said["stdout"] for line in summary)
    # AWX keeps it as the job's artifacts.
    ((dummy, stats),) = job.of("playbook_on_stats")
    (move,) = stats["event_data"]["artifact_data"]["kvmops_migrate"]["moves"]
    assert move["summary"] == summary and move["outcome"] == "moved"
    # ansible-runner drops results that are longer than this.
    assert len(str(moved["event_data"]["res"])) < 700_000

    again = Job(clean, tmp_path, migrate_from="kvm2", migrate_to="kvm1", migrate_name="nobody")
    assert again.runner.status == "failed" and "neither kvm2 nor kvm1 has a domain of that name" in again.printed


def test_a_slice_of_the_inventory_is_refused(clean: Lab, tmp_path: Path) -> None:
    """Job slicing gives each job a part of the hosts; a move needs both of its own."""
    (tmp_path / "part").write_text("kvm1\n", encoding="utf-8")
    part = Job(clean, tmp_path, inventory=str(tmp_path / "part"))
    assert part.runner.status == "failed" and "inventory names of different hosts" in part.printed


@pytest.mark.long
def test_a_cancelled_job_does_not_cancel_the_move(clean: Lab, tmp_path: Path) -> None:
    """A time limit of the job template ends a job in the same way. The next job watches, and tells what it cost."""
    clean.one("kvm1", "kvm_domain", **guest("web1", 101))
    until(lambda: answers(clean, 101), 60, "web1 answers")
    first = Job(clean, tmp_path / "first", cancel=True)
    assert first.runner.status == "canceled"
    second = Job(clean, tmp_path / "second")
    assert second.runner.rc == 0 and clean.owners("web1", HOSTS) == ["kvm2"], second.printed
    ((dummy, moved),) = second.of("runner_on_ok", "Move web1")
    assert moved["event_data"]["res"]["watched"] is True
    assert "web1 moved from kvm1 to kvm2" in second.printed
