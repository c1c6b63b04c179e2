"""`python -m pipeline`."""

import sys

try:
    from pipeline import distributed
    from pipeline.cli.main import main
except KeyboardInterrupt:  # the second in which the command line itself is imported
    print("interrupted; nothing was begun.", file=sys.stderr)  # noqa: T201
    sys.exit(2)

if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        distributed.leave(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    distributed.leave(0)
