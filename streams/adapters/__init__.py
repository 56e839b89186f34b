"""What other model servers write, read as the events of this project: one file for each server and each shared form.

Pure: no broker, no clock, no files but those that `config` is given.
"""
