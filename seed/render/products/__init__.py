"""The sample catalogue's products, by room."""

from __future__ import annotations

from ..look import Product
from .home import HOME
from .kitchen import KITCHEN
from .office import OFFICE
from .sport import SPORT
from .table import TABLE
from .toys import TOYS

PRODUCTS: tuple[Product, ...] = (*TABLE, *KITCHEN, *HOME, *OFFICE, *SPORT, *TOYS)
