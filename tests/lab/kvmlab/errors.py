"""The one error a user of the lab gets to see."""

from __future__ import annotations


class LabError(Exception):
    """What was attempted and why it failed, and what to do about it."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  {self.remedy}" if self.remedy else self.problem
