"""Made-up names of people, places and organisations."""

import random
import re
from collections.abc import Callable

from faker import Faker

Namer = Callable[[str], str]  # takes a kind (PER, LOC, ORG, first, last, year, num, day), gives a name or a number

ORGS = (
    """\
Apple; Google; Microsoft; Amazon; Facebook; IBM; Intel; Samsung; Sony; Toyota; Volkswagen; BMW; Siemens; Boeing;
Airbus; Tesla; General Motors; Ford Motor Company; Netflix; Twitter; Goldman Sachs; JPMorgan Chase; Deutsche Bank;
HSBC; Barclays; Walmart; Nestle; Coca-Cola; Pfizer; Novartis; Shell; BP; ExxonMobil; Reuters; BBC; CNN;
New York Times; Washington Post; The Guardian; UNESCO; UNICEF; World Bank; International Monetary Fund;
World Health Organization; World Trade Organization; European Commission; FIFA; European Parliament;
European Central Bank; NATO; United Nations; Greenpeace; Amnesty International; Red Cross; Interpol; NASA; FBI; CIA;
Harvard University; Stanford University; Oxford University; MIT; Yale; Princeton; University of Chicago;
Manchester United; Real Madrid; Chelsea; Los Angeles Lakers; New York Yankees; Labour Party; Conservative Party;
Bundestag; Kremlin; Scotland Yard; Spotify; Nokia; Uber; Disney; Warner Brothers; Universal Pictures; Mozilla;
Red Hat; Oracle; Nvidia; Adobe; PayPal; Visa; McDonald's; Starbucks; Nike; Adidas; American Airlines; Lufthansa;
British Airways; Federal Reserve; Bank of England; Royal Society; Linux Foundation; Wikipedia
""".strip()
    .replace("\n", " ")
    .split("; ")
)

PLACES = (
    """\
London; Paris; Berlin; Rome; Madrid; Vienna; Tokyo; Beijing; Moscow; New York; Los Angeles; San Francisco; Chicago;
Boston; Seattle; Houston; Miami; Washington; Europe; Asia; Africa; South America; North America; Middle East;
California; Texas; Florida; Bavaria; Scotland; Silicon Valley; Wall Street; Hollywood; Manhattan; Brooklyn; Thames;
Danube; Nile; Alps; Himalayas; Mount Everest; Mediterranean; Baltic Sea; Atlantic Ocean; Pacific Ocean;
Lake Michigan; Sahara; Siberia; Times Square; Hyde Park; Heathrow Airport; Golden Gate Bridge; Munich; Hamburg;
Frankfurt; Milan; Barcelona; Manchester; Liverpool; Oxford; Cambridge; Birmingham; Glasgow; Dublin; Edinburgh;
Mumbai; New Delhi; Hong Kong; Taipei; Geneva; Zurich; Brussels; Amsterdam; Rotterdam; Stockholm; Oslo; Copenhagen;
Helsinki; Warsaw; Prague; Budapest; Athens; Istanbul; Cairo; Jerusalem; Toronto; Montreal; Vancouver; Sydney;
Melbourne; United States; United Kingdom; Russia; China; Soviet Union
""".strip()
    .replace("\n", " ")
    .split("; ")
)

ORG_FORMS = (
    """\
University of {LOC}; {LOC} University; Bank of {LOC}; {LOC} Police Department; {LOC} City Council; {last} Inc;
{last} Corporation; {last} & {last}; {last} Group; {LOC} Airlines; {last} Foundation; {LOC} Times;
Ministry of Finance; {LOC} Museum; {LOC} Symphony Orchestra; {LOC} United; {last} Institute; Department of Health
""".strip()
    .replace("\n", " ")
    .split("; ")
)

DAYS = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "January",
    "March",
    "June",
    "October",
    "Christmas",
]
LOCALES = ["en_US", "en_US", "en_GB", "en_IN", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL"]


def make_namer(rng: random.Random, known: dict[str, list[str]]) -> Namer:
    """Make a function that generates names.

    Some names are from lists, and some are from `known`, the names of the speeches by label.
    """
    Faker.seed(rng.random())
    fakes = [Faker(locale) for locale in LOCALES]

    def place(fake: Faker, roll: float) -> str:
        if roll < 0.6:
            return rng.choice(known["LOC"] if roll < 0.3 else PLACES)
        if roll < 0.7:
            return fakes[0].state()
        return fake.city() if roll < 0.85 else fakes[0].country().split("(")[0].strip()

    def organisation(roll: float) -> str:
        if roll < 0.65:
            return rng.choice(known["ORG"] if roll < 0.2 else ORGS)
        if roll < 0.75:
            return fakes[0].company()
        return re.sub(r"\{(\w+)\}", lambda m: name(m[1]), rng.choice(ORG_FORMS))

    def name(kind: str) -> str:
        if kind in ("year", "num", "day"):
            return {"year": str(rng.randint(1880, 2030)), "num": str(rng.randint(3, 90)), "day": rng.choice(DAYS)}[kind]
        fake, roll = rng.choice(fakes), rng.random()
        if kind == "first":
            return fake.first_name()
        if kind == "last":
            return fake.last_name()
        if kind == "PER":
            return rng.choice(known["PER"]) if roll < 0.2 else f"{fake.first_name()} {fake.last_name()}"
        return place(fake, roll) if kind == "LOC" else organisation(roll)

    return name
