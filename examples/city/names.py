"""Chinese names: surnames as common as in life, given names that fit the sex and the generation."""

from random import Random
from typing import Final

from examples.city.identity_numbers import Sex

# Surname and weight, roughly bearers per thousand; two-character surnames are rarer in life than here.
_SURNAMES: Final = {
    "王": 72, "李": 71, "张": 68, "刘": 54, "陈": 53, "杨": 31, "黄": 22, "赵": 21, "吴": 20, "周": 19,
    "徐": 15, "孙": 14, "马": 13, "朱": 13, "胡": 12, "郭": 11, "何": 11, "林": 11, "高": 10, "罗": 10,
    "郑": 9, "梁": 9, "谢": 8, "宋": 8, "唐": 7, "许": 7, "韩": 6, "冯": 6, "邓": 6, "曹": 6,
    "彭": 5, "曾": 5, "肖": 5, "田": 5, "董": 5, "袁": 5, "潘": 5, "于": 4, "蒋": 4, "蔡": 4,
    "余": 4, "杜": 4, "叶": 4, "程": 4, "苏": 4, "魏": 4, "吕": 4, "丁": 4, "任": 4, "沈": 4,
    "姚": 3, "卢": 3, "姜": 3, "崔": 3, "钟": 3, "谭": 3, "陆": 3, "汪": 3, "范": 3, "金": 3,
    "欧阳": 2, "上官": 1, "司马": 1, "诸葛": 1, "夏侯": 1, "皇甫": 1,
}  # fmt: skip
_SURNAME_LIST: Final = tuple(_SURNAMES)
_SURNAME_WEIGHTS: Final = tuple(_SURNAMES.values())

# The first year of a generation, the share of one-character given names, and its characters by sex:
# first position, second position.
_Characters = tuple[str, str]
_GENERATIONS: Final[tuple[tuple[int, float, _Characters, _Characters], ...]] = (
    (
        1995,
        0.15,
        ("子浩宇俊泽一梓嘉奕铭晨思", "轩涵辰睿博豪洋航文远哲霖"),
        ("梓欣雨诗思可佳语若馨依晓", "涵怡妍萱彤悦桐琪瑶宁菲然"),
    ),
    (
        1970,
        0.35,
        ("志建晓文海永俊伟立国家明", "伟强军勇斌鹏涛辉峰杰刚亮"),
        ("晓丽雪海文玉小春艳美红慧", "静敏丽燕娟霞芳洁婷琳颖莉"),
    ),
    (
        1900,
        0.20,
        ("建国志德永文福家金玉成明", "国华平民生林祥荣根山贵忠"),
        ("秀桂玉淑凤爱素惠美兰金月", "英兰珍芳华琴梅云香莲娥萍"),
    ),
)


def surname(rng: Random) -> str:
    """Draw a surname."""
    return rng.choices(_SURNAME_LIST, _SURNAME_WEIGHTS)[0]


def given_name(rng: Random, sex: Sex, year: int) -> str:
    """Draw a given name of one or two characters for a child born in a year."""
    _, single, male, female = next(generation for generation in _GENERATIONS if generation[0] <= year)
    first, second = male if sex == "male" else female
    if rng.random() < single:
        return rng.choice(second)
    opening = rng.choice(first)
    return opening + rng.choice([character for character in second if character != opening])
