"""How common characters are, coarsely: what the guessing of encodings rests on."""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

# Commonest first, counted over the Chinese Wikipedia paragraphs of CMRC 2018 and the Chinese Apache
# APISIX documentation (628,000 characters; these 600 are 81 % of them, the first 100 are 38 %),
# then some of everyday speech.
_SIMPLIFIED = (
    "的为在中年一用是以有于时大置个和上配到国请件后下不可求由会应发人路成名如日使将插地了行与"
    "学数并月之部其及本生出被作分同过加对定示建长主公体要务来多该式新前设例通自当他内而方所西"
    "理称动线文代或这间服法现位否量区第果响至者入此开等最家类海存子南斯头你证则值道制关目性东"
    "小任认进因亚也高端球能物站台标重创三参经赛北持条据全特外字表尔期向相色场游面种港接从得实"
    "支里变车市志点合型属指电次两都度取提消队山更化户但军包正需无保送世立马密天选号器达教获原"
    "处员美二元龙工香平利启业政系演事格集令安机们何列比义常民运回口王带流布问单明信约客语节组"
    "水米州士克息基书鱼费形改起群十程德段身连已资联默巴广意结限司收华岛科鳍转版金查命码项罗太"
    "级四首验湾英具战计院传共力效源模权非统只始环直述心尼含状视先城就交然总拉录容看态食记它曾"
    "每除少兰必许品受供些描门完超管样网洲境校议界林音影近复河修别角产解空阿引女乐速又未即较花"
    "钥情份治著说亦省访星载规陆古功展足没步铁还匹江调注试纪康县府手且域白各商剧齿协武牌考象活"
    "返五率局离黄题播决片符朝放初石秒导史万社编签我根族换缓往构似执居增检画张委冠专授址历卡括"
    "装郡见测清很印风再京均您允维续推给今光整批神背侧层打街确致举际村官失红骨助才职另青知那索"
    "尾绝仅师额帝气皇深造夫观写奥黑汉算终随领去错湖阳死研优准显纳亲反六范术氏牠故律景堂曲九普"
    "座强言质育究误宗蛇细枚团她干好园波早护报围图况留论盖添叶么吗呢吧想把谢哪谁怎喜欢做叫听吃"
    "买卖钱昨晚午迎答案价简介告档"
)
# Their traditional forms, where these differ.
_TRADITIONAL = (
    "爲於時個國請後會應發將與學數並過對長體務來該設當內稱動線這間現區響開類頭證則關東認進亞臺"
    "標創參經賽條據爾場遊種從實裏變車點屬電兩隊戶軍無馬選號達獲處員龍啓業機們義運帶佈問單約語"
    "節組書魚費羣連資聯廣結華島鰭轉碼項羅級驗灣戰計傳權統環狀視總錄態記蘭許門樣網議復別產樂較"
    "鑰說訪載規陸沒鐵還調試紀縣劇齒協離黃題決導萬編籤換緩構執檢畫張專歷裝見測風維續給側層確舉"
    "際紅職絕僅師額氣觀寫奧漢終隨領錯陽優準顯納親範術強質誤細團幹園護報圍圖況論蓋葉麼嗎謝誰歡"
    "聽買賣錢價簡檔妳"
)
_VERY_COMMON = frozenset(_SIMPLIFIED[:100])
_COMMON = frozenset(_SIMPLIFIED + _TRADITIONAL)
_PUNCTUATION = frozenset("，。、；：？！「」『』《》〈〉（）【】“”‘’…—·　")

# Prices in nats: about -ln(probability) of one character in running text of its own language.
_ASCII = 2.5
_KANA, _CYRILLIC, _ACCENTED, _HANGUL = 4.0, 3.5, 5.0, 6.5
_BROKEN = 20.0


@cache
def cost(character: str) -> float:
    """The price of one character."""
    if character < "\x80":
        return _ascii_cost(character)
    if character in _PUNCTUATION or character in _VERY_COMMON:
        return 4.5
    if "\u4e00" <= character <= "\u9fff":
        return 6.0 if character in _COMMON else 8.5 if character in _taught_characters() else 12.0
    if "\u3041" <= character <= "\u30fc":
        return _KANA if character < "\u30a0" else _KANA + 1
    if "\uac00" <= character <= "\ud7a3":
        return _HANGUL if character in _everyday_hangul() else 11.0
    if "\u0410" <= character <= "\u044f":
        return _CYRILLIC if character >= "\u0430" else _CYRILLIC + 2
    if "\xc0" <= character <= "\xff":
        return _ACCENTED if character >= "\xdf" else _ACCENTED + 2
    if "\u0100" <= character <= "\u017f":
        return _ACCENTED + 2
    if "\uff01" <= character <= "\uff5e":
        return 7.0
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs"):
        return _BROKEN
    return 8.0 if character <= "\xbf" or "\u2010" <= character <= "\u2122" else 12.0


def _ascii_cost(character: str) -> float:
    if character.isalnum() or character in " \n\t\r.,":
        return _ASCII
    return _ASCII + 2 if character >= " " else _BROKEN


@cache
def _taught_characters() -> frozenset[str]:
    """The everyday halves of GB 2312, Big5 and JIS X 0208, whose authors sorted characters by use."""
    return frozenset(
        [
            *_double_bytes("gb2312", range(0xB0, 0xD8), range(0xA1, 0xFF)),
            *_double_bytes("big5", range(0xA4, 0xC7), [*range(0x40, 0x7F), *range(0xA1, 0xFF)]),
            *_double_bytes("euc_jp", range(0xB0, 0xD0), range(0xA1, 0xFF)),
        ]
    )


@cache
def _everyday_hangul() -> frozenset[str]:
    return frozenset(_double_bytes("euc_kr", range(0xB0, 0xC9), range(0xA1, 0xFF)))


def _double_bytes(encoding: str, leads: Sequence[int], trails: Sequence[int]) -> Iterator[str]:
    for lead in leads:
        for trail in trails:
            yield from bytes((lead, trail)).decode(encoding, "ignore")
