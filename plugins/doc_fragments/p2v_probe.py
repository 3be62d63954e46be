# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option `probe` of kvm_p2v_image."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  probe:
    description:
      - Asks the machine at a steady beat before the copy, during its passes, in the pause and after it, as a client would, and says what a
        client felt. The host that runs the task asks. See RV(metrics.downtime_ms) and RV(metrics.impact).
      - When a guest takes over in this run, by O(takeover) or by V(running) of O(domain.state), it goes on until the guest answers at the
        same address. Without one it ends when the machine serves again, or is off.
      - The options have the names of those of M(kvmops.fleet.kvm_migrate). A probe that fails is a concern in the result. It holds
        nothing up; only a wait for the guest's first answer comes behind the take-over.
      - It belongs to O(mode=hot).
    type: dict
    suboptions:
      type:
        description:
          - V(tcp) connects; with O(probe.send) or O(probe.expect) it also waits for an answer.
          - V(icmp) sends an echo request, V(http) a GET.
          - The kernel of a machine whose filesystems are frozen still answers pings and accepts connections. What clients feel is shown by
            V(http), or V(tcp) with O(probe.expect), with something that needs the disk.
        type: str
        required: true
        choices: [tcp, icmp, http]
      address:
        description: Whom to ask, for V(tcp) and V(icmp).
        type: str
        aliases: [host]
      port:
        description: The port, for V(tcp).
        type: int
      url:
        description: What to get, for V(http). Plain HTTP only.
        type: str
      send:
        description: For V(tcp), what to send when the connection is there.
        type: str
      expect:
        description: For V(tcp), a text that the answer has to hold. For V(http), the status wanted; not set means any below 400.
        type: str
      interval_ms:
        description:
          - The time between two requests, 5 to 10000 milliseconds. A pause is measured to within one interval.
          - Not set means 100. Two million requests are the most, 55 hours at 100.
        type: int
      timeout_ms:
        description: A request without an answer after this many milliseconds is lost. Not set means 1000.
        type: int
      before_s:
        description: How many seconds are measured before the copy begins, 0.5 to 600.
        type: float
        default: 2
      after_s:
        description: How many seconds are measured after the pause, 0.5 to 600.
        type: float
        default: 2
      answer_timeout_s:
        description:
          - How long the guest's first answer is awaited, in seconds, once the machine is off. Not set means 300.
          - Only for runs in which a guest takes over.
        type: float
"""
