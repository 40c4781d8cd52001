"""Patterns and lists for the silver labels: conventions of presidential prose that the teacher labels wrong."""

import re

PREFIX = re.compile(  # not part of a name
    r"(?:the|this|our|an?|said|late)\s+"
    r"|(?:States?|Territor(?:y|ies)|Cit(?:y|ies)|Governments?|People|Province) of\s+",
    re.IGNORECASE,
)
TITLES = re.compile(  # not part of a person's name
    r"(?:Mr|Mrs|Ms|Messrs|Dr|Sir|Miss|Lady|Lord|Vice|Deputy|Ex|Former|President|Secretary|Senator|Speaker|"
    r"Leader|Majority|Minority|Congress(?:man|woman)|Representative|Chief|Associate|Justice|Judge|Prime|Minister|"
    r"Chancellor|King|Queen|Prince|Emperor|Czar|Pope|Pasha|Governor|Ambassador|Attorney|Postmaster|General|"
    r"Major|Colonel|Captain|Lieutenant|Brigadier|Commodore|Commander|Admiral|Rear|Sergeant|Staff|Corporal|Officer|"
    r"Private|Chairman|Chair|Commissioner|Director|Inspector|Surgeon|Hon|Gen|Col|Capt|Lt|Gov|Sen|Rep|Rev|Prof|"
    r"Professor|Reverend|Father|Brother|Comrade|Marshal|Premier|Envoy|Consul|First)s?\b[.,]?-?\s*"
)

AGENCY = r"(?:Department|Bureau|Office|Board|Court|Ministry|Library)"
NAME = r"[A-Z][\w'-]+(?: [A-Z][\w'-]+)*"
FORCED = [  # always a name, with this label; the first match counts
    ("ORG", r"Congress of the United States|CONGRESS OF THE UNITED STATES"),
    ("ORG", AGENCY + rf" of (?:the )?{NAME}(?:(?:, {NAME})*,? and {NAME})?"),
    (
        "ORG",
        (
            r"(?:Treasury|War|Navy|State|Post-? ?Office|Interior|Justice|Agricultur(?:e|al)|Pension|Land|Indian) "
            r"(?:Department|Bureau|Office)|Naval Department|General Land Office"
        ),
    ),
    ("ORG", r"(?:Interstate Commerce|Civil Service|Federal Trade|Tariff|Atomic Energy|Isthmian Canal) Commission"),
    ("ORG", r"Bank of (?:the )?[A-Z]\w+(?: [A-Z]\w+)?|(?:War|Reconstruction) Finance Corporation"),
    (
        "ORG",
        (
            r"United Nations|League of Nations|NATO|White House|Supreme Court(?: of the United States)?|Congress|"
            r"CONGRESS|Senate|SENATE|House of Representatives|HOUSE OF REPRESENTATIVES|"
            r"(?<!White )(?<!Customs )House(?! of [A-Z])|"
            r"Federal Reserve(?: System| Board| Bank)?|Treasury|Navy|Army|Air Force|Marine Corps|Coast Guard|Pentagon|"
            r"National Guard|Parliament|Mint|Smithsonian Institution|Republican Party|Democratic Party|Peace Corps|"
            r"NASA|FBI|CIA|European Union|Red Cross|Bank of England|Cabinet Office|National Security Council"
        ),
    ),
    (
        "LOC",
        (
            r"District of Columbia|(?:Republic|Kingdom|Empire|Gulf|Isthmus|Bay|Strait|Straits|Cape|Port|Valley|Lake|"
            r"Island|Islands) of (?:the )?[A-Z]\w+(?: [A-Z]\w+)?"
        ),
    ),
    (
        "LOC",
        (
            r"United States(?: of America)?|UNITED STATES|U\.S\.A?\.?|United Kingdom|Great Britain|Soviet Union"
            r"|U\.S\.S\.R\.|America|Washington(?=, D\.C\.)|D\.C\.|Pacific(?: Ocean)?|Atlantic(?: Ocean)?|Mexico"
            r"|Middle East|Far East|Holy Land|Western Hemisphere|Latin America|Central America|South America"
            r"|North America|Rocky Mountains|Capitol(?: Hill)?|Buenos Ayres|Ghent"
            r"|Santo Domingo|San Domingo|Santiago|Hayti|Kongo|Congo|Paraguay|Samoa|Constantinople|Santa Fe"
            r"|Guadalupe Hidalgo|Greytown|Lecompton|Panama Canal|Danube|Indian Territory|Dominion of Canada"
            r"|Balize|Berne|Chamizal|Muscat|The Hague|Tientsin|Guantanamo(?: Bay)?|Persian Gulf"
            r"|West Indies|New Granada"
        ),
    ),
]

