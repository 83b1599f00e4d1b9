"""Pans, bottles and jars of the sample catalogue."""

from __future__ import annotations

from ..look import Look, Product

KITCHEN: tuple[Product, ...] = (
    Product(
        product_id="pan-enamel-red",
        name="Enamelled frying pan, red",
        description=(
            "A red enamelled pan with a dark inside and a warm oak handle. Heats evenly on "
            "every kind of hob."
        ),
        category="frying pan",
        price=44.9,
        material="enamelled steel",
        brand="Ovenlark",
        size="26 cm",
        look=Look("frying-pan", colour="red", accent="oak", finish="enamel"),
    ),
    Product(
        product_id="pan-enamel-blue",
        name="Enamelled frying pan, blue",
        description="A blue enamelled pan with a cream inside and a black grip that stays cool.",
        category="frying pan",
        price=44.9,
        material="enamelled steel",
        brand="Ovenlark",
        size="26 cm",
        look=Look(
            "frying-pan",
            colour="blue",
            accent="black",
            finish="enamel",
            shape={"light_inside": 1},
        ),
    ),
    Product(
        product_id="pan-deep-copper",
        name="Deep saute pan, copper",
        description=(
            "A deep copper-coloured saute pan with a walnut handle and a second small grip."
        ),
        category="frying pan",
        price=69.0,
        material="copper",
        brand="Ovenlark",
        size="24 cm",
        look=Look(
            "frying-pan",
            colour="copper",
            accent="walnut",
            finish="polished",
            shape={"depth": 0.85, "width": 1.05, "handle": 1.0, "helper": 1},
        ),
    ),
    Product(
        product_id="bottle-slim-sky",
        name="Slim water bottle, sky blue",
        description=(
            "A slim insulated bottle in sky blue with a dark cap and carry loop. Keeps "
            "water cold for a day."
        ),
        category="water bottle",
        price=24.9,
        material="stainless steel",
        brand="Wellbrook",
        size="500 ml",
        look=Look("water-bottle", colour="sky", accent="graphite", finish="painted"),
    ),
    Product(
        product_id="bottle-slim-pink",
        name="Slim water bottle, pink",
        description="The slim insulated bottle in pink with a dark cap and carry loop.",
        category="water bottle",
        price=24.9,
        material="stainless steel",
        brand="Wellbrook",
        size="500 ml",
        look=Look("water-bottle", colour="pink", accent="graphite", finish="painted"),
    ),
    Product(
        product_id="bottle-stripes-lime",
        name="Striped sports bottle, lime",
        description=(
            "A wide squeezy sports bottle with lime and navy stripes and a white pull-up spout."
        ),
        category="water bottle",
        price=11.5,
        material="plastic",
        brand="Wellbrook",
        size="700 ml",
        look=Look(
            "water-bottle",
            colour="lime",
            accent="navy",
            pattern="stripes",
            finish="plastic",
            repeats=7,
            shape={"height": 2.1, "width": 0.6, "loop": 0},
        ),
    ),
    Product(
        product_id="bottle-steel-oak",
        name="Steel bottle with oak cap",
        description=(
            "Brushed steel outside, a wooden screw cap on top: a plain bottle that ages well."
        ),
        category="water bottle",
        price=29.0,
        material="stainless steel",
        brand="Wellbrook",
        size="600 ml",
        look=Look(
            "water-bottle",
            colour="steel",
            accent="oak",
            finish="metal",
            shape={"loop": 0, "height": 2.4, "width": 0.55},
        ),
    ),
    Product(
        product_id="jar-storage-mint",
        name="Storage jar, mint",
        description=(
            "A mint-green jar with a beech lid and a paper label to write on. Seals well "
            "enough for coffee."
        ),
        category="storage jar",
        price=17.9,
        material="ceramic",
        brand="Ovenlark",
        size="1 l",
        look=Look(
            "storage-jar",
            colour="mint",
            accent="beech",
            finish="glazed",
            shape={"label": 1},
        ),
    ),
    Product(
        product_id="jar-storage-checks",
        name="Storage jar, red checks",
        description=(
            "A country-style jar in red and white checks with a red lid. For biscuits, of course."
        ),
        category="storage jar",
        price=19.5,
        material="ceramic",
        brand="Ovenlark",
        size="1 l",
        look=Look(
            "storage-jar",
            colour="white",
            accent="red",
            pattern="checks",
            finish="glazed",
            repeats=18,
        ),
    ),
    Product(
        product_id="jar-tall-black",
        name="Tall pasta jar, black",
        description="A tall black jar that holds a full packet of spaghetti under its walnut lid.",
        category="storage jar",
        price=23.0,
        material="ceramic",
        brand="Ovenlark",
        size="1.8 l",
        look=Look(
            "storage-jar",
            colour="black",
            accent="walnut",
            finish="matte",
            shape={"height": 2.3, "width": 0.62, "label": 1},
        ),
    ),
)
