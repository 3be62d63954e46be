# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for the pip bootstrap script that ansible-test would download from a host of its own.

ansible-test runs it inside each empty virtual environment it makes, with the arguments of a pip install
(`--disable-pip-version-check pip==24.2 --no-setuptools --no-wheel`). Python's bundled pip comes first, and that one
installs the version asked for from the package index this machine is configured with.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

MEANT_FOR_THE_ORIGINAL = ("--no-setuptools", "--no-wheel")

# For this environment only: of all that pip says, keep the errors.
pathlib.Path(sys.prefix, "pip.conf").write_text("[global]\nquiet = 2\n", encoding="utf-8")
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
wanted = [argument for argument in sys.argv[1:] if argument not in MEANT_FOR_THE_ORIGINAL]
subprocess.check_call([sys.executable, "-m", "pip", "install", *wanted])
