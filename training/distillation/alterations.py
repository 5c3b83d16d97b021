"""Alterations of sentences: what short texts have and film reviews lack.

Some change what a text says, as a negation does; the teacher answers those again. Others keep it,
as a typing error does; the altered text then has the answer of the original. Each function returns
None for a text that it cannot alter.
"""

import re
from collections.abc import Callable
from random import Random
from typing import Final

Alteration = Callable[[str, Random], str | None]

_AUXILIARY: Final = re.compile(
    r"\b(is|was|are|were|do|does|did|can|could|would|should|will|has|have|had)\b"
    r"(?!\s+(?:not|never|no)\b|n't)",
    re.IGNORECASE,
)
_NEGATION: Final = re.compile(r"\b(?:not|never)\s+|n't\b", re.IGNORECASE)
_OPINION: Final = re.compile(
    r"\b(good|bad|great|nice|fine|fun|funny|boring|slow|interesting|beautiful|ugly|stupid|smart|poor"
    r"|weak|strong|awful|terrible|horrible|amazing|wonderful|excellent|perfect|fantastic|brilliant"
    r"|dull|lovely|entertaining|enjoyable|disappointing|annoying|impressive|useful|useless|cheap"
    r"|happy|sad|pleasant|disappointed|pleased|impressed)\b",
    re.IGNORECASE,
)
_STRENGTHS: Final = ("very", "really", "so", "truly", "extremely", "absolutely", "quite", "pretty")
_DOUBTS: Final = (
    "not that",
    "not very",
    "hardly",
    "not at all",
    "never",
    "not exactly",
    "far from",
)
_CONTRASTS: Final = ("but", "yet", "though", "however,", "and still")
_CONCESSIONS: Final = ("Although", "Even though", "While")
_OPPOSITES: Final = (
    ("good", "bad"), ("great", "terrible"), ("best", "worst"), ("better", "worse"),
    ("love", "hate"), ("loved", "hated"), ("loves", "hates"), ("liked", "disliked"),
    ("enjoy", "endure"), ("enjoyed", "endured"), ("excellent", "awful"), ("superb", "dreadful"),
    ("brilliant", "stupid"), ("brilliantly", "stupidly"), ("wonderful", "horrible"),
    ("wonderfully", "horribly"), ("amazing", "atrocious"), ("fantastic", "pathetic"),
    ("funny", "unfunny"), ("hilarious", "painful"), ("interesting", "boring"),
    ("fascinating", "tiresome"), ("entertaining", "tedious"), ("enjoyable", "unbearable"),
    ("perfect", "poor"), ("perfectly", "poorly"), ("beautiful", "ugly"),
    ("beautifully", "clumsily"), ("strong", "weak"), ("believable", "unbelievable"),
    ("convincing", "unconvincing"), ("original", "clichéd"), ("fresh", "stale"),
    ("masterpiece", "disaster"), ("gem", "dud"), ("success", "failure"), ("succeeds", "fails"),
    ("talented", "talentless"), ("clever", "silly"), ("smart", "dumb"), ("delightful", "dull"),
    ("memorable", "forgettable"), ("charming", "annoying"), ("impressive", "disappointing"),
    ("impressed", "disappointed"), ("solid", "shoddy"), ("gripping", "lame"), ("moving", "hollow"),
    ("touching", "shallow"), ("fun", "torture"), ("pleasure", "pain"), ("happy", "unhappy"),
    ("glad", "sorry"), ("recommend", "advise against"), ("recommended", "to be avoided"),
    ("outstanding", "laughable"), ("stunning", "hideous"), ("favorite", "least favorite"),
    ("worthwhile", "pointless"), ("rich", "thin"), ("realistic", "fake"), ("subtle", "crude"),
    ("captivating", "sleep-inducing"), ("exciting", "monotonous"), ("praise", "blame"),
    ("thankfully", "unfortunately"), ("fortunately", "sadly"), ("joy", "misery"),
    ("worth", "not worth"), ("bored", "entertained"), ("terrific", "abysmal"),
    ("compelling", "uninvolving"), ("flawless", "flawed"), ("intelligent", "brainless"),
    ("genius", "incompetence"), ("refreshing", "tired"), ("powerful", "feeble"),
    ("well acted", "badly acted"), ("well written", "badly written"), ("well done", "botched"),
    ("well made", "badly made"), ("something special", "nothing special"), ("laughed", "yawned"),
    ("a must see", "one to skip"), ("waste of time", "good use of time"), ("10/10", "1/10"),
    ("9/10", "2/10"), ("8/10", "3/10"), ("7/10", "4/10"), ("10 out of 10", "1 out of 10"),
)  # fmt: skip
_OPPOSITE: Final = {
    **dict(_OPPOSITES),
    **{other: one for one, other in _OPPOSITES},
}
_TURNED: Final = re.compile(
    r"\b(?:" + "|".join(sorted(map(re.escape, _OPPOSITE), key=len, reverse=True)) + r")\b",
    re.IGNORECASE,
)
_LEAST_TURNED: Final = 0.6
"""The least probability that a word of opinion is turned: people who edit leave some of them."""
EMOJI: Final = "😀😃😄😁😊😍🥰😘😎👍👏🎉💯🙌🔥⭐❤💕😂🤣🙂😐🤔😕🙁☹😞😢😭😠😡🤬👎💔🤮🤢😤😒🙄😩😴"
"""Frequent emoji, of good and bad valence, and even ones."""
EMOTICONS: Final = (":)", ":-)", ":D", ";)", "<3", ":(", ":-(", ":/", ":'(", ":|")


