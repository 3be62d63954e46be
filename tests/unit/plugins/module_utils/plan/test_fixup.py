# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a copied system needs to boot as a guest, case by case (cases/fixup.yml); and that once is enough."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

import pytest
import yaml

from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import (
    COPY,
    INSTALL,
    LINK,
    REMOVE,
    RUN,
    WRITE,
    Card,
    Change,
    FixupWish,
    ImageFacts,
    Kernel,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup import plan_fixup
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_concerns import ENTRIES

CASES = yaml.safe_load((Path(__file__).parent / "cases/fixup.yml").read_text(encoding="utf-8"))
DRIVERS = frozenset(["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"])
KERNEL = Kernel("6.1.0", DRIVERS, initramfs="/boot/initrd.img-6.1.0", loaded=DRIVERS)
PLAIN = ImageFacts(
    distribution="debian",
    version="12",
    systemd=252,
    paths=frozenset(["/usr/lib/systemd/systemd", "/usr/sbin/update-initramfs"]),
    kernels=(KERNEL,),
    cards=(Card("eno1", "52:54:00:00:00:01", ("192.0.2.5/24",), True),),
)
_SETS = ("paths", "enabled", "masked")
# Found by other means: no image has them.
BESIDE = {"p2v-fixup-no-system"}


def facts_of(case: Mapping[str, Any]) -> ImageFacts:
    said = dict(case.get("facts", {}))
    filled = said.pop("fill", None)
    if filled:
        said["files"] = dict(said["files"], **{filled: said["files"][filled].ljust(1024, "#")})
    for name in _SETS:
        if name in said:
            said[name] = frozenset(said[name])
    if "kernels" in said:
        said["kernels"] = tuple(kernel_of(each) for each in said["kernels"])
    if "cards" in said:
        said["cards"] = tuple(Card(each["name"], each["mac"]) for each in said["cards"])
    for name in ("left_out", "esp", "unmounted"):
        said[name] = tuple(said.get(name, ()))
    return replace(PLAIN, **said)


def kernel_of(said: Mapping[str, Any]) -> Kernel:
    told = said.get("loaded")
    return Kernel(
        str(said["version"]),
        frozenset(said.get("modules", ())),
        frozenset(said.get("built_in", ())),
        said.get("initramfs"),
        None if told is None else frozenset(told),
    )


def wish_of(case: Mapping[str, Any]) -> FixupWish:
    said = {key: tuple(value) if isinstance(value, list) else value for key, value in case.get("wish", {}).items()}
    return FixupWish(**said)


def said(change: Change) -> str:
    return " ".join([*change.argv, *(["<", *change.files] if change.files else [])])


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_what_is_changed(case: Mapping[str, Any]) -> None:
    expect, done = case["expect"], plan_fixup(wish_of(case), facts_of(case))
    if "words" in expect:
        assert len(done.words) == len(expect["words"]), done.words
        for pattern, words in zip(expect["words"], done.words, strict=True):
            assert re.match(pattern, words), (pattern, words)
    written = {change.path: change.content for change in done.changes if change.kind == WRITE}
    for path, text in expect.get("files", {}).items():
        assert written[path] == text, written[path]
    commands = [said(change) for change in done.changes if change.kind in (RUN, INSTALL)]
    for command in expect.get("commands", ()):
        assert command in commands, commands
    if "copies" in expect:
        assert {change.path: change.source for change in done.changes if change.kind == COPY} == expect["copies"]
    assert [each.id for each in done.concerns] == expect.get("concerns", [])
    assert dict(done.equipment, **expect.get("equipment", {})) == done.equipment
    grubenv = written.get("/boot/grub2/grubenv")
    assert grubenv is None or len(grubenv) == 1024


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_a_second_fix_up_changes_nothing(case: Mapping[str, Any]) -> None:
    wish, facts = wish_of(case), facts_of(case)
    for change in plan_fixup(wish, facts).changes:
        facts = made(facts, change)
    assert plan_fixup(wish, facts).words == []


def made(facts: ImageFacts, change: Change) -> ImageFacts:
    """The image after a change."""
    if change.kind == WRITE:
        return replace(facts, files=dict(facts.files, **{change.path: change.content}))
    if change.kind == REMOVE:
        name = change.path.rpartition("/")[2]
        return replace(facts, paths=facts.paths - {change.path}, masked=facts.masked - {name})
    if change.kind == COPY:
        return replace(facts, esp=(*facts.esp, change.path))
    if change.kind == LINK:
        return replace(facts, enabled=facts.enabled - {change.path.rpartition("/")[2]})
    if change.kind == INSTALL:
        return replace(facts, paths=facts.paths | {"/usr/bin/qemu-ga"})
    if "initramfs" in " ".join(change.argv):
        return replace(facts, kernels=tuple(replace(each, loaded=DRIVERS) for each in facts.kernels))
    if {"enable", "on"}.intersection(change.argv):
        return replace(facts, enabled=facts.enabled.union(change.argv))
    return replace(facts, enabled=facts.enabled.difference(change.argv))


def test_every_concern_is_provoked_and_says_what_to_do() -> None:
    provoked = {each.id for case in CASES for each in plan_fixup(wish_of(case), facts_of(case)).concerns}
    assert provoked == {entry.id for entry in ENTRIES} - BESIDE
    assert all(entry.remedy.endswith(".") for entry in ENTRIES)
