"""``python -m product_match_client`` is the ``product-match`` command."""

from __future__ import annotations

import sys

from product_match_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
