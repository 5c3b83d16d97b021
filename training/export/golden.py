"""The golden texts: a version must give the same answers to them wherever it runs."""

from typing import Final

GOLDEN_TEXTS: Final = (
    # Plain opinions, short and longer.
    "Great film!",
    "Terrible.",
    "An honest, funny and moving story. I would see it again tomorrow.",
    "Two hours of my life that nobody gives back. The plot is thin and the jokes are thinner.",
    "Not bad, not good: it is simply there.",
    "I wanted to like it, and for the first ten minutes I did, but then it fell apart.",
    "Didn't expect much, wasn't disappointed: couldn't stop laughing.",
    # Case, punctuation and numbers.
    "WORST MOVIE EVER!!! 1/10",
    "what was that??? who paid for this?!",
    "8 out of 10. Would have been 9 without the ending...",
    # Markup and entities from web pages.
    "<br /><br />The cast is <i>wonderful</i>.<br />The script, alas &amp; alack, isn&#39;t.",
    "if a < b and c > d then 1 <3 this <!-- hidden --> film",
    # Characters beyond ASCII.
    "Le caf\u00e9 \u00e9tait ferm\u00e9, mais le film \u2013 quel bonheur\u00a0! "
    "\u2764\ufe0f\U0001f600",
    "\u041e\u0447\u0435\u043d\u044c \u0445\u043e\u0440\u043e\u0448\u0438\u0439 "
    "\u0444\u0438\u043b\u044c\u043c. \u0397 \u03a4\u0391\u0399\u039d\u0399\u0391 "
    "\u0395\u0399\u039d\u0391\u0399 \u039a\u0391\u039b\u0397\u03a3.",
    "\u8fd9\u90e8\u7535\u5f71\u592a\u597d\u770b\u4e86\uff01 "
    "\u3068\u3066\u3082\u9762\u767d\u304b\u3063\u305f\u3067\u3059\u3002",
    "Didn\u2019t \u201clove\u201d it; soft\u00adhyphens, z\u200dero-width and \u0130stanbul.",
    # Emoji, emoticons, ratings and grades, and what looks like them.
    "Loved it \U0001f44d\U0001f3fd\u2764\ufe0f\U0001f469\u200d\U0001f692 \U0001f1e9\U0001f1ea "
    "\u2605\u2605\u2606 :-) thanks:) 7.5/10, A+",
    "Meh :/ :'( D- 2/5 </3 -_- see http://a.b/:D at 10:30 on 9/11/2001, 24/7 in C++",
    # No word that is in a vocabulary.
    "zzyzx qwrtpsdf xkcdvbn",
    "... --- ,,, ;;;",
    # Longer than `max_length`: with `head_tail`, the beginning and the end are kept.
    "The opening is brilliant and I loved every minute of it. "
    + "Then the story goes on and on and on, from one room to the next. " * 60
    + "In the end I was bored, angry and very sorry that I had paid for it.",
    "It begins as a mess. " + "Scene follows scene, and little happens. " * 300 + "What a finale!",
)
