"""Where a request's time went."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

# In the order in which a request goes through them; what is new to the page comes last.
STAGES = ("queue", "decode", "objects", "encode", "search", "documents", "caption")
TOTAL = "total"
# The captioner works beside the others, so it is no part of their sum.
BESIDE = frozenset({"caption"})


def timings_html(details: Mapping[str, Any]) -> str:
    """Milliseconds by stage as a stacked bar with its legend, and what the request was.

    Args:
        details: of the answer.
    """
    milliseconds: dict[str, float] = dict(details.get("milliseconds", {}))
    total = milliseconds.pop(TOTAL, 0.0)
    known = [stage for stage in STAGES if stage in milliseconds]
    stages = [*known, *(stage for stage in milliseconds if stage not in STAGES)]
    whole = max(total, sum(milliseconds[stage] for stage in stages if stage not in BESIDE), 1e-3)
    parts, legend = [], []
    for stage in stages:
        # A stage keeps its colour, whichever others there are.
        number = STAGES.index(stage) if stage in STAGES else len(STAGES)
        took = milliseconds[stage]
        if stage not in BESIDE:
            parts.append(
                f'<i class="find-stage-{number}" style="width:{100 * took / whole:.2f}%"></i>'
            )
        mark = "find-beside" if stage in BESIDE else f"find-stage-{number}"
        words = f"{escape(stage)}, meanwhile" if stage in BESIDE else escape(stage)
        legend.append(f'<li><i class="{mark}"></i>{words} {took:.1f} ms</li>')
    bundle = details.get("bundle", {})
    said = {
        "request": details.get("request_id"),
        "bundle": f"{bundle.get('name')} {bundle.get('fingerprint')}" if bundle else None,
        "variant": details.get("variant"),
    }
    about = "".join(
        f"<span>{name} <code>{escape(str(value))}</code></span>"
        for name, value in said.items()
        if value
    )
    return (
        f'<section class="find-timings" aria-label="Time"><p><strong>{total:.0f} ms</strong> in '
        f'the server</p><div class="find-stages" aria-hidden="true">{"".join(parts)}</div>'
        f'<ul class="find-legend">{"".join(legend)}</ul><p class="find-said">{about}</p></section>'
    )
