"""``finequery compare``: two machines over the same queries, each measured, simulated or brought as a file."""
