"""``python -m product_match_client.agent_tools`` is the ``product-match-mcp`` command."""

from __future__ import annotations

import sys

from product_match_client.agent_tools.command import main

if __name__ == "__main__":
    sys.exit(main())
