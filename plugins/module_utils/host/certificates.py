# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where QEMU's certificates for migrations are, as libvirt looks for them (qemu.conf, migrate_tls_x509_cert_dir)."""

from __future__ import annotations

import re
from typing import Any, Mapping, Optional, Sequence, Tuple

CONFIGURATION = "/etc/libvirt/qemu.conf"
# The first one is used where it exists.
FOLDERS = ("/etc/pki/libvirt-migrate", "/etc/pki/qemu")
CLIENT_FILES = ("ca-cert.pem", "client-cert.pem", "client-key.pem")
SERVER_FILES = ("ca-cert.pem", "server-cert.pem", "server-key.pem")


def _paths(names: Sequence[str]) -> Tuple[str, ...]:
    return FOLDERS[:1] + tuple("%s/%s" % (folder, name) for folder in FOLDERS for name in names)


# What to look at on the side that connects, and on the side that is connected to.
CLIENT, SERVER = _paths(CLIENT_FILES), _paths(SERVER_FILES)


def at_the_usual_place(configuration: str = CONFIGURATION) -> bool:
    """Whether this host's libvirt is not told to look elsewhere. False when its configuration cannot be read."""
    try:
        with open(configuration, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return False
    return not re.search(r"^\s*(migrate|default)_tls_x509_cert_dir\s*=", text, re.MULTILINE)


def found(asked: Sequence[str], seen: Mapping[str, Any]) -> Optional[Mapping[str, bool]]:
    """File -> whether it is there, from what was seen at the paths; None when nothing was asked."""
    if not asked:
        return None
    folder = FOLDERS[0] if seen[FOLDERS[0]].exists else FOLDERS[1]
    return {path: seen[path].exists for path in asked if path.startswith(folder + "/")}
