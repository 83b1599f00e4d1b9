"""Within which bounds each family's random products are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

WOODS = ("oak", "walnut", "beech")
METALS = ("steel", "copper", "brass")
BRIGHT = ("red", "orange", "yellow", "green", "blue", "white", "black", "teal", "pink", "purple")


@dataclass(frozen=True)
class Range:
    """A family's choices.

    `finishes` gives the material's name for each finish, `colours` the only colours of some
    finishes, `part` what the accent colour is used for, `facts` a sentence for a choice's value.
    """

    noun: str
    finishes: dict[str, str]
    price: tuple[int, int]
    sizes: tuple[str, ...]
    patterns: tuple[str, ...] = ("plain",)
    repeats: tuple[int, ...] = (8, 10, 12)
    accents: tuple[str, ...] = BRIGHT
    shape: dict[str, tuple[float, float]] = field(default_factory=dict)
    choices: dict[str, tuple[float, ...]] = field(default_factory=dict)
    words: tuple[str, str, str] | None = None
    part: str = ""
    part_flag: str = ""
    nouns: dict[str, str] = field(default_factory=dict)
    category: str = ""
    colours: dict[str, tuple[str, ...]] = field(default_factory=dict)
    facts: dict[str, dict[float, str]] = field(default_factory=dict)


WOODEN: dict[str, tuple[str, ...]] = {"wood": WOODS}
CERAMIC = {"glazed": "stoneware", "matte": "stoneware", "stoneware": "stoneware"}
ROUND = ("stripes", "bands", "dots", "checks", "zigzag", "speckle")

RANGES: dict[str, Range] = {
    "mug": Range(
        "mug", CERAMIC, (9, 19), ("300 ml", "350 ml", "420 ml"), ROUND, (8, 10, 12, 14),
        shape={"height": (1.3, 2.5), "width": (0.78, 1.0), "taper": (0.72, 1.0)},
        choices={"accent_handle": (0, 0, 1), "white_inside": (0, 1)},
        words=("height", "low", "tall"), part="with a {} handle", part_flag="accent_handle",
        facts={"white_inside": {1: "It is white inside."}},
    ),
    "teapot": Range(
        "teapot", {"glazed": "porcelain", "matte": "stoneware"}, (29, 65), ("0.9 l", "1.2 l"),
        ("stripes", "dots", "checks", "bands"), (10, 12, 14), (*WOODS, "black", "white", "red"),
        shape={"height": (1.3, 2.1), "belly": (0.88, 1.15)}, words=("height", "low", "tall"),
        part="with a {} handle and knob",
    ),
    "bowl": Range(
        "bowl", CERAMIC, (12, 29), ("16 cm", "20 cm", "26 cm"), ROUND, (12, 16, 20),
        shape={"depth": (0.75, 1.2), "width": (1.05, 1.4)}, choices={"accent_inside": (0, 1)},
        words=("depth", "shallow", "deep"), part="with a {} inside", part_flag="accent_inside",
    ),
    "vase": Range(
        "vase", {"matte": "earthenware", "glazed": "ceramic"}, (19, 59), ("19 cm", "28 cm"),
        ROUND, (6, 8, 10),
        shape={"height": (1.7, 3.0), "belly": (0.65, 0.95), "belly_at": (0.3, 0.48),
               "neck": (0.22, 0.46), "lip": (0.34, 0.6)},
        words=("height", "low", "tall"),
    ),
    "frying-pan": Range(
        "frying pan", {"enamel": "enamelled steel", "polished": "metal"}, (29, 79),
        ("20 cm", "24 cm", "28 cm"), accents=("oak", "walnut", "beech", "black"),
        shape={"depth": (0.42, 0.85), "width": (1.05, 1.3), "handle": (0.9, 1.3)},
        choices={"light_inside": (0, 1), "helper": (0, 0, 1)}, words=("depth", "shallow", "deep"),
        part="with a {} handle", colours={"polished": METALS},
        facts={"light_inside": {1: "It is cream inside.", 0: "It is dark inside."},
            "helper": {1: "A second grip helps to lift it."}},
    ),
    "water-bottle": Range(
        "water bottle", {"painted": "steel", "plastic": "plastic"}, (9, 35),
        ("500 ml", "700 ml"), ("stripes", "bands", "dots", "zigzag"), (6, 7, 8),
        ("black", "white", "oak", "walnut", "navy", "red"),
        shape={"height": (2.0, 2.9), "width": (0.44, 0.62)}, choices={"loop": (0, 1)},
        words=("height", "short", "tall"), part="with a {} cap",
        facts={"loop": {1: "The cap has a carry loop.", 0: "The cap has a white spout."}},
    ),
    "storage-jar": Range(
        "storage jar", {"glazed": "ceramic", "matte": "ceramic"}, (12, 29), ("0.7 l", "1 l"),
        ("stripes", "bands", "dots", "checks", "zigzag"), (12, 16, 18), (*WOODS, "white", "red"),
        shape={"height": (1.1, 2.2), "width": (0.62, 0.9)}, choices={"label": (0, 1)},
        words=("height", "low", "tall"), part="with a {} lid",
        facts={"label": {1: "It has a paper label."}},
    ),
    "desk-lamp": Range(
        "desk lamp", {"painted": "steel", "matte": "steel"}, (39, 89), ("44 cm", "52 cm"),
        ("stripes",), (8, 10, 12), (*METALS, "black", "white"),
        shape={"height": (1.8, 2.4), "reach": (0.75, 1.1), "shade": (0.52, 0.78)},
        choices={"curved": (0, 1)}, part="with a {} arm",
        facts={"curved": {1: "The arm is one curve.", 0: "The arm is jointed."}},
    ),
    "plant-pot": Range(
        "plant pot", {"glazed": "ceramic", "clay": "clay"}, (12, 35), ("12 cm", "16 cm"), ROUND,
        (10, 12, 14), shape={"height": (0.95, 1.4), "taper": (0.62, 0.9)},
        choices={"plant": (0, 1, 2)}, words=("height", "low", "tall"),
        facts={"plant": {0: "It holds a green succulent.", 1: "It holds a leafy plant.",
            2: "It holds a cactus."}},
    ),
    "stool": Range(
        "stool", {"fabric": "upholstered", "wood": "wooden"}, (39, 99), ("42 cm", "65 cm"),
        accents=(*WOODS, "black", "white"), shape={"height": (1.3, 2.9), "seat": (0.68, 0.9)},
        choices={"legs": (3, 4)}, words=("height", "low", "tall"), part="with {} legs",
        colours=WOODEN,
        facts={"legs": {3: "It stands on three legs.", 4: "It stands on four legs."}},
    ),
    "candle-holder": Range(
        "candle holder", {"glazed": "ceramic", "matte": "iron", "polished": "metal"}, (12, 39),
        ("15 cm", "24 cm"), ("bands", "stripes"), (6, 8), shape={"stem": (0.4, 1.9),
        "candle": (0.7, 1.3)}, words=("stem", "low", "tall"), part="with a {} candle",
        colours={"polished": METALS},
    ),
    "alarm-clock": Range(
        "alarm clock", {"enamel": "steel", "plastic": "plastic", "wood": "wooden"}, (15, 45),
        ("13 cm", "16 cm"), accents=METALS, choices={"square": (0, 1), "dark_face": (0, 0, 1)},
        part="with {} feet", colours=WOODEN, nouns={"square": "square desk clock"},
        facts={"dark_face": {1: "The dial is dark.", 0: "The dial is white."},
            "square": {0: "Two bells sit on top."}},
    ),
    "notebook": Range(
        "notebook", {"leather": "leatherette", "paper": "card"}, (7, 19), ("A5", "A6"),
        ("stripes", "dots", "checks", "zigzag"), (3, 4, 5),
        shape={"height": (1.7, 2.3), "width": (1.35, 1.7)},
        choices={"spiral": (0, 1), "label": (0, 1), "band": (0, 1)},
        part="with a {} elastic band", part_flag="band", nouns={"spiral": "spiral notebook"},
        facts={"label": {1: "There is a title label on the cover."}},
    ),
    "tape-dispenser": Range(
        "tape dispenser", {"plastic": "plastic", "painted": "metal"}, (8, 19), ("16 cm",),
        shape={"length": (1.9, 2.5), "width": (0.65, 1.2)}, words=("width", "slim", "wide"),
        part="with a {} hub",
    ),
    "pencil-cup": Range(
        "pencil cup", {"plastic": "plastic", "glazed": "ceramic", "wood": "wooden"}, (7, 19),
        ("8 cm", "10 cm"), ("stripes", "dots", "checks", "zigzag"), (10, 12, 14),
        shape={"height": (0.85, 1.45), "width": (0.5, 0.78)},
        choices={"pencils": (4, 5, 6)}, words=("height", "low", "tall"),
        part="holding {} and other pencils", colours=WOODEN,
    ),
    "dumbbell": Range(
        "dumbbell", {"rubber": "rubber", "painted": "iron"}, (12, 49), ("2 kg", "4 kg", "8 kg"),
        shape={"head": (0.5, 0.8), "thick": (0.38, 0.65), "grip": (0.55, 0.75)},
        choices={"sides": (0, 6, 8)}, words=("head", "slim", "heavy"), part="with {} end caps",
        facts={"sides": {0: "The ends are round.", 6: "The ends are six-sided.",
            8: "The ends are eight-sided."}},
    ),
    "ball": Range(
        "ball", {"plastic": "vinyl", "rubber": "rubber"}, (6, 25), ("20 cm", "30 cm"),
        ("stripes", "dots", "checks", "bands"), (4, 6, 8), choices={"caps": (0, 1)},
        part="with {} caps", part_flag="caps",
    ),
    "skateboard": Range(
        "skateboard", {"painted": "maple"}, (45, 99), ("70 cm", "80 cm"),
        ("stripes", "dots", "checks", "zigzag"), (3, 4, 5),
        shape={"length": (3.0, 4.2), "width": (0.9, 1.05), "nose": (0.4, 0.8)},
        words=("length", "short", "long"), part="with {} wheels",
    ),
    "toy-car": Range(
        "toy car", {"painted": "wooden", "plastic": "plastic"}, (9, 25), ("14 cm", "17 cm"),
        ("checks", "stripes", "dots"), (3, 4),
        shape={"length": (2.1, 2.9), "height": (0.38, 0.55), "cabin": (0.36, 0.75),
               "room": (0.36, 0.75), "wheel": (0.3, 0.38)},
        choices={"accent_roof": (0, 1), "rack": (0, 0, 1)}, words=("length", "short", "long"),
        part="with {} hubs",
        facts={"rack": {1: "It carries planks on its roof."}},
    ),
    "stacking-rings": Range(
        "set of stacking rings", {"plastic": "plastic", "wood": "wooden"}, (12, 25),
        ("20 cm", "24 cm"), shape={"fat": (0.19, 0.25), "spread": (0.8, 1.05)},
        choices={"palette": (0, 1, 2, 3, 4), "rings": (4, 5, 6)}, part="with a {} ball on top",
        category="stacking rings", colours=WOODEN,
        facts={"palette": {0: "The rings are rainbow coloured.",
            1: "The rings are pastel coloured.", 2: "The rings are in shades of wood.",
            3: "The rings fade from navy to white.", 4: "The rings fade from brown to white."}},
    ),
    "robot": Range(
        "toy robot", {"painted": "tin", "plastic": "plastic"}, (19, 39), ("19 cm", "23 cm"),
        shape={"body": (0.8, 1.25), "width": (0.8, 1.15), "leg": (0.35, 0.7),
               "head": (0.55, 0.75)},
        choices={"wheels": (0, 0, 1), "round_head": (0, 1)}, words=("body", "short", "tall"),
        part="with {} hands",
        facts={"wheels": {1: "It rolls on two wheels.", 0: "It stands on two feet."},
            "round_head": {1: "Its head is round."}},
    ),
}  # fmt: skip
