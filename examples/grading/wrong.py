"""A submission with two mistakes: a flag too few, and a flag too many."""

import nslab

lab = nslab.spawn(
    "user uts net",
    ["sh", "-c", "hostname container; echo $$ on $(hostname)"],
    map_root_user=True,
)
lab.wait()