def negate(text: str, random: Random) -> str | None:
    """Remove a negation if there is one, else add `not` after an auxiliary verb."""
    if _NEGATION.search(text):
        return " ".join(_NEGATION.sub(" ", text, count=1).split())
    found = list(_AUXILIARY.finditer(text))
    if not found:
        return None
    end = random.choice(found).end()
    return f"{text[:end]} not{text[end:]}"


def turn(text: str, random: Random) -> str | None:
    """Replace words of opinion by their opposites, most of them on average; at least two."""
    turned, share = 0, random.uniform(_LEAST_TURNED, 1.0)

    def opposite(match: re.Match[str]) -> str:
        nonlocal turned
        if random.random() > share:
            return match[0]
        turned += 1
        other = _OPPOSITE[match[0].lower()]
        if match[0].isupper():
            return other.upper()
        return other[0].upper() + other[1:] if match[0][0].isupper() else other

    result = _TURNED.sub(opposite, text)
    return result if turned > 1 else None


def doubt(text: str, random: Random) -> str | None:
    """Weaken or turn a word of opinion: `not that good`."""
    return _before_opinion(text, _DOUBTS, random)


def strengthen(text: str, random: Random) -> str | None:
    """Strengthen a word of opinion: `really good`."""
    return _before_opinion(text, _STRENGTHS, random)


def emphasize(text: str, random: Random) -> str | None:
    """Write a word of opinion in capitals, or end with several exclamation marks."""
    found = list(_OPINION.finditer(text))
    if found and random.random() < 0.5:
        word = random.choice(found)
        return text[: word.start()] + word[0].upper() + text[word.end() :]
    return text.rstrip(".!?, ") + "!" * random.randint(1, 3)


def change_case(text: str, random: Random) -> str | None:
    """Write everything in small letters, without the full stop, or everything in capitals."""
    if random.random() < 0.75:
        return text.lower().rstrip(".")
    return text.upper()


def mistype(text: str, random: Random) -> str | None:
    """Exchange, drop or double a letter inside a word of at least four letters.

    The result may be the same, if two equal letters are exchanged.
    """
    words = text.split()
    long = [at for at, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not long:
        return None
    at = random.choice(long)
    word = words[at]
    i = random.randint(1, len(word) - 3)
    words[at] = random.choice(
        (
            word[:i] + word[i + 1] + word[i] + word[i + 2 :],
            word[:i] + word[i + 1 :],
            word[:i] + word[i] + word[i:],
        )
    )
    return " ".join(words)


def append_emoji(text: str, random: Random) -> str | None:
    """Append one to three equal emoji, or an emoticon."""
    if random.random() < 0.3:
        return f"{text} {random.choice(EMOTICONS)}"
    return f"{text} {random.choice(EMOJI) * random.choice((1, 1, 1, 2, 3))}"


def contrast(first: str, second: str, random: Random) -> str:
    """Join two sentences so that the second outweighs the first."""
    one, other = first.rstrip(".!? "), second[:1].lower() + second[1:]
    if second.startswith(("I ", "I'")):
        other = second
    if random.random() < 0.3:
        start = one if one.startswith(("I ", "I'")) else one[:1].lower() + one[1:]
        return f"{random.choice(_CONCESSIONS)} {start}, {other}"
    return f"{one}, {random.choice(_CONTRASTS)} {other}"


CHANGING: Final[dict[str, Alteration]] = {
    "negate": negate,
    "doubt": doubt,
    "strengthen": strengthen,
    "append_emoji": append_emoji,
}
"""What may change the answer."""
KEEPING: Final[dict[str, Alteration]] = {
    "emphasize": emphasize,
    "change_case": change_case,
    "mistype": mistype,
}
"""What keeps the answer."""


def _before_opinion(text: str, words: tuple[str, ...], random: Random) -> str | None:
    found = list(_OPINION.finditer(text))
    if not found:
        return None
    start = random.choice(found).start()
    return f"{text[:start]}{random.choice(words)} {text[start:]}"
