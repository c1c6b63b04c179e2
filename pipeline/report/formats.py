"""Numbers and sizes as a person reads them; each function returns '–' for what is absent or not a number."""

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
    """Returns a number with a fixed count of decimals: 0.8421."""
    found = number(value)
    return ABSENT if found is None else f"{found:.{digits}f}"


def significant(value: Any, digits: int = 3) -> str:
    """Returns a number with `digits` significant digits: 12.3, 0.00456, 1.2e-07."""
    found = number(value)
    if found is None:
        return ABSENT
    if found and not 1e-4 <= abs(found) < 1e6:
        return f"{found:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")
    if not found:
        return "0"
    return f"{found:.{max(0, digits - 1 - math.floor(math.log10(abs(found))))}f}"


def signed(value: Any, digits: int = 4) -> str:
    """Returns a number with its sign, a real minus included: −0.0012."""
    found = number(value)
    if found is None:
        return ABSENT
    text = f"{abs(found):.{digits}f}"
    return text if not float(text) else ("−" if found < 0 else "+") + text


def share(value: Any, digits: int = 2) -> str:
    """Returns a share in [0, 1] as per cent: 99.53 %. Never rounds up to 100 what is not all."""
    found = number(value)
    if found is None:
        return ABSENT
    text = f"{100 * found:.{digits}f}"
    if found < 1 and float(text) >= 100:
        text = f"{100 - 10**-digits:.{digits}f}"
    return f"{text} %"


def milliseconds(value: Any) -> str:
    """Returns a time in milliseconds with three significant digits."""
    found = number(value)
    return ABSENT if found is None else f"{significant(found)} ms"


def seconds(value: Any) -> str:
    """Returns a time as 0.4 s, 12 s or 3 min 05 s."""
    found = number(value)
    if found is None:
        return ABSENT
    if found < 10:
        return f"{found:.1f} s"
    if found < 120:
        return f"{found:.0f} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest:02d} s"


def size(value: Any) -> str:
    """Returns a count of bytes in the unit that keeps it below 1024."""
    found = number(value)
    if found is None:
        return ABSENT
    unit = min(int(math.log(found, 1024)) if found >= 1 else 0, len(UNITS) - 1)
    scaled = found / 1024**unit
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
