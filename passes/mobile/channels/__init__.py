"""Rules of channels-first, an op each: tokens [1,S,C] as [1,C,1,S]."""
