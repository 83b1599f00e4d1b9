"""Mugs, teapots, bowls and vases of the sample catalogue."""

from __future__ import annotations

from ..look import Look, Product

TABLE: tuple[Product, ...] = (
    Product(
        product_id="mug-classic-red",
        name="Classic mug, red",
        description=(
            "A sturdy everyday mug in bright red glaze with a white inside. Holds a "
            "generous cup of coffee and is dishwasher safe."
        ),
        category="mug",
        price=12.5,
        material="stoneware",
        brand="Tarrowby",
        size="350 ml",
        look=Look("mug", colour="red", finish="glazed"),
    ),
    Product(
        product_id="mug-classic-blue",
        name="Classic mug, blue",
        description=(
            "The same sturdy everyday mug in deep blue glaze, white inside. Dishwasher and "
            "microwave safe."
        ),
        category="mug",
        price=12.5,
        material="stoneware",
        brand="Tarrowby",
        size="350 ml",
        look=Look("mug", colour="blue", finish="glazed"),
    ),
    Product(
        product_id="mug-dots-red",
        name="Dotted mug, red",
        description=(
            "A cheerful red mug scattered with large white dots. The white inside keeps "
            "tea looking bright."
        ),
        category="mug",
        price=13.9,
        material="stoneware",
        brand="Tarrowby",
        size="350 ml",
        look=Look(
            "mug",
            colour="red",
            accent="white",
            pattern="dots",
            finish="glazed",
            repeats=10,
        ),
    ),
    Product(
        product_id="mug-tall-bands",
        name="Tall latte mug, teal bands",
        description=(
            "A tall, slim latte mug with teal and cream bands all the way up. Room for "
            "plenty of milk foam."
        ),
        category="mug",
        price=15.9,
        material="stoneware",
        brand="Tarrowby",
        size="480 ml",
        look=Look(
            "mug",
            colour="teal",
            accent="cream",
            pattern="bands",
            finish="glazed",
            repeats=8,
            shape={"height": 2.5, "width": 0.78, "taper": 0.8},
        ),
    ),
    Product(
        product_id="mug-soup-yellow",
        name="Wide soup mug, yellow",
        description=(
            "A low, wide mug with a black handle for soup or a large cappuccino. Sunny "
            "yellow glaze inside and out."
        ),
        category="mug",
        price=14.5,
        material="stoneware",
        brand="Tarrowby",
        size="420 ml",
        look=Look(
            "mug",
            colour="yellow",
            accent="black",
            finish="glazed",
            shape={
                "height": 1.35,
                "width": 1.05,
                "taper": 0.72,
                "accent_handle": 1,
                "white_inside": 0,
            },
        ),
    ),
    Product(
        product_id="teapot-round-teal",
        name="Round teapot, teal",
        description=(
            "A round-bellied teapot in teal glaze with a wooden handle and knob. Pours "
            "four cups without dripping."
        ),
        category="teapot",
        price=39.0,
        material="stoneware",
        brand="Tarrowby",
        size="1.1 l",
        look=Look("teapot", colour="teal", accent="oak", finish="glazed"),
    ),
    Product(
        product_id="teapot-round-dots",
        name="Round teapot, white with red dots",
        description=(
            "A white teapot covered in red dots, finished with a red handle and knob. A "
            "friendly pot for the breakfast table."
        ),
        category="teapot",
        price=42.0,
        material="porcelain",
        brand="Tarrowby",
        size="1.1 l",
        look=Look(
            "teapot",
            colour="white",
            accent="red",
            pattern="dots",
            finish="glazed",
            repeats=14,
        ),
    ),
    Product(
        product_id="teapot-tall-black",
        name="Tall teapot, matte black",
        description=(
            "A tall, slender teapot in matte black with copper-coloured handle. Made for "
            "slow afternoons with strong tea."
        ),
        category="teapot",
        price=49.5,
        material="stoneware",
        brand="Tarrowby",
        size="1.3 l",
        look=Look(
            "teapot",
            colour="black",
            accent="copper",
            finish="matte",
            shape={"height": 2.1, "belly": 0.9},
        ),
    ),
    Product(
        product_id="bowl-zigzag-blue",
        name="Zigzag bowl, blue",
        description=(
            "A footed bowl with a hand-drawn look: white zigzags run around the blue "
            "outside, and the inside is white."
        ),
        category="bowl",
        price=18.0,
        material="stoneware",
        brand="Tarrowby",
        size="22 cm",
        look=Look(
            "bowl",
            colour="blue",
            accent="white",
            pattern="zigzag",
            finish="stoneware",
            repeats=16,
            shape={"accent_inside": 1},
        ),
    ),
    Product(
        product_id="bowl-plain-green",
        name="Salad bowl, green",
        description="A wide, plain salad bowl in leaf green with a soft satin glaze.",
        category="bowl",
        price=22.0,
        material="stoneware",
        brand="Tarrowby",
        size="26 cm",
        look=Look(
            "bowl",
            colour="green",
            finish="stoneware",
            shape={"width": 1.4, "depth": 0.85},
        ),
    ),
    Product(
        product_id="bowl-deep-coral",
        name="Deep noodle bowl, coral",
        description="A deep bowl for noodles and soups, coral outside and cream inside.",
        category="bowl",
        price=16.5,
        material="stoneware",
        brand="Tarrowby",
        size="18 cm",
        look=Look(
            "bowl",
            colour="coral",
            accent="cream",
            finish="glazed",
            shape={"width": 1.05, "depth": 1.15, "accent_inside": 1},
        ),
    ),
    Product(
        product_id="vase-bands-coral",
        name="Banded vase, coral",
        description=(
            "A full-bellied vase with broad coral and white bands. Looks good even without flowers."
        ),
        category="vase",
        price=34.0,
        material="earthenware",
        brand="Ferncroft Studio",
        size="28 cm",
        look=Look(
            "vase",
            colour="coral",
            accent="white",
            pattern="bands",
            finish="matte",
            repeats=8,
        ),
    ),
    Product(
        product_id="vase-bands-navy",
        name="Banded vase, navy",
        description=(
            "The full-bellied vase with broad navy and white bands, in a soft matte finish."
        ),
        category="vase",
        price=34.0,
        material="earthenware",
        brand="Ferncroft Studio",
        size="28 cm",
        look=Look(
            "vase",
            colour="navy",
            accent="white",
            pattern="bands",
            finish="matte",
            repeats=8,
        ),
    ),
    Product(
        product_id="vase-tall-sand",
        name="Tall bottle vase, sand",
        description=(
            "A tall, narrow-necked bottle vase in sand-coloured clay. Made for a single branch."
        ),
        category="vase",
        price=29.5,
        material="earthenware",
        brand="Ferncroft Studio",
        size="36 cm",
        look=Look(
            "vase",
            colour="sand",
            finish="clay",
            shape={"height": 3.0, "belly": 0.62, "belly_at": 0.28, "neck": 0.18, "lip": 0.26},
        ),
    ),
    Product(
        product_id="vase-round-speckle",
        name="Round vase, speckled mint",
        description=(
            "A low, round vase in mint with dark green speckles, wide enough for a garden bunch."
        ),
        category="vase",
        price=31.0,
        material="stoneware",
        brand="Ferncroft Studio",
        size="19 cm",
        look=Look(
            "vase",
            colour="mint",
            accent="green",
            pattern="speckle",
            finish="glazed",
            repeats=6,
            shape={"height": 1.7, "belly": 0.95, "belly_at": 0.45, "neck": 0.5, "lip": 0.62},
        ),
    ),
)
