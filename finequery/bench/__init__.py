"""``finequery bench``: workloads timed on FineQuery and on other engines, kept as JSON, and compared."""
