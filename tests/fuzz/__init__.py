"""Fuzzing: what any bytes may do to the parts that read what strangers write. `run.py` drives it."""
