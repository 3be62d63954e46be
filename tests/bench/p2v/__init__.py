# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image of a machine at work costs, ours beside what one would type: contenders in turn, over one link, of one disk."""

from __future__ import annotations
