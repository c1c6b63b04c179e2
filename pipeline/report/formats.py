"""Numbers and sizes as people read them; each function returns '–' for what is absent or not a number."""

from __future__ import annotations

import math
from typing import Any

ABSENT = "–"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def number(value: Any) -> float | None:
    """Returns `value` as a finite float, None where it is not one."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return None
    result = float(value)
    return result if math.isfinite(result) else None


def printed(value: Any) -> Any:
    """Returns what the page prints for a bare value: NaN, infinity and None as '–'."""
    return ABSENT if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def counted(count: Any, thing: str) -> str:
    """Returns '1 thread' or '2 threads'."""
    return f"{printed(count)} {thing}{'' if count == 1 else 's'}"


def plain(value: Any, digits: int = 4) -> str:
    """Returns a number with `digits` decimals: 0.8421."""
    x = number(value)
    return ABSENT if x is None else f"{x:.{digits}f}"


def significant(value: Any, digits: int = 3) -> str:
    """Returns a number with `digits` significant digits: 12.3, 0.00456, 1.2e-07."""
    x = number(value)
    if x is None:
        return ABSENT
    if x and not 1e-4 <= abs(x) < 1e6:
        return f"{x:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")
    if not x:
        return "0"
    return f"{x:.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"


def signed(value: Any, digits: int = 4) -> str:
    """Returns a number with its sign, a real minus included: −0.0012."""
    x = number(value)
    if x is None:
        return ABSENT
    text = f"{abs(x):.{digits}f}"
    return text if not float(text) else ("−" if x < 0 else "+") + text


def share(value: Any, digits: int = 2) -> str:
    """Returns a share in [0, 1] as per cent: 99.53 %. Only 1 is shown as 100 %."""
    x = number(value)
    if x is None:
        return ABSENT
    text = f"{100 * x:.{digits}f}"
    if x < 1 and float(text) >= 100:
        text = f"{100 - 10**-digits:.{digits}f}"
    return f"{text} %"


def milliseconds(value: Any) -> str:
    """Returns a time in milliseconds with three significant digits."""
    x = number(value)
    return ABSENT if x is None else f"{significant(x)} ms"


def seconds(value: Any) -> str:
    """Returns a time as 0.4 s, 12 s or 3 min 05 s."""
    x = number(value)
    if x is None:
        return ABSENT
    if x < 10:
        return f"{x:.1f} s"
    if x < 120:
        return f"{x:.0f} s"
    minutes, rest = divmod(round(x), 60)
    return f"{minutes} min {rest:02d} s"


def size(value: Any) -> str:
    """Returns a count of bytes in the unit that keeps it below 1024."""
    x = number(value)
    if x is None:
        return ABSENT
    unit = min(int(math.log(x, 1024)) if x >= 1 else 0, len(UNITS) - 1)
    scaled = x / 1024**unit
    return f"{scaled:.0f} {UNITS[unit]}" if unit == 0 or scaled >= 100 else f"{scaled:.1f} {UNITS[unit]}"


def ratio(numerator: Any, denominator: Any, digits: int = 2) -> str:
    """Returns numerator over denominator as 3.12×."""
    top, bottom = number(numerator), number(denominator)
    return ABSENT if top is None or not bottom else f"{top / bottom:.{digits}f}×"


FILTERS = {
    "counted": counted,
    "plain": plain,
    "significant": significant,
    "signed": signed,
    "share": share,
    "milliseconds": milliseconds,
    "seconds": seconds,
    "size": size,
}
