"""From a bundle to answers, whole: built, kept, run, compared and timed."""

from __future__ import annotations


def test_a_bundle_is_built_and_answers_as_the_reference(bundle, main, tensorrt):
    ran = main("run", "--bundle", bundle, "--runs", 2, "--json")
    assert ran.status == 0, ran.err
    print(ran.out)
