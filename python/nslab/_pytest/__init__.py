"""The pytest plugin: a whole run, one test, or the hosts of a test in namespaces of their own."""
