"""Benchmarks: each measures beside its floor or its peer, in the same run, in interleaved pairs."""
