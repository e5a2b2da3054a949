"""Columns, the instruction set, the operators and their back ends."""
