# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk, and an agent that knows nothing of any other.

Nothing of ours is imported before a test runs: a conftest is read before Ansible knows where collections are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker has all of these: they take turns at the disks, and two that wait for each other are one too many."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("disks"))


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is room: disks that are files on a busy disk would take these tests minutes."""
    from . import disks

    with disks.in_memory() as folder:
        yield folder or tmp_path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Any]:
    from . import disks

    if not disks.possible():
        pytest.skip("needs root and loop devices")
    with disks.alone():
        made = disks.Disk(tmp_path / "disk.img", 400)
        yield made
        made.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    from ansible_collections.kvmops.fleet.plugins.plugin_utils import p2v_bundle

    from . import receiving

    started = []

    def start(disk: Any, python: str = sys.executable, **more: Any) -> Any:
        made = receiving.Agent(tmp_path, [disk.name], [python, "-c", p2v_bundle.START], **more)
        started.append(made)
        return made

    yield start
    for made in started:
        if made.process.poll() is None:
            made.end()


@pytest.fixture
def receiver(tmp_path: Path, disk: Any) -> Iterator[Any]:
    """A receiver of the disk, which is an ext4 that is mounted and has files."""
    from . import chain, disks

    disks.run("mkfs.ext4", "-q", disk.node)
    disk.mount(disk.node, tmp_path / "here")
    disks.fill(tmp_path / "here")
    yield chain.Receiver(tmp_path, disk)


@pytest.fixture
def writer(receiver: Any) -> Iterator[Any]:
    from . import chain

    made = chain.Writer(receiver.disk.mounted[0])
    yield made
    made.end()
