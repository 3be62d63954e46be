"""A lab of real hosts on one machine; see docs/lab.md."""
