"""``python -m finequery`` is the shell."""

from finequery.shell import main

if __name__ == "__main__":
    raise SystemExit(main())
