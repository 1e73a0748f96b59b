"""Makes any interpreter that finds this on its path use `nslab.Popen`: the one with the tests, and those they start."""

import subprocess

import nslab

subprocess.Popen = nslab.Popen  # type: ignore[misc]
