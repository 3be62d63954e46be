# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Byte ranges: sorted lists of (offset, length) that neither touch nor overlap, unless a function says otherwise."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

MIB = 1024 * 1024


def merged(ranges, gap=0):
    """Any ranges, sorted; those that overlap, touch or are at most `gap` bytes apart become one."""
    joined = []
    for offset, length in sorted(ranges):
        if length <= 0:
            continue
        if joined and offset <= joined[-1][0] + joined[-1][1] + gap:
            end = max(joined[-1][0] + joined[-1][1], offset + length)
            joined[-1] = (joined[-1][0], end - joined[-1][0])
        else:
            joined.append((offset, length))
    return joined


def subtracted(ranges, away):
    """What of `ranges` is in none of `away`; any two lists of ranges."""
    left = []
    away = merged(away)
    index = 0
    for offset, length in merged(ranges):
        end = offset + length
        while index < len(away) and away[index][0] + away[index][1] <= offset:
            index += 1
        here = index
        while here < len(away) and away[here][0] < end:
            if away[here][0] > offset:
                left.append((offset, away[here][0] - offset))
            offset = max(offset, away[here][0] + away[here][1])
            here += 1
        if offset < end:
            left.append((offset, end - offset))
    return left


def common(ranges, others):
    """What is in both; any two lists of ranges."""
    return subtracted(ranges, subtracted(ranges, others))


def total(ranges):
    """Bytes in ranges that do not overlap."""
    return sum(length for dummy, length in ranges)


def coarsened(ranges, most, gap):
    """The ranges, joined over gaps of `gap` bytes or more until there are at most `most`: bounded memory."""
    joined = merged(ranges, gap)
    while len(joined) > most:
        gap = max(gap * 2, 4096)
        joined = merged(joined, gap)
    return joined


def clipped(ranges, size):
    """What lies within 0 and `size`."""
    return common(ranges, [(0, size)])


def pieces(ranges, unit=MIB):
    """Each range cut at the multiples of `unit`, one after the other."""
    for offset, length in ranges:
        end = offset + length
        while offset < end:
            step = min(end, (offset // unit + 1) * unit) - offset
            yield offset, step
            offset += step


def widened(ranges, grain):
    """The ranges grown to multiples of `grain` on both sides, merged."""
    grown = []
    for offset, length in ranges:
        start = offset // grain * grain
        grown.append((start, -(-(offset + length) // grain) * grain - start))
    return merged(grown)
