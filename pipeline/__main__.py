"""`python -m pipeline`."""

import sys

try:
    from pipeline.cli import main
except KeyboardInterrupt:  # the second in which the command line itself is imported
    print("interrupted; nothing was begun.", file=sys.stderr)  # noqa: T201
    sys.exit(2)

if __name__ == "__main__":
    main()
