"""Jobs: work that `evalkit worker` does, each in a process of its own. The ledger says which there are.

Top floor, as the commands that jobs run. Needs POSIX (signals, file locks).
"""
