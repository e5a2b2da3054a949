"""The shell: ``finequery [database or files] [-c SQL] [-f script]``, and the programs behind its first word.

=====================  ==========================================================================
``cli``                options, programs, exit codes
``opening``            what paths mean
``shell``              statements and scripts, run and shown; their errors
``interrupts``         Ctrl-C while something runs
``tokens``             where statements end
``output``, ``formats``, ``screen``   modes, files, the pager, the size and colours of the terminal
``commands``           what a dot command is; ``basic_commands`` and ``query_commands`` are the commands
``interactive``        the loop at the terminal, the start file, the history
``prompt``             the line that is typed, by prompt_toolkit; ``plain_prompt`` without it
``completion``, ``catalog_names``, ``keywords``   what Tab offers
=====================  ==========================================================================

Nothing of this is imported by the engine, and prompt_toolkit only where a person types.
"""

from __future__ import annotations

from finequery.shell.cli import main

__all__ = ["main"]
