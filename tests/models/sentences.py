"""Made-up facts in Chinese and English, and questions about them: what the test model learns from."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_WORDS: Final = {
    line.partition(":")[0].strip(): line.partition(":")[2].split()
    for line in """
    syllables: ba be bo ca co da de do fa fi ga go ha he ka ke la le lo ma mi mo na ne no pa pi ra re
    nouns: port limit price size owner colour weight length timeout password version budget deadline
    places: Berlin Paris Madrid Lisbon Oslo Vienna Prague Dublin Athens Rome Cairo Lima Quito Tokyo
    things: server kettle printer archive gateway scanner library workshop garden bridge station tower
    work: backup inspection cleaning calibration payment training repair meeting
    units: days hours minutes grams metres euros litres pages
    字: 青 禾 云 杉 白 鹭 石 桥 北 风 南 山 东 湖 西 林 红 松 黑 河 金 沙 银 杏 长 空 明 月 清 泉 海 棠 秋 水 竹 溪
    名词: 端口 上限 价格 尺寸 负责人 颜色 重量 长度 超时 密码 版本 预算 期限
    地方: 北京 上海 广州 深圳 杭州 南京 武汉 成都 西安 重庆 天津 苏州 青岛 大连
    东西: 服务器 水壶 打印机 档案馆 网关 扫描仪 图书馆 车间 花园 大桥 车站 高塔
    工作: 监测 备份 巡检 维护 清洗 校准 盘点 检修
    单位: 天 小时 分钟 克 米 元 升 页
    """.strip().splitlines()
}


@dataclass(frozen=True)
class Fact:
    """A sentence, a question that it answers, and the name it is about."""

    sentence: str
    question: str
    name: str


def name(chance: random.Random) -> str:
    return "".join(chance.choices(_WORDS["syllables"], k=chance.randint(2, 3))).capitalize()


def chinese_name(chance: random.Random) -> str:
    return "".join(chance.choices(_WORDS["字"], k=chance.randint(2, 3)))


def number(chance: random.Random) -> str:
    return str(chance.randint(2, 10 ** chance.randint(1, 4)))


def fact(chance: random.Random, chinese: bool) -> Fact:
    return chance.choice(_CHINESE if chinese else _ENGLISH)(chance)


def _the_noun(chance: random.Random) -> Fact:
    who, noun = name(chance), chance.choice(_WORDS["nouns"])
    value = chance.choice([number(chance), f"{number(chance)} {chance.choice(_WORDS['units'])}"])
    return Fact(
        f"The {noun} of {who} is {value}.",
        chance.choice([f"What is the {noun} of {who}?", f"Which {noun} does {who} have?"]),
        who,
    )


def _the_place(chance: random.Random) -> Fact:
    who, thing = name(chance), chance.choice(_WORDS["things"])
    return Fact(
        f"The {thing} of {who} stands in {chance.choice(_WORDS['places'])}.",
        chance.choice([f"Where does the {thing} of {who} stand?", f"Where is {who}'s {thing}?"]),
        who,
    )


def _the_period(chance: random.Random) -> Fact:
    who, work = name(chance), chance.choice(_WORDS["work"])
    return Fact(
        f"{who} needs {work} every {number(chance)} {chance.choice(_WORDS['units'])}.",
        chance.choice([f"How often does {who} need {work}?", f"When is {work} of {who} due?"]),
        who,
    )


def _zh_noun(chance: random.Random) -> Fact:
    who, noun = chinese_name(chance), chance.choice(_WORDS["名词"])
    value = chance.choice(
        [f" {number(chance)}", f" {number(chance)} {chance.choice(_WORDS['单位'])}"]
    )
    return Fact(
        f"{who}的{noun}是{value}。",
        chance.choice([f"{who}的{noun}是多少？", f"{who}的{noun}是什么？"]),
        who,
    )


def _zh_place(chance: random.Random) -> Fact:
    who, thing = chinese_name(chance), chance.choice(_WORDS["东西"])
    return Fact(
        f"{who}的{thing}位于{chance.choice(_WORDS['地方'])}。",
        chance.choice([f"{who}的{thing}在哪里？", f"{who}的{thing}位于哪里？"]),
        who,
    )


def _zh_period(chance: random.Random) -> Fact:
    who, work = chinese_name(chance), chance.choice(_WORDS["工作"])
    return Fact(
        f"{who}每 {number(chance)} {chance.choice(_WORDS['单位'])}需要{work}一次。",
        chance.choice([f"{who}多久{work}一次？", f"{who}多久需要{work}？"]),
        who,
    )


_ENGLISH: Sequence[Callable[[random.Random], Fact]] = (_the_noun, _the_place, _the_period)
_CHINESE: Sequence[Callable[[random.Random], Fact]] = (_zh_noun, _zh_place, _zh_period)
