# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight: can the destination build the same machine - type, CPU, firmware, TPM, secrets?"""

from __future__ import annotations

from typing import Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import version_text
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_moves import NOTHING
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.question import Answers, Case, Question

# libvirt 9.1.0 knows the watchdog that is part of every q35 board.
ITCO_SINCE = 9001000


def can_it_run_that_type(case: Case) -> Answers:
    types = case.dest.facts.domain_types
    if case.domain.type not in types:
        detail = "the domain's type is %s; %s runs %s" % (case.domain.type, case.dest.side, ", ".join(sorted(types)))
        yield concern("domain-type", detail)


def has_it_the_emulator(case: Case) -> Answers:
    there = case.dest.facts.emulator(case.domain.arch)
    wanted = case.domain.emulator
    if wanted and (there is None or there.path != wanted) and not case.dest.images.get(wanted, NOTHING).exists:
        detail = "%s has no %s for %s" % (case.dest.side, wanted, case.domain.arch)
        yield concern("emulator-missing", detail, "It has %s." % there.path if there is not None else "")


def does_it_know_the_machine(case: Case) -> Answers:
    there, here = case.dest.facts.machines, case.source.facts.machines
    machine = case.domain.machine
    if machine is None or not there:
        return
    canonical = here.get(machine) or machine
    if canonical not in there and canonical not in there.values():
        family = canonical.rsplit("-", 1)[0]
        common = sorted((name for name in there if name in here and name.startswith(family)), key=_by_version)
        more = "Both know %s." % ", ".join(common[-2:]) if common else ""
        yield concern("machine-missing", "%s does not know the machine type %s" % (case.dest.side, canonical), more)


def _by_version(machine: str) -> Tuple[int, ...]:
    """`pc-q35-10.0` comes after `pc-q35-9.2`."""
    return tuple(int(part) for part in machine.rsplit("-", 1)[-1].split(".") if part.isdigit())


def does_it_know_the_watchdog(case: Case) -> Answers:
    version = case.dest.facts.libvirt_version
    if "itco" in case.found.demands.watchdogs and version < ITCO_SINCE:
        detail = "the domain's XML has a watchdog of model itco; libvirt %s on %s does not know it" % (
            version_text(version),
            case.dest.side,
        )
        yield concern("watchdog-unknown", detail)


def does_the_cpu_fit(case: Case) -> Answers:
    lacks = case.dest.hosting.cpu_lacks
    if lacks is not None:
        cpu = case.domain.cpu
        detail = "%s cannot give the guest its CPU %s: %s" % (case.dest.side, cpu.model or cpu.mode, lacks)
        yield concern("cpu-missing", detail)


def does_the_clock_keep_its_pace(case: Case) -> Answers:
    here, there = case.source.hosting.tsc_hz, case.dest.hosting.tsc_hz
    if case.live and case.found.demands.invariant_tsc and here and there and here != there:
        detail = "the clock counter runs at %d Hz on %s and at %d Hz on %s" % (
            here,
            case.source.side,
            there,
            case.dest.side,
        )
        yield concern("tsc-differs", detail)


def is_the_firmware_there(case: Case) -> Answers:
    offer, loader = case.dest.hosting.offer, case.domain.firmware.loader
    if case.domain.firmware.kind == "efi" and loader is None and offer is not None and "efi" not in offer.firmwares:
        yield concern("firmware-missing", "%s offers only %s" % (case.dest.side, ", ".join(offer.firmwares)))
    here = case.source.images.get(loader or "", NOTHING)
    there = case.dest.images.get(loader or "", NOTHING)
    if case.live and here.exists and there.exists and here.size != there.size:
        detail = "%s has %d bytes on %s and %d on %s" % (
            loader,
            here.size,
            case.source.side,
            there.size,
            case.dest.side,
        )
        yield concern("firmware-differs", detail)


def has_it_a_tpm(case: Case) -> Answers:
    offer = case.dest.hosting.offer
    if case.domain.tpm == "emulator" and offer is not None and "emulator" not in offer.tpm_backends:
        offered = ", ".join(offer.tpm_backends) or "no TPM"
        yield concern("tpm-missing", "%s offers %s" % (case.dest.side, offered))


def has_it_the_secrets(case: Case) -> Answers:
    known = case.dest.hosting.secrets
    for uuid in case.found.demands.secrets if known is not None else ():
        if uuid not in (known or ()):
            yield concern("secret-missing", "%s has no secret with the UUID %s" % (case.dest.side, uuid))


QUESTIONS: Tuple[Question, ...] = (
    can_it_run_that_type,
    has_it_the_emulator,
    does_it_know_the_machine,
    does_it_know_the_watchdog,
    does_the_cpu_fit,
    does_the_clock_keep_its_pace,
    is_the_firmware_there,
    has_it_a_tpm,
    has_it_the_secrets,
)
