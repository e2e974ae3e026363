"""Made-up facts in Chinese and English, and questions about them: what the test model learns from.

They are made for a very small model: what is asked for stands right behind the name, and words are
kept apart by spaces in both languages.
"""

import random
from dataclasses import dataclass
from itertools import product
from typing import Final

_FIRST: Final = "Ba Co Di Fe Ga Ha Ju Ke Lo Mi Na Pe Ro Su Ta Vo".split()  # noqa: SIM905
_LAST: Final = "bar cor dan fel gon hul jin kem lop mir nax pod rus sem tiv wix".split()  # noqa: SIM905
NAMES: Final = {
    "en": ["".join(parts) for parts in product(_FIRST, _LAST)],
    "zh": [
        "青禾",
        "云杉",
        "白鹭",
        "石桥",
        "北斗",
        "南湖",
        "东篱",
        "西岭",
        "红松",
        "黑河",
        "金沙",
        "银杏",
        "长空",
        "明月",
        "清泉",
        "海棠",
        "秋水",
        "竹溪",
        "梅园",
        "兰亭",
        "星辰",
        "雪山",
        "风铃",
        "鹤鸣",
        "龙井",
        "虎丘",
        "凤凰",
        "麒麟",
        "玉门",
        "天柱",
        "火焰",
        "木兰",
    ],
}
_THINGS: Final = {
    "en": {
        "Server": "listens in the cellar",
        "Kettle": "boils water for tea",
        "Printer": "stands on the third floor",
        "Scanner": "reads both sides at once",
        "Archive": "keeps the old contracts",
        "Gateway": "connects the two offices",
    },
    "zh": {
        "服务器": "放在地下室",
        "水壶": "用来烧水泡茶",
        "打印机": "放在三楼",
        "扫描仪": "可以双面扫描",
        "档案馆": "保存旧合同",
        "网关": "连接两个办公室",
    },
}

_ENGLISH_PLACES: Final = """
    Berlin Paris Madrid Lisbon Oslo Vienna Prague Dublin Athens Rome Cairo Lima Quito Tokyo Seoul Delhi
    Boston Dallas Miami Denver Geneva Milan Naples Porto
"""
_CHINESE_PLACES: Final = (
    "北京 上海 广州 深圳 杭州 武汉 成都 重庆 天津 苏州 大连 厦门 南京 西安 青岛 昆明"
)
_PLACES: Final = {"en": _ENGLISH_PLACES.split(), "zh": _CHINESE_PLACES.split()}


@dataclass(frozen=True)
class Fact:
    """A sentence, a question that it answers, and the name it is about."""

    sentence: str
    question: str
    name: str


def facts(chance: random.Random, language: str, count: int) -> list[Fact]:
    """Each about another name."""
    return [_fact(chance, language, name) for name in chance.sample(NAMES[language], count)]


def _fact(chance: random.Random, language: str, name: str) -> Fact:
    thing, what = chance.choice(list(_THINGS[language].items()))
    place = chance.choice(_PLACES[language])
    if language == "zh":
        return Fact(f"{thing} {name} {place} {what}。", f"{thing} {name} 在哪里？", name)
    return Fact(f"{thing} {name} {place} {what}.", f"Where is the {thing.lower()} {name}?", name)
