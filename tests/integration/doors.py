# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which TCP ports of which addresses are open, asked from wherever the command runs."""

from __future__ import annotations

import json
from typing import Dict, List, Sequence, Tuple

_ASK = """
import json, socket, sys
def ask(address, port):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as door:
        door.settimeout(%r)
        try:
            door.connect((address, port))
            return True
        except OSError:
            return False
print(json.dumps({address: [port for port in %r if ask(address, port)] for address in sys.argv[1:]}))
"""


def probe(ports: Sequence[int], *addresses: str, timeout_s: float = 0.5) -> Tuple[str, ...]:
    """The command that asks. Its output is for reached()."""
    return ("python3", "-c", _ASK % (timeout_s, tuple(ports)), *addresses)


def reached(said: str) -> Dict[str, List[int]]:
    """address -> the ports that are open."""
    return json.loads(said)  # type: ignore[no-any-return]
