# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way from the firmware to the kernel: loader files for an empty NVRAM, root by UUID, a serial console on request."""

from __future__ import annotations

import posixpath
import re
from typing import Iterator, List, Mapping, Match, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import COPY, WRITE, Change, FixupWish, ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_devices import (
    changes_with_hardware,
    command_line,
)

DEFAULTS = "/etc/default/grub"
GRUBENV = ("/boot/grub2/grubenv", "/boot/grub/grubenv")
ENTRIES = "/boot/loader/entries/"
INITTAB = "/etc/inittab"
DEBCONF = "/var/cache/debconf/config.dat"
CONSOLES = "console=tty0 console=ttyS0,115200"
# A line that starts a kernel, in every loader's own words.
_KERNEL_LINE = re.compile(r"^(\s*(?:linux(?:16|efi)?|kernel|append|APPEND)\s+\S.*?)[ \t]*$", re.M)
# An entry names the kernel on one line and its options on another; $kernelopts stand in grubenv.
_ENTRY_OPTIONS = re.compile(r"^(options\s+(?!\$kernelopts)\S.*?)[ \t]*$", re.M)
_LOADERS = ("grub.cfg", "menu.lst", "grub.conf", "extlinux.conf", "cmdline")
_GRUBENV_BYTES = 1024
_GETTY = "T0:2345:respawn:/sbin/getty -L ttyS0 115200 vt100\n"
_EFI_SUFFIX = {"x86_64": "x64", "aarch64": "aa64", "i686": "ia32"}


def boot_changes(wish: FixupWish, facts: ImageFacts) -> Tuple[List[Change], List[Concern]]:
    changes, concerns = _loader_files(facts)
    for path in sorted(facts.files):
        if _starts_kernels(path):
            changes += _edited(path, facts, wish.serial_console)
    changes += _defaults(wish, facts)
    changes += _debconf(facts)
    if wish.serial_console:
        changes += _inittab(facts)
    return changes, concerns


def has_serial_console(files: Mapping[str, str]) -> bool:
    """Whether the kernel will have one, so that systemd starts a login on it."""
    return any("console=ttyS0" in text for path, text in files.items() if _starts_kernels(path))


def _starts_kernels(path: str) -> bool:
    return posixpath.basename(path) in _LOADERS or path.startswith(ENTRIES) or path in GRUBENV


def _edited(path: str, facts: ImageFacts, console: bool) -> Iterator[Change]:
    old = facts.files[path]
    new, by_uuid = command_line(old, facts)
    words = ["%s, no longer %s" % (after, before) for before, after in by_uuid.items()]
    with_console = _with_console(path, new) if console else new
    if with_console != new:
        words.append("kernels have a serial console")
    if path in GRUBENV and with_console != old:
        fitted = _grubenv(with_console)
        if fitted is None:
            return
        with_console = fitted
    if words:
        yield Change(WRITE, "%s: %s" % (path, "; ".join(words)), path, with_console)


def _with_console(path: str, text: str) -> str:
    def add(found: Match[str]) -> str:
        line = found.group(1)
        return found.group(0) if "console=ttyS0" in line else "%s %s" % (line, CONSOLES)

    if path in GRUBENV:
        return re.sub(r"^(kernelopts=.*?)[ \t]*$", add, text, flags=re.M)
    if posixpath.basename(path) == "cmdline":
        return text if "console=ttyS0" in text else "%s %s\n" % (text.strip(), CONSOLES)
    return (_ENTRY_OPTIONS if path.startswith(ENTRIES) else _KERNEL_LINE).sub(add, text)


def _grubenv(text: str) -> Optional[str]:
    """GRUB wants exactly 1024 bytes, filled up with '#'. None when it does not fit."""
    kept = text.rstrip("#")
    kept = kept if kept.endswith("\n") else kept + "\n"
    return kept.ljust(_GRUBENV_BYTES, "#") if len(kept.encode("utf-8")) <= _GRUBENV_BYTES else None


