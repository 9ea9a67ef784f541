"""What a temperature sensor measures, by its name: a processor, or something else in the machine.

A name is the type of a thermal zone ("x86_pkg_temp", "cpu-0-0-usr"), a chip with a label ("k10temp_Tctl"), or the
`frame_id` of a message.
"""

from __future__ import annotations

import re

LONGEST = 100  # letters of a name that are looked at: it may come from a stranger

# Looked at first, since "PMIC-Die" is no die of a processor, and "amdgpu_mem" is not the GPU.  Words of the name
# without its punctuation, each of which may end in more digits.
ELSEWHERE = {
    "a wireless card": (
        r"iwlwifi|wifi|wlan\w*|wcn\w*|ath\d+k?|mt7\d\w*|rtw?\d\w*|rtl\d\w*|brcm\w*|wireless|bluetooth|bt"
    ),
    "a modem": r"modem|mdm\w*|lte|wwan|mmw|pa|rf|qfe\w*|tsx|mtktspa",
    "a disk": r"nvme|drivetemp|ssd|hdd|sata|disk|emmc|mmc|ufs|sdcard|sdhci|storage|nand|flash",
    "a battery": r"[iv]?bat|batt|batc|battery|bms|bq\d+\w*|max17\d+\w*|sbs|cell|pack|mtktsbattery",
    "a charger": r"charger|charging|charge|chg|usb\w*|conn|ucsi\w*|typec|dcin|adapter",
    "a power supply or regulator": (
        r"\w*pmic\w*|pm[a-z]{0,2}\d{3,}\w*|axp\d+\w*|rk8\d\d|max77\d+\w*|tps\d+\w*|da9\d+\w*|"
        r"\w*psu|vrm|vreg|regulator|vr|power|mos|mosfet"
    ),
    "the chipset": r"pch\w*|chipset|northbridge|southbridge|int3400|rp1",
    "memory": r"\w*dimm\w*|\w*ddr\w*|\w*dram|vram|ram|mem|memory|hbm|jc42|spd5118|tmem|eeprom",
    "the network": r"r8169|eth|ethernet|phy|ixgbe|igb|i350bb|mlx\w*|tg3|bnx\w*|sfp|qsfp|nic|lan|switch|atlantic|enp\w*",
    "the surroundings": (
        r"\w*ambient|amb|skin|tskn|board|tboard|motherboard|mainboard|mobo|mb|systin|system|sys|auxtin|case|chassis|"
        r"front|rear|inlet|outlet|intake|exhaust|room|air|weather|outside|quiet|xo|lm75|tmp1\d+|sht\d+\w*|bme\d+"
    ),
    "a cooler": r"fan|est|pump|coolant|liquid|water|aio|kraken|nzxt\w*|corsair\w*|heatsink",
    "a part of the robot": (
        r"motor\w*|servo\w*|esc|actuator|drive|wheel|joint\w*|gripper|lidar|laser|camera|cam|imu|gps|gnss|radar|sonar"
    ),
    "the display": r"lcd|display|panel|backlight|screen|touch\w*",
}
PROCESSOR = (
    r"\w*cpu\w*|\w*gpu\w*|\w*soc|socd|soctherm|processor|package|pkg|coretemp|cores?|bigcore|littlecore|big|little|"
    r"center|cluster|cortex\w*|carmel|denver|k10temp|k8temp|zenpower|tctl|tdie|tccd|tdiode|tj|die|peci\w*|b0d4|"
    r"\w*npu|\w*apu|dla|cv|nspss|nsp|g3d|mali|adreno|nouveau|radeon|i915|xe|tsens\w*|bcm2\d+|imx\w*|exynos\w*|"
    r"rockchip|tegra\w*|armada|apc"
)
JETSON_DIE = r"(aux|ao|pll)_therm"  # parts of the die of Jetson boards
_ELSEWHERE = {kind: re.compile(rf"_(?:{words})_?\d*_") for kind, words in ELSEWHERE.items()}
_PROCESSOR = re.compile(rf"_(?:{PROCESSOR})_?\d*_|^_{JETSON_DIE}_")


def counts_as_processor(name: str) -> bool | None:
    """Whether a sensor of that name measures a CPU, GPU, system on a chip or package; None: the name does not say."""
    if measured_instead(name):
        return False
    return True if _PROCESSOR.search(_plain(name)) else None


def measured_instead(name: str) -> str:
    """What a sensor measures that does not measure a processor, for people; empty: a processor, or not known."""
    plain = _plain(name)
    return next((kind for kind, words in _ELSEWHERE.items() if words.search(plain)), "")


def _plain(name: str) -> str:
    """ "_cpu_0_0_usr_": small letters and digits, every other run of signs as one "_"."""
    return f"_{re.sub(r'[^a-z0-9]+', '_', name[:LONGEST].lower()).strip('_')}_"
