"""What a temperature sensor measures, as far as its name tells.

Kernels name a sensor after its driver ("k10temp", "iwlwifi_1") or its place ("soc_thermal"); both say what it measures.
"""

from __future__ import annotations

import re

# Parts of names, after everything but letters and digits was taken for a gap.
OTHERS = re.compile(
    r"\b("
    r"iwlwifi\w*|ath\d+k\w*|mt7\w+|rtw\w*|wifi\w*|wlan\w*|wireless|phy\d*|modem\w*|bluetooth"  # wireless
    r"|nvme\w*|drivetemp|disk\w*|ssd\w*|hdd\w*|sata\w*|mmc\w*"  # disks
    r"|bat\d*|battery|bms|charger"  # batteries
    r"|pch\w*|chipset|int34\d\d|sen\d+|tsen\d*"  # chipsets, and platform sensors on the board
    r"|ambient|skin|case|tboard|tdiode|board"  # surroundings
    r")\b"
)
PROCESSORS = re.compile(
    r"\b("
    r"cpu\w*|soc\w*|gpu\w*|x86|pkg|package\w*|core\w*|coretemp|k\d+temp|zenpower|tctl|tdie|tccd\d*|tj|tcpu|cluster\d*"
    r"|big|little|bcm2\d+|amdgpu|radeon|nouveau|nvidia|mali|i915"
    r")\b"
)


def counts_as_processor(name: str) -> bool | None:
    """Whether a sensor of this name measures what computes (CPU, GPU, SoC, package); None: the name does not tell."""
    words = re.sub(r"[\W_]+", " ", name.lower())
    if OTHERS.search(words):
        return False
    return True if PROCESSORS.search(words) else None
