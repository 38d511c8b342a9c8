"""Tools that cannot live in the main environment: made on demand, and work done inside them.

Vela wants numpy 2.1, Core AI's runtime 2.3 or later: no one environment holds both, and none of it
is needed by who compiles for something else. So a tool is an environment of its own in the user's
cache (tools.toml says of what), and what needs it is a function that runs there:

    main environment                        environment of the tool (or this one, if it has all)
    run_job("edgevlm.x:run", request) --->  run(request: dict, folder) -> dict
          request, reply: JSON              edgevlm itself: the same files, not installed there
          arrays, models: files in `folder` (npz, onnx, pt2), never a pickle

    tools.py        what there is to make: data      build.py       making one, whole or not at all
    home.py         where they are, which are ready  interpreter.py this Python, or a tool's
    job.py          one call                         worker.py      a process that answers many
    child.py        a process, its words, its end    inside.py, tether.py, wire.py  the other side

This file imports nothing: the other side has neither pydantic nor filelock for certain.
"""
