"""Addresses of the generated city: district, road and number, community, building, unit, room."""

from collections.abc import Callable
from random import Random

from examples.city.registrar import CITY_NAME

_ROADS = (
    "望湖路", "建设路", "人民路", "青年路", "解放街", "文化路", "新华街", "滨江大道",
    "和平路", "学府路", "银杏路", "石桥街", "环城东路", "中山路", "东风路", "长虹路",
)  # fmt: skip
_COMMUNITIES = (
    "湖畔新村", "锦绣花园", "阳光家园", "翠竹苑", "江南里", "金桂园", "书香门第", "绿洲花苑",
    "云山公馆", "安居小区", "紫荆园", "和顺家园", "百合苑", "东方名城", "梧桐里", "青石新苑",
)  # fmt: skip


class AddressBook:
    """Draws addresses, none of them twice."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._taken: set[str] = set()

    def flat(self, district: str) -> str:
        """Draw the address of a flat in a district."""
        return self._unused(district, self._room)

    def shop(self, district: str) -> str:
        """Draw the address of a shop on the street side."""
        return self._unused(district, lambda: f"商铺{self._rng.randint(1, 60):02d}号")

    def parking(self, district: str) -> str:
        """Draw the address of a parking space."""
        return self._unused(district, lambda: f"地下车库{self._rng.randint(1, 400):03d}号车位")

    def _room(self) -> str:
        rng = self._rng
        room = f"{rng.randint(1, 18)}{rng.randint(1, 4):02d}室"
        return f"{rng.randint(1, 24)}幢{rng.randint(1, 3)}单元{room}"

    def _unused(self, district: str, place: Callable[[], str]) -> str:
        while True:
            road, community = self._rng.choice(_ROADS), self._rng.choice(_COMMUNITIES)
            address = f"{CITY_NAME}{district}{road}{self._rng.randint(1, 300)}号{community}{place()}"
            if address not in self._taken:
                self._taken.add(address)
                return address
