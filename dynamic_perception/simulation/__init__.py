"""A robot's machine in virtual time: boards, traces, managers to compare, and an oracle."""