DROP = re.compile(  # whole forms that are no names for us: peoples, laws, treaties, plans, "the British Government"
    r"(?:.* )?(?:Governments?|Acts?|Treat(?:y|ies)|Conventions?|Messages?|Reports?|Majesty|Orders?|Plan|Powers?|"
    r"Indians?|Tribes|(?<!United )States|Statutes|Republics|Territories|Emperor|Captain-General|Minister|Consul|"
    r"Agreements?|Program|Initiative|Fund|System|Exposition|Amendment|Day|Jubilee|Budget|Legislature|Provinces|"
    r"Americans|Wars?|Conference|Dream|People|Tax|Covenant|Register|Round|Resolution|"
    r"Doctrine|Census|Statue|Ruler|Giver.*|Of|of|to|and|I|[IVX]+\.?|.\.|Jr)(?: of)?"
)

# single forms that are no names either
NEVER = set(
    """\
Act; Administration; Administration's; Alliance; Allied; Almighty; Ambassador; American; American Dream;
American People; Americans; Amistad; Anno Domini; Apollo; Armed Forces; Attorney General; Attorney-General; Auditor;
Bank; Bible; Bill; Bill of Rights; Board; Boxers; Brig; Britannic; Budget; Bureau; Cabinet; Capital; Carry; Chamber;
Chambers; Cherokees; Chickasaws; Chief Executive; Chief Justice; Chief Magistrate; Chinese; Choctaws; Christian;
Christians; Christmas; City; Civil War; Closest; Cold War; Columbia; Commerce; Commission; Commissioner;
Commissioners; Committee; Commonwealth; Communism; Communist; Communists; Confederacy; Confederation; Conference;
Cong; Constitution; Constitutional; Consul; Continent; Convention; Corps; Council; County; Court; Courts; Creator;
Creeks; Crown; Czar; Dad; Declaration of Independence; Defense; Democrat; Democrats; Department; Departments;
Depression; District; Divine; Divine Providence; Dollars; Dominion; Earth; Eastern; Eastward; Emperor; Empire;
Executive; Executive Branch; Executive Departments; Exposition; Fathers; Federal; Federal Government; Fellow;
Fellow Citizens; Fellow-Citizens; Founders; Founding; Founding Fathers; Fourth of July; Free World; Freedom;
GENTLEMEN; GI; General; General Government; Gentlemen; God; Government; Governments; Governor; Grace; Grand;
Great Depression; Great Society; Healthcare; Hemisphere; House Republicans; House's; Houses; Hydrographer; I;
INDIANS; Imperial; Independence; Indian; Indians; Interior; Internet; Iron; Isthmian; Japanese; Judicial; Judiciary;
Justice; Khedive; Kingdom; Labor; Legislative; Legislature; Legislatures; Liberty; Lord; Madam; Majesty; Medal;
Medal of Honor; Medicaid; Medicare; Member; Members; Message; Mexicans; Minister; Ministers; Mission; Mom;
Monroe Doctrine; Moon; Mormons; Mother; NEGRO; Nation; Nation's; National; National Government; Nations; Nazi;
Negro; Negroes; New Deal; Northern; Parties; Party; Postmaster General; Postmaster-General; Power; Powers;
President; Prime Minister; Providence; Province; Provinces; Republic; Republican; Republicans; Republics;
Revolution; SALT; Secretaries; Secretary; Secretary of State; Secretary of War; Seminoles; Social; Social Security;
Socialist; Southern; Sovereign; Spaniards; Speaker; State; State Department of; States; Street; Sultan; Sun;
Supreme; Supreme Being; Tax; Territorial; Territories; Territory; Time; Treasurer; Treaty; Tribunal; Union;
Vice President; Water; Western; World; World War; World War II
""".strip()
    .replace("\n", " ")
    .split("; ")
)
