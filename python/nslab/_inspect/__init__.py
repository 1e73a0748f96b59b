"""What the kernel knows about namespaces and the processes in them, as plain frozen values: a file for each subject."""
