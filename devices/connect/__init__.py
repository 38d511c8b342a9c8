"""Devices that are somewhere else: how they are reached, and what is done there.

    address.py     ssh://user@host:port or adb:SERIAL -> a connection
    connection.py  one shell line there: what went in, what came out, whether the link held
    ssh.py adb.py  the two ways: how a line is handed over, what their clients complain of
    session.py     a device that answered: what it is, its folder, lines again after a cut
    copying.py     files there by digest, from where the last try ended
    job.py         one program there, detached from the link: start, follow, result, removal
    clock.py       its clock against ours
    python.py      its Python, and what that lacks
    mirror.py      small files of its kernel, brought here as a tree
    look.py        what it is, where it has no Python that says so

Nothing of ours is installed there. It takes a POSIX shell, sha256sum, tail, tar and setsid.
"""
