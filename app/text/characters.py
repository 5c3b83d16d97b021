r"""The characters of words and emoji, as ranges that every regular-expression engine supports.

Python's `re` has no `\p{L}`, RE2 has no `\w` beyond ASCII, and the definition of a letter depends
on the Unicode version of each library. So the ranges are listed here once, and stored in
`tokenizer.json` with the model that was trained with them.

Source:
    Unicode 14, general categories L, M and N (letters, marks and numbers of every script), with
    ranges joined across unassigned code points. Above U+FFFF whole blocks are included.
    Excluded: letters whose lower case is newer than Unicode 13, which the graph's ICU library
    lacks; U+02BC, which is treated as an apostrophe; variation selectors.
"""

from typing import Final

# Hexadecimal, inclusive.
WORD_RANGES: Final = """
    30-39 41-5A 61-7A AA B2-B3 B5 B9-BA BC-BE C0-D6 D8-F6 F8-2BB 2BD-2C1 2C6-2D1 2E0-2E4 2EC 2EE
    300-374 376-37D 37F 386 388-3F5 3F7-481 483-559 560-588 591-5BD 5BF 5C1-5C2 5C4-5C5 5C7-5F2
    610-61A 620-669 66E-6D3 6D5-6DC 6DF-6E8 6EA-6FC 6FF 710-7F5 7FA-7FD 800-82D 840-85B 860-887
    889-88E 898-8E1 8E3-963 966-96F 971-9F1 9F4-9F9 9FC 9FE-A75 A81-AEF AF9-B6F B71-BF2 C00-C6F
    C78-C7E C80-C83 C85-D4E D54-D78 D7A-DF3 E01-E3A E40-E4E E50-E59 E81-F00 F18-F19 F20-F33 F35
    F37 F39 F3E-F84 F86-FBC FC6 1000-1049 1050-109D 10A0-10FA 10FC-135F 1369-138F 13A0-13FD
    1401-166C 166F-167F 1681-169A 16A0-16EA 16EE-1734 1740-17D3 17D7 17DC-17F9 180B-180D
    180F-193B 1946-19DA 1A00-1A1B 1A20-1A99 1AA7 1AB0-1B59 1B6B-1B73 1B80-1BF3 1C00-1C37
    1C40-1C7D 1C80-1CBF 1CD0-1CD2 1CD4-1FBC 1FBE 1FC2-1FCC 1FD0-1FDB 1FE0-1FEC 1FF2-1FFC
    2070-2079 207F-2089 2090-209C 20D0-20F0 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128
    212A-212D 212F-2139 213C-213F 2145-2149 214E 2150-2189 2460-249B 24EA-24FF 2776-2793
    2C00-2C2E 2C30-2C5E 2C60-2CE4 2CEB-2CF3 2CFD 2D00-2D6F 2D7F-2DFF 2E2F 302A-302F 3031-3035
    303C 3099-309A 3105-318E 3192-3195 31A0-31BF 3220-3229 3248-324F 3251-325F 3280-3289
    32B1-32BF A000-A48C A4D0-A4FD A500-A60C A610-A672 A674-A67D A67F-A6F1 A717-A71F A722-A788
    A78B-A7BF A7C2-A7CA A7D3-A7D5 A7F2-A827 A82C-A835 A840-A873 A880-A8C5 A8D0-A8F7 A8FB
    A8FD-A92D A930-A953 A960-A9C0 A9CF-A9D9 A9E0-AA59 AA60-AA76 AA7A-AADD AAE0-AAEF AAF2-AB5A
    AB5C-AB69 AB70-ABEA ABEC-D7FB FB00-FB28 FB2A-FBB1 FBD3-FD3D FD50-FDC7 FDF0-FDFB FE20-FE2F
    FE70-FEFC FF10-FF19 FF21-FF3A FF41-FF5A FFA0-FFDC 10000-1056F 105C0-10D3F 10D90-1AFEF
    1B170-1CFFF 1D400-1D7FF 1DF00-1EFFF
"""

# Scripts written without spaces: Han, Hiragana, Katakana. Each character is a token.
IDEOGRAPH_RANGES: Final = """
    3005-3007 3021-3029 3038-303B 3041-3096 309D-309F 30A1-30FA 30FC-30FF 31F0-31FF 3400-4DBF
    4E00-9FFF F900-FAD9 FF66-FF9F 1AFF0-1B16F 20000-3FFFD
"""

# Of the pictures that Unicode calls emoji, those that stand for themselves: without digits, arrows
# and squares, and without what only changes the emoji before it, such as a skin tone. Stars, hearts
# and check marks that Unicode draws as text are included, and room for emoji to come.
EMOJI_RANGES: Final = """
    203C 2049 231A-231B 23E9-23F3 23F8-23FA 2600-2757 2763-2767 2795-2797 27A1 27B0 27BF 2B50 2B55
    3030 303D 3297 3299 1F004 1F0CF 1F170-1F171 1F17E-1F17F 1F18E 1F191-1F19A 1F201-1F202 1F21A
    1F22F 1F232-1F23A 1F250-1F251 1F300-1F3FA 1F400-1F64F 1F680-1F6FF 1F7E0-1F7F0 1F900-1F9FF
    1FA70-1FAFF
"""

# Two of them are a flag.
REGIONAL_INDICATOR_RANGES: Final = "1F1E6-1F1FF"


def character_class(ranges: str) -> str:
    """Convert ranges in the notation above to the inside of a regular-expression class.

    The characters are written literally, because `re` and RE2 share no escape for all of them.
    """
    parts = []
    for entry in ranges.split():
        first, _, last = entry.partition("-")
        start = chr(int(first, 16))
        parts.append(f"{start}-{chr(int(last, 16))}" if last else start)
    return "".join(parts)
