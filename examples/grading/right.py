"""A submission that does what was asked for."""

import nslab

lab = nslab.spawn(
    "user uts pid",
    ["sh", "-c", "hostname container; echo $$ on $(hostname)"],
    map_root_user=True,
)
lab.wait()