def _defaults(wish: FixupWish, facts: ImageFacts) -> Iterator[Change]:
    """What the next update of the loader's menu is made of."""
    if DEFAULTS not in facts.files:
        return
    old = facts.files[DEFAULTS]
    new, by_uuid = command_line(old, facts)
    words = ["%s, no longer %s" % (after, before) for before, after in by_uuid.items()]
    if re.search(r"^GRUB_DISABLE_LINUX_UUID=[\"']?true", new, re.M):
        new = re.sub(r"^(GRUB_DISABLE_LINUX_UUID=.*)$", r"#\1", new, flags=re.M)
        words.append("root by UUID")
    others = [text for path, text in facts.files.items() if path.startswith(DEFAULTS + ".d/")]
    if wish.serial_console and not any("console=ttyS0" in text for text in (new, *others)):
        new = _default_console(new)
        words.append("kernels have a serial console")
    if words:
        yield Change(WRITE, "%s: %s" % (DEFAULTS, "; ".join(words)), DEFAULTS, new)


def _default_console(text: str) -> str:
    found = re.search(r"^GRUB_CMDLINE_LINUX=([\"'])(.*)\1[ \t]*$", text, re.M)
    if found is None:
        return '%s\nGRUB_CMDLINE_LINUX="%s"\n' % (text.rstrip("\n"), CONSOLES)
    options = (found.group(2) + " " + CONSOLES).strip()
    quote = found.group(1)
    return text[: found.start()] + "GRUB_CMDLINE_LINUX=%s%s%s" % (quote, options, quote) + text[found.end() :]


def _debconf(facts: ImageFacts) -> Iterator[Change]:
    """Where Debian's grub-pc installs the loader at its next update; on a disk that is not there it fails."""
    text = facts.files.get(DEBCONF, "")
    stanza = re.search(r"^Name: grub-pc/install_devices\n(?:(?!\n\n).)*", text, re.M | re.S)
    if stanza is None:
        return
    value = re.search(r"^Value: (.*)$", stanza.group(0), re.M)
    named = [word.strip() for word in value.group(1).split(",")] if value else []
    if not any(changes_with_hardware(name) and name != "/dev/vda" for name in named):
        return
    new = re.sub(r"^Value: .*$", "Value: /dev/vda", stanza.group(0), flags=re.M)
    words = "%s: updates of grub-pc go to /dev/vda, no longer to %s" % (DEBCONF, ", ".join(named))
    yield Change(WRITE, words, DEBCONF, text[: stanza.start()] + new + text[stanza.end() :])


def _inittab(facts: ImageFacts) -> Iterator[Change]:
    """Only where init reads it; systemd starts a login on every console of the kernel."""
    text = facts.files.get(INITTAB, "")
    if re.search(r"^[^#\n]*:(initdefault|respawn):", text, re.M) and not re.search(r"^[^#\n]*ttyS0", text, re.M):
        content = text.rstrip("\n") + "\n" + _GETTY
        yield Change(WRITE, "%s: a login on the serial console" % INITTAB, INITTAB, content)


def _loader_files(facts: ImageFacts) -> Tuple[List[Change], List[Concern]]:
    """The guest's NVRAM is empty: its firmware looks for EFI/BOOT/BOOTX64.EFI and nothing else."""
    suffix = _EFI_SUFFIX.get(facts.architecture)
    if facts.firmware != "uefi" or suffix is None:
        return [], []
    fallback = "boot%s.efi" % suffix
    if any(path.lower().endswith("/efi/boot/" + fallback) for path in facts.esp):
        return [], []
    shim, grub = (_loader(facts, "%s%s.efi" % (name, suffix)) for name in ("shim", "grub"))
    first = shim or grub or _loader(facts, "systemd-boot%s.efi" % suffix)
    if first is None:
        return [], [concern("p2v-fixup-no-boot-file", ", ".join(facts.esp) or "it is empty or not there")]
    folder = posixpath.dirname(posixpath.dirname(first)) + "/BOOT/"
    target = folder + fallback.upper()
    found = [Change(COPY, "%s: %s, for an NVRAM without entries" % (target, first), target, source=first)]
    if first == shim and grub is not None:
        beside = folder + posixpath.basename(grub)
        found.append(Change(COPY, "%s: %s, which shim starts" % (beside, grub), beside, source=grub))
    return found, []


def _loader(facts: ImageFacts, name: str) -> Optional[str]:
    """The file of that name, of the system's own folder when there are several."""
    fitting = [path for path in facts.esp if posixpath.basename(path).lower() == name]
    own = [path for path in fitting if "/%s/" % facts.distribution in path.lower()]
    return next(iter(own + sorted(fitting)), None)
