"""Generators: each builds one family of products from a look."""

from __future__ import annotations

from collections.abc import Callable

from ..look import Look
from . import home, kitchen, office, sport, tableware, toys

FAMILIES: dict[str, Callable[[Look], None]] = {
    "mug": tableware.mug,
    "teapot": tableware.teapot,
    "bowl": tableware.bowl,
    "vase": tableware.vase,
    "frying-pan": kitchen.frying_pan,
    "water-bottle": kitchen.water_bottle,
    "storage-jar": kitchen.storage_jar,
    "desk-lamp": home.desk_lamp,
    "plant-pot": home.plant_pot,
    "stool": home.stool,
    "candle-holder": home.candle_holder,
    "alarm-clock": office.alarm_clock,
    "notebook": office.notebook,
    "tape-dispenser": office.tape_dispenser,
    "pencil-cup": office.pencil_cup,
    "dumbbell": sport.dumbbell,
    "ball": sport.ball_toy,
    "skateboard": sport.skateboard,
    "toy-car": toys.toy_car,
    "stacking-rings": toys.stacking_rings,
    "robot": toys.robot,
}


def build(look: Look) -> None:
    """Build the product that a look describes, standing near the origin, front towards -y."""
    FAMILIES[look.family](look)
