"""The CUDA back end: one kernel for each pipeline, made from the program that the CPU interprets."""
