"""``python -m finequery.shell`` is the shell, too."""

from finequery.shell.cli import main

raise SystemExit(main())
